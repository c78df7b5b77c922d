"""Clocks that may go back, how long ago something was by them, and deadlines.

A monotonic clock never goes back, but tests freeze and move it, and what was noted meanwhile lies ahead of it then.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

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
    """One bound, in seconds from now, over everything that is done until then.

    What was waited by ``pause`` counts whatever the clock says: where a test has frozen it, a loop ends all the same.
    """

    __slots__ = ("_clock", "_ends", "_paused", "seconds")

    def __init__(self, seconds: float, clock: Clock) -> None:
        self.seconds = seconds
        self._clock = clock
        self._ends = clock.monotonic() + seconds
        self._paused = 0.0

    def remaining(self) -> float:
        """Return the seconds left, zero when it has passed; never more than there were, where the clock went back."""
        return max(0.0, min(self.seconds - self._paused, self._ends - self._clock.monotonic()))

    def pause(self, seconds: float, wait: Callable[[float], object] = time.sleep) -> None:
        """Wait so long, or until the deadline; ``wait`` may return sooner, and the whole pause counts then."""
        seconds = min(seconds, self.remaining())
        wait(seconds)
        self._paused += seconds


def elapsed(since: float, now: float) -> float:
    """Return the seconds between two readings of one clock; infinite where it has gone back: nobody knows then.

    Whatever is held off for a while is due then, and whatever waits has waited long enough.

    >>> elapsed(10.0, 12.5)
    2.5
    >>> elapsed(12.5, 10.0)
    inf
    """
    return now - since if now >= since else float("inf")
