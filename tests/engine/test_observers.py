import asyncio
import contextvars
import gc
import threading
import weakref
from decimal import Decimal

import pytest

from entitlement_gate.domain.errors import (
    CustomerNotFound,
    EntitlementDenied,
    ReservationConflict,
    ReservationExpired,
    ReservationNotFound,
    SourceMalformed,
    SourceRejected,
)
from entitlement_gate.domain.grants import EntitlementType
from entitlement_gate.engine.observers import Fetch, LedgerCall, Observer, everywhere
from entitlement_gate.ledger.memory import MemoryLedger
from entitlement_gate.ledger.protocol import LedgerUnavailable
from tests.engine.fakes import ANNA, BERT, DOWN, eventually, feature

HERE = contextvars.ContextVar("HERE", default="nowhere")


class Heard(Observer):
    def __init__(self):
        self.checks, self.fetches, self.calls = [], [], []

    def check(self, decision, seconds):
        self.checks.append((decision, seconds))

    def fetch(self, fetch):
        self.fetches.append((fetch, HERE.get()))

    def ledger(self, call):
        self.calls.append(call)

    @property
    def reasons(self):
        return [(decision.entitlement, str(decision.reason), decision.source) for decision, _ in self.checks]


class Counting(MemoryLedger):
    """A ledger that the gate takes for one elsewhere, asked on threads."""

    is_local = False


@pytest.fixture
def heard():
    return Heard()


@pytest.fixture
def observed(gate, heard):
    gate.observe(heard)
    return gate


def test_a_check_is_told_once_cold_and_warm_from_either_door(observed, heard, ask):
    for verb in ("check", "has", "check", "has"):
        assert ask(observed, verb, ANNA, "reports")
    assert heard.reasons == [("reports", "allowed", "live"), *[("reports", "allowed", "cache")] * 3]
    assert [seconds for _, seconds in heard.checks[1:]] == [0.0] * 3


def test_what_is_told_is_what_is_answered(observed, heard, ask):
    told = [ask(observed, "check", *asked) for asked in ((ANNA, "sso"), (None, "sso"), ("?", "sso"), (ANNA, "reports"))]
    assert [decision for decision, _ in heard.checks] == told


def test_a_check_tells_how_long_it_took(make_gate, billing, clock, heard):
    class Slow:
        def fetch(self, customer_id):
            clock.advance(0.25)
            return billing.fetch(customer_id)

    gate = make_gate(Slow())
    gate.observe(heard)
    gate.check(ANNA, "reports")
    assert [seconds for _, seconds in heard.checks] == [pytest.approx(0.25)]
    eventually(lambda: heard.fetches)
    assert heard.fetches[0][0] == Fetch(ANNA, "found", pytest.approx(0.25))


def test_what_get_gave_is_heard_when_it_is_checked(observed, heard, ask):
    known = ask(observed, "get", ANNA)
    assert heard.checks == []
    assert known.has("reports")
    assert not known.has("sso")
    assert [name for name, *_ in heard.reasons] == ["reports", "sso"]
    observed.inspect(ANNA).has("reports")
    assert len(heard.checks) == 2


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (None, ("found", 0.0, None)),
        (CustomerNotFound("HTTP 404"), ("not_found", 0.0, None)),
        (DOWN, ("unavailable", 0.0, None)),
        (SourceRejected(401), ("rejected", 0.0, 401)),
        (SourceMalformed("no results"), ("malformed", 0.0, None)),
        (RuntimeError("a bug"), ("broken", 0.0, None)),
    ],
)
def test_a_fetch_is_told_by_how_it_went(observed, heard, raised, told):
    observed.source.error = raised
    observed.check(ANNA, "reports")
    eventually(lambda: heard.fetches)
    assert [fetch for fetch, _ in heard.fetches] == [Fetch(ANNA, *told)]


def test_a_fetch_is_told_in_the_context_of_the_check_that_began_it(observed, heard):
    def check():
        HERE.set("a request")
        observed.check(ANNA, "reports")

    contextvars.copy_context().run(check)
    eventually(lambda: heard.fetches)
    assert heard.fetches[0][1] == "a request"


@pytest.fixture
def counts_ten(billing):
    """Ten calls for Anna."""
    billing.grants[ANNA] = (feature("calls", type=EntitlementType.QUANTITY, quantity=Decimal(10)),)


@pytest.mark.parametrize("ledger", [MemoryLedger, Counting])
@pytest.mark.usefixtures("counts_ten")
def test_each_verb_of_the_ledger_is_told_with_what_came_of_it(make_gate, heard, ledger, ask):
    gate = make_gate(ledger=ledger())
    gate.observe(heard)
    ask(gate, "reserve", ANNA, "calls", 2, key="a").commit()
    ask(gate, "reserve", ANNA, "calls", 2, key="b").release()
    ask(gate, "consume", ANNA, "calls", 2, key="c")
    with pytest.raises(ReservationConflict):
        ask(gate, "consume", ANNA, "calls", 3, key="c")
    told = [(call.verb, call.outcome) for call in heard.calls if call.verb not in ("charges", "adopt_upstream")]
    assert told == [
        ("reserve", "done"),
        ("commit", "done"),
        ("reserve", "done"),
        ("release", "done"),
        ("consume", "done"),
        ("consume", "conflict"),
    ]
    assert all(call.seconds == 0 for call in heard.calls)


