import asyncio
from contextlib import suppress
from decimal import Decimal

import pytest

from entitlement_gate.domain.errors import (
    EntitlementDenied,
    EntitlementUnavailable,
    ReservationConflict,
    ReservationError,
    ReservationExpired,
)
from entitlement_gate.domain.grants import EntitlementType
from entitlement_gate.domain.requirements import Requirement
from entitlement_gate.ledger.balances import rows_of
from entitlement_gate.ledger.memory import MemoryLedger
from entitlement_gate.ledger.protocol import LedgerOverflow, LedgerUnavailable
from entitlement_gate.testing.ledger_contract import demand
from tests.engine.fakes import ANNA, BERT, DOWN, feature, instant

CALLS = "30000000-0000-4000-8000-000000000001"
SEATS = "30000000-0000-4000-8000-000000000002"
OTHER = "30000000-0000-4000-8000-000000000003"


class Elsewhere(MemoryLedger):
    """A ledger that steps have to wait for, and that can be out of reach."""

    is_local = False
    is_down = False

    def reserve(self, *args, **keywords):
        self._reach()
        return super().reserve(*args, **keywords)

    def consume(self, *args, **keywords):
        self._reach()
        return super().consume(*args, **keywords)

    def commit(self, *args, **keywords):
        self._reach()
        return super().commit(*args, **keywords)

    def release(self, *args, **keywords):
        self._reach()
        return super().release(*args, **keywords)

    def charges(self, *args, **keywords):
        self._reach()
        return super().charges(*args, **keywords)

    def _reach(self):
        if self.is_down:
            raise LedgerUnavailable("Redis: ConnectionError")


def quantity(name="api_calls", remaining=10, entitlement_id=CALLS, **fields):
    values = {"id": f"row {name} {entitlement_id}", "type": EntitlementType.QUANTITY, "status": "active", "used": 0}
    return feature(name, **{**values, "entitlement_id": entitlement_id, "reported_remaining": remaining, **fields})


@pytest.fixture(params=[MemoryLedger, Elsewhere])
def ledger(request, clock):
    return request.param(clock=clock)


@pytest.fixture
def elsewhere(clock):
    return Elsewhere(clock=clock)


@pytest.fixture
def gate(make_gate, billing, ledger):
    billing.grants[ANNA] = (feature(), quantity(), quantity("seats", 3, SEATS))
    return make_gate(ledger=ledger)


def test_what_is_used_up_counts_at_once(gate, ask):
    assert ask(gate, "check", ANNA, "api_calls").remaining == 10
    decision = ask(gate, "consume", ANNA, "api_calls", 4)
    assert (decision.reason, decision.requested, decision.remaining) == ("allowed", 4, 6)
    assert ask(gate, "check", ANNA, "api_calls").remaining == 6
    assert ask(gate, "has", ANNA, "api_calls", 6)
    assert not ask(gate, "has", ANNA, "api_calls", 7)
    assert ask(gate, "get", ANNA)["api_calls"].remaining == 6
    assert ask(gate, "get", ANNA)["seats"].remaining == 3


def test_what_is_held_counts_until_it_is_released_or_its_time_is_up(gate, ask, clock):
    held = ask(gate, "reserve", ANNA, "api_calls", 4)
    assert (held.state, held.quantity, held.decision.remaining) == ("held", 4, 6)
    assert ask(gate, "check", ANNA, "api_calls").remaining == 6
    held.release()
    assert held.state == "released"
    assert ask(gate, "check", ANNA, "api_calls").remaining == 10
    ask(gate, "reserve", ANNA, "api_calls", 4, ttl=5)
    clock.advance(4.9)
    assert ask(gate, "check", ANNA, "api_calls").remaining == 6
    clock.advance(0.1)
    assert ask(gate, "check", ANNA, "api_calls").remaining == 10


