"""Calls with an end: who waits, who gives up, and what becomes of what came for nobody."""

import asyncio
import contextvars
import sys
import threading
import time

import pytest

from entitlement_gate.resilience.worker_pool import PoolCall, WorkerPool
from tests.engine.fakes import eventually

LONG = 20  # seconds that are never waited for


class Work:
    """A call that answers when it may, and what was undone of it."""

    def __init__(self, error=None, *, held=False):
        self.error = error
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.threads, self.undone = [], []
        if not held:
            self.may_end.set()

    def __call__(self):
        self.threads.append(threading.current_thread())
        self.begun.set()
        assert self.may_end.wait(2 * LONG)
        if self.error is not None:
            raise self.error
        return "done"

    def undo(self, result):
        self.undone.append(result)


@pytest.fixture
def pool():
    workers = WorkerPool(1, time, LONG)
    yield workers
    workers.close()


def _sync(asked):
    return asked.wait()


def _async(asked):
    return asyncio.run(asked.wait_async())


@pytest.fixture(params=[_sync, _async], ids=["sync", "async"])
def wait(request):
    return request.param


def test_what_it_returns_is_there_when_it_is(pool, wait):
    work = Work()
    assert wait(PoolCall(pool, work, LONG, undo=work.undo)).result() == "done"
    assert work.threads[0] is not threading.current_thread()
    assert work.undone == []


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_what_it_raises_is_raised_where_it_is_waited_for_and_the_worker_lives(pool, wait, error):
    done = wait(PoolCall(pool, Work(error()), LONG))
    with pytest.raises(error):
        done.result()
    assert wait(PoolCall(pool, Work(), LONG)).result() == "done"


def test_it_sees_the_context_of_who_asks(pool, wait):
    trace = contextvars.ContextVar("trace", default=None)
    trace.set("a trace")
    assert wait(PoolCall(pool, trace.get, LONG)).result() == "a trace"


def given_up(pool, wait, error=None):
    """Return work that was being done when the time was up; where a thread took longer to begin it, try with more."""
    for seconds in (0.05, 1, LONG):
        work = Work(error, held=True)
        assert wait(PoolCall(pool, work, seconds, undo=work.undo)) is None
        if work.begun.is_set():
            return work
        work.may_end.set()
    return pytest.fail("no thread began it")


def test_when_the_time_is_up_nobody_waits_and_what_comes_later_is_undone(pool, wait):
    work = given_up(pool, wait)
    work.may_end.set()
    eventually(lambda: work.undone == ["done"])


def test_what_fails_later_leaves_nothing_to_undo(pool, wait):
    work = given_up(pool, wait, ZeroDivisionError())
    work.may_end.set()
    assert wait(PoolCall(pool, Work(), LONG)).result() == "done"
    assert work.undone == []


@pytest.mark.parametrize("is_owed", [False, True])
def test_what_has_not_begun_when_the_time_is_up_is_done_only_where_it_is_owed(pool, wait, is_owed):
    before, work = Work(held=True), Work()
    assert pool.submit(before)
    assert wait(PoolCall(pool, work, 0.05, undo=work.undo, is_owed=is_owed)) is None
    before.may_end.set()
    assert wait(PoolCall(pool, Work(), LONG)).result() == "done"
    assert len(work.threads) == is_owed
    assert work.undone == ["done"] * is_owed


def test_a_pool_that_takes_no_work_keeps_nobody_waiting(pool, wait):
    pool.close()
    work = Work()
    assert wait(PoolCall(pool, work, LONG)) is None
    assert work.threads == []


async def leave(pool, work, **options):
    """Ask, and be cancelled while the work is under way."""
    task = asyncio.create_task(PoolCall(pool, work, LONG, undo=work.undo, **options).wait_async())
    await asyncio.to_thread(work.begun.wait, LONG)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_task_that_is_cancelled_leaves_nothing_behind(pool):
    work = Work(held=True)
    asyncio.run(leave(pool, work))
    work.may_end.set()
    eventually(lambda: work.undone == ["done"])


@pytest.mark.parametrize("is_owed", [False, True])
def test_the_process_waits_for_what_is_owed_though_who_asked_was_cancelled(pool, is_owed):
    work, before = Work(held=True), set(threading.enumerate())
    asyncio.run(leave(pool, work, is_owed=is_owed))

    def keepers():
        return [thread for thread in set(threading.enumerate()) - before if not thread.daemon]

    eventually(lambda: len(keepers()) == is_owed)
    (kept,) = keepers() or (None,)
    work.may_end.set()
    eventually(lambda: work.undone == ["done"])
    if kept is not None:
        kept.join(LONG)
    assert keepers() == []


class Limit(BaseException):
    """What a time limit raises in the middle of anything."""


class Striker:
    """A trace function that strikes, once, at the given line of a wait, counted from 1: ours, or of a ``Future``."""

    FILES = "worker_pool.py", "effects.py", "futures/_base.py"
    PASSED = "_set_result", "__repr__"  # swallowed by a loop, or later

    def __init__(self, at):
        self.left = at

    def __call__(self, frame, event, _):
        if not frame.f_code.co_filename.endswith(self.FILES) or frame.f_code.co_name in self.PASSED:
            return None
        self.left -= event == "line"
        if self.left == 0 and event == "line":
            raise Limit
        return self


def is_struck(striker, wait, asked):
    """Return whether it strikes a wait, which has a thread of its own.

    Python 3.11 leaves what a block was about with its thread where the end of the block is struck: what is raised there
    later, by any test, would have it for its context.
    """
    struck = []

    def ask():
        before = sys.gettrace()
        sys.settrace(striker)
        try:
            wait(asked)
        except Limit:
            struck.append(True)
        finally:
            sys.settrace(before)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return bool(struck)


def test_wherever_a_limit_strikes_nothing_is_left_behind_and_the_worker_lives(pool, wait):
    at, is_over = 0, False
    while not is_over:
        at += 1
        work = Work(held=at % 2)  # it ends while somebody waits, or after that
        asked = PoolCall(pool, work, 0.02 if at % 2 else LONG, undo=work.undo)
        is_over = not is_struck(Striker(at), wait, asked) and at % 2 == 0
        work.may_end.set()
        assert PoolCall(pool, Work(), LONG).wait().result() == "done", at
        if not is_over and work.threads:
            eventually(lambda work=work: "done" in work.undone)
    assert at > 20


def test_a_loop_that_is_gone_when_the_answer_comes_is_no_error(pool):
    work = given_up(pool, _async)
    work.may_end.set()
    eventually(lambda: work.undone == ["done"])
    assert PoolCall(pool, Work(), LONG).wait().result() == "done"


def test_who_is_struck_before_the_call_was_queued_leaves_nothing(pool):
    class Struck:
        def submit(self, _):
            raise KeyboardInterrupt

    work = Work()
    with pytest.raises(KeyboardInterrupt):
        PoolCall(Struck(), work, LONG, undo=work.undo).wait()
    assert (work.threads, work.undone) == ([], [])


def test_who_is_struck_while_asking_is_gone_and_what_comes_late_is_undone(pool):
    class Struck:
        def submit(self, call):
            pool.submit(call)
            raise KeyboardInterrupt

    work = Work()
    with pytest.raises(KeyboardInterrupt):
        PoolCall(Struck(), work, LONG, undo=work.undo).wait()
    eventually(lambda: not work.threads or work.undone == ["done"])
