"""One implementation, two doors: work written as a generator of waits, driven by a thread or by an event loop.

A generator yields something that can be waited for in both ways and is sent what came of it. What a wait raises, a
cancellation too, is raised where the generator waits, which may have something to give back.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, TypeVar

__all__ = ["Completion", "Effects", "Waitable", "run_async", "run_sync"]

T = TypeVar("T")


class Waitable(Protocol):
    """Something to wait for."""

    def wait(self) -> Any:
        """Block this thread until it is there."""

    async def wait_async(self) -> Any:
        """Leave the loop free until it is there."""


Effects = Generator[Waitable, Any, T]


def run_sync(steps: Effects[T]) -> T:
    """Run the steps on this thread."""
    try:
        waitable = next(steps)
        while True:
            try:
                outcome = waitable.wait()
            except BaseException as error:  # noqa: BLE001 - the steps raise it again, once they know
                waitable = steps.throw(error)
            else:
                waitable = steps.send(outcome)
    except StopIteration as end:
        result: T = end.value
        return result


async def run_async(steps: Effects[T]) -> T:
    """Run the steps in this event loop."""
    try:
        waitable = next(steps)
        while True:
            try:
                outcome = await waitable.wait_async()
            except BaseException as error:  # noqa: BLE001 - as above
                waitable = steps.throw(error)
            else:
                waitable = steps.send(outcome)
    except StopIteration as end:
        result: T = end.value
        return result


class Completion:
    """Set once and for good; threads and event loops may wait for it.

    Not a ``Future`` or an ``Event``: their condition stays locked for good where an exception strikes somebody who
    begins to wait.
    """

    __slots__ = ("_callbacks", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self._callbacks: deque[Callable[[], object]] = deque()

    def set(self) -> None:
        """Wake all who wait; again is harmless."""
        self.is_set = True
        while self._callbacks:
            self._callbacks.popleft()()

    def add_callback(self, callback: Callable[[], object]) -> None:
        """Call back when it is set, at once where it is; twice where that happens in between."""
        self._callbacks.append(callback)
        if self.is_set:
            callback()

    def wait(self, seconds: float) -> bool:
        """Block this thread, at most so many seconds; return whether it is set."""
        if not self.is_set:
            wakeup: queue.SimpleQueue[None] = queue.SimpleQueue()
            self.add_callback(partial(wakeup.put, None))
            with suppress(queue.Empty):
                wakeup.get(timeout=min(seconds, threading.TIMEOUT_MAX))
        return self.is_set

    async def wait_async(self, seconds: float) -> bool:
        """Leave the loop free, at most so many seconds; return whether it is set."""
        if not self.is_set:
            loop = asyncio.get_running_loop()
            waiter = loop.create_future()
            self.add_callback(partial(_wake, loop, waiter))
            await asyncio.wait((waiter,), timeout=seconds)
        return self.is_set


def _wake(loop: asyncio.AbstractEventLoop, waiter: asyncio.Future[None]) -> None:
    """Wake a waiter of another thread's loop (``asyncio.wrap_future`` logs an error where that loop is closed)."""
    with suppress(RuntimeError):  # closed meanwhile: nobody waits there
        loop.call_soon_threadsafe(_set_result, waiter)


def _set_result(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
