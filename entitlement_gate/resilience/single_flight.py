"""Single-flight: one fetch for a key at a time, shared by all threads and event loops that wait for it.

Its theory of operation. A call is *queued* (``began_at`` is None), *running*, or *done* (it has a ``result``), and
stands in ``_calls`` until it is done or forgotten. Callers join the one that stands there; who needs a fetch that
begins later joins its successor, which is queued when it leaves. ``lock`` guards ``_calls`` and all fields but the
result, and is never held while anybody fetches or waits, or starts a thread: what is decided under it is a call's
place in ``_calls``, and whoever gave it that place lets it ``begin`` once the lock is free.

What may happen in between: the key is forgotten (the waiters get what comes, later callers start another call); a
waiter is cancelled or gives up (the call goes on); all give up before it began (it fetches nothing). And an exception
may strike at any line, on the thread of a caller or of the pool. So no call is believed to run because somebody once
noted that it does: it runs while its work waits in the pool or a thread is at it. One that has not begun is queued
again by whoever joins it, one that is lost gives way to another. What never may: two calls of one key whose results
are kept, and a waiter whom nobody wakes.
"""

from __future__ import annotations

from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from entitlement_gate.resilience.clock import elapsed
from entitlement_gate.resilience.effects import Completion

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from entitlement_gate.resilience.clock import Clock
    from entitlement_gate.resilience.worker_pool import WorkerPool

__all__ = ["NotFetchedError", "SharedCall", "SingleFlight", "Wait"]

R = TypeVar("R")


class NotFetchedError(Exception):
    """Nobody waits for the fetch any longer, or there is nobody who could do it."""


class SharedCall(Generic[R]):
    """One fetch, and all who wait for its result, which is never None.

    Attributes:
        key: whose data is fetched.
        result: what it came to, once it is ``done``.
        began_at: monotonic clock when the fetch began; None while it waits for a worker.
        wanted_until: monotonic clock when the last waiter gives up.
        max_age: seconds that data of other processes must be younger than to do; below 0 where it must be fetched
            after the call began.
        generation: of the data in a store that processes share, when the fetch began; None where that is not known.
        is_forgotten: only those who wait for it get what it brings.
        is_counted: its failure, if only that it outlasted its waiters, has been noted.
        successor: the call that starts when this one is done.
        afterwards: what is to be done once the waiters have the result.
        context: of whoever began it: a trace goes on in it.
    """

    __slots__ = (
        "afterwards",
        "began_at",
        "context",
        "done",
        "generation",
        "is_counted",
        "is_forgotten",
        "key",
        "max_age",
        "result",
        "successor",
        "wanted_until",
    )

    def __init__(self, key: str) -> None:
        self.key = key
        self.result: R | None = None
        self.done = Completion()
        self.began_at: float | None = None
        self.wanted_until = float("-inf")
        self.max_age = float("inf")
        self.generation: str | None = None
        self.is_forgotten = False
        self.is_counted = False
        self.successor: SharedCall[R] | None = None
        self.afterwards: Callable[[R], None] | None = None
        self.context = copy_context()

    def set_result(self, result: R) -> None:
        """Wake the waiters; again is harmless."""
        self.result = result
        self.done.set()


class Wait(NamedTuple, Generic[R]):
    """Wait for a call, at most so many seconds; gives its result, or None when the time is up."""

    call: SharedCall[R]
    seconds: float

    def wait(self) -> R | None:
        """Block this thread."""
        self.call.done.wait(self.seconds)
        return self.call.result

    async def wait_async(self) -> R | None:
        """Leave the loop free. Cancelling this never cancels the call."""
        await self.call.done.wait_async(self.seconds)
        return self.call.result


