import asyncio
import json
import uuid

import pytest

from entitlement_gate.domain.decisions import Reason
from entitlement_gate.domain.errors import EntitlementDenied, EntitlementUnavailable
from entitlement_gate.domain.requirements import Requirement
from entitlement_gate.engine.gate import EntitlementGate
from entitlement_gate.resilience.effects import run_sync
from tests.engine.fakes import ANNA, BERT, DOWN, Billing, feature, held_elsewhere, instant

UPPER = "ABCDEF00-0000-4000-8000-000000000001"


def test_both_doors_give_the_same_decision(make_gate):
    for arguments in ((ANNA, "reports"), (ANNA, "sso"), (ANNA, "reports", 3), (None, "x"), ("?", "x"), (BERT, "x")):
        cold = [make_gate().check(*arguments), asyncio.run(make_gate().acheck(*arguments))]
        assert cold[0] == cold[1]
        warm = make_gate()
        warm.check(*arguments)
        answers = [warm.check(*arguments), asyncio.run(warm.acheck(*arguments))]
        assert answers[0] == answers[1]
        assert warm.has(*arguments) == asyncio.run(warm.ahas(*arguments)) == answers[0].allowed


@pytest.mark.parametrize("customer", [UPPER, UPPER.lower(), uuid.UUID(UPPER)])
def test_a_customer_is_one_however_it_is_written(gate, billing, ask, customer):
    decision = ask(gate, "check", customer, "reports")
    assert decision.customer_id == UPPER.lower()
    assert billing.calls == [UPPER.lower()]
    assert ask(gate, "has", customer, "reports")
    assert len(billing.calls) == 1


@pytest.mark.parametrize(
    ("customer", "reason"),
    [
        (None, "no_customer"),
        ("", "invalid_customer"),
        ("anna", "invalid_customer"),
        (7, "invalid_customer"),
        ([], "invalid_customer"),
    ],
)
def test_without_a_usable_customer_nothing_is_fetched(gate, ask, customer, reason):
    decision = ask(gate, "check", customer, "reports")
    assert (decision.outcome, decision.reason, decision.customer_id) == ("denied", reason, None)
    assert not ask(gate, "has", customer, "reports")
    ask(gate, "invalidate", customer)
    assert gate.source.calls == []


@pytest.mark.parametrize("verb", ["has", "check", "require"])
@pytest.mark.parametrize("quantity", [0, -1, True, "x", float("nan"), "9" * 101])
def test_what_is_no_quantity_is_refused_before_any_work(gate, ask, verb, quantity):
    with pytest.raises(ValueError, match="quantity"):
        ask(gate, verb, ANNA, "reports", quantity)
    assert gate.source.calls == []


@pytest.mark.parametrize("entitlement", [["reports"], None, 7])
def test_what_is_no_entitlement_is_refused(gate, ask, entitlement):
    gate.has(ANNA, "reports")
    with pytest.raises(TypeError):
        ask(gate, "check", ANNA, entitlement)


def test_a_combined_requirement_is_answered_as_one_and_kept(gate, billing, ask):
    both = Requirement("reports") & ~Requirement("trial")
    assert ask(gate, "check", ANNA, both).allowed
    assert ask(gate, "check", ANNA, both).source == "cache"
    assert ask(gate, "has", ANNA, both)


def test_a_requirement_that_is_not_met_raises_what_stands_for_the_decision(gate, billing, ask):
    assert ask(gate, "require", ANNA, "reports").allowed
    with pytest.raises(EntitlementDenied):
        ask(gate, "require", ANNA, "sso")
    billing.error = DOWN
    with pytest.raises(EntitlementUnavailable):
        ask(gate, "require", BERT, "reports")


def test_a_warm_answer_tells_its_age_by_both_clocks(gate, clock, ask):
    ask(gate, "check", ANNA, "reports")
    clock.advance(7)
    warm = ask(gate, "check", ANNA, "reports")
    assert (warm.source, warm.age) == ("cache", 7)
    clock.step(20)
    assert ask(gate, "check", ANNA, "reports").age == 27
    clock.step(-3_600)
    assert ask(gate, "check", ANNA, "reports").age == 7


def test_a_warm_answer_does_not_outlive_its_grant(gate, billing, clock, ask):
    billing.grants[ANNA] = (feature(expires_at=instant(30)),)
    assert ask(gate, "has", ANNA, "reports")
    clock.advance(29.999)
    assert ask(gate, "has", ANNA, "reports")
    clock.advance(0.001)
    assert not ask(gate, "has", ANNA, "reports")


def test_a_wall_clock_that_runs_ahead_makes_data_old(gate, billing, clock, ask):
    ask(gate, "has", ANNA, "reports")
    clock.step(300)
    assert ask(gate, "check", ANNA, "reports").source == "live"
    clock.step(-300)
    assert ask(gate, "check", ANNA, "reports").source == "cache"


