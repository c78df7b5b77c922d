import asyncio
import threading
from functools import partial, wraps

import pytest
from django.core.exceptions import SynchronousOnlyOperation

from entitlement_gate.waiting import Called


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
    assert Called(call, 1, 2).wait()[:2] == (1, 2)


@pytest.mark.parametrize("call", CALLS)
async def test_anything_that_can_be_called_is_waited_for_in_an_event_loop(call):
    assert (await Called(call, 1, 2).wait_async())[:2] == (1, 2)


async def test_a_thread_with_an_event_loop_is_not_made_to_wait():
    with pytest.raises(SynchronousOnlyOperation, match="await the async twin instead"):
        Called(thread_async).wait()
    with pytest.raises(SynchronousOnlyOperation):
        Called(lambda: asyncio.get_running_loop().create_future().__await__.__self__).wait()


async def test_what_is_async_runs_in_the_loop_and_what_is_not_runs_beside_it():
    here = threading.get_ident()
    assert await Called(thread_async).wait_async() == (here,)
    assert await Called(thread).wait_async() != (here,)


def test_a_plain_call_stays_on_its_thread():
    assert Called(thread).wait() == (threading.get_ident(),)


async def test_a_twin_answers_in_an_event_loop():
    called = Called(lambda: "plain", twin=partial(thread_async, "twin"))
    assert (await called.wait_async())[0] == "twin"
    assert called.wait() == "plain"


async def test_an_error_is_passed_on():
    def fails(*args):
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        await Called(fails).wait_async()
    with pytest.raises(LookupError, match="gone"):
        Called(fails).wait()