def test_consuming_what_is_held_under_the_key_commits_it(gate, ask):
    held = ask(gate, "reserve", ANNA, "api_calls", 3, key="k")
    for _ in range(2):
        decision = ask(gate, "consume", ANNA, "api_calls", 3, key="k")
        assert (decision.reason, decision.remaining) == ("allowed", 7)
    held.commit()
    assert held.state == "committed"
    assert ask(gate, "check", ANNA, "api_calls").remaining == 7


def test_a_retry_replays_though_another_entitlement_of_the_name_would_pay_by_now(gate, billing, clock, ask):
    def listed(used):
        return (quantity(remaining=5 - used, used=used), quantity(remaining=4, entitlement_id=OTHER))

    billing.grants[ANNA] = listed(0)
    gate.invalidate(ANNA)
    ask(gate, "consume", ANNA, "api_calls", 3, key="k")
    billing.grants[ANNA] = listed(3)
    clock.advance(6)
    ask(gate, "check", ANNA, "api_calls", refresh=True)
    for decision in (
        ask(gate, "consume", ANNA, "api_calls", 3, key="k"),
        ask(gate, "reserve", ANNA, "api_calls", 3, key="k").decision,
    ):
        assert (decision.reason, decision.remaining, decision.entitlement) == ("allowed", 2, "api_calls")
    for verb in ("consume", "reserve"):
        with pytest.raises(ReservationConflict):
            ask(gate, verb, ANNA, "api_calls", 2, key="k")
    assert gate.check(ANNA, "api_calls", 4).allowed


def test_a_retry_of_an_either_or_replays_the_side_that_paid(gate, billing, clock, ask):
    either = Requirement("api_calls", 10) | Requirement("seats", 2)
    assert ask(gate, "consume", ANNA, either, key="k").entitlement == "api_calls"
    billing.grants[ANNA] = (quantity(remaining=0, used=10), quantity("seats", 3, SEATS))
    clock.advance(6)
    ask(gate, "check", ANNA, "seats", refresh=True)
    assert ask(gate, "consume", ANNA, either, key="k").entitlement == "api_calls"
    assert ask(gate, "check", ANNA, "seats").remaining == 3


def test_a_key_of_something_else_is_a_conflict_and_admits_nothing(gate, billing, clock, ask):
    both = (quantity(), quantity("seats", 3, SEATS), quantity("seats", 9, OTHER, expires_at=instant(1)))
    billing.grants[ANNA] = both
    gate.invalidate(ANNA)
    ask(gate, "reserve", ANNA, "api_calls", 1, key="k").release()
    clock.advance(2)
    for asked in (Requirement("seats", 2), Requirement("seats") & Requirement("api_calls", 2)):
        with pytest.raises(ReservationConflict):
            ask(gate, "consume", ANNA, asked, key="k")
    assert gate.check(ANNA, "seats").remaining == 3


def test_a_bool_is_no_quantity_of_a_combined_requirement_either(gate, ask):
    asked = Requirement("api_calls") & "seats"
    with pytest.raises(ValueError, match="give the quantity inside"):
        ask(gate, "consume", ANNA, asked, quantity=True)


def test_a_credit_note_counts_at_the_check_that_learns_of_it(gate, billing, clock, ask):
    ask(gate, "consume", ANNA, "api_calls", 10)
    for used in (10, 4):
        billing.grants[ANNA] = (quantity(remaining=10 - used, used=used),)
        clock.advance(6)
        decision = ask(gate, "check", ANNA, "api_calls", 1)
        assert (decision.allowed, decision.source, decision.remaining) == (used == 4, "live", 10 - used)


def test_what_cannot_be_counted_of_one_customer_keeps_nobody_else_out(make_gate, billing, elsewhere, ask):
    billing.grants = {ANNA: (quantity(),), BERT: (quantity(),)}
    gate, consume = make_gate(ledger=elsewhere), elsewhere.consume

    def narrow(customer_id, *args, **keywords):
        if customer_id == ANNA:
            raise LedgerOverflow("too wide")
        return consume(customer_id, *args, **keywords)

    elsewhere.consume = narrow
    for _ in range(6):
        with pytest.raises(EntitlementUnavailable):
            ask(gate, "consume", ANNA, "api_calls")
    assert ask(gate, "consume", BERT, "api_calls").allowed


