"""Starting a thread without waiting for ever that it begins.

``Thread.start()`` waits, without a limit, until the new thread says that it runs. One that an exception strikes before
(``PyThreadState_SetAsyncExc``, by which time limits reach threads) never says so, and whoever started it is kept for
the life of the process. So it is not the caller who waits there, but a thread that nobody waits for.
"""

from __future__ import annotations

import _thread
import queue
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threading import Thread

__all__ = ["start_thread"]

_LONGEST = 0.1  # seconds; a thread begins within 0.1 ms as a rule, and on a busy machine within some 10


def start_thread(thread: Thread) -> bool:
    """Start a thread; return whether it is known to run: one that is late may yet, one that was struck never does.

    Raises:
        RuntimeError: the system has no more threads, or the interpreter is about to exit.
    """
    told: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    _thread.start_new_thread(_start_and_tell, (thread, told))
    with suppress(queue.Empty):
        error = told.get(timeout=_LONGEST)
        if error is not None:
            raise error
        return True
    return False


def _start_and_tell(  # pragma: no cover - coverage follows the threads of threading alone
    thread: Thread, told: queue.SimpleQueue[BaseException | None]
) -> None:
    try:
        thread.start()
    except BaseException as error:  # noqa: BLE001 - it is raised where the thread was to be started
        told.put(error)
    else:
        told.put(None)
