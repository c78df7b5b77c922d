"""A bounded pool of daemon threads, made as they are needed.

Not ``ThreadPoolExecutor``: it joins its threads at exit, so one hung fetch delays the exit of the process. Never
here: what the work is.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from entitlement_gate.databases import closing_connections, tended_connections
from entitlement_gate.forking import PerProcess

if TYPE_CHECKING:
    from entitlement_gate.zenskar.flow import Clock

__all__ = ["Workers"]

_Work = Callable[[], None]
_IDLE_SECONDS = 30.0  # a thread without work for this long ends


class Workers:
    """Runs work on at most ``most`` threads; no thread before the first work.

    A thread that has been at one piece of work for ``patience`` seconds while others wait is written off, and
    another may take its place: a source that hangs for ever starves nobody for good. Each time that ``most`` more
    hang, the patience doubles, so that a day of hanging costs some 200 threads and not thousands.
    """

    _lock: PerProcess[threading.Lock] = PerProcess()

    def __init__(self, most: int, clock: Clock, patience: float) -> None:
        self._most = most
        self._clock = clock
        self._patience = patience
        self._is_closed = False
        self.remake()

    def remake(self) -> None:
        """Start again without threads, as after a fork: those of the parent are not here."""
        self._lock = threading.Lock()
        self._waiting: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._threads = 0
        self._unfinished = 0
        self._busy: dict[object, float] = {}
        self._written_off = 0

    def submit(self, work: _Work) -> bool:
        """Queue the work, which never raises; return False, and do nothing, where no thread will ever do it."""
        with self._lock:
            if self._is_closed:
                return False
            if self._unfinished >= self._most:
                self._write_off()
            if self._threads <= self._unfinished and self._threads < self._most:
                self._hire()
            if not self._threads:
                return False
            self._unfinished += 1
            self._waiting.put(work)
        return True

    def close(self) -> None:
        """Refuse further work and let the threads end when they are done; waits for none of them."""
        with self._lock:
            self._is_closed = True
            for _ in range(self._threads):
                self._waiting.put(None)

    def _hire(self) -> None:
        name = f"entitlement_gate-{self._threads + 1}"
        thread = threading.Thread(target=closing_connections, args=(self._serve,), name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no more threads, or the interpreter is about to exit
            return
        self._threads += 1

    def _write_off(self) -> None:
        patience = self._patience * 2 ** (self._written_off // self._most)
        now = self._clock.monotonic()
        for thread, since in tuple(self._busy.items()):
            if now - since > patience:
                del self._busy[thread]
                self._written_off += 1
                self._threads -= 1
                self._unfinished -= 1

    def _serve(self) -> None:
        me = object()
        is_written_off = False
        while not is_written_off and (work := self._next()) is not None:
            self._busy[me] = self._clock.monotonic()
            with tended_connections():
                work()
            with self._lock:
                is_written_off = self._busy.pop(me, None) is None
                self._written_off -= is_written_off
                self._unfinished -= not is_written_off

    def _next(self) -> _Work | None:
        """Return the next work, or None when this thread is to end."""
        while True:
            try:
                return self._waiting.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    if self._waiting.empty():
                        self._threads -= 1
                        return None