def test_more_than_is_left_is_denied_with_what_is_left(gate, ask):
    ask(gate, "consume", ANNA, "api_calls", 8)
    with pytest.raises(EntitlementDenied) as denied:
        ask(gate, "consume", ANNA, "api_calls", 3)
    decision = denied.value.decision
    assert (decision.reason, decision.requested, decision.remaining) == ("insufficient_quantity", 3, 2)
    with pytest.raises(EntitlementDenied):
        ask(gate, "reserve", ANNA, "api_calls", 3)
    assert ask(gate, "check", ANNA, "api_calls").remaining == 2


def test_credits_say_that_they_are_credits(gate, ask, billing):
    billing.grants[ANNA] = (quantity("coins", 2, OTHER, type=EntitlementType.CREDITS),)
    ask(gate, "consume", ANNA, "coins", "1.5")
    with pytest.raises(EntitlementDenied, match="insufficient_credits"):
        ask(gate, "consume", ANNA, "coins", 1)
    assert ask(gate, "check", ANNA, "coins").remaining == Decimal("0.5")


def test_a_denial_is_not_older_than_it_may_be(gate, ask, billing, clock):
    ask(gate, "consume", ANNA, "seats", 3)
    clock.advance(10)
    billing.grants[ANNA] = (quantity("seats", 8, SEATS),)
    assert ask(gate, "consume", ANNA, "seats", 5).remaining == 0
    assert len(billing.calls) == 2
    clock.advance(10)
    with pytest.raises(EntitlementDenied) as denied:
        ask(gate, "consume", ANNA, "seats", 1)
    assert denied.value.decision.source == "live"


def test_billing_that_catches_up_is_not_counted_twice(gate, ask, billing, clock):
    ask(gate, "consume", ANNA, "api_calls", 4)
    for used, remaining in ((1, 9), (4, 6)):
        billing.grants[ANNA] = (quantity(remaining=remaining, used=used),)
        clock.advance(1)
        assert ask(gate, "check", ANNA, "api_calls", refresh=True).remaining == 6
    billing.grants[ANNA] = (quantity(remaining=9, used=1),)  # a credit note
    clock.advance(1)
    assert ask(gate, "check", ANNA, "api_calls", refresh=True).remaining == 9


@pytest.mark.parametrize(
    ("entitlement", "reason"),
    [("reports", "type_mismatch"), ("nothing", "not_entitled"), ("old", "expired"), ("blank", "quantity_unknown")],
)
def test_what_no_balance_pays_for_is_denied_as_a_check_denies_it(gate, ask, entitlement, reason):
    old = quantity("old", 5, OTHER, expires_at=instant(-1))
    gate.source.grants[ANNA] = (feature(), old, quantity("blank", None, OTHER, id="row blank"))
    with pytest.raises(EntitlementDenied, match=reason):
        ask(gate, "reserve", ANNA, entitlement, 1)
    with pytest.raises(EntitlementDenied, match="invalid_customer"):
        ask(gate, "consume", "anna", entitlement)


def test_the_same_key_is_counted_once_even_when_the_balance_is_gone(gate, ask, billing, clock):
    first = ask(gate, "consume", ANNA, "api_calls", 10, key="order 7")
    assert first.remaining == 0
    again = ask(gate, "consume", ANNA, "api_calls", 10, key="order 7")
    assert (again.reason, again.remaining) == ("allowed", 0)
    billing.grants[ANNA] = (quantity(remaining=0, used=10),)
    clock.advance(1)
    assert not ask(gate, "has", ANNA, "api_calls", refresh=True)
    assert ask(gate, "consume", ANNA, "api_calls", 10, key="order 7").allowed
    with pytest.raises(ReservationConflict):
        ask(gate, "consume", ANNA, "api_calls", 9, key="order 7")
    assert ask(gate, "check", ANNA, "api_calls").remaining == 0


