"""Calls that are made later, on a thread of their own, in the order in which they were asked for.

Whoever asks for a call pays for a place in a queue: no lock, no waking of a thread but for the first of a burst. Its
theory of operation: the thread is *awake* from the first call on, until nothing came for ``_LINGER``. Only who finds it
asleep wakes it, and it falls asleep before it looks at the queue for the last time, so that no call is left behind. A
call that hangs holds up the calls after it and nobody else: the queue is bounded, and what comes on top is not made,
with a line in the log once a minute.

Never here: what is called.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from entitlement_gate.resilience.effects import Completion
from entitlement_gate.resilience.failure_log import FailureLog
from entitlement_gate.resilience.fork_safety import remake_after_fork
from entitlement_gate.resilience.worker_pool import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Background"]

_LINGER = 0.05  # seconds: as often as that a thread may have to be woken, which costs as much as 50 calls
_PATIENCE = 30.0  # seconds after which a call is taken for hung; there is one thread, so that frees no other


class Background:
    """A queue of calls, and the thread that makes them. At most ``MOST_WAITING`` wait."""

    MOST_WAITING = 10_000

    def __init__(self) -> None:
        self._workers = WorkerPool(1, time, _PATIENCE)
        self._log = FailureLog(time)
        self.remake()
        remake_after_fork(self)

    def remake(self) -> None:
        """Start again without a thread, as after a fork: what waited is the parent's to call."""
        self._workers.remake()
        self._log.remake()
        self._waiting: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._is_awake = False

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Have it called; at once, whatever the calls before it do."""
        waiting = self._waiting
        if len(waiting) >= self.MOST_WAITING:
            self._log.note_untold()
            return
        waiting.append((function, args))
        if not self._is_awake:
            self._wake()

    def flush(self, seconds: float) -> bool:
        """Wait until what was asked for by now is done; return False where that takes longer."""
        done = Completion()
        self.call(done.set)
        return done.wait(seconds)

    def _wake(self) -> None:
        self._is_awake = True
        if not self._workers.submit(self._work, name=self):  # the process can start no thread, or is at its end
            self._is_awake = False

    def _work(self) -> None:
        try:
            while self._waiting:
                self._empty()
                time.sleep(_LINGER)
        finally:
            self._is_awake = False
            if self._waiting:
                self._wake()

    def _empty(self) -> None:
        while self._waiting:
            function, args = self._waiting.popleft()
            try:
                function(*args)
            except Exception as error:  # noqa: BLE001 - anybody's code
                self._log.note_observer(getattr(function, "__qualname__", type(function).__qualname__), error)
