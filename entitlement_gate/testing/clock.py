"""A clock that a test moves. Never here: the time that anything but the gate goes by."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from entitlement_gate.resilience.fork_safety import Locked

__all__ = ["MovableClock"]


class MovableClock(Locked):
    """Runs with the machine's until it is frozen; moves by what it is told, on both of its faces."""

    def __init__(self) -> None:
        super().__init__()
        self._shift = 0.0
        self._frozen: tuple[float, float] | None = None

    def time(self) -> float:
        """Seconds since 1970."""
        return self._faces()[0]

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return self._faces()[1]

    def freeze(self, at: datetime | None = None) -> None:
        """Stand still, now or at an instant (a naive one is UTC)."""
        with self._lock:
            wall, tick = self._faces()
            self._frozen = (wall if at is None else _aware(at).timestamp(), tick)

    def advance(self, by: float | timedelta) -> None:
        """Let time pass at once, frozen or not.

        Raises:
            ValueError: time would go back.
        """
        seconds = by.total_seconds() if isinstance(by, timedelta) else by
        if seconds < 0:
            raise ValueError(f"time goes forward only, not by {by!r}")
        with self._lock:
            if self._frozen is None:
                self._shift += seconds
            else:
                wall, tick = self._frozen
                self._frozen = (wall + seconds, tick + seconds)

    def _faces(self) -> tuple[float, float]:
        return self._frozen or (time.time() + self._shift, time.monotonic() + self._shift)


def _aware(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=UTC)