def test_another_entitlement_of_the_name_pays_where_the_first_is_used_up(gate, ask, billing):
    billing.grants[ANNA] = (quantity(), quantity(remaining=6, entitlement_id=OTHER))
    assert ask(gate, "consume", ANNA, "api_calls", 8).grants == (f"row api_calls {CALLS}",)
    assert ask(gate, "consume", ANNA, "api_calls", 5).grants == (f"row api_calls {OTHER}",)
    assert ask(gate, "consume", ANNA, "api_calls", 2).grants == (f"row api_calls {CALLS}",)
    assert ask(gate, "check", ANNA, "api_calls").remaining == 1
    with pytest.raises(EntitlementDenied):
        ask(gate, "consume", ANNA, "api_calls", 2)


def test_of_several_all_is_held_or_nothing(gate, ask):
    both = Requirement("api_calls", 2) & Requirement("seats", 2) & "reports"
    ask(gate, "consume", ANNA, both)
    assert [ask(gate, "check", ANNA, name).remaining for name in ("api_calls", "seats")] == [8, 1]
    with pytest.raises(EntitlementDenied) as denied:
        ask(gate, "consume", ANNA, both)
    assert (denied.value.decision.entitlement, denied.value.decision.remaining) == ("seats", 1)
    assert [ask(gate, "check", ANNA, name).remaining for name in ("api_calls", "seats")] == [8, 1]
    with pytest.raises(EntitlementDenied, match="sso: not_entitled"):
        ask(gate, "consume", ANNA, Requirement("api_calls", 2) & "sso")
    assert ask(gate, "check", ANNA, "api_calls").remaining == 8


def test_of_alternatives_the_first_that_is_there_is_used_up(gate, ask):
    either = Requirement("seats", 2) | Requirement("api_calls", 5)
    assert ask(gate, "consume", ANNA, either).entitlement == "seats"
    assert ask(gate, "consume", ANNA, either).entitlement == "api_calls"
    assert ask(gate, "consume", ANNA, Requirement("seats", 2) | "reports").entitlement == "reports"
    assert ask(gate, "consume", ANNA, ~Requirement("sso") & Requirement("api_calls")).remaining == 4
    assert [ask(gate, "check", ANNA, name).remaining for name in ("api_calls", "seats")] == [4, 1]


def test_two_parts_that_one_balance_pays_for_are_held_together(gate, ask):
    twice = Requirement("api_calls", 2) & Requirement(CALLS, 3)
    assert ask(gate, "consume", ANNA, twice).remaining == 5


def test_a_part_without_a_quantity_uses_up_one(gate, ask, billing):
    assert ask(gate, "consume", ANNA, Requirement("api_calls")).remaining == 9
    assert ask(gate, "consume", ANNA, Requirement("api_calls") & "reports").remaining == 8
    billing.grants[BERT] = (quantity(remaining=Decimal("0.5")),)
    with pytest.raises(EntitlementDenied, match="insufficient_quantity"):
        ask(gate, "consume", BERT, Requirement("api_calls") & Requirement("api_calls"))


def test_overage_by_policy_is_counted_and_says_so(make_gate, ledger, billing, ask):
    billing.grants[ANNA] = (quantity(remaining=2),)
    gate = make_gate(ledger=ledger, on_exhausted={"api_calls": "allow"})
    decision = ask(gate, "consume", ANNA, "api_calls", 5)
    assert (decision.allowed, decision.reason, decision.remaining) == (True, "overage", -3)
    assert ask(gate, "check", ANNA, "api_calls", 1).reason == "overage"


def test_unlimited_is_counted_all_the_same(make_gate, ledger, billing, ask):
    billing.grants[ANNA] = (quantity(remaining=None),)
    gate = make_gate(ledger=ledger, null_quantity="unlimited")
    decision = ask(gate, "consume", ANNA, "api_calls", 5)
    assert (decision.reason, decision.unlimited, decision.remaining) == ("allowed", True, None)
    (tally,) = ledger.charges(ANNA)[CALLS].values()
    assert tally.committed == 5_000_000


