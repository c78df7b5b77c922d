"""Sets up what a gate shares with other processes; without a Redis URL nothing of it is imported.

Never here: what is shared and how (``shared``), or when it is asked (``asking``).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from entitlement_gate.runtime.breaker import Breaker
from entitlement_gate.runtime.reporting import FailureLog

if TYPE_CHECKING:
    from entitlement_gate.runtime.options import GateOptions
    from entitlement_gate.runtime.views import SnapshotSource
    from entitlement_gate.shared.snapshots import SharedSnapshots
    from entitlement_gate.zenskar.flow import Clock

__all__ = ["LEASE", "PATIENCE", "shared_snapshots"]

_logger = logging.getLogger("entitlement_gate")

# Parts of the deadline. Whoever waits for another process takes its place after LEASE, and fetches whoever else does
# after PATIENCE: what is left is enough for a fetch that billing answers as usual.
LEASE = 0.5
PATIENCE = 0.75
_MARGIN = 60.0  # seconds that records are kept beyond their last use


class _RedisBreaker(Breaker):
    """Opens at once: every failure may have cost a check a whole time-out."""

    FAILURES = 1


class _SharedLog(FailureLog):
    """One line a minute for Redis, and one for records that are not ours."""

    def note(self, error: BaseException) -> None:
        """Log the failure, unless one of its kind was logged within the minute."""
        is_record = type(error).__name__ == "Unreadable"
        if not self._is_due("record" if is_record else "shared"):
            return
        if is_record:
            _logger.warning("%s; billing is asked instead", error)
        else:
            kind = type(error).__name__
            _logger.warning("shared snapshots are out of reach, so this process asks billing itself: %s", kind)


def shared_snapshots(source: SnapshotSource, options: GateOptions, clock: Clock) -> SharedSnapshots | None:
    """Return what the gate shares with others by ``options.redis_url``; None where it shares nothing.

    A source that cannot sign its snapshots shares none where the URL serves the ledger.

    Raises:
        ValueError: it cannot be shared: no redis-py, no URL, or a source that cannot say whose its snapshots are.
    """
    if options.redis_url is None:
        return None
    if not callable(getattr(source, "seal", None)):
        if options.ledger == "redis":
            return None  # the URL is the ledger's
        raise ValueError(
            f"redis_url: snapshots of {type(source).__name__} cannot be shared: it has no method seal(), which says "
            "whose they are and signs them (see entitlement_gate.shared.seal)"
        )
    try:
        from entitlement_gate.shared.snapshots import SharedSnapshots  # noqa: PLC0415 - needs redis-py: on use only
        from entitlement_gate.shared.store import SharedStore  # noqa: PLC0415 - as above
    except ImportError as error:
        raise ValueError(f"redis_url: install entitlement_gate[redis]: {error}") from error
    log = _SharedLog(clock)
    kept = max(options.stale_if_error, options.ttl + options.stale_while_revalidate, options.deadline) + _MARGIN
    store = SharedStore(options.redis_url, breaker=_RedisBreaker(clock), log=log, kept=kept)
    return SharedSnapshots(source, store, log=log, clock=clock, lease=LEASE * options.deadline)  # type: ignore[arg-type]  # it has a seal, see above
