"""One fetch per customer at a time, shared by all threads and event loops that wait for it.

An exception may strike at any line, on the thread of a caller or of the pool. So no flight is believed to be on its
way because somebody once noted that it is: it is on its way while its work waits in the pool or a thread is at it. One
that has not begun is queued again by whoever joins it, one that is lost gives way to another.

Never here: what is fetched, how long data is good, or what a failure means to a check.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from entitlement_gate.domain.errors import SourceUnavailable
from entitlement_gate.resilience.clock import elapsed

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from entitlement_gate.domain.decisions import Source
    from entitlement_gate.engine.cache import Entry
    from entitlement_gate.resilience.worker_pool import WorkerPool
    from entitlement_gate.zenskar.flow import Clock

__all__ = [
    "Flight",
    "Landing",
    "Rules",
    "SingleFlight",
    "Wait",
]


class Landing(NamedTuple):
    """What a fetch came to: an entry, or the error that all who waited share.

    Attributes:
        entry: the data.
        error: why there is none.
        source: ``live``, or ``shared`` where another process fetched it.
        is_new: that fetch began after the flight did.
        instead: where there is none, older data that other processes had.
        seconds: how long it took to fail.
    """

    entry: Entry | None = None
    error: BaseException | None = None
    source: Source = "live"
    is_new: bool = True
    instead: Entry | None = None
    seconds: float = 0.0


_UNWANTED = Landing(error=SourceUnavailable("nobody waits any longer for this fetch"))
_NO_WORKER = Landing(error=SourceUnavailable("the gate is closed, or the process can start no thread"))


class Flight:
    """A fetch on its way.

    Attributes:
        customer_id: whose data is fetched.
        landing: what it came to, once it has landed.
        began_at: monotonic clock when the fetch began; None while it waits for a worker.
        wanted_until: monotonic clock when the last of those who wait for it gives up.
        max_age: seconds that data of other processes must be younger than to do; below 0 where it must be fetched
            after the flight began.
        generation: the customer's in the shared store when the fetch began; None where that is not known.
        is_void: it no longer counts; only those who wait for it get what it brings.
        is_counted: its failure, if only that it outlasted those who waited, has been noted.
        successor: the flight that starts when this one has landed.
        afterwards: what is to be done once those who waited have what it brought.
    """

    __slots__ = (
        "_bells",
        "afterwards",
        "began_at",
        "customer_id",
        "generation",
        "is_counted",
        "is_void",
        "landing",
        "max_age",
        "successor",
        "wanted_until",
    )

    def __init__(self, customer_id: str) -> None:
        self.customer_id = customer_id
        self.landing: Landing | None = None
        self.began_at: float | None = None
        self.wanted_until = _NEVER
        self.max_age = float("inf")
        self.generation: str | None = None
        self.is_void = False
        self.is_counted = False
        self.successor: Flight | None = None
        self.afterwards: Callable[[Landing], None] | None = None
        # Not a `Future`: its condition stays locked for good where an exception strikes somebody who begins to wait.
        self._bells: deque[Callable[[], object]] = deque()

    def ring(self, bell: Callable[[], object]) -> None:
        """Ring a bell when it has landed, at once where it has; twice where that happens in between."""
        self._bells.append(bell)
        if self.landing is not None:
            bell()

    def land(self, landing: Landing) -> None:
        """Tell those who wait; again is harmless."""
        self.landing = landing
        while self._bells:
            self._bells.popleft()()


_NEVER = float("-inf")


class Wait(NamedTuple):
    """Wait for a flight, at most so many seconds; yields its landing, or None when the time is up."""

    flight: Flight
    seconds: float

    def wait(self) -> Landing | None:
        """Block this thread."""
        if self.flight.landing is None:
            bell: queue.SimpleQueue[None] = queue.SimpleQueue()
            self.flight.ring(partial(bell.put, None))
            with suppress(queue.Empty):
                bell.get(timeout=min(self.seconds, threading.TIMEOUT_MAX))
        return self.flight.landing

    async def wait_async(self) -> Landing | None:
        """Leave the loop free. Cancelling this never cancels the flight."""
        if self.flight.landing is None:
            loop = asyncio.get_running_loop()
            landed = loop.create_future()
            self.flight.ring(partial(_tell, loop, landed))
            await asyncio.wait((landed,), timeout=self.seconds)
        return self.flight.landing


def _tell(loop: asyncio.AbstractEventLoop, landed: asyncio.Future[None]) -> None:
    """Wake a waiter of another thread's loop (``asyncio.wrap_future`` logs an error where that loop is closed)."""
    with suppress(RuntimeError):  # closed while the flight was up: nobody waits there
        loop.call_soon_threadsafe(_wake, landed)


def _wake(landed: asyncio.Future[None]) -> None:
    if not landed.done():
        landed.set_result(None)


class Rules(NamedTuple):
    """What flights are told by whoever owns them.

    Attributes:
        admit: whether a fetch for the customer may start; called with the lock held.
        fetch: what a flight does on its worker thread.
        land: keeps what came; called with the lock held, and only for a flight that still counts.
        deadline: seconds that anybody waits.
        patience: seconds after which a fetch that has begun is taken for hung, and another may start.
    """

    admit: Callable[[str], bool]
    fetch: Callable[[Flight], Landing]
    land: Callable[[str, Landing], None]
    deadline: float
    patience: float


