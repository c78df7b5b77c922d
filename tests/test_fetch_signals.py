"""The signals about fetches: sent apart, so that no receiver holds anybody up."""

import asyncio
import threading
from contextlib import contextmanager

import pytest
from django.test import override_settings

from entitlement_gate import has_entitlement
from entitlement_gate.project_gate import RequestGate
from entitlement_gate.signals import SendingPool, entitlements_refreshed, source_failed
from entitlement_gate.testing import FakeSource, override_entitlements, wait_for_signals
from tests.customers import PRO
from tests.engine.fakes import customers, eventually

CROWD = customers(40)
PARENT = customers(1, start=1000)[0]


@pytest.fixture(autouse=True)
def project(no_fetch_remains):
    with override_settings(ENTITLEMENT_GATE={"BASE_URL": "sandbox:", "DEADLINE": 30}):
        yield


@pytest.fixture
def source():
    source = FakeSource()
    for customer in (*CROWD, PARENT):
        source.grant(customer, "sso")
    return source


@pytest.fixture
def gate(source):
    with RequestGate(source, max_concurrency=4, deadline=30) as gate:
        yield gate


@contextmanager
def heard_by(receiver, *signals):
    for signal in signals or (entitlements_refreshed, source_failed):
        signal.connect(receiver)
    try:
        yield
    finally:
        for signal in (entitlements_refreshed, source_failed):
            signal.disconnect(receiver)


class Blocked:
    """A receiver that answers when it is told to."""

    def __init__(self):
        self.begun, self.ended = [], []
        self.may_end = threading.Event()

    def __call__(self, sender, **told):
        self.begun.append(told)
        assert self.may_end.wait(60)
        self.ended.append(told)


@pytest.fixture
def blocked():
    blocked = Blocked()
    yield blocked
    blocked.may_end.set()


def crowd(gate, door):
    if door == "async":
        return asyncio.run(all_of(gate))
    told = []
    threads = [threading.Thread(target=lambda c=c: told.append(gate.check(c, "sso"))) for c in CROWD]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told


async def all_of(gate):
    return await asyncio.gather(*(gate.acheck(customer, "sso") for customer in CROWD))


@pytest.mark.parametrize("door", ["sync", "async"])
def test_a_receiver_that_stands_still_holds_up_neither_who_waits_nor_the_next_fetch(gate, door, blocked):
    with heard_by(blocked):
        told = crowd(gate, door)
        assert [decision.reason for decision in told] == ["allowed"] * len(CROWD)
        assert blocked.ended == []
        blocked.may_end.set()
        eventually(lambda: len(blocked.ended) == len(CROWD), seconds=60)


@pytest.mark.parametrize("door", ["sync", "async"])
def test_a_receiver_may_check(gate, door):
    heard = []

    def check_parent(snapshot, **_):
        heard.append(gate.check(PARENT, "sso").allowed)

    with heard_by(check_parent, entitlements_refreshed):
        assert all(decision.allowed for decision in crowd(gate, door))
        assert gate.wait_for_signals(60)
    assert len(heard) > len(CROWD)  # of the parent, too
    assert all(heard)


def test_a_failure_is_told_apart_too(gate, source, blocked):
    source.fail("unavailable")
    with heard_by(blocked, source_failed):
        assert gate.check(PARENT, "sso").reason == "unavailable"
        blocked.may_end.set()
        eventually(lambda: len(blocked.ended) == 1)
    assert blocked.ended[0]["customer_id"] == PARENT


def test_what_a_receiver_raises_keeps_nobody_from_hearing(gate, caplog):
    heard = []

    def leave(snapshot, **_):
        heard.append(snapshot.customer_id)
        raise SystemExit

    async def hear(snapshot, **_):
        heard.append(snapshot.customer_id)

    with heard_by(leave, entitlements_refreshed):
        for number, customer in enumerate(CROWD[:8], start=1):
            assert gate.has(customer, "sso")
            eventually(lambda count=number: len(heard) == count)
    with heard_by(hear, entitlements_refreshed):
        assert gate.has(PARENT, "sso")
        eventually(lambda: heard[-1] == PARENT)
    assert caplog.messages == ["a signal did not reach all of its receivers: SystemExit"] * 8


def test_where_nobody_listens_there_is_no_thread(gate):
    assert gate.has(PARENT, "sso")
    assert not gate._sending._workers._threads


def test_so_many_wait_and_what_comes_on_top_is_a_line_in_the_log(gate, blocked, monkeypatch, caplog):
    monkeypatch.setattr(SendingPool, "MOST_WAITING", 7)
    with heard_by(blocked):
        assert all(decision.allowed for decision in crowd(gate, "sync"))
        eventually(lambda: len(blocked.begun) == 4)
        eventually(lambda: caplog.messages)
        assert caplog.messages == ["receivers are slower than fetches: some signals about fetches are not sent"]
        blocked.may_end.set()
        eventually(lambda: len(blocked.ended) == 7)
    assert gate._sending.settle(60)


def test_what_was_taken_before_the_gate_is_closed_is_sent_and_nothing_after(gate, blocked):
    with heard_by(blocked):
        for customer in CROWD[:6]:
            gate.has(customer, "sso")
        eventually(lambda: len(blocked.begun) == 4 and not gate._sending._expected)
        gate.close()
        gate.refreshed(gate.source.fetch(PARENT))
        assert not gate._sending.settle(0)
        blocked.may_end.set()
        assert gate._sending.settle(60)
    assert {told["snapshot"].customer_id for told in blocked.ended} == set(CROWD[:6])


def test_a_test_can_wait_for_what_receivers_hear(gate, source, blocked):
    assert gate.wait_for_signals(0)
    with heard_by(blocked):
        assert gate.has(PARENT, "sso")
        assert not gate.wait_for_signals(0)
        blocked.may_end.set()
        assert gate.wait_for_signals(60)
        source.fail("unavailable")
        assert not gate.has(CROWD[0], "sso")
        assert gate.wait_for_signals(60)
    assert [sorted(told) for told in blocked.ended] == [["signal", "snapshot"], ["customer_id", "error", "signal"]]
    assert not gate.has(CROWD[1], "sso")
    assert gate.wait_for_signals(60)  # where nobody listens any more


def test_the_kit_waits_for_the_gate_of_the_settings_and_for_the_one_below_an_override(blocked):
    wait_for_signals(0)
    with heard_by(blocked), override_settings(ENTITLEMENT_GATE={"BASE_URL": "sandbox:", "DEADLINE": 30}):
        assert has_entitlement(PRO, "sso")
        with pytest.raises(AssertionError, match=r"was not done after 0\.01 seconds"):
            wait_for_signals(0.01)
        with override_entitlements({"sso": True}), pytest.raises(AssertionError, match="was not done"):
            wait_for_signals(0.01)
        blocked.may_end.set()
        wait_for_signals(60)
        assert len(blocked.ended) == 1


def test_a_process_just_forked_sends_on_threads_of_its_own(gate, blocked):
    with heard_by(blocked):
        for customer in CROWD[:4]:
            gate.has(customer, "sso")
        eventually(lambda: len(blocked.begun) == 4)
        gate.remake()
        gate.has(PARENT, "sso")
        eventually(lambda: len(blocked.begun) == 5)
