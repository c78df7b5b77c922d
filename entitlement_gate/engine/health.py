"""How a gate fares, for a health endpoint: counts, and when upstream last answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from entitlement_gate.domain.decisions import Source
    from entitlement_gate.resilience.clock import Clock

__all__ = ["Health"]


class Health:
    """Counts answers by where their data came from.

    The counts are added to without a lock, which would cost more than the whole check: threads that count at the
    same instant may lose one. They are for rates and dashboards, not for accounts.

    Attributes:
        hits: answered from fresh data that was held.
        stale: answered from data older than it should be, because fetching failed.
        misses: answered after a fetch, or not at all.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.hits = 0
        self.stale = 0
        self.misses = 0
        self._succeeded_at: float | None = None
        self._failed_at: float | None = None
        self._failure: str | None = None

    def count(self, source: Source) -> None:
        """Count an answer."""
        if source in ("cache", "shared"):
            self.hits += 1
        elif source == "stale":
            self.stale += 1
        else:
            self.misses += 1

    def succeeded(self) -> None:
        """Note that upstream answered."""
        self._succeeded_at = self._clock.monotonic()

    def failed(self, error: BaseException) -> None:
        """Note a failed fetch: its kind alone, its text may quote what billing said."""
        self._failed_at, self._failure = self._clock.monotonic(), type(error).__name__

    def report(self) -> dict[str, Any]:
        """Return plain JSON types: seconds ago, the kind of the last failure, and the counts."""
        return {
            "last_success_age": self._ago(self._succeeded_at),
            "last_failure_age": self._ago(self._failed_at),
            "last_failure": self._failure,
            "hits": self.hits,
            "stale": self.stale,
            "misses": self.misses,
        }

    def _ago(self, at: float | None) -> float | None:
        return None if at is None else round(max(0.0, self._clock.monotonic() - at), 3)
