"""A bounded pool of daemon threads, made as they are needed, and calls on it that are waited for no longer than wanted.

Not ``ThreadPoolExecutor``: it joins its threads at exit, so one hung fetch delays the exit of the process. Whoever
stops waiting for a call takes no result, and who is at it may get one all the same: exactly one of the two decides, so
that what was got for nobody can be given back.
"""

from __future__ import annotations

import _thread
import logging
import queue
import signal
import sys
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, NamedTuple

from entitlement_gate.resilience.clock import elapsed
from entitlement_gate.resilience.database_connections import closing_connections, tended_connections
from entitlement_gate.resilience.effects import Completion
from entitlement_gate.resilience.fork_safety import Lock, PerProcess, has_ended

if TYPE_CHECKING:
    from types import FrameType

    from entitlement_gate.resilience.clock import Clock

__all__ = ["PoolCall", "WorkerPool", "start_thread"]

# A signal to a process goes to any of its threads that lets it in. uWSGI ends a worker from within its handler, which
# in a thread of ours waits for the main thread, and nobody interrupted that: the worker ended only when it was killed.
_TO_THE_PROCESS = {
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
}
_LONGEST_START = 0.1  # seconds; a thread begins within 0.1 ms as a rule, and on a busy machine within some 10


def start_thread(thread: threading.Thread) -> bool:
    """Start a thread; return whether it is known to run: one that is late may yet, one that was struck never does.

    ``Thread.start()`` waits, without a limit, until the new thread says that it runs. One that an exception strikes
    before (``PyThreadState_SetAsyncExc``, by which time limits reach threads) never says so, and whoever started it is
    kept for the life of the process. So it is not the caller who waits there, but a thread that nobody waits for.

    Signals that are sent to the process are left to its other threads.

    Raises:
        RuntimeError: the system has no more threads, or the interpreter is about to exit.
    """
    outcomes: queue.SimpleQueue[bool | RuntimeError] = queue.SimpleQueue()
    _thread.start_new_thread(_start_and_report, (thread, outcomes))
    outcome: bool | RuntimeError = False
    with suppress(queue.Empty):
        outcome = outcomes.get(timeout=_LONGEST_START)
    if isinstance(outcome, RuntimeError):
        raise outcome
    return outcome


def _start_and_report(  # pragma: no cover - coverage follows the threads of threading alone
    thread: threading.Thread, outcomes: queue.SimpleQueue[bool | RuntimeError]
) -> None:
    try:
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_BLOCK, _TO_THE_PROCESS)  # which the thread inherits
        thread.start()
    except RuntimeError as error:
        outcomes.put(error)
    except BaseException:  # noqa: BLE001 - it was meant for this thread, and not for whoever waits
        outcomes.put(False)  # noqa: FBT003 - what is put has no name
    else:
        outcomes.put(True)  # noqa: FBT003 - as above


_Work = Callable[[], None]
_IDLE_SECONDS = 30.0  # a thread without work for this long ends
_logger = logging.getLogger("entitlement_gate")


class _Task(NamedTuple):
    """What a thread is at: its name, the work as long as it has not begun, and since when by the monotonic clock."""

    name: Hashable
    pending: list[_Work]
    since: float


