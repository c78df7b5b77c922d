"""A bounded pool of daemon threads, made as they are needed.

Not ``ThreadPoolExecutor``: it joins its threads at exit, so one hung fetch delays the exit of the process. Never
here: what the work is.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

__all__ = ["Workers"]

_Work = Callable[[], None]
_IDLE_SECONDS = 30.0  # a thread without work for this long ends


class Workers:
    """Runs work on at most ``most`` threads; no thread before the first work."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.remake()

    def remake(self) -> None:
        """Start again without threads, as after a fork: those of the parent are not here."""
        self._lock = threading.Lock()
        self._waiting: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._threads = 0
        self._idle = 0
        self._is_closed = False

    def submit(self, work: _Work) -> bool:
        """Queue the work; return False, and do nothing, when the pool is closed."""
        with self._lock:
            if self._is_closed:
                return False
            self._waiting.put(work)
            if self._idle < self._waiting.qsize() and self._threads < self._most:
                self._threads += 1
                name = f"entitlement_gate-{self._threads}"
                threading.Thread(target=self._serve, name=name, daemon=True).start()
        return True

    def close(self) -> None:
        """Refuse further work and let the threads end when they are done; waits for none of them."""
        with self._lock:
            self._is_closed = True
            for _ in range(self._threads):
                self._waiting.put(None)

    def _serve(self) -> None:
        while (work := self._next()) is not None:
            work()

    def _next(self) -> _Work | None:
        """Return the next work, or None when this thread is to end."""
        while True:
            with self._lock:
                self._idle += 1
            try:
                work = self._waiting.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                work = None
            with self._lock:
                self._idle -= 1
                came_meanwhile = work is None and not self._is_closed and not self._waiting.empty()
                if not came_meanwhile:
                    self._threads -= work is None
                    return work