@pytest.mark.usefixtures("counts_ten")
def test_a_use_that_the_ledger_refuses_is_told_as_refused(gate, heard):
    gate.consume(ANNA, "calls", 8)
    gate.observe(heard)
    with pytest.raises(EntitlementDenied):
        gate.consume(ANNA, "calls", 3)
    assert ("consume", "refused") in [(call.verb, call.outcome) for call in heard.calls]
    assert heard.reasons[-1][:2] == ("calls", "insufficient_quantity")


@pytest.mark.usefixtures("counts_ten")
def test_a_ledger_out_of_reach_is_told(make_gate, heard, ask):
    class Gone(Counting):
        def consume(self, *_, **__):
            raise LedgerUnavailable("no connection")

    gate = make_gate(ledger=Gone(), on_unavailable="allow")
    gate.observe(heard)
    ask(gate, "consume", ANNA, "calls")
    assert ("consume", "unavailable") in [(call.verb, call.outcome) for call in heard.calls]


@pytest.mark.parametrize(
    ("raised", "outcome"),
    [
        (ReservationExpired("late"), "expired"),
        (ReservationNotFound("gone"), "not_found"),
        (ValueError("what"), "broken"),
    ],
)
def test_what_a_verb_raises_has_a_word(raised, outcome):
    assert LedgerCall.of("commit", raised, 1.0) == LedgerCall("commit", outcome, 1.0)


def test_an_observer_that_raises_breaks_nothing_and_is_logged_once_without_its_text(observed, heard, caplog, ask):
    class Broken(Observer):
        def check(self, decision, seconds):
            raise RuntimeError(decision.customer_id)

        def fetch(self, fetch):
            raise RuntimeError(fetch.customer_id)

        def ledger(self, call):
            raise RuntimeError(ANNA)

    observed.unobserve(heard)
    observed.observe(Broken())
    observed.observe(heard)
    for _ in range(3):
        assert ask(observed, "check", ANNA, "reports")
    eventually(lambda: heard.fetches)
    observed._ledger_client._observers.ledger(LedgerCall("commit", "done", 0.0))
    assert len(heard.checks) == 3
    assert heard.calls
    assert [record.getMessage() for record in caplog.records] == [
        f"an observer failed: {Broken.__qualname__}: RuntimeError"
    ]
    assert ANNA not in caplog.text


def test_who_hears_no_more_is_told_nothing_and_the_shortest_way_is_open_again(observed, heard):
    observed.check(ANNA, "reports")
    observed.unobserve(heard)
    observed.unobserve(heard)
    assert observed.has(ANNA, "reports")
    assert len(heard.checks) == 1
    assert observed._answers is observed._decided is observed._snapshots.answers


def test_who_hears_of_fetches_alone_leaves_the_shortest_way_open(gate, ask):
    class Fetches(Observer):
        def __init__(self):
            self.told = []

        def fetch(self, fetch):
            self.told.append(fetch.has_succeeded)

    fetches = Fetches()
    gate.observe(fetches)
    assert not gate.is_heard
    assert ask(gate, "has", ANNA, "reports")
    eventually(lambda: fetches.told == [True])


def test_of_two_that_begin_to_listen_at_once_both_are_heard(gate, heard):
    """The second comes while the gate looks who the first is; alone it would be overwritten by what was seen before."""
    second = Heard()
    threads = []

    class Slow(Observer):
        @property
        def hears_checks(self):
            if not threads:
                threads.append(threading.Thread(target=gate.observe, args=[second]))
                threads[0].start()
                threads[0].join(0.2)
            return False

    gate.observe(Slow())
    threads[0].join()
    gate.check(ANNA, "reports")
    assert len(second.checks) == 1


def test_who_hears_of_every_gate_hears_of_those_made_before_and_after(make_gate, heard):
    before, alone = make_gate(), Heard()
    before.observe(alone)
    everywhere.add(heard)
    try:
        after = make_gate()
        for gate in (before, after):
            gate.check(ANNA, "reports")
        assert len(heard.checks) == 2
        assert len(alone.checks) == 1
    finally:
        everywhere.discard(heard)
    after.check(BERT, "reports")
    assert len(heard.checks) == 2


def test_an_observer_keeps_no_gate_alive(make_gate, billing, heard):
    from entitlement_gate.engine.gate import EntitlementGate

    everywhere.add(heard)
    try:
        gate = EntitlementGate(billing)
        gone = weakref.ref(gate)
        gate.close()
        del gate
        gc.collect()
        assert gone() is None
    finally:
        everywhere.discard(heard)


def test_many_tasks_are_each_told_of(observed, heard):
    async def crowd():
        await asyncio.gather(*(observed.acheck(ANNA, "reports") for _ in range(50)))

    asyncio.run(crowd())
    assert len(heard.checks) == 50
