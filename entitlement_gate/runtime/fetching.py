"""Keeps snapshots: fresh, then stale while renewed, then stale if fetching fails, then gone.

Never here: what a snapshot says about an entitlement (``judging``).
"""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, NamedTuple, Protocol

from entitlement_gate.domain.decisions import Reason, Source
from entitlement_gate.domain.errors import (
    CustomerNotFound,
    SourceMalformed,
    SourceRejected,
    SourceUnavailable,
)
from entitlement_gate.domain.grants import Snapshot
from entitlement_gate.runtime.breaker import Breaker
from entitlement_gate.runtime.cache import Entry, SnapshotCache
from entitlement_gate.runtime.flights import Flights, Landing, Wait
from entitlement_gate.runtime.reporting import FailureLog
from entitlement_gate.runtime.workers import Workers

if TYPE_CHECKING:
    from entitlement_gate.runtime.flights import Flight
    from entitlement_gate.runtime.options import GateOptions
    from entitlement_gate.runtime.steps import Steps
    from entitlement_gate.zenskar.flow import Clock

__all__ = ["Fetching", "SnapshotSource", "View"]

_JITTER = 0.1
# Wrong parameters say nothing about billing's health; wrong credentials fail every customer alike.
_HARMLESS_STATUSES = (400, 422)


class SnapshotSource(Protocol):
    """Where snapshots come from: ``ZenskarClient``, or anything with this method."""

    def fetch(self, customer_id: str) -> Snapshot:
        """Return all grants of a customer, or raise a ``SourceError``. May block; called on a worker thread."""


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


class Fetching:
    """The snapshots of one source."""

    def __init__(self, source: SnapshotSource, options: GateOptions, clock: Clock) -> None:
        self._source = source
        self._options = options
        self._clock = clock
        self._breaker = Breaker(clock)
        self._cache = SnapshotCache(options.max_customers)
        self._workers = Workers(options.max_concurrency)
        self._log = FailureLog(clock)
        self.entries = self._cache.entries
        self.remake()

    def remake(self) -> None:
        """Make locks, threads and flights anew, as after a fork; the data stays."""
        self._lock = threading.Lock()
        self._breaker.remake()
        self._cache.remake()
        self._workers.remake()
        self._log.remake()
        self._flights = Flights(self._lock, self._workers, fetch=self._fetch, land=self._cache.put)

    def view(self, customer_id: str, *, refresh: bool = False) -> Steps[View]:
        """Return what is known: at once where data is good enough, else after a fetch."""
        entry = self.entries.get(customer_id)
        if entry is not None and not refresh:
            age = entry.age(self._clock)
            if age < entry.fresh_for:
                return View(customer_id, entry, "cache")
            if age < entry.fresh_for + self._options.stale_while_revalidate:
                self._launch(customer_id)
                return View(customer_id, entry, "stale" if entry.is_renewal_failing else "cache")
        return (yield from self._fetched(customer_id, later=refresh))

    def for_denial(self, view: View) -> Steps[View]:
        """Return newer data before a denial, where the data is too old to deny and a fetch is due."""
        entry = view.entry
        if entry is None or view.was_tried or entry.age(self._clock) < self._options.denial_max_age:
            return view
        now = self._clock.monotonic()
        is_due = now - entry.denial_tried_at >= self._options.denial_max_age
        if not is_due and not self._flights.is_flying(view.customer_id):
            return view._replace(source="stale")
        if is_due:
            entry.denial_tried_at = now
        return (yield from self._fetched(view.customer_id))

    def invalidate(self, customer_id: str) -> None:
        """Let what is known, and what is on its way, no longer count."""
        with self._lock:
            self._flights.void(customer_id)
            self._cache.expire(customer_id)

    def close(self) -> None:
        """Start no further fetch. Waits for nothing."""
        self._workers.close()

    def _fetched(self, customer_id: str, *, later: bool = False) -> Steps[View]:
        flight = self._launch(customer_id, later=later)
        landing: Landing | None = _LEFT_ALONE if flight is None else (yield Wait(flight, self._options.deadline))
        if landing is not None and landing.entry is not None:
            return View(customer_id, landing.entry, "live", was_tried=True)
        entry = self.entries.get(customer_id)
        if entry is not None and entry.age(self._clock) <= self._options.stale_if_error:
            return View(customer_id, entry, "stale", was_tried=True)
        return View(customer_id, None, "fallback", _reason(landing and landing.error), was_tried=True)

    def _launch(self, customer_id: str, *, later: bool = False) -> Flight | None:
        """Return the customer's flight, or None where upstream is to be left alone."""
        if self._breaker.state == "open" and not self._flights.is_flying(customer_id):
            return None
        return self._flights.join(customer_id, later=later)

    def _fetch(self, customer_id: str) -> Landing:
        """Fetch, on a worker thread; never raises."""
        if not self._breaker.admit():
            return _LEFT_ALONE
        began, wall = self._clock.monotonic(), self._clock.time()
        try:
            snapshot = self._source.fetch(customer_id)
            if snapshot.customer_id != customer_id:
                raise SourceMalformed("the source answered for another customer")  # noqa: TRY301 - one place for failures
        except CustomerNotFound:
            snapshot = Snapshot(customer_id, (), wall, is_found=False)
        except Exception as error:  # noqa: BLE001 - a source is anybody's code; a check never raises for it
            self._failed(customer_id, error)
            return Landing(error=error)
        self._breaker.succeeded()
        jitter = random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - spreads renewals, guards nothing
        return Landing(Entry(snapshot, began, wall, self._options.ttl * jitter))

    def _failed(self, customer_id: str, error: Exception) -> None:
        if not (isinstance(error, SourceRejected) and error.status in _HARMLESS_STATUSES):
            self._breaker.failed()
        entry = self.entries.get(customer_id)
        if entry is not None:
            entry.is_renewal_failing = True
        self._log.note(error)


_LEFT_ALONE = Landing(error=SourceUnavailable("billing keeps failing and is left alone for a few seconds"))


def _reason(error: Exception | None) -> Reason:
    if isinstance(error, SourceRejected):
        return Reason.REJECTED
    return Reason.MALFORMED_RESPONSE if isinstance(error, SourceMalformed) else Reason.UNAVAILABLE
