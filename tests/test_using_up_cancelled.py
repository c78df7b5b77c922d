"""A client that leaves: whatever await of a view that uses up is cancelled, and how often, nothing stays held.

Each flow is run again and again: cancelled at its first suspension, then at its second, until it ends before it is
reached.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import time
from contextlib import closing
from types import coroutine

import anyio
import pytest
from asgiref.sync import sync_to_async
from django.http import HttpResponse, StreamingHttpResponse
from django.test import AsyncRequestFactory, RequestFactory

from entitlement_gate import requires_entitlement
from entitlement_gate.api import default_gate
from entitlement_gate.ledger.memory import MemoryLedger
from entitlement_gate.ledger.redis import RedisLedger
from entitlement_gate.signals import entitlement_checked
from entitlement_gate.testing import FakeBilling
from tests.customers import PRO, SETTINGS
from tests.ledger.servers import RedisServer

pytestmark = pytest.mark.django_db(transaction=True)  # closing a response lets Django look after its connections

PATIENCE = 30  # seconds for what a thread still has to do, on a machine however busy


class Away(MemoryLedger):
    """A ledger that costs I/O: every verb is a thread's work."""

    is_local = False


class Strike(BaseException):
    """What a time limit raises in the middle of anything."""


@pytest.fixture(params=["memory", "away"])
def billing(request, settings):
    settings.ENTITLEMENT_GATE = SETTINGS
    with FakeBilling() as billing:
        if request.param == "away":
            billing._ledger = Away(clock=billing.clock)
        billing.grant(PRO, "calls", 100_000)
        yield billing


@pytest.fixture(params=["no receiver", "async receiver", "sync receiver"])
def receiver(request):
    async def listen(**_):
        for _ in range(2):
            await asyncio.sleep(0)

    def hear(**_):
        """Be told on a thread."""

    receivers = {"async receiver": listen, "sync receiver": hear}
    receiver = receivers.get(request.param)
    if receiver is not None:
        entitlement_checked.connect(receiver)
    yield
    if receiver is not None:
        entitlement_checked.disconnect(receiver)


@coroutine
def interrupted(flow, interrupt, at):
    """Await a flow; at each of its suspensions that is listed in ``at``, call ``interrupt``."""
    steps, number, told = flow.__await__(), 0, None
    while True:
        try:
            waited_for = steps.send(None) if told is None else steps.throw(told)
        except StopIteration as end:
            return end.value, number
        number += 1
        if number in at:
            interrupt()
        try:
            yield waited_for
        except BaseException as error:  # noqa: BLE001 - a cancellation is handed on
            told = error
        else:
            told = None


def tally():
    """Return what is held and what is used up."""
    tallies = [tally for ids in default_gate().ledger.charges(PRO).values() for tally in ids.values()]
    return sum(tally.held for tally in tallies) // 10**6, sum(tally.committed for tally in tallies) // 10**6


def settled():
    """Return what is used up, when nothing is held any more and the ledger was asked all that it is to be asked."""
    end = time.monotonic() + PATIENCE
    workers = default_gate()._ledger_client._workers
    while (tally()[0] or workers._waiting or workers._busy) and time.monotonic() < end:
        gc.collect()  # of a response that was lost before anybody could close it
        time.sleep(0.001)
    assert tally()[0] == 0
    return tally()[1]


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory):
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server.patient_url
    server.kill()


@pytest.mark.parametrize("receiver", ["async receiver"], indirect=True)
@pytest.mark.parametrize("flow", ["answering", "streaming", "reserve-and-commit"])
def test_a_redis_that_is_cancelled_at_any_await_holds_nothing(settings, redis_url, receiver, flow):
    settings.ENTITLEMENT_GATE = SETTINGS
    with FakeBilling() as billing, closing(RedisLedger(redis_url)) as ledger:
        billing._ledger = ledger
        billing.grant(PRO, "calls", 100_000)
        strike_everywhere(lambda number: asyncio.run(cancelled(FLOWS[flow](), range(number, number + 2))))


async def cancelled(flow, at):
    try:
        return await interrupted(flow, lambda: asyncio.current_task().cancel(), at)
    except asyncio.CancelledError:
        return False, None


def a_request():
    return AsyncRequestFactory().get("/", headers={"X-Customer": PRO})


@requires_entitlement("calls", 3, consume=True)
async def answering(request):
    await asyncio.sleep(0)
    return HttpResponse("in")


@requires_entitlement("calls", 3, consume=True)
async def streaming(request):
    async def body():
        for part in (b"a", b"b"):
            await asyncio.sleep(0)
            yield part
            await asyncio.sleep(0)

    await asyncio.sleep(0)
    return StreamingHttpResponse(body())


