"""Tells operators of what failed, without flooding the log, and of nobody whom it failed for.

What an error says may quote whom it is about: the text of one that is not ours is never logged, and one of ours without
what looks like a customer id. Never here: customers' names, keys, decisions.
"""

from __future__ import annotations

import json
import logging
import re
from typing import TYPE_CHECKING, Any

from entitlement_gate.domain.errors import EntitlementGateError, SourceError, SourceRejected
from entitlement_gate.resilience.clock import LONG_AGO, elapsed
from entitlement_gate.resilience.fork_safety import PerProcess
from entitlement_gate.resilience.lock import Lock

if TYPE_CHECKING:
    from types import TracebackType

    from entitlement_gate.resilience.clock import Clock

__all__ = ["FailureLog", "text_to_log", "traceback_to_log"]

_logger = logging.getLogger("entitlement_gate")
_CREDENTIALS = (401, 403)
_EVERY = 60.0  # seconds between two lines of one kind
_ID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)


def text_to_log(error: BaseException, *hidden: object) -> str:
    """Return what a log may say of an error: its text where it is one of ours, else its class.

    Args:
        error: anything that was raised.
        *hidden: text that is blotted out besides what looks like a customer id, such as a reservation's key.
    """
    if not isinstance(error, EntitlementGateError):
        return type(error).__name__
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a subclass is anybody's code, and a line of the log must not fail
        return type(error).__name__
    for value in filter(None, hidden):
        for form in (str(value), repr(value)[1:-1], json.dumps(str(value))[1:-1]):
            text = text.replace(form, "***")
    return _ID.sub("***", text)


def traceback_to_log(error: BaseException) -> tuple[type[BaseException], BaseException, TracebackType | None]:
    """Return an error as ``exc_info``: its class and where it was raised, neither its text nor its causes."""
    kind = type(error)
    names: dict[str, Any] = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    return kind, type(kind.__name__, (Exception,), names)(), error.__traceback__


class FailureLog:
    """One line a minute for each kind of failure."""

    _lock: PerProcess[Lock] = PerProcess()

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last: dict[str, float] = {}
        self.remake()

    def remake(self) -> None:
        """Make the lock anew, as after a fork."""
        self._lock = Lock()

    def note(self, error: BaseException) -> None:
        """Log the failure, unless one of its kind was logged within the minute."""
        is_refused = isinstance(error, SourceRejected) and error.status in _CREDENTIALS
        kind = type(error).__name__
        if not self._is_due("credentials" if is_refused else kind):
            return
        if isinstance(error, SourceRejected):
            hint = "; check API_KEY and ORGANISATION" if is_refused else ""
            _logger.error("billing rejects our requests: %s%s", text_to_log(error), hint)
        elif isinstance(error, SourceError):
            _logger.warning("a fetch of entitlements failed: %s: %s", kind, text_to_log(error))
        else:
            _logger.error("the source of entitlements is broken: %s", kind, exc_info=traceback_to_log(error))

    def note_ledger(self, error: BaseException, *hidden: object) -> None:
        """Log that the ledger could not be asked, once a minute; ``hidden`` is blotted out."""
        if self._is_due("ledger"):
            why = text_to_log(error, *hidden)
            _logger.error("the ledger is out of reach, so nothing that it counts is admitted: %s", why)

    def note_refusal(self) -> None:
        """Log that a fetch was not begun for want of budget, once a minute."""
        if self._is_due("budget"):
            _logger.warning("more unknown customers are asked about than may be fetched; some checks go unanswered")

    def note_webhook(self, keys: str) -> None:
        """Log that a verified webhook named nobody, once a minute."""
        if self._is_due("webhook"):
            _logger.warning("a verified webhook names no customer: no UUID stands under any of %s", keys)

    def note_unsent(self) -> None:
        """Log that a signal was not sent for want of room, once a minute."""
        if self._is_due("signals"):
            _logger.warning("receivers are slower than fetches: some signals about fetches are not sent")

    def note_observer(self, name: str, error: BaseException) -> None:
        """Log that an observer failed, once a minute."""
        if self._is_due("observer"):
            kind = type(error).__name__
            _logger.error("an observer failed: %s: %s", name, kind, exc_info=traceback_to_log(error))

    def note_untold(self) -> None:
        """Log that observers were not told of something for want of room, once a minute."""
        if self._is_due("untold"):
            _logger.warning("observers are slower than what happens: they are not told of some of it")

    def _is_due(self, kind: str) -> bool:
        with self._lock:
            now = self._clock.monotonic()
            if elapsed(self._last.get(kind, LONG_AGO), now) < _EVERY:
                return False
            self._last[kind] = now
            return True
