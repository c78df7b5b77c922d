"""Leaves an upstream alone that keeps failing. Never here: what a failure is, or any waiting."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Literal

from entitlement_gate.forking import PerProcess

if TYPE_CHECKING:
    from entitlement_gate.zenskar.flow import Clock

__all__ = ["Breaker"]


class Breaker:
    """Closed until 5 failures in a row; then open for 5 s; then one probe decides.

    The lock is held for arithmetic only, never while anybody fetches.
    """

    FAILURES = 5
    SECONDS = 5.0
    _lock: PerProcess[threading.Lock] = PerProcess()

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures = 0
        self._opens_at: float | None = None
        self.remake()

    def remake(self) -> None:
        """Make the lock anew, as after a fork; what was learned stays."""
        self._lock = threading.Lock()

    @property
    def state(self) -> Literal["closed", "open", "half_open"]:
        """What a fetch would meet now."""
        opens_at = self._opens_at
        if opens_at is None:
            return "closed"
        return "open" if self._clock.monotonic() < opens_at else "half_open"

    def admit(self) -> bool:
        """Return whether one fetch may go upstream now; of a half-open breaker only one may."""
        with self._lock:
            if self._opens_at is None:
                return True
            now = self._clock.monotonic()
            if now < self._opens_at:
                return False
            self._opens_at = now + self.SECONDS  # a probe that never reports back is followed by another
            return True

    def succeeded(self) -> None:
        """Note that upstream answered as it should."""
        with self._lock:
            self._failures = 0
            self._opens_at = None

    def answered(self) -> None:
        """Note an answer that says no more than "I am there": it ends an outage, and counts for nothing else."""
        if self._opens_at is not None:
            self.succeeded()

    def failed(self) -> None:
        """Note a failed fetch."""
        with self._lock:
            self._failures += 1
            if self._failures >= self.FAILURES:
                self._opens_at = self._clock.monotonic() + self.SECONDS