@requires_entitlement("calls", 3, consume=True)
async def failing(request):
    await asyncio.sleep(0)
    return HttpResponse(status=500)


@requires_entitlement("calls", 3, consume=True, key=lambda request: None, customer=lambda request: PRO)
async def finding(request):
    return HttpResponse("in")


async def visit(view):
    """Do what Django's handler does for ASGI."""
    response = await view(a_request())
    try:
        if response.streaming:
            async for _ in response:
                await asyncio.sleep(0)
    finally:
        await asyncio.shield(sync_to_async(response.close)())
    return response.status_code < 400


async def reserve():
    async with await default_gate().areserve(PRO, "calls", 3):
        await asyncio.sleep(0)
    return True


async def reserve_and_commit():
    async with await default_gate().areserve(PRO, "calls", 3) as reservation:
        await reservation.acommit()
    return True


async def reserve_and_fail():
    try:
        async with await default_gate().areserve(PRO, "calls", 3):
            await asyncio.sleep(0)
            {}["missing"]
    except LookupError:
        return False


async def consume():
    await default_gate().aconsume(PRO, "calls", 3)
    return True


FLOWS = {
    "answering": lambda: visit(answering),
    "streaming": lambda: visit(streaming),
    "failing": lambda: visit(failing),
    "finding": lambda: visit(finding),
    "reserve": reserve,
    "reserve-and-commit": reserve_and_commit,
    "reserve-and-fail": reserve_and_fail,
    "consume": consume,
}
each_flow = pytest.mark.parametrize("flow", FLOWS)


def strike_everywhere(run):
    """Run a flow for each of its suspensions; ``run`` returns whether it counts, and after how many suspensions."""
    number, ended = 1, False
    while not ended:
        _, before = tally()
        counts, suspensions = run(number)
        used = settled() - before
        assert used == 3 if counts else used in {0, 3}
        ended = suspensions is not None and suspensions < number
        assert number < 200
        number += 1
    assert used == 3 * counts


@each_flow
@pytest.mark.parametrize("times", [1, 2, 5])
def test_cancelled_at_any_await_and_as_often_as_you_like_nothing_stays_held(billing, receiver, flow, times):
    strike_everywhere(lambda number: asyncio.run(cancelled(FLOWS[flow](), range(number, number + times))))


@each_flow
def test_a_time_limit_at_any_await_is_a_timeout_and_nothing_stays_held(billing, receiver, flow):
    async def run(number):
        try:
            async with asyncio.timeout(None) as limit:
                return await interrupted(FLOWS[flow](), lambda: limit.reschedule(0), [number])
        except TimeoutError:
            return False, None

    strike_everywhere(lambda number: asyncio.run(run(number)))


@each_flow
def test_a_cancel_scope_that_cancels_until_it_is_left_leaves_nothing_held(billing, receiver, flow):
    async def run(number):
        with anyio.CancelScope() as scope:
            return await interrupted(FLOWS[flow](), scope.cancel, [number])
        return False, None

    strike_everywhere(lambda number: asyncio.run(run(number)))