def test_a_shadow_lets_in_counts_and_is_marked(make_gate, ledger, billing, ask):
    billing.grants[ANNA] = (quantity(remaining=2),)
    gate = make_gate(ledger=ledger, shadow={"api_calls", "sso"})
    decision = ask(gate, "consume", ANNA, "api_calls", 5)
    assert (decision.allowed, decision.shadow, decision.outcome) == (True, True, "denied")
    assert (decision.reason, decision.remaining) == ("insufficient_quantity", -3)
    held = ask(gate, "reserve", ANNA, "sso", 1)
    held.commit()
    assert (held.state, held.quantity, held.decision.shadow) == ("released", None, True)
    assert "nothing" in repr(held)
    assert ask(gate, "reserve", None, "sso").decision.reason == "no_customer"


def test_a_shadow_of_one_part_leaves_the_other_enforced(make_gate, ledger, billing, ask):
    billing.grants[ANNA] = (quantity(remaining=2),)
    gate = make_gate(ledger=ledger, shadow={"sso"})
    for refused in ("sso" & Requirement("api_calls", 3), "sso" & Requirement("seats")):
        with pytest.raises(EntitlementDenied):
            ask(gate, "reserve", ANNA, refused)
    both = "sso" & Requirement("api_calls", 2)
    for _ in range(2):  # once more with its key: the one that was held
        held = ask(gate, "reserve", ANNA, both, key="job")
        assert (held.decision.shadow, held.decision.reason) == (True, "not_entitled")
        (tally,) = ledger.charges(ANNA)[CALLS].values()
        assert tally.held == 2_000_000
    with pytest.raises(EntitlementDenied) as refusal:
        ask(gate, "consume", ANNA, both)
    assert refusal.value.decision.reason == "insufficient_quantity"


def test_a_shadow_of_one_part_does_not_pass_for_the_other_while_the_ledger_is_away(make_gate, elsewhere, billing, ask):
    billing.grants[ANNA] = (quantity(remaining=2),)
    elsewhere.is_down = True
    both = "sso" & Requirement("api_calls")
    with pytest.raises(EntitlementUnavailable):
        ask(make_gate(ledger=elsewhere, shadow={"sso"}), "reserve", ANNA, both)
    assert ask(make_gate(ledger=elsewhere, shadow={"sso", "api_calls"}), "reserve", ANNA, both).decision.shadow


def test_an_either_or_in_shadow_uses_up_the_side_that_is_true(make_gate, ledger, billing, ask):
    billing.grants[ANNA] = (quantity(remaining=2), quantity("seats", 5, SEATS))
    gate = make_gate(ledger=ledger, shadow={"api_calls"})
    assert ask(gate, "consume", ANNA, Requirement("api_calls", 3) | Requirement("seats", 3)).reason == "allowed"
    assert set(ledger.charges(ANNA)) == {SEATS}
    decision = ask(gate, "consume", ANNA, Requirement("api_calls", 3) | Requirement("seats", 4))
    assert (decision.allowed, decision.shadow, decision.reason) == (True, True, "insufficient_quantity")
    assert set(ledger.charges(ANNA)) == {SEATS, CALLS}


@pytest.mark.parametrize("asked", ["api_calls", "calls", CALLS])
def test_overage_goes_by_the_name_in_billing_whichever_way_is_asked(make_gate, ledger, billing, asked):
    billing.grants[ANNA] = (quantity(remaining=2),)
    aliases = {"calls": CALLS}
    strict = make_gate(ledger=ledger, aliases=aliases, on_exhausted={"api_calls": "deny", "*": "allow"})
    with pytest.raises(EntitlementDenied):
        strict.consume(ANNA, asked, 3)
    assert strict.check(ANNA, asked, 2).reason == "allowed"
    lenient = make_gate(ledger=ledger, aliases=aliases, on_exhausted={"api_calls": "allow"})
    assert lenient.consume(ANNA, asked, 3).reason == "overage"


