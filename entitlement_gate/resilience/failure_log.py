"""A log that failures do not flood, and whose tracebacks quote no text of an error."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from entitlement_gate.resilience.clock import LONG_AGO, elapsed
from entitlement_gate.resilience.fork_safety import Locked

if TYPE_CHECKING:
    from types import TracebackType

    from entitlement_gate.resilience.clock import Clock

__all__ = ["FailureLog", "traceback_to_log"]

_logger = logging.getLogger("entitlement_gate")
_EVERY = 60.0  # seconds between two lines of one kind


def traceback_to_log(error: BaseException) -> tuple[type[BaseException], BaseException, TracebackType | None]:
    """Return an error as ``exc_info``: its class and where it was raised, neither its text nor its causes."""
    kind = type(error)
    names: dict[str, Any] = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    return kind, type(kind.__name__, (Exception,), names)(), error.__traceback__


class FailureLog(Locked):
    """One line a minute for each kind of failure. Thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last: dict[str, float] = {}
        super().__init__()

    def note_warning(self, kind: str, message: str, *args: object) -> None:
        """Log a warning, unless a line of its kind was logged within the minute."""
        if self._is_due(kind):
            _logger.warning(message, *args)

    def note_error(self, kind: str, message: str, *args: object, bug: BaseException | None = None) -> None:
        """Log an error, as ``note_warning`` does; where it is a bug, with the place in the code."""
        if self._is_due(kind):
            _logger.error(message, *args, exc_info=bug and traceback_to_log(bug))

    def _is_due(self, kind: str) -> bool:
        with self._lock:
            now = self._clock.monotonic()
            if elapsed(self._last.get(kind, LONG_AGO), now) < _EVERY:
                return False
            self._last[kind] = now
            return True
