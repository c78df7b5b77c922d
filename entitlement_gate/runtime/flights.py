"""One fetch per customer at a time, shared by all threads and event loops that wait for it.

Never here: what is fetched, how long data is good, or what a failure means to a check.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from typing import TYPE_CHECKING, NamedTuple

from entitlement_gate.domain.errors import SourceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from entitlement_gate.domain.decisions import Source
    from entitlement_gate.runtime.cache import Entry
    from entitlement_gate.runtime.workers import Workers
    from entitlement_gate.zenskar.flow import Clock

__all__ = ["Flight", "Flights", "Landing", "Rules", "Wait"]


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
        future: done when it has landed.
        began_at: monotonic clock when the fetch began; None while it waits for a worker.
        wanted_until: monotonic clock when the last of those who wait for it gives up.
        max_age: seconds that data of other processes must be younger than to do; below 0 where it must be fetched
            after the flight began.
        generation: the customer's in the shared store when the fetch began; None where that is not known.
        is_void: it no longer counts; only those who wait for it get what it brings.
        is_counted: its failure, if only that it outlasted those who waited, has been noted.
        successor: the flight that starts when this one has landed.
    """

    __slots__ = (
        "began_at",
        "customer_id",
        "future",
        "generation",
        "is_counted",
        "is_void",
        "max_age",
        "successor",
        "wanted_until",
    )

    def __init__(self, customer_id: str) -> None:
        self.customer_id = customer_id
        self.future: Future[Landing] = Future()
        # Marked as running, a future cannot be cancelled: a waiter that gives up harms nobody else.
        self.future.set_running_or_notify_cancel()
        self.began_at: float | None = None
        self.wanted_until = 0.0
        self.max_age = float("inf")
        self.generation: str | None = None
        self.is_void = False
        self.is_counted = False
        self.successor: Flight | None = None


class Wait(NamedTuple):
    """Wait for a flight, at most so many seconds; yields its landing, or None when the time is up."""

    flight: Flight
    seconds: float

    def wait(self) -> Landing | None:
        """Block this thread."""
        future = self.flight.future
        wait_for((future,), timeout=self.seconds)
        return future.result() if future.done() else None

    async def wait_async(self) -> Landing | None:
        """Leave the loop free. Cancelling this never cancels the flight."""
        future = self.flight.future
        if not future.done():
            loop = asyncio.get_running_loop()
            landed = loop.create_future()
            future.add_done_callback(lambda _: _tell(loop, landed))
            await asyncio.wait((landed,), timeout=self.seconds)
        return future.result() if future.done() else None


def _tell(loop: asyncio.AbstractEventLoop, landed: asyncio.Future[None]) -> None:
    """Wake a waiter of another thread's loop (``asyncio.wrap_future`` logs an error where that loop is closed)."""
    try:
        loop.call_soon_threadsafe(landed.set_result, None)
    except RuntimeError:
        return  # closed while the flight was up: nobody waits there


class Rules(NamedTuple):
    """What flights are told by whoever owns them.

    Attributes:
        admit: whether a fetch for the customer may start; called with the lock held.
        fetch: what a flight does on its worker thread; never raises.
        land: keeps what came; called with the lock held, and only for a flight that still counts.
        deadline: seconds that anybody waits.
        patience: seconds after which a fetch that has begun is taken for hung, and another may start.
    """

    admit: Callable[[str], bool]
    fetch: Callable[[Flight], Landing]
    land: Callable[[str, Landing], None]
    deadline: float
    patience: float


class Flights:
    """The flights of all customers. ``lock`` is the gate's: held for bookkeeping only, never during a fetch."""

    def __init__(self, lock: AbstractContextManager[object], workers: Workers, clock: Clock, rules: Rules) -> None:
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
            now = self._clock.monotonic()
            flight = self._current(customer_id, now)
            if flight is None:
                flight = self._start(Flight(customer_id)) if self._rules.admit(customer_id) else None
            elif later and flight.began_at is not None:
                flight = self._next(flight)
            if flight is not None:
                flight.wanted_until = now + self._rules.deadline
                flight.max_age = min(flight.max_age, max_age)
            return flight

    def is_flying(self, customer_id: str) -> bool:
        """Return whether a flight that counts is on its way."""
        return customer_id in self._flying

    def void(self, customer_id: str, *, unless: str | None = None) -> None:
        """Let a flight on its way no longer count: those who wait for it get it, nobody else. Lock held.

        A flight that fetches ``unless``, a generation of the customer's, is let be.
        """
        flight = self._flying.get(customer_id)
        if flight is None or (unless is not None and flight.generation == unless):
            return
        del self._flying[customer_id]
        flight.is_void = True
        if flight.successor is not None:
            self._start(flight.successor)

    def _current(self, customer_id: str, now: float) -> Flight | None:
        flight = self._flying.get(customer_id)
        if flight is None or flight.began_at is None or now - flight.began_at <= self._rules.patience:
            return flight
        self.void(customer_id)
        return self._flying.get(customer_id)

    def _next(self, flight: Flight) -> Flight | None:
        if flight.successor is None and self._rules.admit(flight.customer_id):
            flight.successor = Flight(flight.customer_id)
        return flight.successor

    def _start(self, flight: Flight) -> Flight:
        self._flying[flight.customer_id] = flight
        if not self._workers.submit(lambda: self._fly(flight)):
            self._flying.pop(flight.customer_id)
            flight.future.set_result(_NO_WORKER)
        return flight

    def _fly(self, flight: Flight) -> None:
        is_wanted = self._begin(flight)
        landing = self._rules.fetch(flight) if is_wanted else _UNWANTED
        with self._lock:
            if not flight.is_void:
                self._flying.pop(flight.customer_id)
                self._rules.land(flight.customer_id, landing)
                if flight.successor is not None:
                    self._start(flight.successor)
        flight.future.set_result(landing)

    def _begin(self, flight: Flight) -> bool:
        """Return whether somebody may still wait; a queue that nobody waits for is not worth a call to billing."""
        with self._lock:
            flight.began_at = self._clock.monotonic()
            return flight.began_at <= flight.wanted_until