class SingleFlight:
    """The flights of all customers. ``lock`` is the gate's: held for bookkeeping only, never during a fetch."""

    def __init__(self, lock: AbstractContextManager[object], workers: WorkerPool, clock: Clock, rules: Rules) -> None:
        self._lock = lock
        self._workers = workers
        self._clock = clock
        self._rules = rules
        self._flying: dict[str, Flight] = {}

    def join(self, customer_id: str, *, later: bool = False, max_age: float = float("inf")) -> Flight | None:
        """Return the customer's flight, starting one where there is none; None where none may start.

        With ``later`` it is a flight whose fetch begins after this call: where one has begun already, the next
        one, which starts when that has landed and which all later callers share. A flight that has begun may bring
        data of other processes that is older than ``max_age``; one that has not will bring none.
        """
        with self._lock:
            flight = self._current(customer_id)
            if flight is None:
                flight = Flight(customer_id) if self._rules.admit(customer_id) else None
            elif later and flight.began_at is not None:
                flight = self._next(flight)
            if flight is not None:
                flight.wanted_until = self._clock.monotonic() + self._rules.deadline
                flight.max_age = min(flight.max_age, max_age)
                self._follow(flight)
            return flight

    def is_flying(self, customer_id: str) -> bool:
        """Return whether a flight that counts is on its way."""
        flight = self._flying.get(customer_id)
        return flight is not None and not self._is_lost(flight)

    def counts(self, flight: Flight) -> bool:
        """Return whether what a flight brings is for all, and not only for those who wait for it."""
        return self._flying.get(flight.customer_id) is flight and not flight.is_void

    def void(self, customer_id: str, *, unless: str | None = None) -> None:
        """Let a flight on its way no longer count: those who wait for it get it, nobody else. Lock held.

        A flight that fetches ``unless``, a generation of the customer's, is let be.
        """
        flight = self._flying.get(customer_id)
        if flight is None or (unless is not None and flight.generation == unless):
            return
        flight.is_void = True
        self._give_way(flight)

    def _current(self, customer_id: str) -> Flight | None:
        """Return the flight that is on its way, having let one that is lost give way."""
        flight = self._flying.get(customer_id)
        if flight is None or not self._is_lost(flight):
            return flight
        self.void(customer_id)
        return self._flying.get(customer_id)

    def _is_lost(self, flight: Flight) -> bool:
        """Whether nothing more comes of a flight that is said to be up."""
        if flight.is_void or flight.landing is not None:
            return True
        if flight.began_at is None:
            return False  # whoever joins it queues it
        if not self._workers.has(flight):
            return True
        return elapsed(flight.began_at, self._clock.monotonic()) > self._rules.patience

    def _next(self, flight: Flight) -> Flight | None:
        if flight.successor is None and self._rules.admit(flight.customer_id):
            flight.successor = Flight(flight.customer_id)
        return flight.successor

    def _follow(self, flight: Flight) -> None:
        """Queue a flight that has not begun, unless another of its customer's has to land first. Lock held."""
        if flight.began_at is not None or self._flying.setdefault(flight.customer_id, flight) is not flight:
            return
        if not self._workers.submit(partial(self._fly, flight), name=flight):
            del self._flying[flight.customer_id]
            flight.land(_NO_WORKER)

    def _give_way(self, flight: Flight) -> None:
        """Let the successor of a flight that has ended, or counts no longer, follow. Lock held."""
        if self._flying.get(flight.customer_id) is flight:
            del self._flying[flight.customer_id]
        if flight.successor is not None:
            self._follow(flight.successor)

    def _fly(self, flight: Flight) -> None:
        try:
            landing = self._flown(flight)
            if landing is not None:
                self._arrive(flight, landing)
        except BaseException as error:  # whatever struck this thread, somebody waits for an answer
            with self._lock:
                self._give_way(flight)
            flight.land(flight.landing or Landing(error=error))
            raise

    def _flown(self, flight: Flight) -> Landing | None:
        """Fetch; return None where another thread does: a flight may have been queued twice.

        A queue that nobody waits for any longer is not worth a call to billing.
        """
        with self._lock:
            if flight.began_at is not None:
                return None
            flight.began_at = self._clock.monotonic()
            is_wanted = flight.began_at <= flight.wanted_until
            if not is_wanted:
                self._give_way(flight)  # at once: nobody is to join it any more
        return self._rules.fetch(flight) if is_wanted else _UNWANTED

    def _arrive(self, flight: Flight, landing: Landing) -> None:
        try:
            self._keep(flight, landing)
        finally:
            flight.land(landing)
        if flight.afterwards is not None:
            flight.afterwards(landing)

    def _keep(self, flight: Flight, landing: Landing) -> None:
        with self._lock:
            try:
                if self.counts(flight):
                    self._rules.land(flight.customer_id, landing)
            finally:
                self._give_way(flight)