def test_an_outage_of_billing_is_unknown_or_as_the_policy_says(make_gate, ledger, billing, ask):
    billing.error = DOWN
    with pytest.raises(EntitlementUnavailable, match="unavailable"):
        ask(make_gate(ledger=ledger), "reserve", ANNA, "api_calls")
    held = ask(make_gate(ledger=ledger, on_unavailable="allow"), "reserve", ANNA, "api_calls")
    assert (held.decision.source, held.decision.outcome, held.quantity) == ("fallback", "unknown", None)


def test_a_ledger_out_of_reach_is_unknown_never_denied(make_gate, elsewhere, ask, clock):
    gate = make_gate(ledger=elsewhere)
    gate.source.grants[ANNA] = (feature(), quantity(), quantity("seats", 3, SEATS, expires_at=instant(-1)))
    ask(gate, "consume", ANNA, "api_calls", 1)
    elsewhere.is_down = True
    assert ask(gate, "check", ANNA, "reports").allowed
    decision = ask(gate, "check", ANNA, "api_calls")
    assert (decision.allowed, decision.outcome, decision.reason) == (False, "unknown", "unavailable")
    assert (decision.source, decision.remaining) == ("fallback", None)
    assert ask(gate, "check", ANNA, "api_calls", 11).reason == "insufficient_quantity"  # by billing alone
    assert ask(gate, "check", ANNA, "seats", 1).reason == "expired"
    with pytest.raises(EntitlementUnavailable):
        ask(gate, "get", ANNA)["api_calls"]
    with pytest.raises(EntitlementUnavailable, match="api_calls: unavailable"):
        ask(gate, "reserve", ANNA, "api_calls")
    elsewhere.is_down = False
    clock.advance(5)
    assert ask(gate, "check", ANNA, "api_calls").remaining == 9


@pytest.mark.parametrize("verb", ["check", "consume"])
def test_what_is_counted_is_where_the_data_came_from_whatever_the_ledger_does(make_gate, elsewhere, billing, verb, ask):
    billing.grants[ANNA] = (quantity(),)
    gate = make_gate(ledger=elsewhere)
    ask(gate, "check", ANNA, "api_calls")
    elsewhere.is_down = True
    with suppress(EntitlementUnavailable):
        ask(gate, verb, ANNA, "api_calls", 1)
    assert (gate.health()["hits"], gate.health()["misses"]) == (1, 1)


def test_a_ledger_out_of_reach_is_left_to_the_policies(make_gate, elsewhere, billing, ask):
    billing.grants[ANNA] = (quantity(), quantity("seats", 3, SEATS))
    gate = make_gate(ledger=elsewhere, on_unavailable={"api_calls": "allow"}, on_exhausted={"seats": "allow"})
    elsewhere.is_down = True
    assert ask(gate, "check", ANNA, "api_calls").allowed
    assert ask(gate, "check", ANNA, "seats").reason == "allowed"  # beyond the balance it would be allowed too
    held = ask(gate, "reserve", ANNA, "api_calls")
    assert (held.decision.outcome, held.quantity) == ("unknown", None)
    assert held.decision.age == 0


def test_a_ledger_that_keeps_failing_is_left_alone_for_a_while(make_gate, elsewhere, ask, clock):
    gate = make_gate(ledger=elsewhere)
    gate.source.grants[ANNA] = (quantity(),)
    elsewhere.is_down = True
    for _ in range(5):
        ask(gate, "check", ANNA, "api_calls")
    elsewhere.is_down = False
    assert ask(gate, "check", ANNA, "api_calls").outcome == "unknown"
    clock.advance(5)
    assert ask(gate, "check", ANNA, "api_calls").remaining == 10


def test_a_ledger_that_goes_between_look_and_try_is_unknown(make_gate, clock, billing, ask):
    class Leaving(Elsewhere):
        def consume(self, *args, **keywords):
            outcome = super().consume(*args, **keywords)
            self.is_down = True
            return outcome

    billing.grants[ANNA] = (quantity(remaining=1),)
    gate = make_gate(ledger=Leaving(clock=clock))
    assert ask(gate, "consume", ANNA, "api_calls", key="k").remaining == 0
    gate.ledger.is_down = False
    assert ask(gate, "consume", ANNA, "api_calls", key="k").remaining is None  # a replay: the charges are not known
    gate.ledger.is_down = False
    with pytest.raises(EntitlementUnavailable):
        ask(gate, "consume", ANNA, "api_calls", key="l")


