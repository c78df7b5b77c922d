"""What one flight does on its worker thread: look at what others fetched, ask billing, tell who listens.

Never here: which flight starts, who waits for it, and what a failure means to a check (``fetching``).
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING

from entitlement_gate.domain.errors import CustomerNotFound, SourceRejected, SourceUnavailable
from entitlement_gate.domain.grants import Snapshot
from entitlement_gate.forking import PerProcess, chance
from entitlement_gate.locking import Lock
from entitlement_gate.runtime.breaker import Breaker
from entitlement_gate.runtime.cache import Entry
from entitlement_gate.runtime.flights import Landing
from entitlement_gate.runtime.health import Health
from entitlement_gate.runtime.reporting import FailureLog
from entitlement_gate.runtime.sharing import PATIENCE
from entitlement_gate.runtime.vetting import vetted
from entitlement_gate.shared.turns import Found, Wanted

if TYPE_CHECKING:
    from entitlement_gate.runtime.flights import Flight
    from entitlement_gate.runtime.options import GateOptions
    from entitlement_gate.runtime.views import Listener, SnapshotSource
    from entitlement_gate.shared.snapshots import SharedSnapshots
    from entitlement_gate.shared.turns import Stamp
    from entitlement_gate.zenskar.flow import Clock

__all__ = ["LEFT_ALONE", "Asking"]

_JITTER = 0.1
# Wrong parameters say nothing about billing's health; wrong credentials fail every customer alike.
_HARMLESS_STATUSES = (400, 422)


class Asking:
    """Asks one source, and where a gate has one the shared store before it.

    Attributes:
        source: where snapshots come from.
        breaker: leaves the source alone.
        health: of the source, and how checks were answered.
        log: tells of failures.
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
        self.breaker = Breaker(clock)
        self.health = Health(clock)
        self.log = FailureLog(clock)
        self.is_closed = False
        self._options = options
        self._clock = clock
        self._listener = weakref.ref(listener)  # the gate, which owns this: no cycle keeps it alive
        self._shared = shared

    def remake(self) -> None:
        """Make locks anew, as after a fork."""
        self._lock = Lock()
        self.breaker.remake()
        self.log.remake()

    def fetch(self, flight: Flight, held: Entry | None) -> Landing:
        """Return what will do for the flight, given what is held of its customer; never raises."""
        try:
            return self._fetched(flight) if self._shared is None else self._found(flight, held, self._shared)
        except BaseException as error:  # noqa: BLE001 - a source, a seal and a ledger are anybody's code
            self.failed(flight, error)
            return Landing(error=error)

    def _found(self, flight: Flight, held: Entry | None, shared: SharedSnapshots) -> Landing:
        """Return what others fetched, or what is fetched here, for all."""
        customer_id = flight.customer_id
        found = shared.look(customer_id, self._wanted(flight, held))
        if isinstance(found, Found):
            flight.generation = found.stamp.generation
            return Landing(self._adopted(found), source="shared", is_new=found.is_new)
        flight.generation = found.stamp.generation if found.stamp else None
        landing = LEFT_ALONE
        try:
            landing = self._fetched(flight, found.stamp)
        finally:
            if landing.entry is None:
                shared.give_up(customer_id, found)
        if landing.entry is None:
            older = found.older if held is None or self._is_newer(found.older, held) else None
            # Not LEFT_ALONE even where it was: looking was a try, and it is not made again at the next check.
            return landing._replace(instead=self._adopted(older) if older else None)
        if not shared.keep(customer_id, found, landing.entry.snapshot, landing.entry.fetched_wall):
            return landing._replace(entry=landing.entry.expired())  # for those who wait, and nobody after them
        return landing

    def failed(self, flight: Flight, error: BaseException) -> None:
        """Note a failure, once for each flight."""
        with self._lock:
            if flight.is_counted:
                return
            flight.is_counted = True
        if isinstance(error, SourceRejected) and error.status in _HARMLESS_STATUSES:
            self.breaker.answered()
        else:
            self.breaker.failed()
        self.health.failed(error)
        self.log.note(error)

    def _wanted(self, flight: Flight, held: Entry | None) -> Wanted:
        """Return what of others' would do: what is fresh, newer than what is held, and as young as the flight asks."""
        max_age, unlike = min(flight.max_age, self._options.ttl), None
        if held is not None and not held.is_invalidated:  # what was said to be overtaken is no measure
            max_age, unlike = min(max_age, held.age(self._clock)), held.stamp
        return Wanted(max_age, unlike, PATIENCE * self._options.deadline)

    def _is_newer(self, found: Found | None, held: Entry) -> bool:
        return found is not None and found.stamp != held.stamp and found.age < held.age(self._clock)

    def _fetched(self, flight: Flight, stamp: Stamp | None = None) -> Landing:
        if self.is_closed or not self.breaker.admit():
            return LEFT_ALONE
        flight.afterwards = partial(self._tell, flight.customer_id)
        landing = self._asked(flight.customer_id, stamp)
        if landing.error is None:
            self.breaker.succeeded()
            self.health.succeeded()
        else:
            self.failed(flight, landing.error)
        return landing

    def _asked(self, customer_id: str, stamp: Stamp | None) -> Landing:
        self._foretell()
        began, wall = self._clock.monotonic(), self._clock.time()
        try:
            snapshot = vetted(self.source.fetch(customer_id), customer_id, wall)
        except CustomerNotFound:
            snapshot = Snapshot(customer_id, (), wall, is_found=False)
        except BaseException as error:  # noqa: BLE001 - a source is anybody's code; those who wait share what it raised
            return Landing(error=error, seconds=max(0.0, self._clock.monotonic() - began))
        self._adopt(snapshot)
        return Landing(Entry(snapshot, began, wall, self._fresh_for(), stamp=stamp))

    def _foretell(self) -> None:
        listener = self._listener()
        if listener is not None:
            listener.fetching()

    def _adopted(self, found: Found) -> Entry:
        """Return an entry of what somebody else fetched, as old as it is."""
        self._adopt(found.snapshot)
        tick, wall = self._clock.monotonic(), self._clock.time()
        return Entry(found.snapshot, tick - found.age, wall - found.age, self._fresh_for(), stamp=found.stamp)

    def _adopt(self, snapshot: Snapshot) -> None:
        listener = self._listener()
        if listener is not None:
            listener.adopting(snapshot)

    def _fresh_for(self) -> float:
        jitter = chance.uniform(1 - _JITTER, 1 + _JITTER)
        return self._options.ttl * jitter

    def _tell(self, customer_id: str, landing: Landing) -> None:
        """Tell of a fetch of this process; what others fetched they have told of."""
        listener = self._listener()
        if listener is not None and landing.entry is not None:
            listener.refreshed(landing.entry.snapshot)
        elif listener is not None and landing.error is not None:
            listener.failed(customer_id, landing.error)


LEFT_ALONE = Landing(error=SourceUnavailable("no fetch is begun now"))
"""Known by identity: what was not tried has not failed."""
