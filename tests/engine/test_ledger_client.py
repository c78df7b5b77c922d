"""A ledger elsewhere: read before a decision and never by it, and nobody waits for it beyond the deadline."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from entitlement_gate.domain.errors import EntitlementUnavailable, SourceUnavailable
from entitlement_gate.domain.grants import Snapshot
from entitlement_gate.domain.requirements import Requirement, as_requirement
from entitlement_gate.engine.cache import Entry
from entitlement_gate.engine.gate import EntitlementGate
from entitlement_gate.engine.reservations import countable, order
from entitlement_gate.engine.snapshots import View
from entitlement_gate.ledger.memory import MemoryLedger
from entitlement_gate.ledger.protocol import LedgerUnavailable
from entitlement_gate.resilience.effects import run_async, run_sync
from entitlement_gate.testing.ledger_contract import demand
from tests.engine.fakes import ANNA, BERT, Billing, eventually, feature
from tests.engine.test_evaluation import make_evaluator
from tests.engine.test_reservations import Elsewhere, quantity

DEADLINE = 1.0  # seconds that are waited for a ledger that hangs
LONG = 20  # seconds that nobody waits; a busy machine may take its time up to there


class Remote(Elsewhere):
    """A ledger elsewhere that notes who asks, and whose verbs in ``hanging`` answer when they may."""

    def __init__(self, **options):
        super().__init__(**options)
        self.hanging = set()
        self.asked = []
        self.may_go_on = threading.Event()

    def _at(self, verb, *args, **keywords):
        self.asked.append((verb, threading.current_thread()))
        if verb in self.hanging:
            assert self.may_go_on.wait(LONG)
        return getattr(super(), verb)(*args, **keywords)

    def reserve(self, *args, **keywords):
        return self._at("reserve", *args, **keywords)

    def consume(self, *args, **keywords):
        return self._at("consume", *args, **keywords)

    def commit(self, *args, **keywords):
        return self._at("commit", *args, **keywords)

    def release(self, *args, **keywords):
        return self._at("release", *args, **keywords)

    def charges(self, *args):
        return self._at("charges", *args)

    def adopt_upstream(self, *args):
        return self._at("adopt_upstream", *args)


@pytest.fixture
def remote(clock):
    ledger = Remote(clock=clock)
    yield ledger
    ledger.may_go_on.set()


@pytest.fixture
def gate(make_gate, billing, remote):
    billing.grants[ANNA] = (feature(), quantity())
    return make_gate(ledger=remote, deadline=LONG)


def hang(gate, *verbs):
    """Have these verbs of the ledger hang, and wait for them no longer than DEADLINE."""
    gate.ledger.hanging = set(verbs)
    gate._ledger_client._deadline = DEADLINE


def go_on(gate):
    """Let what hangs be done, and nothing hang any longer."""
    gate.ledger.hanging.clear()
    gate.ledger.may_go_on.set()
    gate._ledger_client._deadline = LONG


def took(call, *args):
    """Return what a call came to, and how long it took."""
    began = time.monotonic()
    try:
        outcome = call(*args)
    except (EntitlementUnavailable, LedgerUnavailable) as error:
        outcome = error
    return outcome, time.monotonic() - began


class TestWhatADecisionRestsOn:
    def test_it_is_never_read_on_the_thread_that_decides(self, gate, billing, clock, *, ask, remote):
        billing.grants[ANNA] = (feature(),)
        assert not ask(gate, "has", ANNA, "api_calls")
        billing.grants[ANNA] = (feature(), quantity())  # an upgrade, seen by the fetch before the denial
        clock.advance(6)
        assert ask(gate, "check", ANNA, "api_calls").remaining == 10
        assert "charges" in [verb for verb, _ in remote.asked]
        assert threading.current_thread() not in [thread for _, thread in remote.asked]

    @pytest.mark.parametrize("asked", ["api_calls", Requirement("reports") & Requirement("api_calls", 3)])
    def test_an_upgrade_that_a_kept_snapshot_does_not_know_is_read_too(self, gate, billing, clock, *, remote, asked):
        billing.grants[ANNA] = (feature(),)
        known = asyncio.run(gate.aget(ANNA))
        billing.grants[ANNA] = (feature(), quantity())
        gate.ledger.consume(ANNA, [demand(4_000_000, entitlement_id=quantity().entitlement_id)], key="k")
        remote.asked.clear()
        clock.advance(6)

        async def renew():
            return await run_async(gate.concluding(as_requirement(asked), known.decide(as_requirement(asked)), known))

        assert asyncio.run(renew())[0].allowed
        assert threading.current_thread() not in [thread for _, thread in remote.asked]

    def test_without_data_of_the_customer_the_ledger_is_not_asked(self, gate, billing, ask, *, remote):
        billing.error = SourceUnavailable("HTTP 503")
        assert ask(gate, "check", ANNA, "api_calls").reason == "unavailable"
        assert remote.asked == []

    def test_what_the_async_door_gave_is_read_without_asking(self, gate, remote):
        known = asyncio.run(gate.aget(ANNA))
        remote.asked.clear()
        assert (known["api_calls"].remaining, known.check("api_calls", 11).reason) == (10, "insufficient_quantity")
        assert [known.has(name) for name in known] == [True, True]
        assert remote.asked == []

    def test_what_the_sync_door_gave_is_read_again_before_it_denies(self, gate, remote):
        known = gate.get(ANNA)
        gate.consume(ANNA, "api_calls", 4, key="k")
        remote.asked.clear()
        assert known.check("api_calls", 10).remaining == 10
        assert remote.asked == []
        assert known.check("api_calls", 11).remaining == 6
        assert [verb for verb, _ in remote.asked] == ["charges"]

    def test_what_was_not_read_is_an_error_of_ours_and_no_question(self, clock, remote):
        evaluator = make_evaluator(clock, ledger=remote)
        entry = Entry(Snapshot(ANNA, (quantity(),), clock.time()), clock.monotonic(), clock.time(), 60)
        with pytest.raises(RuntimeError, match="a ledger that was not read"):
            evaluator.decide(Requirement("api_calls"), View(ANNA, entry, "cache"))
        assert remote.asked == []

    def test_a_denial_that_nothing_newer_takes_back_asks_once(self, gate, billing, clock, *, remote, ask):
        assert ask(gate, "check", ANNA, "api_calls", 11).reason == "insufficient_quantity"
        clock.advance(6)
        billing.error = ConnectionError()
        remote.asked.clear()
        decision = ask(gate, "check", ANNA, "api_calls", 11)
        assert (decision.reason, decision.source) == ("insufficient_quantity", "stale")
        assert [verb for verb, _ in remote.asked] == ["charges"]


def _noted(steps, waits):
    """Do the same steps, noting each wait."""
    told = None
    while True:
        try:
            waitable = steps.send(told)
        except StopIteration as end:
            return end.value
        waits.append(waitable)
        told = yield waitable


class TestALedgerThatStandsStill:
    def test_a_check_and_a_use_end_by_the_deadline(self, gate, remote, ask):
        assert ask(gate, "check", ANNA, "api_calls").remaining == 10
        hang(gate, "charges", "reserve", "consume")
        decision, seconds = took(ask, gate, "check", ANNA, "api_calls")
        assert (decision.outcome, decision.reason) == ("unknown", "unavailable")
        assert DEADLINE * 0.9 <= seconds < LONG / 2
        for verb in ("reserve", "consume"):
            error, seconds = took(ask, gate, verb, ANNA, "api_calls")
            assert error.decision.reason == "unavailable"
            assert seconds < LONG / 2
        assert ask(gate, "has", ANNA, "reports")

    def test_all_of_a_question_shares_one_deadline(self, remote):
        class Slow(Billing):
            def fetch(self, customer_id):
                time.sleep(DEADLINE)
                return super().fetch(customer_id)

        source = Slow()
        source.grants[ANNA] = (quantity(),)
        with EntitlementGate(source, ledger=remote, deadline=3 * DEADLINE) as gate:
            remote.hanging = {"charges"}
            waits = []
            decision = run_sync(_noted(gate._checking(ANNA, "api_calls", None, refresh=False), waits))
        assert decision.reason == "unavailable"
        _fetch, ledger = waits
        assert ledger._seconds < 2.5 * DEADLINE  # the fetch took one

    def test_where_no_time_is_left_it_is_not_asked_and_has_not_failed(self, gate, remote):
        steps = gate._ledger_client.learning(ANNA, gate._clock.monotonic())
        with pytest.raises(StopIteration) as end:
            next(steps)
        assert (end.value.value, remote.asked) == (None, [])
        assert gate._ledger_client._breaker._failures == 0

    def test_after_five_failures_it_is_left_alone_and_checks_answer_at_once(self, gate, remote, clock, ask):
        hang(gate, "charges")
        assert ask(gate, "has", ANNA, "reports")
        for _ in range(5):
            assert ask(gate, "check", ANNA, "api_calls").outcome == "unknown"
        asked = len(remote.asked)
        steps = gate._checking(ANNA, "api_calls", None, refresh=False)
        with pytest.raises(StopIteration):  # neither thread nor loop is kept waiting: there is no step
            next(steps)
        assert len(remote.asked) == asked
        go_on(gate)
        clock.advance(5)
        assert ask(gate, "check", ANNA, "api_calls").remaining == 10

    def test_what_it_held_for_nobody_is_given_back(self, gate, remote, ask):
        ask(gate, "has", ANNA, "reports")
        hang(gate, "reserve")
        with pytest.raises(EntitlementUnavailable):
            ask(gate, "reserve", ANNA, "api_calls", 4)
        go_on(gate)
        eventually(lambda: "release" in [verb for verb, _ in remote.asked])
        assert ask(gate, "check", ANNA, "api_calls").remaining == 10

    def test_what_somebody_else_holds_by_that_key_is_left_to_him(self, gate, remote, ask):
        held = ask(gate, "reserve", ANNA, "api_calls", 4, key="k")
        hang(gate, "reserve")
        with pytest.raises(EntitlementUnavailable):
            ask(gate, "reserve", ANNA, "api_calls", 4, key="k")
        go_on(gate)
        eventually(lambda: len(remote.asked) >= 3)
        assert ask(gate, "check", ANNA, "api_calls").remaining == 6
        held.commit()
        assert ask(gate, "check", ANNA, "api_calls").remaining == 6

    def test_a_release_that_fails_over_there_is_a_line_in_the_log(self, gate, remote, ask, caplog):
        def refuse(*_, **__):
            raise LedgerUnavailable("gone")

        ask(gate, "has", ANNA, "reports")
        remote.release = refuse
        asked = order(countable("api_calls"), "k", 5)
        gate._ledger_client._give_back(asked, ANNA, remote.reserve(ANNA, [demand(1)], key="k", ttl=5))
        assert "the ledger is out of reach" in caplog.text

    def test_of_what_it_refused_or_counted_for_nobody_nothing_is_given_back(self, gate, remote):
        asked = order(countable("api_calls"), "k", 5)
        for outcome in (
            remote.reserve(ANNA, [demand(11)], key="k", ttl=5),
            remote.consume(ANNA, [demand(1)], key="k"),
        ):
            gate._ledger_client._give_back(asked, ANNA, outcome)
        assert [verb for verb, _ in remote.asked] == ["reserve", "consume"]

    def test_a_use_that_was_counted_after_all_is_told_to_a_retry_by_its_key(self, gate, remote, ask):
        ask(gate, "has", ANNA, "reports")
        hang(gate, "consume")
        with pytest.raises(EntitlementUnavailable):
            ask(gate, "consume", ANNA, "api_calls", 4, key="order 7")
        go_on(gate)
        assert ask(gate, "consume", ANNA, "api_calls", 4, key="order 7").remaining == 6
        assert ask(gate, "check", ANNA, "api_calls").remaining == 6

    def test_a_commit_that_is_late_is_said_to_be_so_and_counts(self, gate, remote, ask):
        held = ask(gate, "reserve", ANNA, "api_calls", 4)
        hang(gate, "commit")
        commit = held.commit if ask.__name__ == "_sync" else lambda: asyncio.run(held.acommit())
        error, seconds = took(commit)
        assert isinstance(error, LedgerUnavailable)
        assert seconds < LONG / 2
        assert held.state == "held"
        go_on(gate)
        held.commit()
        assert (held.state, ask(gate, "check", ANNA, "api_calls").remaining) == ("committed", 6)

    def test_a_block_that_ends_while_it_stands_still_logs_what_was_not_counted(self, gate, remote, caplog):
        held = gate.reserve(ANNA, "api_calls", 4)
        hang(gate, "release")
        with pytest.raises(KeyError), held:
            raise KeyError
        assert "returns when its time is up" in caplog.text

    def test_a_fetch_lands_all_the_same(self, make_gate, billing, remote, ask):
        billing.grants[ANNA] = (feature(), quantity())
        gate = make_gate(ledger=remote, deadline=4 * DEADLINE)  # of which the ledger is given half
        remote.hanging = {"adopt_upstream"}
        assert ask(gate, "check", ANNA, "reports").allowed

    def test_calls_that_hang_do_not_keep_out_those_that_fetch(self, make_gate, billing, remote):
        billing.grants[ANNA] = (quantity(),)
        gate = make_gate(ledger=remote, deadline=LONG / 2, max_concurrency=1)  # less than what hangs takes
        gate.get(ANNA)
        hang(gate, "charges")
        with ThreadPoolExecutor(4) as pool:
            assert not any(pool.map(lambda _: gate.has(ANNA, "api_calls"), range(4)))
        assert gate.health()["customers"] == 1
        assert gate.check(BERT, "reports").outcome == "denied"  # billing knows nothing of his

    def test_its_threads_are_bounded_however_long_it_hangs(self, gate, remote, clock):
        gate.has(ANNA, "reports")
        hang(gate, "charges")
        for _ in range(4):
            gate._ledger_client._workers._most = 2
            for _ in range(5):
                gate.has(ANNA, "api_calls")
            clock.advance(5)
        assert len(gate._ledger_client._workers._threads) <= 2
        assert len(remote.asked) <= 8


async def test_slow_threads_of_the_application_keep_no_check_waiting(gate, remote):
    await gate.ahas(ANNA, "api_calls")
    may_end = threading.Event()
    slow = [asyncio.create_task(asyncio.to_thread(may_end.wait, LONG)) for _ in range(40)]
    await asyncio.sleep(0.05)
    began = time.monotonic()
    decision = await gate.acheck(ANNA, "api_calls")
    assert decision.remaining == 10
    async with await gate.areserve(ANNA, "api_calls"):
        pass
    await gate.aconsume(ANNA, "api_calls")
    assert time.monotonic() - began < LONG / 2
    may_end.set()
    await asyncio.gather(*slow)


def test_a_ledger_in_memory_is_asked_inline(make_gate, billing, clock):
    threads = []

    class Local(MemoryLedger):
        def consume(self, *args, **keywords):
            threads.append(threading.current_thread())
            return super().consume(*args, **keywords)

        def charges(self, customer_id):
            threads.append(threading.current_thread())
            return super().charges(customer_id)

    billing.grants[ANNA] = (quantity(),)
    gate = make_gate(ledger=Local(clock=clock))
    gate.consume(ANNA, "api_calls")
    assert asyncio.run(gate.acheck(ANNA, "api_calls")).remaining == 9
    assert set(threads) == {threading.current_thread()}


def test_a_ledger_of_one_s_own_in_memory_that_fails_is_unknown(make_gate, billing, clock, caplog):
    class Local(Elsewhere):
        is_local = True

    billing.grants[ANNA] = (quantity(),)
    gate = make_gate(ledger=Local(clock=clock))
    gate.consume(ANNA, "api_calls")
    gate.ledger.is_down = True
    assert gate.check(ANNA, "api_calls").outcome == "unknown"
    assert "the ledger is out of reach" in caplog.text
