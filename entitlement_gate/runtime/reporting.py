"""Tells operators of failed fetches, without flooding the log. Never here: customers' names, keys, decisions."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from entitlement_gate.domain.errors import SourceError, SourceRejected

if TYPE_CHECKING:
    from entitlement_gate.zenskar.flow import Clock

__all__ = ["FailureLog"]

_logger = logging.getLogger("entitlement_gate")
_CREDENTIALS = (401, 403)
_EVERY = 60.0  # seconds between two lines of one kind


class FailureLog:
    """One line a minute for each kind of failure."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last: dict[str, float] = {}
        self.remake()

    def remake(self) -> None:
        """Make the lock anew, as after a fork."""
        self._lock = threading.Lock()

    def note(self, error: Exception) -> None:
        """Log the failure, unless one of its kind was logged within the minute."""
        kind = type(error).__name__
        with self._lock:
            now = self._clock.monotonic()
            if now - self._last.get(kind, -_EVERY) < _EVERY:
                return
            self._last[kind] = now
        if isinstance(error, SourceRejected):
            hint = "; check API_KEY and ORGANISATION" if error.status in _CREDENTIALS else ""
            _logger.error("billing rejects our requests: %s%s", error, hint)
        elif isinstance(error, SourceError):
            _logger.warning("a fetch of entitlements failed: %s: %s", kind, error)
        else:
            _logger.error("the source of entitlements is broken: %s", kind, exc_info=error)
