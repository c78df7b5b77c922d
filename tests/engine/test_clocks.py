"""A clock that goes back, as where a test freezes all of time and lets it go again."""

import pytest

from entitlement_gate.ledger.memory import MemoryLedger
from tests.engine.fakes import ANNA, BERT, DOWN, eventually, feature
from tests.engine.test_snapshots import seen

YEARS = 100_000_000.0


def back(clock):
    clock.advance(-YEARS)


def monotonic_back(clock):
    clock.tick -= YEARS


@pytest.fixture(params=[back, monotonic_back])
def go_back(request):
    return request.param


def test_what_was_fetched_in_the_future_is_not_fresh(gate, billing, clock, *, ask, go_back):
    for verb in ("has", "check"):
        assert ask(gate, verb, ANNA, "reports")
    assert gate.find_answer((ANNA, "reports"))
    billing.grants[ANNA] = ()
    go_back(clock)
    assert gate.find_answer((ANNA, "reports")) is None
    assert not ask(gate, "has", ANNA, "reports")
    assert ask(gate, "check", ANNA, "reports").reason == "not_entitled"
    assert len(billing.calls) == 2


def test_no_age_is_negative_and_in_an_outage_it_is_stale(gate, billing, clock, *, ask, go_back):
    ask(gate, "check", ANNA, "reports")
    billing.error = DOWN
    go_back(clock)
    decision = ask(gate, "check", ANNA, "reports")
    assert seen(decision) == ("allowed", "allowed", "stale", 0)
    assert ask(gate, "get", ANNA)["reports"].decision.age == 0


def test_a_denial_from_the_future_is_looked_at_once_more(gate, billing, clock, *, ask, go_back):
    billing.grants[ANNA] = ()
    assert not ask(gate, "has", ANNA, "reports")
    known = ask(gate, "get", ANNA)
    billing.grants[ANNA] = (feature(),)
    go_back(clock)
    assert ask(gate, "check", ANNA, "reports").source == "live"
    billing.grants[ANNA] = ()
    known = gate.get(ANNA)
    clock.advance(6)
    assert not known.has("sso")
    billing.grants[ANNA] = (feature("sso"),)
    go_back(clock)
    assert known.has("sso")


def test_strangers_are_fetched_as_ever(gate, billing, clock, *, ask, go_back):
    assert ask(gate, "has", ANNA, "reports")
    go_back(clock)
    billing.grants[BERT] = (feature(),)
    assert ask(gate, "has", BERT, "reports")


def test_a_breaker_that_opened_in_the_future_lets_a_probe_through(gate, billing, clock, *, ask, go_back):
    billing.error = DOWN
    for _ in range(5):
        ask(gate, "check", ANNA, "reports", refresh=True)
    billing.error = None
    go_back(clock)
    assert ask(gate, "has", ANNA, "reports")
    assert ask(gate, "has", ANNA, "reports")


def test_a_customer_left_alone_in_the_future_is_renewed(gate, billing, clock, *, ask, go_back):
    ask(gate, "check", ANNA, "reports")
    clock.advance(60)
    billing.error = DOWN
    for _ in range(6):
        ask(gate, "check", ANNA, "reports", refresh=True)
    billing.error = None
    go_back(clock)
    assert ask(gate, "check", ANNA, "reports").source == "live"


def test_a_fetch_that_is_up_as_the_clock_goes_back_keeps_nobody_waiting(make_gate, billing, clock, *, ask, go_back):
    gate = make_gate(deadline=10)
    billing.hold()
    waiting = gate._snapshots.view(ANNA)
    assert next(waiting).seconds == 10
    billing.wait_for_calls(1)
    go_back(clock)
    billing.release()
    assert ask(gate, "has", ANNA, "reports")
    eventually(lambda: not gate._snapshots._single_flight.is_running(ANNA))


def test_who_waits_once_more_waits_no_longer_than_the_deadline(gate, billing, clock):
    billing.hold()
    due = gate.due()
    clock.advance(-YEARS)
    assert next(gate._snapshots.view(ANNA, due)).seconds == 10
    billing.release()


def test_a_hold_made_in_the_future_returns_after_its_time(clock, make_gate, billing):
    billing.grants[ANNA] = (feature("calls", type="quantity", quantity=5),)
    gate = make_gate(ledger=MemoryLedger(clock=clock))
    gate.reserve(ANNA, "calls", 4, ttl=60)
    clock.advance(-YEARS)
    assert gate.check(ANNA, "calls", refresh=True).remaining == 1
    clock.advance(61)
    assert gate.check(ANNA, "calls", refresh=True).remaining == 5
