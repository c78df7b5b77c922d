"""One fetch per customer at a time, shared by all threads and event loops that wait for it.

Never here: what is fetched, how long data is good, or what a failure means to a check.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Lock

    from entitlement_gate.runtime.cache import Entry
    from entitlement_gate.runtime.workers import Workers

__all__ = ["Flight", "Flights", "Landing", "Wait"]


class Landing(NamedTuple):
    """What a fetch came to: an entry, or the error that all who waited share."""

    entry: Entry | None = None
    error: Exception | None = None


class Flight:
    """A fetch on its way."""

    __slots__ = ("customer_id", "future", "has_begun", "is_void", "successor")

    def __init__(self, customer_id: str) -> None:
        self.customer_id = customer_id
        self.future: Future[Landing] = Future()
        # Marked as running, a future cannot be cancelled: a waiter that gives up harms nobody else.
        self.future.set_running_or_notify_cancel()
        self.has_begun = False
        self.is_void = False
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
            await asyncio.wait((asyncio.wrap_future(future),), timeout=self.seconds)
        return future.result() if future.done() else None


class Flights:
    """The flights of all customers.

    Args:
        lock: the gate's; held for bookkeeping only, never during a fetch.
        workers: where fetches run.
        fetch: customer id → landing; never raises.
        land: keeps an entry; called with the lock held, and only for a flight that still counts.
    """

    def __init__(
        self,
        lock: Lock,
        workers: Workers,
        *,
        fetch: Callable[[str], Landing],
        land: Callable[[Entry], None],
    ) -> None:
        self._lock = lock
        self._workers = workers
        self._fetch = fetch
        self._land = land
        self._flying: dict[str, Flight] = {}

    def join(self, customer_id: str, *, later: bool = False) -> Flight:
        """Return the customer's flight, starting one where there is none.

        With ``later`` it is a flight whose fetch begins after this call: where one has begun already, the next
        one, which starts when that has landed and which all later callers share.
        """
        with self._lock:
            flight = self._flying.get(customer_id)
            if flight is None:
                return self._start(Flight(customer_id))
            if later and flight.has_begun:
                flight.successor = flight.successor or Flight(customer_id)
                return flight.successor
            return flight

    def is_flying(self, customer_id: str) -> bool:
        """Return whether a flight that counts is on its way."""
        return customer_id in self._flying

    def void(self, customer_id: str) -> None:
        """Let a flight on its way no longer count: those who wait for it get it, nobody else. Lock held."""
        flight = self._flying.pop(customer_id, None)
        if flight is not None:
            flight.is_void = True

    def _start(self, flight: Flight) -> Flight:
        self._flying[flight.customer_id] = flight
        if not self._workers.submit(lambda: self._fly(flight)):
            self._flying.pop(flight.customer_id)
            flight.future.set_result(Landing(error=RuntimeError("the gate is closed")))
        return flight

    def _fly(self, flight: Flight) -> None:
        with self._lock:
            flight.has_begun = True
        landing = self._fetch(flight.customer_id)
        with self._lock:
            if not flight.is_void:
                self._flying.pop(flight.customer_id, None)
                if landing.entry is not None:
                    self._land(landing.entry)
            if flight.successor is not None:
                self._succeed(flight.successor)
        flight.future.set_result(landing)

    def _succeed(self, successor: Flight) -> None:
        """Start the next flight; after an invalidation, another may be in its place, which is as late."""
        current = self._flying.get(successor.customer_id)
        if current is None:
            self._start(successor)
        else:
            current.future.add_done_callback(lambda done: successor.future.set_result(done.result()))
