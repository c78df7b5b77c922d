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
    told: queue.SimpleQueue[bool | RuntimeError] = queue.SimpleQueue()
    _thread.start_new_thread(_start_and_tell, (thread, told))
    outcome: bool | RuntimeError = False
    with suppress(queue.Empty):
        outcome = told.get(timeout=_LONGEST)
    if isinstance(outcome, RuntimeError):
        raise outcome
    return outcome


def _start_and_tell(  # pragma: no cover - coverage follows the threads of threading alone
    thread: Thread, told: queue.SimpleQueue[bool | RuntimeError]
) -> None:
    try:
        thread.start()
    except RuntimeError as error:
        told.put(error)
    except BaseException:  # noqa: BLE001 - it was meant for this thread, and not for whoever waits
        told.put(False)  # noqa: FBT003 - what is put has no name
    else:
        told.put(True)  # noqa: FBT003 - as above
