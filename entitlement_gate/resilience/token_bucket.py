"""Bounds what unknown customers cost: ids made up by a client must not drive unlimited calls to billing.

Whoever guesses or enumerates customer ids makes a cache miss of every request. So a customer that is not held is
fetched from a budget, a bucket of tokens for each gate (so for each process):

- ``BURST``, or ``max_customers`` where that is more: a process that starts may fill its cache once, as fast as its
  ``max_concurrency`` lets it (16 connections at 100 ms make 160 fetches a second).
- ``RATE`` more a second. Normal traffic meets new customers one sign-in at a time; at 100 a second 10,000 further
  customers take 100 s.

A customer who is held and has a grant is renewed without a token, and leaves the cache only after all who have none
(``cache``): a flood of made-up ids takes nothing from those who were there before it.

Without a token the check answers ``unknown``/``unavailable`` at once. A second bucket of the same size bounds the
renewals for customers of whom billing knows nothing, a denial of whom would otherwise be worth a fetch every
``DENIAL_MAX_AGE``; without a token their older denial stands. Two, so that these never starve a customer who has
just signed in.

Never here: which fetch needs a token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from entitlement_gate.resilience.clock import elapsed

if TYPE_CHECKING:
    from entitlement_gate.resilience.clock import Clock

__all__ = [
    "TokenBucket",
]


class TokenBucket:
    """A bucket of tokens, full at the start; for use under the gate's lock."""

    BURST = 1_000
    RATE = 100.0

    def __init__(self, clock: Clock, most: int) -> None:
        self._clock = clock
        self._most = float(max(most, self.BURST))
        self._tokens = self._most
        self._filled_at = clock.monotonic()

    def spend(self) -> bool:
        """Return whether one more fetch is within the budget, and take it."""
        now = self._clock.monotonic()
        self._tokens = min(self._most, self._tokens + elapsed(self._filled_at, now) * self.RATE)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
