"""Tells operators of failed fetches, without flooding the log. Never here: customers' names, keys, decisions."""

from __future__ import annotations

import logging
import math
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

    def note(self, error: BaseException) -> None:
        """Log the failure, unless one of its kind was logged within the minute."""
        is_refused = isinstance(error, SourceRejected) and error.status in _CREDENTIALS
        kind = type(error).__name__
        if not self._is_due("credentials" if is_refused else kind):
            return
        if isinstance(error, SourceRejected):
            hint = "; check API_KEY and ORGANISATION" if is_refused else ""
            _logger.error("billing rejects our requests: %s%s", error, hint)
        elif isinstance(error, SourceError):
            _logger.warning("a fetch of entitlements failed: %s: %s", kind, error)
        else:
            _logger.error("the source of entitlements is broken: %s", kind, exc_info=error)

    def note_ledger(self, error: BaseException) -> None:
        """Log that the ledger could not be asked, once a minute."""
        if self._is_due("ledger"):
            _logger.error("the ledger is out of reach, so nothing that it counts is admitted: %s", error)

    def note_refusal(self) -> None:
        """Log that a fetch was not begun for want of budget, once a minute."""
        if self._is_due("budget"):
            _logger.warning("more unknown customers are asked about than may be fetched; some checks go unanswered")

    def _is_due(self, kind: str) -> bool:
        with self._lock:
            now = self._clock.monotonic()
            if now - self._last.get(kind, -math.inf) < _EVERY:
                return False
            self._last[kind] = now
            return True