@each_flow
def test_a_loop_that_ends_at_any_await_leaves_nothing_held(billing, receiver, flow):
    async def run(number):
        here = asyncio.Event()
        task = asyncio.create_task(_awaited(interrupted(FLOWS[flow](), here.set, [number])))
        arrived = asyncio.create_task(here.wait())
        await asyncio.wait([task, arrived], return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else (False, None)

    strike_everywhere(lambda number: asyncio.run(run(number)))


async def _awaited(awaitable):
    return await awaitable


def test_a_task_that_is_forgotten_while_its_view_runs_gives_back(billing, caplog):
    """A loop that is closed without ceremony destroys its coroutines, where nobody can wait for anything."""
    began = asyncio.Event()

    @requires_entitlement("calls", 3, consume=True)
    async def view(request):
        began.set()
        await asyncio.Event().wait()

    async def begin():
        task = asyncio.create_task(view(a_request()))
        await began.wait()
        return task

    loop = asyncio.new_event_loop()
    task = loop.run_until_complete(begin())
    loop.close()
    assert tally()[0] == 3
    with caplog.at_level(logging.CRITICAL, "asyncio"):  # which tells of it as an error
        del task
        gc.collect()
    assert settled() == 0


def test_a_task_that_is_forgotten_while_a_receiver_runs_gives_back(billing, caplog):
    began = asyncio.Event()

    async def listen(**_):
        began.set()
        await asyncio.Event().wait()

    async def begin():
        task = asyncio.create_task(answering(a_request()))
        await began.wait()
        return task

    entitlement_checked.connect(listen)
    loop = asyncio.new_event_loop()
    try:
        task = loop.run_until_complete(begin())
    finally:
        entitlement_checked.disconnect(listen)
    loop.close()
    assert tally()[0] == 3
    with caplog.at_level(logging.CRITICAL, "asyncio"):
        del task
        gc.collect()
    assert settled() == 0


async def consume_by_key():
    await default_gate().aconsume(PRO, "calls", 3, key="order 17")
    return True


def test_a_use_that_is_cancelled_is_asked_for_again_by_its_key_and_counts_once(billing, receiver):
    """Whoever is cancelled does not learn whether it was counted: the key tells."""
    number, suspensions = 0, None
    while suspensions is None:
        number += 1
        _, suspensions = asyncio.run(cancelled(consume_by_key(), [number]))
        assert settled() in {0, 3}
    assert asyncio.run(consume_by_key())
    assert settled() == 3


SCRIPT = """
import asyncio, time
from entitlement_gate import EntitlementGate
from entitlement_gate.ledger.memory import MemoryLedger
from entitlement_gate.testing import FakeSource

class Slow(MemoryLedger):
    is_local = False

    def commit(self, *args, **keywords):
        began.set()
        time.sleep(0.3)
        super().commit(*args, **keywords)
        print("counted", flush=True)

async def main():
    reservation = await EntitlementGate(source, ledger=Slow()).areserve(customer, "calls")
    commit = asyncio.create_task(reservation.acommit())
    await asyncio.to_thread(began.wait)
    commit.cancel()

import threading
began, source, customer = threading.Event(), FakeSource(), "10000000-0000-4000-8000-000000000001"
source.grant(customer, "calls", 10)
asyncio.run(main())
"""


def test_a_process_that_ends_while_something_is_counted_counts_it():
    ended = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=True)
    assert (ended.stdout, ended.stderr) == ("counted\n", "")


LEFT_BEHIND = """
from entitlement_gate import EntitlementGate
from entitlement_gate.testing import FakeSource

class Left:
    def __init__(self):
        self.reservation = EntitlementGate(source).reserve(customer, "calls")

    def __del__(self):
        self.reservation.give_back_elsewhere()
        print(f"left {self.reservation.state}", flush=True)

source, customer = FakeSource(), "10000000-0000-4000-8000-000000000001"
source.grant(customer, "calls", 10)
left = Left()
"""


def test_a_process_that_ends_with_something_held_ends():
    ended = subprocess.run([sys.executable, "-c", LEFT_BEHIND], capture_output=True, text=True, timeout=60, check=True)
    assert (ended.stdout, ended.stderr) == ("left held\n", "")


def test_no_thread_is_asked_of_an_interpreter_that_ends(billing, monkeypatch):
    reservation = default_gate().reserve(PRO, "calls", 3)
    monkeypatch.setattr(sys, "is_finalizing", lambda: True)
    reservation.give_back_elsewhere()
    assert reservation.state == "held"
    reservation.release()


@pytest.mark.parametrize("door", ["sync", "async"])
def test_a_time_limit_that_strikes_in_a_receiver_leaves_nothing_held(billing, door):
    def strike(**_):
        raise Strike

    async def astrike(**_):
        raise Strike

    entitlement_checked.connect(strike if door == "sync" else astrike, weak=False, dispatch_uid="strike")
    try:
        for use, quantity in ((answering, 3), (None, 3), (None, 200_000)):
            with pytest.raises(Strike):
                _ask(use, door, quantity)
    finally:
        entitlement_checked.disconnect(dispatch_uid="strike")
    assert settled() == 0


def _ask(view, door, quantity):
    if door == "async":
        return asyncio.run(_awaited(view(a_request()) if view else default_gate().areserve(PRO, "calls", quantity)))
    if view is None:
        return default_gate().reserve(PRO, "calls", quantity)
    plain = requires_entitlement("calls", 3, consume=True)(lambda request: HttpResponse("in"))
    return plain(RequestFactory().get("/", headers={"X-Customer": PRO}))


def test_a_retry_that_is_cancelled_does_not_give_back_what_the_first_try_holds(billing):
    first = default_gate().reserve(PRO, "calls", 3, key="order 17")

    number, suspensions = 0, None
    while suspensions is None:
        number += 1
        retry = default_gate().areserve(PRO, "calls", 3, key="order 17")
        _, suspensions = asyncio.run(cancelled(retry, [number]))
        assert tally() == (3, 0)
    first.commit()
    assert tally() == (0, 3)
