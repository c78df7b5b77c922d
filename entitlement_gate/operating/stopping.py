"""SIGINT and SIGTERM as a wish to end: what is under way is finished first. Never here: what is under way."""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["Stop"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SLICE = 0.2  # seconds: a sleep goes on after a signal, so it is slept in pieces


class Stop:
    """Whether somebody asked for the end. The second signal ends the process at once, as without this.

    Off the main thread, where no signal can be had, nobody asks.
    """

    def __init__(self) -> None:
        self._is_asked = False  # no Event: its lock may be held by the very frame that a signal interrupts
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def __call__(self) -> bool:
        """Return whether to end."""
        return self._is_asked

    def wait(self, seconds: float) -> bool:
        """Wait so long, less where the end is asked for; return whether it is."""
        until = time.monotonic() + seconds
        while not self._is_asked and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _SLICE))
        return self._is_asked

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self._is_asked = True
        self._restore()

    def _restore(self) -> None:
        before, self._before = self._before, {}
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
