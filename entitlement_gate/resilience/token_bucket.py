"""A token bucket: so much at once, and so much a second."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from entitlement_gate.resilience.clock import elapsed
from entitlement_gate.resilience.fork_safety import Locked

if TYPE_CHECKING:
    from entitlement_gate.resilience.clock import Clock

__all__ = ["TokenBucket"]


class TokenBucket(Locked):
    """Full at the start. Thread-safe.

    Args:
        capacity: tokens at most.
        rate: tokens added a second; with 0 only ``add`` does it.
        clock: has ``monotonic()``.
    """

    def __init__(self, capacity: float, rate: float, clock: Clock = time) -> None:
        self._capacity = capacity
        self._rate = rate
        self._clock = clock
        self._tokens = capacity
        self._filled_at = clock.monotonic()
        super().__init__()

    def add(self, tokens: float) -> None:
        """Put tokens in, as far as there is room."""
        with self._lock:
            self._fill(tokens)

    def spend(self, tokens: float = 1) -> bool:
        """Return whether there are so many tokens, and take them."""
        with self._lock:
            now = self._clock.monotonic()
            if self._rate:
                self._fill(elapsed(self._filled_at, now) * self._rate)
            self._filled_at = now
            if self._tokens < tokens:
                return False
            self._tokens -= tokens
            return True

    def _fill(self, tokens: float) -> None:
        self._tokens = min(self._capacity, self._tokens + tokens)