class WorkerPool:
    """Runs work on at most ``most`` threads; no thread before the first work.

    A thread that has been at one piece of work for ``patience`` seconds while others wait is written off, and
    another may take its place: a source that hangs for ever starves nobody for good. Each time that ``most`` more
    hang, the patience doubles, so that a day of hanging costs some 200 threads and not thousands.

    What is counted are threads that live and work that is there, never a number of its own: an exception that strikes
    the caller, or a thread of the pool, in the middle of the bookkeeping leaves nothing that the next look does not
    put right. A thread that does not run yet counts while the call that starts it does. Whatever work raises, the
    thread goes on to the next.
    """

    _lock: PerProcess[Lock] = PerProcess()

    def __init__(self, most: int, clock: Clock, patience: float) -> None:
        self._most = most
        self._clock = clock
        self._patience = patience
        self._is_closed = False
        self.remake()

    def remake(self) -> None:
        """Start again without threads, as after a fork: those of the parent are not here."""
        self._lock = Lock()
        self._wakeups: queue.SimpleQueue[None] = queue.SimpleQueue()  # wakes a thread; no more than a hint
        self._waiting: dict[Hashable, _Work] = {}
        self._threads: set[threading.Thread] = set()
        self._starting: dict[threading.Thread, FrameType] = {}  # and the call that is at it
        self._busy: dict[threading.Thread, _Task] = {}
        self._written_off: set[threading.Thread] = set()

    def submit(self, work: _Work, *, name: Hashable = None) -> bool:
        """Queue the work; return False, and do nothing, where no thread will ever do it.

        Work of a ``name`` that waits already is not queued twice, but finds a thread where it had none. Hold no lock:
        a thread may have to be started, which is waited for a moment.
        """
        name = object() if name is None else name
        with self._lock:
            if self._is_closed:
                return False
            self._waiting.setdefault(name, work)
            threads = self._add_threads(sys._getframe())  # noqa: SLF001 - it tells whether this call was left
            self._wakeups.put(None)
        if self._start(threads):
            return True
        with self._lock:
            if not self._threads:
                self._waiting.pop(name, None)
            return bool(self._threads)

    def has(self, name: Hashable) -> bool:
        """Return whether work of that name waits, or a thread is at it."""
        with self._lock:
            self._drop_dead_threads()
            return name in self._waiting or any(task.name is name for task in self._busy.values())

    def close(self) -> None:
        """Refuse further work and let the threads end when they are done; waits for none of them."""
        with self._lock:
            self._is_closed = True
            for _ in self._threads:
                self._wakeups.put(None)

    def _add_threads(self, starter: FrameType) -> tuple[threading.Thread, ...]:
        """Return the threads to start so that work waits behind other work only where all that there may be are busy.

        They are counted from now on, for as long as the call that is to start them runs, or they do: what strikes as
        they start leaves none that is not counted, and no work that waits for one that never was.
        """
        self._drop_dead_threads()
        if len(self._waiting) + len(self._busy) > self._most:
            self._write_off_hung_threads()
        idle = len(self._threads) - len(self._busy)
        count = min(len(self._waiting) - idle, self._most - len(self._threads))
        first = len(self._threads) + 1
        threads = tuple(self._thread(f"entitlement_gate-{first + number}") for number in range(count))
        self._starting.update(dict.fromkeys(threads, starter))
        self._threads.update(threads)
        return threads

    def _thread(self, name: str) -> threading.Thread:
        return threading.Thread(target=closing_connections, args=(self._serve,), name=name, daemon=True)

    def _start(self, threads: tuple[threading.Thread, ...]) -> bool:
        """Start threads; return False where the system has no more, or the interpreter is about to exit.

        Without the lock: a thread that an exception strikes at its very beginning keeps whoever starts it a moment.
        Another takes its place, once: it is rare, and should it be late and not lost, it finds its place taken.
        """
        for index, thread in enumerate(threads):
            try:
                if not start_thread(thread):
                    start_thread(self._replace(thread))
            except RuntimeError:
                with self._lock:
                    self._threads.difference_update(threads[index:])
                return False
            finally:
                self._starting.pop(thread, None)
        return True

    def _replace(self, thread: threading.Thread) -> threading.Thread:
        with self._lock:
            self._threads.discard(thread)
        return self._thread(thread.name)  # which counts itself

    def _drop_dead_threads(self) -> None:
        for thread in [thread for thread in self._threads if not self._is_starting(thread) and not thread.is_alive()]:
            self._requeue(thread)
            self._threads.discard(thread)

    def _is_starting(self, thread: threading.Thread) -> bool:
        starter = self._starting.get(thread)
        return starter is not None and not has_ended(starter)

    def _requeue(self, thread: threading.Thread) -> None:
        """Take a thread's task from it, and queue what it took and did not begin."""
        task = self._busy.pop(thread, None)
        if task is not None and task.pending:
            self._waiting.setdefault(task.name, task.pending[0])

    def _write_off_hung_threads(self) -> None:
        self._written_off = {thread for thread in self._written_off if thread.is_alive()}
        patience = self._patience * 2 ** (len(self._written_off) // self._most)
        now = self._clock.monotonic()
        for thread, task in tuple(self._busy.items()):
            if elapsed(task.since, now) > patience:
                self._written_off.add(thread)
                self._threads.discard(thread)
                del self._busy[thread]

    def _serve(self) -> None:
        thread = threading.current_thread()
        try:
            while self._serve_once(thread):
                pass
        finally:
            self._leave(thread)

    def _serve_once(self, thread: threading.Thread) -> bool:
        try:
            return self._run_next(thread)
        except BaseException as error:  # noqa: BLE001 - work is anybody's, and an exception may strike anywhere
            _logger.error("a thread of the gate was interrupted at its work: %s", type(error).__name__)  # noqa: TRY400 - a traceback may quote keys
            return True

    def _run_next(self, thread: threading.Thread) -> bool:
        """Do what waits, or wait for it; return False when the thread is to end."""
        task = self._take(thread)
        if task is not None:
            with tended_connections():
                task.pending.pop()()
            return True
        if thread not in self._threads:
            return False
        try:
            self._wakeups.get(timeout=_IDLE_SECONDS)
        except queue.Empty:
            return not self._retire(thread)
        return True

    def _take(self, thread: threading.Thread) -> _Task | None:
        with self._lock:
            self._requeue(thread)
            if not self._may_serve(thread):
                return None
            if self._waiting:
                name, work = next(iter(self._waiting.items()))
                task = self._busy[thread] = _Task(name, [work], self._clock.monotonic())
                del self._waiting[name]  # after an instant of being in both, never in none
                return task
            if self._is_closed:
                self._threads.discard(thread)
            return None

    def _may_serve(self, thread: threading.Thread) -> bool:
        """Return whether a thread still serves: another may have the place of one that was written off."""
        if thread in self._written_off:
            self._written_off.discard(thread)
        elif len(self._threads) < self._most:
            self._threads.add(thread)  # where whoever started it was struck, nobody had counted it
        return thread in self._threads

    def _retire(self, thread: threading.Thread) -> bool:
        """Return whether a thread may end; not where work came just now."""
        with self._lock:
            if not self._waiting:
                self._threads.discard(thread)
            return not self._waiting

    def _leave(self, thread: threading.Thread) -> None:
        with self._lock:
            self._requeue(thread)
            self._threads.discard(thread)
            threads = self._add_threads(sys._getframe()) if self._waiting else ()  # noqa: SLF001 - as above
        self._start(threads)


class PoolCall:
    """A call on a pool. Waiting gives its future, which is done, or None where the time was up first.

    Args:
        workers: the pool.
        call: what blocks.
        seconds: how long anybody waits.
        undo: is given what the call returned where nobody waits for it any more; on the worker, never raises.
        is_owed: the call is made even where the time is up before it began; any other is not begun then.
    """

    __slots__ = (
        "_call",
        "_context",
        "_done",
        "_future",
        "_is_left",
        "_is_owed",
        "_outcome",
        "_seconds",
        "_undo",
        "_workers",
    )

    def __init__(
        self,
        workers: WorkerPool,
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
        # Made when the call has ended: what strikes whoever waits for a `Future` may leave it locked for who sets it.
        self._future: Future[Any] | None = None
        self._done = Completion()
        self._is_left = False
        self._outcome = threading.Lock()  # taken once, and never given back: by who ends the wait, or the call

    def wait(self) -> Future[Any] | None:
        """Block this thread."""
        try:
            if self._workers.submit(self._run):
                self._done.wait(self._seconds)
            return None if self._leave() else self._future
        except BaseException:  # a time limit, an interrupt: whoever asked is gone
            self._abandon()
            raise

    async def wait_async(self) -> Future[Any] | None:
        """Leave the loop free."""
        try:
            if self._workers.submit(self._run):
                await self._done.wait_async(self._seconds)
            return None if self._leave() else self._future
        except BaseException:  # as above; a client that leaves cancels
            self._abandon()
            raise

    def _run(self) -> None:
        if self._is_left and not self._is_owed:
            return
        future: Future[Any] = Future()
        try:
            future.set_result(self._context.run(self._call))
        except BaseException as error:  # noqa: BLE001 - anybody's code; it is raised where it is waited for
            future.set_exception(error)
        self._future = future
        is_wanted = self._outcome.acquire(blocking=False)
        self._done.set()  # not before: who wakes up takes what nobody has taken yet for late
        if not is_wanted:
            self._undo_result()

    def _leave(self) -> bool:
        """Stop waiting; return False where the result is there."""
        self._is_left = True
        return self._outcome.acquire(blocking=False)

    def _abandon(self) -> None:
        """Stop waiting, and let what came meanwhile be undone."""
        if not self._leave():
            self._workers.submit(self._undo_result)
        elif self._is_owed:  # the workers are daemons: at its end the process waits for what must be counted
            with suppress(RuntimeError):  # it is at its end
                start_thread(threading.Thread(target=self._done.wait, args=(self._seconds,)))

    def _undo_result(self) -> None:
        if self._undo is not None and self._future is not None and self._future.exception() is None:
            self._undo(self._future.result())
