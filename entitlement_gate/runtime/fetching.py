"""Keeps snapshots: fresh, then stale while renewed, then stale if fetching fails, then gone.

Never here: what a snapshot says about an entitlement (``judging``).
"""

from __future__ import annotations

import random
import threading
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from entitlement_gate.domain.decisions import Reason
from entitlement_gate.domain.errors import (
    CustomerNotFound,
    SourceMalformed,
    SourceRejected,
    SourceUnavailable,
)
from entitlement_gate.domain.grants import Snapshot
from entitlement_gate.runtime.breaker import Breaker
from entitlement_gate.runtime.budget import FetchBudget
from entitlement_gate.runtime.cache import Entry, SnapshotCache
from entitlement_gate.runtime.flights import Flights, Landing, Rules, Wait
from entitlement_gate.runtime.health import Health
from entitlement_gate.runtime.reporting import FailureLog
from entitlement_gate.runtime.views import View
from entitlement_gate.runtime.workers import Workers

if TYPE_CHECKING:
    from concurrent.futures import Future

    from entitlement_gate.runtime.flights import Flight
    from entitlement_gate.runtime.options import GateOptions
    from entitlement_gate.runtime.steps import Steps
    from entitlement_gate.runtime.views import Listener, SnapshotSource
    from entitlement_gate.zenskar.flow import Clock

__all__ = ["Fetching"]

_JITTER = 0.1
# After a failed fetch the customer is left alone for as long, where there is data to serve meanwhile: billing that
# fails for one customer never opens the breaker, and every check would start, or wait for, one more fetch. Never for
# longer than the data was to be fresh.
_HOLD_OFF = 5.0
_ALL_OF_IT = 0.9  # of the deadline: a fetch begins a little later than the wait for it
# A fetch keeps its own deadline, but name resolution has none and a source may be anybody's code: one that has been
# up for 10 deadlines, and for 30 s at least, is taken for hung.
_PATIENCE = 30.0
# Wrong parameters say nothing about billing's health; wrong credentials fail every customer alike.
_HARMLESS_STATUSES = (400, 422)


