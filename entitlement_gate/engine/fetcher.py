"""One fetch: of the source or, where processes share snapshots, of whatever others fetched before."""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from entitlement_gate.domain.errors import (
    CustomerNotFound,
    SourceError,
    SourceRejected,
    SourceUnavailable,
    text_to_log,
)
from entitlement_gate.domain.grants import Snapshot
from entitlement_gate.engine.cache import Entry
from entitlement_gate.engine.health import Health
from entitlement_gate.engine.observers import Fetch
from entitlement_gate.engine.validation import vetted
from entitlement_gate.resilience.circuit_breaker import CircuitBreaker
from entitlement_gate.resilience.failure_log import FailureLog
from entitlement_gate.resilience.fork_safety import Lock, PerProcess, chance
from entitlement_gate.resilience.single_flight import SharedCall
from entitlement_gate.shared.records import DatedSnapshot, Need

if TYPE_CHECKING:
    from entitlement_gate.domain.decisions import Source
    from entitlement_gate.engine.options import GateOptions
    from entitlement_gate.resilience.clock import Clock
    from entitlement_gate.shared.records import Stamp
    from entitlement_gate.shared.shared_snapshots import SharedSnapshots

__all__ = [
    "LEASE",
    "LEFT_ALONE",
    "PATIENCE",
    "FetchResult",
    "Fetcher",
    "Listener",
    "SharedFetch",
    "SnapshotSource",
    "log_fetch_failure",
    "make_shared_snapshots",
]

# Parts of the deadline. A process that waits for another takes its place after LEASE, and fetches beside it after
# PATIENCE: what is left is enough for a fetch that billing answers as usual.
LEASE = 0.5
PATIENCE = 0.75
_MARGIN = 60.0  # seconds that records are kept beyond their last use
_JITTER = 0.1
# Wrong parameters say nothing about billing's health; wrong credentials fail every customer alike.
_HARMLESS_STATUSES = (400, 422)
_CREDENTIALS = (401, 403)


class SnapshotSource(Protocol):
    """Where snapshots come from: ``ZenskarClient``, or anything with this method."""

    def fetch(self, customer_id: str) -> Snapshot:
        """Return all grants of a customer, or raise a ``SourceError``. May block; called on a worker thread."""


class Listener(Protocol):
    """What hears of fetches: the gate."""

    def fetching(self) -> None:
        """Hear that a fetch begins; ``refreshed`` or ``failed`` follows."""

    def adopting(self, snapshot: Snapshot) -> None:
        """Take note of what a fetch brought, on the thread that did it, before any check sees it; never raises."""

    def refreshed(self, snapshot: Snapshot) -> None:
        """Hear of a fetch, on the thread that did it, once its snapshot serves checks."""

    def failed(self, customer_id: str, error: BaseException) -> None:
        """Hear of a fetch that failed, on the thread that tried."""

    def fetched(self, fetch: Fetch) -> None:
        """Hear how a fetch went, after one of the two, in the context of the check that began it."""


class FetchResult(NamedTuple):
    """What a fetch brought: an entry, or the error that all who waited share.

    Attributes:
        entry: the data.
        error: why there is none.
        source: ``live``, or ``shared`` where another process fetched it.
        is_new: that fetch began after it was asked for.
        instead: where there is none, older data that other processes had.
        seconds: how long it took.
    """

    entry: Entry | None = None
    error: BaseException | None = None
    source: Source = "live"
    is_new: bool = True
    instead: Entry | None = None
    seconds: float = 0.0


SharedFetch = SharedCall[FetchResult]
"""A fetch, and all who wait for it."""


LEFT_ALONE = FetchResult(error=SourceUnavailable("no fetch is begun now"))
"""Known by identity: what was not tried has not failed."""