def test_the_failure_policy_answers_where_nothing_is_known(make_gate, billing, ask):
    billing.error = DOWN
    gate = make_gate(on_unavailable={"reports": "allow"})
    assert ask(gate, "has", ANNA, "reports")
    assert not ask(gate, "has", ANNA, "sso")
    decision = ask(gate, "check", ANNA, "reports")
    assert (decision.outcome, decision.reason, decision.source) == ("unknown", Reason.UNAVAILABLE, "fallback")


def test_shadow_mode_allows_and_still_fetches_before_a_denial(make_gate, billing, clock, ask):
    gate = make_gate(shadow=True)
    assert ask(gate, "has", ANNA, "sso")
    assert ask(gate, "check", ANNA, "sso").shadow
    clock.advance(5)
    assert ask(gate, "check", ANNA, "sso").source == "live"
    assert len(billing.calls) == 2


def test_health_is_plain_and_counts_what_was_answered_from_where(gate, billing, clock, ask):
    ask(gate, "check", ANNA, "reports")
    for verb in ("has", "check"):
        ask(gate, verb, ANNA, "reports")
    ask(gate, "get", ANNA)
    billing.error = DOWN
    ask(gate, "check", ANNA, "reports", refresh=True)
    clock.advance(1)
    assert json.loads(json.dumps(gate.health())) == {
        "breaker": "closed",
        "customers": 1,
        "last_success_age": 1,
        "last_failure_age": 1,
        "last_failure": "SourceUnavailable",
        "hits": 3,
        "stale": 1,
        "misses": 1,
    }


def test_a_snapshot_kept_for_a_request_is_renewed_once_before_it_denies(gate, billing, clock):
    known = gate.get(ANNA).kept()
    clock.advance(5)
    allowed, same = run_sync(gate.deciding(Requirement("reports"), known, gate.due()))
    assert (allowed.source, same is known) == ("live", True)
    billing.grants[ANNA] = (feature("sso"),)
    decision, newer = run_sync(gate.deciding(Requirement("sso"), known, gate.due()))
    assert (decision.allowed, decision.age, newer.has("sso")) == (True, 0, True)
    assert len(billing.calls) == 2


def test_nobodys_snapshot_is_never_renewed(gate):
    nobody = gate.get(None)
    decision, same = run_sync(gate.deciding(Requirement("reports"), nobody, gate.due()))
    assert (decision.reason, same is nobody) == (Reason.NO_CUSTOMER, True)


def test_a_gate_can_resolve_whom_it_is_asked_about(make_gate, billing, clock, ask):
    class ByName(EntitlementGate):
        def identify(self, customer):
            return super().identify({"anna": ANNA}.get(customer))

    gate = ByName(billing, clock=clock, deadline=10)
    assert ask(gate, "has", "anna", "reports")
    assert ask(gate, "check", "bert", "reports").reason is Reason.NO_CUSTOMER
    gate.close()


def test_a_gate_that_takes_the_long_way_is_asked_each_time(billing, clock, ask):
    class Telling(EntitlementGate):
        told = 0

        def _checking(self, *args, **kwargs):
            self.told += 1
            return (yield from super()._checking(*args, **kwargs))

    gate = Telling(billing, clock=clock, deadline=10)
    gate._answers = gate._decided = {}
    assert [ask(gate, verb, ANNA, "reports") is not None for verb in ("has", "check", "has", "check")] == [True] * 4
    assert gate.told == 4
    gate.close()


def test_a_gate_closes_its_source_at_the_end_of_a_block(clock):
    billing = Billing(clock)
    with EntitlementGate(billing, clock=clock) as gate:
        assert gate.has(ANNA, "reports")
    assert billing.closed == 1
    assert repr(gate).startswith("<EntitlementGate over <")


def test_a_source_without_close_is_fine(clock):
    class Bare:
        fetch = Billing(clock).fetch

    gate = EntitlementGate(Bare(), clock=clock)
    gate.close()


def test_data_survives_a_fork_and_a_lock_that_was_held_does_not(gate, billing, ask):
    ask(gate, "has", ANNA, "reports")
    with held_elsewhere(gate._snapshots._lock):
        gate.remake()
        assert ask(gate, "check", ANNA, "reports").source == "cache"
        ask(gate, "invalidate", ANNA)
        assert ask(gate, "check", ANNA, "reports").source == "live"


def test_jitter_parts_customers_that_were_fetched_together(billing, clock):
    gate = EntitlementGate(billing, clock=clock, deadline=10)
    lives = set()
    for number in range(20):
        customer = str(uuid.UUID(int=number, version=4))
        gate.has(customer, "reports")
        lives.add(gate._snapshots.entries[customer].fresh_for)
    assert len(lives) > 10
    assert all(54 <= life <= 66 for life in lives)
    gate.close()


@pytest.mark.parametrize("source", [None, object(), Billing], ids=["nothing", "no fetch", "a class"])
def test_what_cannot_be_fetched_from_is_refused_when_the_gate_is_made(source):
    with pytest.raises(ValueError, match="source: an object with fetch"):
        EntitlementGate(source)
