"""The store of what is shared, in Redis: keys, scripts, and leaving a server alone that fails.

For each customer there is a *generation* (a random word, new at each invalidation), the *record*, and the *lease* of
whoever fetches. A stream holds the *news*: the latest invalidations, for all who listen. All keys of a prefix have
one hash tag: scripts touch several of them.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from entitlement_gate.resilience.circuit_breaker import CircuitBreaker
from entitlement_gate.resilience.failure_log import FailureLog
from entitlement_gate.resilience.fork_safety import PerProcess
from entitlement_gate.resilience.redis_connection import Script, call_with_retry, connect, read_lua
from entitlement_gate.shared.records import Stamp, joined

if TYPE_CHECKING:
    from collections.abc import Collection

    import redis

    from entitlement_gate.resilience.clock import Clock

__all__ = ["EVERYBODY", "NOTHING_HEARD", "SharedStore", "StoreReply"]

NOTHING_HEARD = "0-0"
"""The position before all news."""

EVERYBODY = "*"
"""Stands in the news where any customer may have been invalidated."""

_TIMEOUT = 0.25
_MOST_NEWS = 10_000
_RECORD = 2  # which of the keys of each script is the record, a hash


class StoreReply(NamedTuple):
    """What is in the store: the stamp of a fetch that began now, the record, and whether the lease was taken."""

    stamp: Stamp
    record: bytes
    has_lease: bool


class SharedStore:
    """Runs scripts on one Redis; what cannot be asked is None, and noted.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        clock: has ``monotonic()``.
        lifetime: seconds that records are kept.
        prefix: of every key.

    Raises:
        ValueError: the URL cannot work.
    """

    _client: PerProcess[redis.Redis] = PerProcess()

    def __init__(self, url: str, *, clock: Clock, lifetime: float, prefix: str = "entitlements") -> None:
        self._url = url
        # Opens at once: every failure may have cost a check a whole time-out.
        self._breaker = CircuitBreaker(clock, failures=1)
        self.log = FailureLog(clock)
        self._lifetime = _milliseconds(lifetime)
        self._prefix = f"{{{prefix}:shared}}"
        self.news_key = f"{self._prefix}:news"
        self.remake()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._prefix!r}>"  # the URL may hold a password

    def remake(self) -> None:
        """Forget the connections, as after a fork."""
        self._client = self.connected()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def connected(self, patience: float = 0.0) -> redis.Redis:
        """Return a client, whose answers may take so many seconds; it connects on use."""
        return connect(self._url, timeout=_TIMEOUT, patience=patience)

    @property
    def state(self) -> str:
        """What asking would meet now: ``closed``, ``open`` or ``half_open``, as a breaker has it."""
        return self._breaker.state

    def look(self, scope: str, customer_id: str, token: str, seconds: float, *, always: bool) -> StoreReply | None:
        """Return what is there, and take the lease for so many seconds where it is free.

        It is taken where there is no record, or ``always``.
        """
        when = "always" if always else "missing"
        reply = self._run("look", self._keys(scope, customer_id), token, _milliseconds(seconds), when)
        if reply is None:
            return None
        now, generation, record, has_lease = reply
        return StoreReply(Stamp(generation.decode(errors="replace"), now), record, bool(has_lease))

    def keep(self, scope: str, customer_id: str, token: str, stamp: Stamp, *, record: bytes = b"") -> bool:
        """Return the lease and keep the record, if any; return False where an invalidation overtook the fetch."""
        keys = self._keys(scope, customer_id)
        reply: int | None = self._run("keep", keys, token, stamp.generation, stamp.begun, record, self._lifetime)
        return reply != 0

    def invalidate(self, scope: str, customer_id: str, generation: str, sender: str) -> bool:
        """Begin a new generation and tell all; return whether that could be done."""
        keys = [*self._keys(scope, customer_id), self.news_key]
        arguments = (generation, self._lifetime, scope, customer_id, sender, _MOST_NEWS)
        return self._run("invalidate", keys, *arguments) is not None

    def tell_everybody(self, scopes: Collection[str], sender: str) -> bool:
        """Tell all that any customer may have been invalidated; return whether that could be done."""

        def tell() -> bool:
            with self._client.pipeline(transaction=False) as pipe:
                for scope in scopes:
                    news: Any = {"scope": scope, "customer": EVERYBODY, "generation": "", "sender": sender}
                    pipe.xadd(self.news_key, news, maxlen=_MOST_NEWS, approximate=True)
                pipe.execute()
            return True

        return self._run_guarded(tell) is not None

    def log_failure(self, error: Exception) -> None:
        """Log that nothing can be shared now."""
        kind = type(error).__name__
        why = "shared snapshots are out of reach, so this process asks billing itself: %s"
        self.log.note_warning("shared", why, kind)

    def position(self) -> str | None:
        """Return where the news end now."""
        position: str | None = self._run_guarded(lambda: last_news(self._client, self.news_key))
        return position

    def _keys(self, scope: str, customer_id: str) -> list[str]:
        whose = joined(scope, customer_id).decode()
        return [f"{self._prefix}:{whose}:{kind}" for kind in ("generation", "record", "lease")]

    def _run(self, name: str, keys: list[str], *arguments: str | bytes | int) -> Any:
        return self._run_guarded(lambda: _script(name).run(self._client, keys, *arguments))

    def _run_guarded(self, call: Any) -> Any:
        if not self._breaker.admit():
            return None
        try:
            reply = call_with_retry(self._client, call)
        except Exception as error:  # noqa: BLE001 - whatever it is, a check goes on without what is shared
            self._breaker.record_failure()
            self.log_failure(error)
            return None
        self._breaker.record_success()
        return reply


def last_news(client: redis.Redis, key: str) -> str:
    """Return the id of the latest entry; a replica is not asked: it may hear of no news any more."""
    with client.pipeline(transaction=False) as pipe:
        pipe.xdel(key, NOTHING_HEARD)  # which changes nothing
        pipe.xrevrange(key, count=1)
        entries: Any = pipe.execute()[1]
    return entries[0][0].decode() if entries else NOTHING_HEARD


def is_cut(client: redis.Redis, key: str, position: str) -> bool:
    """Return whether entries behind the position may have been dropped: of the news only the latest are kept."""
    with client.pipeline(transaction=False) as pipe:
        pipe.xlen(key)
        pipe.xrange(key, count=1)
        length, first = pipe.execute()
    return length >= _MOST_NEWS and parts_of(first[0][0].decode()) > parts_of(position)


def parts_of(position: str) -> tuple[int, ...]:
    """Return a position such that later ones are greater."""
    return tuple(int(part) for part in position.split("-"))


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1_000))


@cache
def _script(name: str) -> Script:
    return Script(read_lua("entitlement_gate.shared", name), hash_key=_RECORD)