class Fetcher:
    """Asks one source, and where a gate has one the shared store before it.

    Attributes:
        source: where snapshots come from.
        breaker: leaves the source alone.
        health: of the source, and how checks were answered.
        log: of failures.
        is_closed: the source is asked no more.
    """

    _lock: PerProcess[Lock] = PerProcess()

    def __init__(
        self,
        source: SnapshotSource,
        options: GateOptions,
        clock: Clock,
        listener: Listener,
        *,
        shared: SharedSnapshots | None,
    ) -> None:
        self.source = source
        self.breaker = CircuitBreaker(clock)
        self.health = Health(clock)
        self.log = FailureLog(clock)
        self.is_closed = False
        self._options = options
        self._clock = clock
        self._listener = weakref.ref(listener)  # the gate, which owns this: no cycle keeps it alive
        self._shared = shared

    def remake(self) -> None:
        """Make the lock anew, as after a fork."""
        self._lock = Lock()

    def fetch(self, call: SharedFetch, cached: Entry | None) -> FetchResult:
        """Return what will do for the call, by the customer's cached entry; never raises."""
        try:
            return self._ask_source(call) if self._shared is None else self._find_or_fetch(call, cached, self._shared)
        except BaseException as error:  # noqa: BLE001 - a source, a seal and a ledger are anybody's code
            self.failed(call, error)
            return FetchResult(error=error)

    def _find_or_fetch(self, call: SharedFetch, cached: Entry | None, shared: SharedSnapshots) -> FetchResult:
        """Return what others fetched, or what is fetched here, for all."""
        customer_id = call.key
        match = shared.look(customer_id, self._describe_need(call, cached))
        if isinstance(match, DatedSnapshot):
            call.generation = match.stamp.generation
            return FetchResult(self._make_entry(match), source="shared", is_new=match.is_new)
        task = match
        call.generation = task.stamp.generation if task.stamp else None
        result = LEFT_ALONE
        try:
            result = self._ask_source(call, task.stamp)
        finally:
            if result.entry is None:
                shared.give_up(customer_id, task)
        if result.entry is None:
            older = task.older if cached is None or self._is_newer(task.older, cached) else None
            # Not LEFT_ALONE even where it was: looking was a try, and it is not made again at the next check.
            return result._replace(instead=self._make_entry(older) if older else None)
        if not shared.keep(customer_id, task, result.entry.snapshot, result.entry.fetched_wall):
            return result._replace(entry=result.entry.expired())  # for those who wait, and nobody after them
        return result

    def failed(self, call: SharedFetch, error: BaseException) -> None:
        """Note a failure, once for each call."""
        with self._lock:
            if call.is_counted:
                return
            call.is_counted = True
        if isinstance(error, SourceRejected) and error.status in _HARMLESS_STATUSES:
            self.breaker.record_answer()
        else:
            self.breaker.record_failure()
        self.health.failed(error)
        log_fetch_failure(self.log, error)

    def _describe_need(self, call: SharedFetch, cached: Entry | None) -> Need:
        """Return what of others' would do: what is fresh, newer than the cached, and as young as the call asks."""
        max_age, unlike = min(call.max_age, self._options.ttl), None
        if cached is not None and not cached.is_invalidated:  # what was said to be overtaken is no measure
            max_age, unlike = min(max_age, cached.age(self._clock)), cached.stamp
        return Need(max_age, unlike, PATIENCE * self._options.deadline)

    def _is_newer(self, record: DatedSnapshot | None, cached: Entry) -> bool:
        return record is not None and record.stamp != cached.stamp and record.age < cached.age(self._clock)

    def _ask_source(self, call: SharedFetch, stamp: Stamp | None = None) -> FetchResult:
        if self.is_closed or not self.breaker.admit():
            return LEFT_ALONE
        call.afterwards = partial(self._announce_end, call)
        result = self._call_source(call.key, stamp)
        if result.error is None:
            self.breaker.record_success()
            self.health.succeeded()
        else:
            self.failed(call, result.error)
        return result

    def _call_source(self, customer_id: str, stamp: Stamp | None) -> FetchResult:
        self._announce_begin()
        began, wall = self._clock.monotonic(), self._clock.time()
        try:
            snapshot = vetted(self.source.fetch(customer_id), customer_id, wall)
        except CustomerNotFound:
            snapshot = Snapshot(customer_id, (), wall, is_found=False)
        except BaseException as error:  # noqa: BLE001 - a source is anybody's code; those who wait share what it raised
            return FetchResult(error=error, seconds=max(0.0, self._clock.monotonic() - began))
        seconds = max(0.0, self._clock.monotonic() - began)
        self._adopt(snapshot)
        return FetchResult(Entry(snapshot, began, wall, self._choose_lifetime(), stamp=stamp), seconds=seconds)

    def _announce_begin(self) -> None:
        listener = self._listener()
        if listener is not None:
            listener.fetching()

    def _make_entry(self, record: DatedSnapshot) -> Entry:
        """Return an entry of what somebody else fetched, as old as it is."""
        self._adopt(record.snapshot)
        tick, wall, age = self._clock.monotonic(), self._clock.time(), record.age
        return Entry(record.snapshot, tick - age, wall - age, self._choose_lifetime(), stamp=record.stamp)

    def _adopt(self, snapshot: Snapshot) -> None:
        listener = self._listener()
        if listener is not None:
            listener.adopting(snapshot)

    def _choose_lifetime(self) -> float:
        jitter = chance.uniform(1 - _JITTER, 1 + _JITTER)
        return self._options.ttl * jitter

    def _announce_end(self, call: SharedFetch, result: FetchResult) -> None:
        """Report a fetch of this process; others report theirs."""
        listener = self._listener()
        if listener is None:
            return
        if result.entry is not None:
            listener.refreshed(result.entry.snapshot)
        else:
            listener.failed(call.key, result.error)  # type: ignore[arg-type]  # where there is no entry there is one
        snapshot_or_error = result.error if result.entry is None else result.entry.snapshot
        fetch = Fetch.of(call.key, snapshot_or_error, result.seconds, getattr(self.source, "base_url", None))
        call.context.run(listener.fetched, fetch)


def log_fetch_failure(log: FailureLog, error: BaseException) -> None:
    """Log a fetch that failed: what billing refuses is ours to mend, what the source raises besides is a bug in it."""
    kind = type(error).__name__
    if isinstance(error, SourceRejected):
        is_credential = error.status in _CREDENTIALS
        hint = "; check API_KEY and ORGANISATION" if is_credential else ""
        about = "credentials" if is_credential else kind
        log.note_error(about, "billing rejects our requests: %s%s", text_to_log(error), hint)
    elif isinstance(error, SourceError):
        log.note_warning(kind, "a fetch of entitlements failed: %s: %s", kind, text_to_log(error))
    else:
        log.note_error(kind, "the source of entitlements is broken: %s", kind, bug=error)


def make_shared_snapshots(source: SnapshotSource, options: GateOptions, clock: Clock) -> SharedSnapshots | None:
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
            "whose they are and signs them (see entitlement_gate.shared.records)"
        )
    try:
        from entitlement_gate.shared.shared_snapshots import SharedSnapshots  # noqa: PLC0415 - needs redis-py: on use only
        from entitlement_gate.shared.store import SharedStore  # noqa: PLC0415 - as above
    except ImportError as error:
        raise ValueError(f"redis_url: install entitlement_gate[redis]: {error}") from error
    lifetime = max(options.stale_if_error, options.ttl + options.stale_while_revalidate, options.deadline) + _MARGIN
    store = SharedStore(options.redis_url, clock=clock, lifetime=lifetime)
    return SharedSnapshots(source, store, clock=clock, lease=LEASE * options.deadline)  # type: ignore[arg-type]  # it has a seal, see above
