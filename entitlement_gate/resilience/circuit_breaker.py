"""Leaves an upstream alone that keeps failing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from entitlement_gate.resilience.clock import elapsed
from entitlement_gate.resilience.fork_safety import Locked

if TYPE_CHECKING:
    from entitlement_gate.resilience.clock import Clock

__all__ = ["CircuitBreaker"]


class CircuitBreaker(Locked):
    """Closed until so many failures in a row; then open for some seconds; then one probe decides.

    The lock is held for arithmetic only, never while anybody fetches.
    """

    FAILURES = 5
    SECONDS = 5.0

    def __init__(self, clock: Clock, failures: int | None = None) -> None:
        self._clock = clock
        self._most = self.FAILURES if failures is None else failures
        self._failures = 0
        self._opened_at: float | None = None  # the last failure, or the last probe
        super().__init__()

    @property
    def state(self) -> Literal["closed", "open", "half_open"]:
        """What a fetch would meet now."""
        opened_at = self._opened_at
        if opened_at is None:
            return "closed"
        return "open" if elapsed(opened_at, self._clock.monotonic()) < self.SECONDS else "half_open"

    def admit(self) -> bool:
        """Return whether one fetch may go upstream now; of a half-open breaker only one may."""
        if self._opened_at is None:
            return True
        with self._lock:
            state = self.state
            if state == "half_open":
                self._opened_at = self._clock.monotonic()  # a probe that never reports back is followed by another
            return state != "open"

    def record_success(self) -> None:
        """Note that upstream answered as it should."""
        if self._failures or self._opened_at is not None:
            with self._lock:
                self._failures = 0
                self._opened_at = None

    def record_answer(self) -> None:
        """Note an answer that says no more than "I am there": it ends an outage, and counts for nothing else."""
        if self._opened_at is not None:
            self.record_success()

    def record_failure(self) -> None:
        """Note a failed fetch."""
        with self._lock:
            self._failures += 1
            if self._failures >= self._most:
                self._opened_at = self._clock.monotonic()