def test_who_loses_every_race_is_denied(make_gate, clock, billing, ask):
    class Contested(Elsewhere):
        def charges(self, customer_id):
            return {}  # whenever one looks, there is enough

    billing.grants[ANNA] = (quantity(),)
    gate = make_gate(ledger=Contested(clock=clock))
    ask(gate, "consume", ANNA, "api_calls", 9)
    with pytest.raises(EntitlementDenied) as denied:
        ask(gate, "consume", ANNA, "api_calls", 2)
    assert denied.value.decision.remaining == 1


def test_without_a_ledger_nothing_is_counted(make_gate, billing, ask):
    billing.grants[ANNA] = (quantity(),)
    gate = make_gate(ledger=None)
    assert gate.ledger is None
    assert ask(gate, "check", ANNA, "api_calls", 10).allowed
    assert ask(gate, "get", ANNA)["api_calls"].remaining == 10
    with pytest.raises(ReservationError, match="LEDGER"):
        ask(gate, "reserve", ANNA, "api_calls")


@pytest.mark.parametrize(
    ("quantity", "keywords", "message"),
    [
        (0, {}, "quantity"),
        (-1, {}, "quantity"),
        ("NaN", {}, "quantity"),
        (2**53, {}, "counts"),
        ("0.0000001", {}, "millionths"),
        (1, {"key": "k" * 201}, "200 characters"),
        (1, {"key": ""}, "200 characters"),
        (1, {"ttl": 0}, "seconds"),
        (1, {"ttl": float("nan")}, "seconds"),
        (1, {"ttl": None}, "seconds"),
    ],
)
def test_what_cannot_be_reserved_is_refused_before_any_work(gate, quantity, keywords, message):
    for reserve in (gate.reserve, lambda *args, **keywords: asyncio.run(gate.areserve(*args, **keywords))):
        with pytest.raises(ValueError, match=message):
            reserve(ANNA, "api_calls", quantity, **keywords)
    assert gate.source.calls == []


def test_a_quantity_beside_one_that_the_requirement_states_is_refused(gate, ask):
    with pytest.raises(ValueError, match="inside"):
        ask(gate, "reserve", ANNA, Requirement("api_calls", 2), 3)


def test_a_block_commits_on_success_and_releases_on_an_error(gate):
    with gate.reserve(ANNA, "api_calls", 3) as held:
        assert "3 of 'api_calls', held" in repr(held)
    assert (held.state, held.is_late) == ("committed", False)
    with pytest.raises(KeyError), gate.reserve(ANNA, "api_calls", 3) as held:
        raise KeyError
    assert held.state == "released"
    with gate.reserve(ANNA, "api_calls", 3) as held:
        held.commit(5)
    assert held.quantity == 5
    assert gate.check(ANNA, "api_calls").remaining == 2


@pytest.mark.parametrize("ending", ["commit", "release", "raise", "extend"])
def test_an_async_block_does_the_same(gate, ending):
    async def use():
        async with await gate.areserve(ANNA, "api_calls", 3) as held:
            if ending == "raise":
                raise KeyError
            await getattr(held, f"a{ending}")(*([30] if ending == "extend" else []))
        return held.state

    if ending == "raise":
        with pytest.raises(KeyError):
            asyncio.run(use())
        state = "released"
    else:
        state = asyncio.run(use())
    assert state == {"commit": "committed", "extend": "committed"}.get(ending, "released")


def test_a_reservation_lives_as_long_as_it_is_extended(gate, clock):
    held = gate.reserve(ANNA, "api_calls", 4, ttl=10)
    clock.advance(9)
    held.extend(10)
    clock.advance(9)
    held.extend(1)
    clock.advance(2)
    with pytest.raises(ReservationExpired):
        held.extend(1)
    held.commit()
    assert (held.state, held.is_late) == ("committed", True)


