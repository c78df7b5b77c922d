"""Clocks that may go back, how long ago something was by them, and deadlines.

A monotonic clock never goes back, but tests freeze and move it, and what was noted meanwhile lies ahead of it then.
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["LONG_AGO", "Clock", "Deadline", "elapsed"]

LONG_AGO = float("-inf")
"""The instant of what has not happened yet."""


class Clock(Protocol):
    """What tells the time: the ``time`` module, or a clock of the tests' own."""

    def time(self) -> float:
        """POSIX seconds by the wall clock."""

    def monotonic(self) -> float:
        """Seconds that never go back."""


class Deadline:
    """One bound, in seconds from now, over everything that is done until then."""

    __slots__ = ("_clock", "_ends", "seconds")

    def __init__(self, seconds: float, clock: Clock) -> None:
        self.seconds = seconds
        self._clock = clock
        self._ends = clock.monotonic() + seconds

    def remaining(self) -> float:
        """Return the seconds left, zero when it has passed; never more than there were, where the clock went back."""
        return min(self.seconds, max(0.0, self._ends - self._clock.monotonic()))


def elapsed(since: float, now: float) -> float:
    """Return the seconds between two readings of one clock; infinite where it has gone back: nobody knows then.

    Whatever is held off for a while is due then, and whatever waits has waited long enough.

    >>> elapsed(10.0, 12.5)
    2.5
    >>> elapsed(12.5, 10.0)
    inf
    """
    return now - since if now >= since else float("inf")
