import asyncio
import threading

import pytest

from entitlement_gate.resilience.effects import Completion, run_async, run_sync


class Wait:
    def __init__(self, told):
        self.told = told

    def wait(self):
        return self.told

    async def wait_async(self):
        await asyncio.sleep(0)
        return self.told


@pytest.fixture(params=[run_sync, lambda steps: asyncio.run(run_async(steps))], ids=["sync", "async"])
def run(request):
    return request.param


def test_what_came_of_each_wait_is_told(run):
    def steps():
        first = yield Wait("a")
        second = yield Wait("b")
        return first + second

    assert run(steps()) == "ab"


def test_an_error_of_the_work_comes_out(run):
    def steps():
        yield Wait(None)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(steps())


@pytest.fixture(params=["wait", "wait_async"])
def wait(request):
    def wait(completion, seconds=60):
        if request.param == "wait":
            return completion.wait(seconds)
        return asyncio.run(completion.wait_async(seconds))

    return wait


def test_who_waits_for_a_completion_is_woken_from_another_thread(wait):
    completion = Completion()
    completion.add_callback(lambda: None)
    setter = threading.Timer(0.05, completion.set)
    setter.start()
    assert wait(completion)
    setter.join()


def test_who_waits_for_a_completion_that_is_set_does_not_wait(wait):
    completion = Completion()
    completion.set()
    assert wait(completion, 0)


def test_a_wait_for_a_completion_ends_with_its_time(wait):
    assert not wait(Completion(), 0.01)


def test_a_waiter_in_a_loop_is_woken_once_by_a_completion_that_is_set_twice():
    async def wait():
        completion = Completion()
        waiting = asyncio.ensure_future(completion.wait_async(60))
        await asyncio.sleep(0)
        (callback,) = completion._callbacks
        completion.set()
        callback()
        is_set = await waiting
        await asyncio.sleep(0)
        return is_set

    assert asyncio.run(wait())