def test_an_error_in_a_block_is_not_hidden_by_a_ledger_out_of_reach(make_gate, elsewhere, billing, caplog):
    billing.grants[ANNA] = (quantity(),)
    gate = make_gate(ledger=elsewhere)
    held = gate.reserve(ANNA, "api_calls")
    elsewhere.is_down = True
    with pytest.raises(KeyError), held:
        raise KeyError
    assert "returns when its time is up" in caplog.text
    with pytest.raises(LedgerUnavailable):
        held.commit()
    elsewhere.is_down = False
    held.commit()
    assert gate.check(ANNA, "api_calls").remaining == 9


def test_committed_usage_is_reported_under_the_name_of_code_or_of_billing(make_gate, ledger, billing, ask):
    billing.grants[ANNA] = (quantity("API Calls"), quantity("seats", 3, SEATS), quantity("other", 3, OTHER))
    usage = {name: {"slug": name.lower(), "field": "count"} for name in ("API Calls", "seats")}
    gate = make_gate(ledger=ledger, usage=usage, aliases={"api_calls": "API Calls"})
    for name in ("api_calls", CALLS, "seats", "other"):
        ask(gate, "consume", ANNA, name, 2, key=f"key {name}")
    sent = [(event.key, event.target.slug, event.quantity) for event in ledger.take(10)]
    assert sent == [
        ("key api_calls", "api calls", 2_000_000),
        (f"key {CALLS}", "api calls", 2_000_000),
        ("key seats", "seats", 2_000_000),
    ]


def test_a_warm_answer_does_not_outlive_the_first_use(gate):
    assert gate.has(ANNA, "seats")
    assert gate.has(ANNA, "seats")
    gate.consume(ANNA, "seats", 3)
    assert not gate.has(ANNA, "seats")
    assert not gate.get(ANNA).has("seats")


def test_an_answer_that_the_first_use_overtakes_is_not_kept(make_gate, billing, clock):
    class Overtaken(MemoryLedger):
        """Another thread uses it all up between the gate's second look, which saw nothing, and the keeping."""

        looks = 0

        def has_charged(self, customer_id):
            seen = super().has_charged(customer_id)
            self.looks += 1
            if self.looks == 2:
                everything = demand(10_000_000, *rows_of([quantity()]), entitlement_id=CALLS)
                self.consume(customer_id, [everything], key="theirs")
            return seen

    billing.grants[ANNA] = (quantity(),)
    gate = make_gate(ledger=Overtaken(clock=clock), denial_max_age=60)
    gate.get(ANNA)
    gate.ledger.looks = 0
    assert gate.has(ANNA, "api_calls")
    assert gate.ledger.charges(ANNA)
    assert not gate.has(ANNA, "api_calls")


def test_the_first_use_of_a_customer_whom_the_gate_does_not_hold_is_no_news_to_it(make_gate, clock):
    gate = make_gate(ledger=MemoryLedger(clock=clock))
    gate.ledger.consume(BERT, [demand(1)], key="k")
    assert gate.ledger.has_charged(BERT)
    assert gate.health()["customers"] == 0


def test_two_gates_over_one_ledger_see_what_the_other_uses_up(make_gate, ledger, billing):
    billing.grants[ANNA] = (quantity(),)
    one, other = make_gate(ledger=ledger), make_gate(ledger=ledger)
    assert one.has(ANNA, "api_calls")
    assert one.has(ANNA, "api_calls")
    other.consume(ANNA, "api_calls", 10)
    assert not one.has(ANNA, "api_calls")


def test_a_ledger_that_breaks_on_news_never_fails_a_fetch(make_gate, billing, clock, caplog):
    class Broken(Elsewhere):
        def adopt_upstream(self, *_):
            raise KeyError("bug")

    billing.grants[ANNA] = (quantity(),)
    assert make_gate(ledger=Broken(clock=clock)).check(ANNA, "api_calls").allowed
    assert "ledger" in caplog.text
