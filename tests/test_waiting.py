import asyncio
import contextvars
import threading
from functools import partial, wraps

import pytest
from asgiref.sync import sync_to_async

from entitlement_gate.waiting import Invocation


def thread(*args):
    return (*args, threading.get_ident())


async def thread_async(*args):
    return thread(*args)


class Callable:
    def __call__(self, *args):
        return thread(*args)


class AsyncCallable:
    async def __call__(self, *args):
        return thread(*args)


@wraps(thread_async)
def disguised(*args):
    return thread_async(*args)


CALLS = [thread, thread_async, partial(thread_async), Callable(), AsyncCallable(), disguised]


@pytest.mark.parametrize("call", CALLS)
def test_anything_that_can_be_called_is_waited_for_on_a_thread(call):
    assert Invocation(call, 1, 2).wait()[:2] == (1, 2)


@pytest.mark.parametrize("call", CALLS)
async def test_anything_that_can_be_called_is_waited_for_in_an_event_loop(call):
    assert (await Invocation(call, 1, 2).wait_async())[:2] == (1, 2)


@pytest.mark.parametrize("call", CALLS)
async def test_what_is_async_is_waited_for_beside_a_loop_that_runs_on_the_thread(call):
    here = threading.get_ident()
    is_plain = call in (CALLS[0], CALLS[3])
    *args, there = Invocation(call, 1, 2).wait()
    assert (args, there == here) == ([1, 2], is_plain)


async def test_beside_a_loop_plain_code_may_be_awaited_and_context_is_kept():
    word = contextvars.ContextVar("word")
    word.set("kept")

    async def asks():
        return await sync_to_async(word.get)()

    assert Invocation(asks).wait() == "kept"


async def test_what_belongs_to_the_loop_that_stands_still_is_an_error_and_no_deadlock():
    future = asyncio.get_running_loop().create_future()
    with pytest.raises(RuntimeError, match="attached to a different loop"):
        Invocation(lambda: future).wait()


async def test_what_is_async_runs_in_the_loop_and_what_is_not_runs_beside_it():
    here = threading.get_ident()
    assert await Invocation(thread_async).wait_async() == (here,)
    assert await Invocation(thread).wait_async() != (here,)


def test_a_plain_call_stays_on_its_thread():
    assert Invocation(thread).wait() == (threading.get_ident(),)


async def test_what_gives_another_awaitable_comes_to_the_same_through_both_doors():
    async def inner():
        return "found"

    async def outer():
        return inner()

    assert await Invocation(outer).wait_async() == "found"
    assert await asyncio.to_thread(Invocation(outer).wait) == "found"


async def test_a_twin_answers_in_an_event_loop():
    called = Invocation(lambda: "plain", twin=partial(thread_async, "twin"))
    assert (await called.wait_async())[0] == "twin"
    assert called.wait() == "plain"


async def test_an_error_is_passed_on():
    def fails(*args):
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        await Invocation(fails).wait_async()
    with pytest.raises(LookupError, match="gone"):
        Invocation(fails).wait()
