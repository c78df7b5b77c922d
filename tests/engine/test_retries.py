"""A retry finds what its key stands for, whatever billing says by now, and under whichever name it was paid for."""

import itertools

import pytest

from entitlement_gate.domain.errors import ReservationConflict
from entitlement_gate.domain.requirements import Requirement
from entitlement_gate.ledger.balances import rows_of
from entitlement_gate.ledger.memory import MemoryLedger
from entitlement_gate.testing.ledger_contract import demand
from tests.engine.fakes import ANNA, feature, instant
from tests.engine.test_reservations import Elsewhere, quantity

NAMES = ("alpha", "beta", "gamma")
PAYERS = [(name, number) for name in NAMES for number in range(3)]
FIRST_OF_THREE = Requirement("alpha", 2) | Requirement("beta", 3) | Requirement("gamma", 4)
ALL_THREE = Requirement("alpha", 2) & Requirement("beta", 3) & Requirement("gamma", 4)


def entitlement_id(name, number):
    return f"30000000-0000-4000-8000-0000000{NAMES.index(name)}000{number}"


def listed(*paying):
    """Return rows of three names with three entitlements each, of which those given alone have something left."""
    return tuple(
        quantity(name, 50 if (name, number) in paying else 0, entitlement_id(name, number)) for name, number in PAYERS
    )


@pytest.fixture(params=[MemoryLedger, Elsewhere])
def ledger(request, clock):
    return request.param(clock=clock)


@pytest.fixture
def gate(make_gate, ledger):
    return make_gate(ledger=ledger)


@pytest.fixture
def use(gate, ask, billing, clock):
    """Use something up while billing says that only these have anything left."""

    def use(requirement, *paying, verb="consume"):
        billing.grants[ANNA] = listed(*paying)
        clock.advance(6)
        ask(gate, "check", ANNA, "alpha", refresh=True)
        return ask(gate, verb, ANNA, requirement, key="k")

    return use


def used_up(ledger):
    tallies = [tally for rows in ledger.charges(ANNA).values() for tally in rows.values()]
    return sum(tally.committed + tally.held for tally in tallies) / 1_000_000


@pytest.mark.parametrize("verb", ["consume", "reserve"])
@pytest.mark.parametrize("before", PAYERS, ids=str)
@pytest.mark.parametrize("now", [("alpha", 0), ("beta", 1), ("gamma", 2)], ids=str)
def test_a_retry_of_either_or_replays_whichever_paid(use, ledger, *, before, now, verb):
    use(FIRST_OF_THREE, before, verb=verb)
    paid = used_up(ledger)
    assert paid == {"alpha": 2, "beta": 3, "gamma": 4}[before[0]]
    use(FIRST_OF_THREE, now, verb=verb)
    assert used_up(ledger) == paid


@pytest.mark.parametrize("before", list(itertools.product((0, 2), repeat=3)), ids=str)
def test_a_retry_of_several_replays_whichever_paid_together(use, ledger, before):
    use(ALL_THREE, *zip(NAMES, before, strict=True))
    decision = use(ALL_THREE, *((name, 1) for name in NAMES))
    assert (decision.reason, used_up(ledger)) == ("allowed", 9)


def test_a_retry_replays_what_paid_for_another_quantity_of_the_same(gate, ask, billing, clock):
    either = Requirement("alpha", 5) | Requirement("alpha", 3)
    billing.grants[ANNA] = (quantity("alpha", 5),)
    ask(gate, "consume", ANNA, either, key="k")
    billing.grants[ANNA] = (quantity("alpha", 4, used=1),)
    clock.advance(6)
    ask(gate, "check", ANNA, "alpha", refresh=True)
    assert ask(gate, "consume", ANNA, either, key="k").allowed
    assert used_up(gate.ledger) == 5


def test_a_retry_replays_beside_a_feature_and_a_name_that_is_both(gate, ask, billing, clock):
    asked = Requirement("reports") & Requirement("alpha") & Requirement("beta", 3)
    names = (feature(), feature("alpha"))
    billing.grants[ANNA] = (*names, quantity("beta", 5, entitlement_id("beta", 0)))
    ask(gate, "consume", ANNA, asked, key="k")
    paid = used_up(gate.ledger)
    ended = quantity("beta", 0, entitlement_id("beta", 0), expires_at=instant(1))
    billing.grants[ANNA] = (
        *names,
        quantity("alpha", 5, entitlement_id("alpha", 0)),
        ended,
        quantity("beta", 5, entitlement_id("beta", 1)),
    )
    clock.advance(6)
    ask(gate, "check", ANNA, "alpha", refresh=True)
    assert ask(gate, "consume", ANNA, asked, key="k").allowed
    assert used_up(gate.ledger) == paid == 3


def test_a_retry_replays_what_paid_though_billing_lists_that_no_longer(gate, ask, billing, clock):
    billing.grants[ANNA] = (quantity("alpha", 5, entitlement_id("alpha", 0)),)
    ask(gate, "consume", ANNA, "alpha", 2, key="k")
    (paid,) = billing.grants[ANNA]
    billing.grants[ANNA] = (quantity("alpha", 9, entitlement_id("alpha", 1)),)
    clock.advance(6)
    ask(gate, "check", ANNA, "alpha", refresh=True)
    decision = ask(gate, "consume", ANNA, "alpha", 2, key="k")
    assert (decision.reason, decision.grants, decision.remaining) == ("allowed", (paid.id,), None)
    assert used_up(gate.ledger) == 2
    with pytest.raises(ReservationConflict):
        ask(gate, "consume", ANNA, "alpha", 3, key="k")


def test_a_shadow_is_let_in_again_by_its_key_though_billing_lists_no_longer_what_paid(
    make_gate, ledger, ask, billing, clock
):
    gate, asked = make_gate(ledger=ledger, shadow={"sso"}), Requirement("alpha", 2) & Requirement("sso")
    for number in (0, 1):
        billing.grants[ANNA] = (quantity("alpha", 5, entitlement_id("alpha", number)),)
        clock.advance(6)
        ask(gate, "check", ANNA, "alpha", refresh=True)
        decision = ask(gate, "consume", ANNA, asked, key="k")
        assert (decision.allowed, decision.shadow, decision.reason) == (True, True, "not_entitled")
        assert used_up(ledger) == 2


def test_a_key_that_no_part_can_have_paid_for_is_a_conflict(use, gate, ledger):
    ledger.consume(ANNA, [demand(1, *rows_of([quantity("other", 5)]))], key="k")
    for asked in (FIRST_OF_THREE, ALL_THREE, Requirement("alpha", 2) & ~Requirement("reports")):
        with pytest.raises(ReservationConflict):
            use(asked, *((name, 1) for name in NAMES))
