"""A blocking call with an end: made on a worker thread, waited for through either door, for so many seconds.

Whoever stops waiting takes no result, and who is at it may get one all the same: exactly one of the two decides, so
that what was got for nobody can be given back. Never here: what is called, or what a time that is up means.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from entitlement_gate.runtime.workers import Workers

__all__ = ["Asked"]


class Asked:
    """A call on a pool. Waiting gives its future, which is done, or None where the time was up first.

    Args:
        workers: the pool.
        call: what blocks.
        seconds: how long anybody waits.
        undo: is given what the call returned where nobody waits for it any more; on the worker, never raises.
        is_owed: the call is made even where the time is up before it began; any other is not begun then.
    """

    __slots__ = ("_call", "_context", "_future", "_is_left", "_is_owed", "_outcome", "_seconds", "_undo", "_workers")

    def __init__(
        self,
        workers: Workers,
        call: Callable[[], Any],
        seconds: float,
        *,
        undo: Callable[[Any], None] | None = None,
        is_owed: bool = False,
    ) -> None:
        self._workers = workers
        self._call = call
        self._context = copy_context()  # a trace goes on over there
        self._seconds = seconds
        self._undo = undo
        self._is_owed = is_owed
        self._future: Future[Any] = Future()
        self._is_left = False
        self._outcome = threading.Lock()  # taken once, and never given back: by who ends the wait, or the call

    def wait(self) -> Future[Any] | None:
        """Block this thread."""
        try:
            is_begun = self._workers.submit(self._run)
            wait_for((self._future,), timeout=self._seconds if is_begun else 0)
        except BaseException:  # a time limit, an interrupt: whoever asked is gone
            self._abandon()
            raise
        return None if self._leave() else self._future

    async def wait_async(self) -> Future[Any] | None:
        """Leave the loop free."""
        loop = asyncio.get_running_loop()
        landed = loop.create_future()
        self._future.add_done_callback(lambda _: _wake(loop, landed))
        try:
            is_begun = self._workers.submit(self._run)
            await asyncio.wait((landed,), timeout=self._seconds if is_begun else 0)
        except BaseException:  # as above; a client that leaves cancels
            self._abandon()
            raise
        return None if self._leave() else self._future

    def _run(self) -> None:
        if self._is_left and not self._is_owed:
            return
        result, error = None, None
        try:
            result = self._context.run(self._call)
        except BaseException as raised:  # noqa: BLE001 - anybody's code; it is raised where it is waited for
            error = raised
        is_wanted = self._outcome.acquire(blocking=False)
        if error is not None:
            self._future.set_exception(error)
        else:
            self._future.set_result(result)
        if not is_wanted:
            self._undo_landed()

    def _leave(self) -> bool:
        """Stop waiting; return False where the result is there."""
        self._is_left = True
        return self._outcome.acquire(blocking=False)

    def _abandon(self) -> None:
        """Stop waiting, and let what came meanwhile be undone."""
        if not self._leave():
            self._workers.submit(self._undo_landed)
        elif self._is_owed:  # the workers are daemons: at its end the process waits for what must be counted
            with suppress(RuntimeError):  # it is at its end
                threading.Thread(target=wait_for, args=((self._future,), self._seconds)).start()

    def _undo_landed(self) -> None:
        if self._undo is not None and self._future.exception() is None:
            self._undo(self._future.result())


def _wake(loop: asyncio.AbstractEventLoop, landed: asyncio.Future[None]) -> None:
    try:
        loop.call_soon_threadsafe(landed.set_result, None)
    except RuntimeError:
        return  # closed while the call was made: nobody waits there