class Fetching:
    """The snapshots of one source."""

    def __init__(self, source: SnapshotSource, options: GateOptions, clock: Clock, listener: Listener) -> None:
        self._source = source
        self._listener = weakref.ref(listener)  # the gate, which owns this: no cycle keeps it alive
        self._options = options
        self._clock = clock
        self._breaker = Breaker(clock)
        self._strangers = FetchBudget(clock, options.max_customers)
        self._blanks = FetchBudget(clock, options.max_customers)
        self._cache = SnapshotCache(options.max_customers)
        self._patience = max(_PATIENCE, 10 * options.deadline)
        self._workers = Workers(options.max_concurrency, clock, self._patience)
        self._log = FailureLog(clock)
        self._is_closed = False
        self.entries = self._cache.entries
        self.answers = self._cache.answers
        self.health = Health(clock)
        self.remake()

    def remake(self) -> None:
        """Make locks, threads and flights anew, as after a fork; the data stays."""
        self._lock = threading.RLock()
        self._breaker.remake()
        self._cache.remake()
        self._workers.remake()
        self._log.remake()
        rules = Rules(self._admit, self._fetch, self._land, self._options.deadline, self._patience)
        self._flights = Flights(self._lock, self._workers, self._clock, rules)

    def view(self, customer_id: str, *, refresh: bool = False) -> Steps[View]:
        """Return what is known: at once where data is good enough, else after a fetch."""
        entry = None if refresh else self.entries.get(customer_id)
        known = None if entry is None else self._at_once(customer_id, entry)
        return known or (yield from self._fetched(customer_id, self._flights.join(customer_id, later=refresh)))

    def fresh(self, customer: object) -> View | None:
        """Return fresh data of a customer given as canonical text, without a step."""
        entry = self.entries.get(customer) if isinstance(customer, str) else None
        if entry is None or entry.age(self._clock) >= entry.fresh_for:
            return None
        return View(entry.snapshot.customer_id, entry, "cache")

    def for_denial(self, view: View) -> Steps[View]:
        """Return newer data before a denial, where the data is too old to deny and a fetch is due."""
        entry = view.entry
        if entry is None or view.was_tried or not self._is_too_old_to_deny(entry):
            return view
        with self._lock:  # held over all of it, or who comes in between sees no fetch due, none up and none landed
            current = self.entries.get(view.customer_id)
            if current is not None and current.fetched_at > entry.fetched_at:
                view, entry = View(view.customer_id, current, "cache"), current
            if not self._is_too_old_to_deny(entry):
                return view
            if not self._is_denial_worth_a_fetch(entry) and not self._flights.is_flying(view.customer_id):
                return view._replace(source="stale")
            flight = self._flights.join(view.customer_id)
        newer = yield from self._fetched(view.customer_id, flight)
        return view._replace(source="stale") if newer.entry is None else newer

    def invalidate(self, customer_id: str) -> None:
        """Let what is known, and what is on its way, no longer count."""
        with self._lock:
            self._cache.expire(customer_id)
            self._flights.void(customer_id)

    def close(self) -> None:
        """Start no further fetch. Waits for nothing."""
        self._is_closed = True
        self._workers.close()

    def report(self) -> dict[str, Any]:
        """Return how the gate fares, in plain JSON types."""
        return {"breaker": self._breaker.state, "customers": len(self.entries), **self.health.report()}

    def _at_once(self, customer_id: str, entry: Entry) -> View | None:
        """Return what can be served without waiting, having started a renewal where one is due."""
        age = entry.age(self._clock)
        if age < entry.fresh_for:
            return View(customer_id, entry, "cache")
        stale = View(customer_id, entry, "stale") if age <= self._options.stale_if_error else None
        if stale is not None and self._clock.monotonic() - entry.failed_at < min(_HOLD_OFF, self._options.ttl):
            return stale
        if age >= entry.fresh_for + self._options.stale_while_revalidate:
            return None
        is_renewing = self._flights.is_flying(customer_id) or self._flights.join(customer_id) is not None
        return View(customer_id, entry, "cache") if is_renewing and not entry.has_failed else stale

    def _fetched(self, customer_id: str, flight: Flight | None) -> Steps[View]:
        landing = _LEFT_ALONE
        if flight is None and self._breaker.state != "open":
            self._log.note_refusal()
        if flight is not None:
            landing = (yield Wait(flight, self._options.deadline)) or self._outlasted(flight)
        if landing.entry is not None:
            return View(customer_id, landing.entry, "live", was_tried=True)
        entry = self.entries.get(customer_id)
        if entry is not None and entry.age(self._clock) <= self._options.stale_if_error:
            return View(customer_id, entry, "stale", was_tried=True)
        return View(customer_id, None, "fallback", _reason(landing.error), was_tried=True)

    def _outlasted(self, flight: Flight) -> Landing:
        """Take a fetch that outlasts those who wait for a failed one, before it ends, if ever it does."""
        began = flight.began_at
        if began is not None and self._clock.monotonic() - began >= _ALL_OF_IT * self._options.deadline:
            with self._lock:
                self._land(flight.customer_id, _NO_ANSWER)
            self._failed(flight, _OUTLASTED)
        return _NO_ANSWER

    def _is_too_old_to_deny(self, entry: Entry) -> bool:
        return entry.age(self._clock) >= self._options.denial_max_age

    def _is_denial_worth_a_fetch(self, entry: Entry) -> bool:
        """Return True to one caller per ``denial_max_age``, however many ask; lock held."""
        now = self._clock.monotonic()
        is_due = now - entry.denial_tried_at >= self._options.denial_max_age
        if is_due:
            entry.denial_tried_at = now
        return is_due

    def _admit(self, customer_id: str) -> bool:
        """Return whether a fetch may start; lock held."""
        if self._breaker.state == "open":
            return False
        entry = self.entries.get(customer_id)
        if entry is None:
            return self._strangers.spend()
        return bool(entry.snapshot.grants) or entry.is_invalidated or self._blanks.spend()

    def _land(self, customer_id: str, landing: Landing) -> None:
        """Keep what a flight brought; lock held."""
        if landing.entry is not None:
            self._cache.put(landing.entry)
        elif landing is not _LEFT_ALONE and customer_id in self.entries:
            self.entries[customer_id].failed_at = self._clock.monotonic()

    def _fetch(self, flight: Flight) -> Landing:
        """Fetch, on a worker thread; never raises."""
        if self._is_closed or not self._breaker.admit():
            return _LEFT_ALONE
        flight.future.add_done_callback(partial(self._tell, flight.customer_id))
        landing = self._asked(flight.customer_id)
        if landing.error is None:
            self._breaker.succeeded()
            self.health.succeeded()
        else:
            self._failed(flight, landing.error)
        return landing

    def _asked(self, customer_id: str) -> Landing:
        began, wall = self._clock.monotonic(), self._clock.time()
        try:
            snapshot = self._source.fetch(customer_id)
            if snapshot.customer_id != customer_id:
                raise SourceMalformed("the source answered for another customer")  # noqa: TRY301 - one place for failures
        except CustomerNotFound:
            snapshot = Snapshot(customer_id, (), wall, is_found=False)
        except BaseException as error:  # noqa: BLE001 - a source is anybody's code; those who wait share what it raised
            return Landing(error=error)
        jitter = random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - spreads renewals, guards nothing
        return Landing(Entry(snapshot, began, wall, self._options.ttl * jitter))

    def _tell(self, customer_id: str, landed: Future[Landing]) -> None:
        listener, landing = self._listener(), landed.result()
        if listener is not None and landing.entry is not None:
            listener.refreshed(landing.entry.snapshot)
        elif listener is not None and landing.error is not None:
            listener.failed(customer_id, landing.error)

    def _failed(self, flight: Flight, error: BaseException) -> None:
        """Note a failure, once for each flight."""
        with self._lock:
            if flight.is_counted:
                return
            flight.is_counted = True
        if isinstance(error, SourceRejected) and error.status in _HARMLESS_STATUSES:
            self._breaker.answered()
        else:
            self._breaker.failed()
        self.health.failed(error)
        self._log.note(error)


_LEFT_ALONE = Landing(error=SourceUnavailable("no fetch is begun now"))
_OUTLASTED = SourceUnavailable("no answer within the deadline")
_NO_ANSWER = Landing(error=_OUTLASTED)


def _reason(error: BaseException | None) -> Reason:
    if isinstance(error, SourceRejected):
        return Reason.REJECTED
    return Reason.MALFORMED_RESPONSE if isinstance(error, SourceMalformed) else Reason.UNAVAILABLE
