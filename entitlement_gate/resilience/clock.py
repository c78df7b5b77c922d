"""What tells the time, and how long ago something was by a clock that may have gone back.

A monotonic clock never goes back, but tests freeze and move it, and what was noted meanwhile lies ahead of it then.
"""

from __future__ import annotations

from typing import Protocol

__all__ = [
    "LONG_AGO",
    "Clock",
    "elapsed",
]


class Clock(Protocol):
    """What tells the time: the ``time`` module, or a test's own hands."""

    def time(self) -> float:
        """POSIX seconds by the wall clock."""

    def monotonic(self) -> float:
        """Seconds that never go back."""


LONG_AGO = float("-inf")
"""When something happened that never did."""


def elapsed(since: float, now: float) -> float:
    """Return the seconds between two readings of one clock; infinite where it has gone back: nobody knows then.

    Whatever is held off for a while is due then, and whatever waits has waited long enough.

    >>> elapsed(10.0, 12.5)
    2.5
    >>> elapsed(12.5, 10.0)
    inf
    """
    return now - since if now >= since else float("inf")
