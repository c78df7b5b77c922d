import asyncio

import pytest

from entitlement_gate.resilience.effects import run_async, run_sync


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