class SingleFlight(Generic[R]):
    """At most one call for a key at a time.

    Args:
        lock: the owner's, held for bookkeeping only and never during a fetch.
        workers: the threads that fetch.
        clock: has ``monotonic()``.
        admit: whether a fetch for a key may start; called with the lock held.
        fetch: what a call does, on a worker's thread.
        fail: makes a result of why there is none.
        keep: keeps a result; called with the lock held, and only for a call that was not forgotten.
        deadline: seconds that anybody waits.
        patience: seconds after which a fetch that has begun is taken for hung, and another may start.
    """

    def __init__(
        self,
        lock: AbstractContextManager[object],
        workers: WorkerPool,
        clock: Clock,
        *,
        admit: Callable[[str], bool],
        fetch: Callable[[SharedCall[R]], R],
        fail: Callable[[BaseException], R],
        keep: Callable[[str, R], None],
        deadline: float,
        patience: float,
    ) -> None:
        self._lock = lock
        self._workers = workers
        self._clock = clock
        self._admit = admit
        self._fetch = fetch
        self._fail = fail
        self._keep = keep
        self._deadline = deadline
        self._patience = patience
        self._calls: dict[str, SharedCall[R]] = {}

    def join(self, key: str, *, later: bool = False, max_age: float = float("inf")) -> SharedCall[R] | None:
        """Return the call for a key, starting one where there is none; None where none may start.

        With ``later`` its fetch begins after now: where one has begun already it is the successor, which starts when
        that is done and which all later callers share. A call that has begun may bring data of other processes that
        is older than ``max_age``; one that has not will bring none.
        """
        with self._lock:
            call = self.join_locked(key, later=later, max_age=max_age)
        self.begin(call)
        return call

    def join_locked(self, key: str, *, later: bool = False, max_age: float = float("inf")) -> SharedCall[R] | None:
        """Return what ``join`` does. Lock held: whoever holds it lets the call ``begin`` afterwards."""
        call = self._current(key)
        if call is None:
            call = SharedCall[R](key) if self._admit(key) else None
        elif later and call.began_at is not None:
            call = self._successor_of(call)
        if call is not None:
            call.wanted_until = self._clock.monotonic() + self._deadline
            call.max_age = min(call.max_age, max_age)
            self._calls.setdefault(key, call)
        return call

    def begin(self, call: SharedCall[R] | None) -> None:
        """Queue a call that has not begun, unless another of its key has to end first; again is harmless. No lock held.

        It may be that a thread has to be started, which must not keep all others. One that was forgotten since it got
        its place has nobody else to begin it, and those who wait for it.
        """
        if call is None or call.began_at is not None or call.result is not None:
            return
        if not call.is_forgotten and self._calls.get(call.key) is not call:
            return
        if not self._workers.submit(partial(self._run, call), name=call):
            with self._lock:
                if self._calls.get(call.key) is call:
                    del self._calls[call.key]
            call.set_result(self._fail(NotFetchedError("the gate is closed, or the process can start no thread")))

    def is_running(self, key: str) -> bool:
        """Return whether a call is running that was not forgotten."""
        call = self._calls.get(key)
        return call is not None and not self._is_lost(call)

    def is_current(self, call: SharedCall[R]) -> bool:
        """Return whether what a call brings is for all, and not only for its waiters."""
        return self._calls.get(call.key) is call and not call.is_forgotten

    def forget(self, key: str, *, unless: str | None = None) -> SharedCall[R] | None:
        """Let later callers start another call; what the running one brings is for its waiters alone. Lock held.

        A call that fetches the generation ``unless`` is let be. Returns the one that is to ``begin`` in its place.
        """
        call = self._calls.get(key)
        if call is None or (unless is not None and call.generation == unless):
            return None
        call.is_forgotten = True
        return self._remove(call)

    def _current(self, key: str) -> SharedCall[R] | None:
        """Return the running call, having put its successor in the place of one that is lost."""
        call = self._calls.get(key)
        if call is None or not self._is_lost(call):
            return call
        self.forget(key)
        return self._calls.get(key)

    def _is_lost(self, call: SharedCall[R]) -> bool:
        """Whether nothing more comes of a call that is noted as running."""
        if call.is_forgotten or call.result is not None:
            return True
        if call.began_at is None:
            return False  # whoever joins it queues it
        if not self._workers.has(call):
            return True
        return elapsed(call.began_at, self._clock.monotonic()) > self._patience

    def _successor_of(self, call: SharedCall[R]) -> SharedCall[R] | None:
        if call.successor is None and self._admit(call.key):
            call.successor = SharedCall(call.key)
        return call.successor

    def _remove(self, call: SharedCall[R]) -> SharedCall[R] | None:
        """Take out a call that has ended, or was forgotten; return its successor, which is to begin. Lock held."""
        if self._calls.get(call.key) is call:
            del self._calls[call.key]
        if call.successor is not None:
            self._calls.setdefault(call.key, call.successor)
        return call.successor

    def _run(self, call: SharedCall[R]) -> None:
        try:
            result = self._fetch_once(call)
            if result is not None:
                self._deliver(call, result)
        except BaseException as error:  # whatever struck this thread, somebody waits for an answer
            with self._lock:
                self._remove(call)
            call.set_result(self._fail(error) if call.result is None else call.result)
            self.begin(call.successor)
            raise

    def _fetch_once(self, call: SharedCall[R]) -> R | None:
        """Fetch; return None where another thread does: a call may have been queued twice.

        A call that nobody waits for any longer is not worth a request.
        """
        with self._lock:
            if call.began_at is not None:
                return None
            call.began_at = self._clock.monotonic()
            is_wanted = call.began_at <= call.wanted_until
            if not is_wanted:
                self._remove(call)  # at once: nobody is to join it any more
        return self._fetch(call) if is_wanted else self._fail(NotFetchedError("nobody waits any longer for this fetch"))

    def _deliver(self, call: SharedCall[R], result: R) -> None:
        try:
            with self._lock:
                try:
                    if self.is_current(call):
                        self._keep(call.key, result)
                finally:
                    self._remove(call)
        finally:
            call.set_result(result)
        self.begin(call.successor)
        if call.afterwards is not None:
            call.afterwards(result)
