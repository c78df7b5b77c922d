"""The snapshot store: the snapshots of all customers, kept fresh.

Its theory of operation. A customer is in one of four states, by the age of the entry that is held: *fresh* (younger
than ``fresh_for``: served), *stale while it is renewed* (``stale_while_revalidate`` more: served, and one fetch renews
it), *stale on error* (up to ``stale_if_error``: served only where a fetch failed), and *gone* (a check waits for a
fetch). An invalidated entry is never fresh, and is kept for the last two. Before a denial by data of ``denial_max_age``
or more one fetch is waited for, at most once in that time.

``_lock`` guards the cache and single-flight together: whether a fetch may start, which one runs, and what it brings are
decided under it, and it is never held while anybody fetches, waits or starts a thread. Readers take no lock: an entry
is immutable but for what was worked out from it and what was tried since, and is replaced as a whole.

What may happen while a fetch runs: an invalidation (those who wait get what it brings, the cache does not); it outlasts
those who wait (they do without, and what it brings is cached); the process forks (single-flight and threads are made
anew, entries stay). What never may: an entry that is older than the one it replaces, two fetches of one customer that
count, a fetch that nobody started and everybody waits for.

What one fetch does is in ``Fetcher``, how a caller waits in ``resilience.effects``.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from entitlement_gate.domain.decisions import Reason
from entitlement_gate.domain.errors import SourceMalformed, SourceRejected, SourceUnavailable
from entitlement_gate.engine.cache import SnapshotCache
from entitlement_gate.engine.fetcher import LEFT_ALONE, Fetcher, FetchResult, make_shared_snapshots
from entitlement_gate.resilience.circuit_breaker import CircuitBreaker
from entitlement_gate.resilience.clock import elapsed
from entitlement_gate.resilience.fork_safety import Lock, PerProcess
from entitlement_gate.resilience.single_flight import SingleFlight, Wait
from entitlement_gate.resilience.token_bucket import TokenBucket
from entitlement_gate.resilience.worker_pool import PoolCall, WorkerPool

if TYPE_CHECKING:
    from collections.abc import Hashable

    from entitlement_gate.domain.decisions import Source
    from entitlement_gate.engine.cache import Answer, Entry
    from entitlement_gate.engine.fetcher import Listener, SharedFetch, SnapshotSource
    from entitlement_gate.engine.options import GateOptions
    from entitlement_gate.resilience.clock import Clock
    from entitlement_gate.resilience.effects import Effects

__all__ = ["SnapshotStore", "View"]


class View(NamedTuple):
    """What can be said about a customer now.

    Attributes:
        customer_id: canonical.
        entry: the data, or None when there is none fit to use.
        source: where it came from.
        failure: why there is none.
        was_tried: a fetch was waited for on the way here.
    """

    customer_id: str
    entry: Entry | None
    source: Source
    failure: Reason | None = None
    was_tried: bool = False


# What unknown customers cost is bounded: ids made up by a client must not drive unlimited calls to billing. Whoever
# guesses them makes a cache miss of every request, so a customer that is not held is fetched from a bucket of tokens; a
# customer who is held and has a grant is renewed without one, and leaves the cache only after all who have none. A
# process that starts may fill its cache once, as fast as `max_concurrency` lets it (16 connections at 100 ms make 160
# fetches a second); normal traffic meets new customers one sign-in at a time. Without a token the answer is `unknown`
# at once. A second bucket bounds the renewals for customers of whom billing knows nothing, a denial of whom would
# otherwise be worth a fetch every `denial_max_age`: two, so that these never starve who has just signed in.
_BURST = 1_000  # fetches at once, or `max_customers` where that is more
_RATE = 100.0  # more a second: at that rate 10,000 further customers take 100 s
# After as many failed fetches as open the breaker, or one that made somebody wait, the customer is left alone for as
# long where there is data to serve meanwhile: billing that fails for one customer never opens the breaker, and every
# check would start, or wait for, one more fetch. Never for longer than the data was to be fresh.
_HOLD_OFF = 5.0
_SLOW = 0.5  # seconds: after a failure that took so long, the next check does not wait for a fetch
_ALL_OF_IT = 0.9  # of the deadline: a fetch begins a little later than the wait for it
# A fetch keeps its own deadline, but name resolution has none and a source may be anybody's code: one that has been
# up for 10 deadlines, and for 30 s at least, is taken for hung.
_PATIENCE = 30.0
_TELLERS = 2  # threads that tell other processes of invalidations; none before the first
_SINCE_THE_CALL = -1.0  # seconds: no data of other processes is younger, so that only what is fetched from now on does


class SnapshotStore:
    """The snapshots of one source."""

    _lock: PerProcess[Lock] = PerProcess()
    _single_flight: PerProcess[SingleFlight[FetchResult]] = PerProcess()

    def __init__(self, source: SnapshotSource, options: GateOptions, clock: Clock, listener: Listener) -> None:
        self._options = options
        self._clock = clock
        self._shared = make_shared_snapshots(source, options, clock)
        self._fetcher = Fetcher(source, options, clock, listener, shared=self._shared)
        self._breaker = self._fetcher.breaker
        burst = max(options.max_customers, _BURST)
        self._strangers = TokenBucket(burst, _RATE, clock)
        self._blanks = TokenBucket(burst, _RATE, clock)
        self._cache = SnapshotCache(options.max_customers)
        self._patience = max(_PATIENCE, 10 * options.deadline)
        self._workers = WorkerPool(options.max_concurrency, clock, self._patience)
        self._tellers = WorkerPool(_TELLERS, clock, self._patience)
        self.entries = self._cache.entries
        self.answers = self._cache.answers
        self.health = self._fetcher.health
        self.remake()
        if self._shared is not None:
            self._shared.tell(self)

    def remake(self) -> None:
        """Make locks, threads and single-flight anew, as after a fork; the data stays."""
        self._lock = Lock()
        self._fetcher.remake()
        self._cache.remake()
        self._workers.remake()
        self._tellers.remake()
        if self._shared is not None:
            self._shared.remake()
        self._single_flight = SingleFlight(
            self._lock,
            self._workers,
            self._clock,
            admit=self._admit,
            fetch=self._fetch,
            fail=lambda error: FetchResult(error=error),
            keep=self._keep,
            deadline=self._options.deadline,
            patience=self._patience,
        )

    def view(self, customer_id: str, due: float | None = None, *, refresh: bool = False) -> Effects[View]:
        """Return the view of a customer: at once where data is good enough, else after a fetch, until ``due``."""
        if refresh:
            call = self._single_flight.join(customer_id, later=True, max_age=_SINCE_THE_CALL)
            return (yield from self._awaiting(customer_id, call, due))
        entry = self.entries.get(customer_id)
        view = None if entry is None else self._serve_held(customer_id, entry)
        if view is not None:
            return view
        newer, call = self._join_unless_renewed(customer_id, entry)
        if newer is not None:
            return View(customer_id, newer, "cache")
        return (yield from self._awaiting(customer_id, call, due))

    def for_denial(self, view: View, due: float | None = None) -> Effects[View]:
        """Return newer data before a denial, where the data is too old to deny and a fetch is worth it."""
        entry = view.entry
        if entry is None or view.was_tried or not entry.is_older_than(self._options.denial_max_age, self._clock):
            return view
        view, call, is_due = self._join_for_denial(view, entry)
        if not is_due:
            return view
        newer = yield from self._awaiting(view.customer_id, call, due)
        if newer.source == "shared":  # a call begun for less may have brought what is too old again
            newer = yield from self.for_denial(newer, due)
        return view._replace(source="stale") if newer.entry is None else newer

    def _join_for_denial(self, view: View, entry: Entry) -> tuple[View, SharedFetch | None, bool]:
        """Return the view as of now, the call to wait for, and whether to wait."""
        with self._lock:  # held over all of it, or who comes in between sees no fetch due, none running and none kept
            current = self.entries.get(view.customer_id)
            if current is not None and current.snapshot is not entry.snapshot:
                view, entry = View(view.customer_id, current, "cache"), current
            if not entry.is_older_than(self._options.denial_max_age, self._clock):
                return view, None, False
            now = self._clock.monotonic()
            is_due = elapsed(entry.denial_tried_at, now) >= self._options.denial_max_age
            if not is_due and not self._single_flight.is_running(view.customer_id):
                return view._replace(source="stale"), None, False
            call = self._single_flight.join_locked(view.customer_id, max_age=self._options.denial_max_age)
            if is_due:
                entry.denial_tried_at = now  # once there is a call: whoever joins it lets it begin
        self._single_flight.begin(call)
        return view, call, True

    def invalidate(self, customer_id: str) -> None:
        """Invalidate the cached snapshot here; a fetch that runs is for those who wait for it alone."""
        if self._shared is not None:
            self._shared.mark(customer_id)  # before a call can start that would find what was shared before
        with self._lock:
            self._cache.expire(customer_id)
            successor = self._single_flight.forget(customer_id)
        self._single_flight.begin(successor)

    def invalidating(self, customer_id: str) -> Effects[None]:
        """Invalidate the cached snapshot here, and in all processes that share them."""
        self.invalidate(customer_id)
        if self._shared is not None:
            tell = partial(self._shared.tell_of, customer_id)
            yield PoolCall(self._tellers, tell, self._options.deadline, is_owed=True)

    def overtaken(self, customer_id: str | None, generation: str | None) -> None:
        """Hear that a customer was invalidated elsewhere, or (None) that any may have been."""
        successor = None
        with self._lock:
            for each in tuple(self.entries) if customer_id is None else (customer_id,):
                entry = self.entries.get(each)
                if entry is not None and (entry.stamp is None or entry.stamp.generation != generation):
                    self._cache.expire(each)
            if customer_id is not None:
                successor = self._single_flight.forget(customer_id, unless=generation)
        self._single_flight.begin(successor)

    def remember(self, entry: Entry, question: Hashable, answer: Answer) -> None:
        """Cache an answer for as long as its entry serves."""
        with self._lock:
            self._cache.remember(entry, question, answer)

    def alias(self, entry: Entry, question: Hashable, key: Hashable) -> None:
        """Cache an answer under another key too."""
        with self._lock:
            self._cache.alias(entry, question, key)

    def forget(self, entry: Entry | None) -> None:
        """Drop the cached answers of an entry."""
        if entry is not None:
            with self._lock:
                self._cache.forget(entry)

    def close(self) -> None:
        """Start no further fetch. Waits for nothing."""
        self._fetcher.is_closed = True
        self._workers.close()
        self._tellers.close()
        if self._shared is not None:
            self._shared.close()

    def report(self) -> dict[str, Any]:
        """Return how the gate fares, in plain JSON types."""
        report = {"breaker": self._breaker.state, "customers": len(self.entries), **self.health.report()}
        return report if self._shared is None else {**report, "shared": self._shared.state}

    def _serve_held(self, customer_id: str, entry: Entry) -> View | None:
        """Return what can be served without waiting, having started a renewal where one is due."""
        if entry.is_fresh(self._clock):
            return View(customer_id, entry, "cache")
        age = entry.age(self._clock)
        stale = View(customer_id, entry, "stale") if age <= self._options.stale_if_error else None
        has_failed_often = entry.failures >= CircuitBreaker.FAILURES
        if has_failed_often and stale is not None and self._is_left_alone(entry):
            return stale
        if entry.is_older_than(entry.fresh_for + self._options.stale_while_revalidate, self._clock):
            return None
        has_failed = entry.has_failed  # before: the renewal that begins now may have failed a moment later
        is_renewing = self._single_flight.is_running(customer_id) or any(self._join_unless_renewed(customer_id, entry))
        return View(customer_id, entry, "cache") if is_renewing and not has_failed else stale

    def _join_unless_renewed(self, customer_id: str, entry: Entry | None) -> tuple[Entry | None, SharedFetch | None]:
        """Return the fresh entry that was kept since this one was looked up, or else the call for the customer.

        A fetch may end after the look: who comes too late to join it finds here what it kept, and starts no other.
        """
        with self._lock:
            newer = self.entries.get(customer_id)
            if newer is not None and newer is not entry and newer.is_fresh(self._clock):
                return newer, None
            call = self._single_flight.join_locked(customer_id)
        self._single_flight.begin(call)
        return None, call

    def _awaiting(self, customer_id: str, call: SharedFetch | None, due: float | None = None) -> Effects[View]:
        """Wait for a call until ``due``; return what it brought, or older data where that may be served."""
        result, now = LEFT_ALONE, self._clock.monotonic()
        due = now + self._options.deadline if due is None else due
        if call is None and self._breaker.state != "open":
            why = "more unknown customers are asked about than may be fetched; some checks go unanswered"
            self._fetcher.log.note_warning("budget", why)
        if call is not None:
            result = (yield Wait(call, min(max(0.0, due - now), self._options.deadline))) or self._give_up(call)
        if result.entry is not None:
            return View(customer_id, result.entry, result.source, was_tried=result.is_new)
        entry = self.entries.get(customer_id)
        if entry is not None and entry.age(self._clock) <= self._options.stale_if_error:
            return View(customer_id, entry, "stale", was_tried=True)
        return View(customer_id, None, "fallback", _reason_of(result.error), was_tried=True)

    def _give_up(self, call: SharedFetch) -> FetchResult:
        """Count a fetch that outlasts those who wait as failed, before it ends, if it ever does."""
        began = call.began_at
        if began is not None and elapsed(began, self._clock.monotonic()) >= _ALL_OF_IT * self._options.deadline:
            with self._lock:
                if self._single_flight.is_current(call):  # else there is newer data, which it says nothing of
                    self._keep(call.key, _NO_ANSWER)
            self._fetcher.failed(call, _OUTLASTED)
        return _NO_ANSWER

    def _is_left_alone(self, entry: Entry) -> bool:
        """Whether the last failure is so recent that no other fetch is to be tried."""
        return elapsed(entry.failed_at, self._clock.monotonic()) < min(_HOLD_OFF, self._options.ttl)

    def _admit(self, customer_id: str) -> bool:
        """Return whether a fetch may start; lock held."""
        if self._breaker.state == "open" and (self._shared is None or not self._shared.is_at_hand):
            return False
        entry = self.entries.get(customer_id)
        if entry is None:
            return self._strangers.spend()
        return bool(entry.snapshot.grants) or entry.is_invalidated or self._blanks.spend()

    def _keep(self, customer_id: str, result: FetchResult) -> None:
        """Keep what a call brought; lock held."""
        if result.entry is not None:
            self._cache.put(result.entry)
            return
        if result.instead is not None:
            self._cache.put(result.instead)
        if result is not LEFT_ALONE and customer_id in self.entries:
            entry = self.entries[customer_id]
            entry.failed_at = self._clock.monotonic()
            entry.failures += CircuitBreaker.FAILURES if result.seconds >= _SLOW else 1

    def _fetch(self, call: SharedFetch) -> FetchResult:
        return self._fetcher.fetch(call, self.entries.get(call.key))


_OUTLASTED = SourceUnavailable("no answer within the deadline")
_NO_ANSWER = FetchResult(error=_OUTLASTED, seconds=float("inf"))


def _reason_of(error: BaseException | None) -> Reason:
    if isinstance(error, SourceRejected):
        return Reason.REJECTED
    return Reason.MALFORMED_RESPONSE if isinstance(error, SourceMalformed) else Reason.UNAVAILABLE
