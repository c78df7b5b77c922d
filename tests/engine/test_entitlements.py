import asyncio

import pytest

from entitlement_gate.domain.decisions import Reason
from entitlement_gate.domain.errors import EntitlementDenied, EntitlementUnavailable
from entitlement_gate.domain.grants import EntitlementType
from entitlement_gate.engine.entitlements import required
from tests.engine.fakes import ANNA, DOWN, feature, instant

SEATS = feature(
    "seats",
    type=EntitlementType.QUANTITY,
    quantity=10,
    used=4,
    reported_remaining=6,
    units="seats",
    active_from=instant(-60),
    expires_at=instant(60),
)


@pytest.fixture
def known(gate, billing, ask):
    billing.error = None
    billing.grants[ANNA] = (feature(), SEATS, feature(id="second row"))
    return ask(gate, "get", ANNA)


@pytest.fixture
def unknown(gate, billing, ask):
    billing.error = DOWN
    return ask(gate, "get", ANNA)


def test_it_is_a_mapping_of_names(known):
    assert list(known) == ["reports", "seats"]
    assert len(known) == 2
    assert "sso" not in known
    assert known.customer_id == ANNA
    assert repr(known) == f"<CustomerEntitlements of {ANNA}>"
    with pytest.raises(KeyError):
        known["sso"]


def test_an_entitlement_shows_its_decision_and_its_rows(known):
    seats = known["seats"]
    assert seats
    shown = (
        "allowed",
        "reason",
        "type",
        "units",
        "limit",
        "used",
        "remaining",
        "unlimited",
        "active_from",
        "expires_at",
    )
    for name in shown:
        assert getattr(seats, name) == getattr(seats.decision, name)
    assert seats.grants == (SEATS,)
    assert len(known["reports"].grants) == 2


def test_all_of_it_is_one_snapshot_judged_by_the_clock(known, billing, clock):
    billing.grants[ANNA] = ()
    assert known.has("seats", 6)
    assert not known.has("seats", 7)
    clock.advance(59)
    assert known.check("seats").age == 59


@pytest.mark.parametrize("look", ["check", "has", "require"])
def test_a_denial_by_what_get_gave_is_no_older_than_it_may_be(gate, billing, clock, look):
    billing.grants[ANNA] = (feature(),)
    known = gate.get(ANNA)
    billing.grants[ANNA] = (feature(), feature("sso"))
    clock.advance(45)
    assert getattr(known, look)("sso")
    assert len(billing.calls) == 2


def test_as_a_mapping_it_stays_one_snapshot_while_its_checks_look_once_more(gate, billing, clock):
    billing.grants[ANNA] = (feature(),)
    known = gate.get(ANNA)
    billing.grants[ANNA] = (feature("sso"), SEATS)
    clock.advance(45)
    seen = []
    for name, entitlement in known.items():
        assert known.has("sso")
        seen.append((name, entitlement.allowed, "sso" in known))
    assert (seen, len(known), list(known)) == ([("reports", True, False)], 1, ["reports"])
    assert (known.check("reports").age, known.check("sso").age) == (45, 0)


def test_what_the_async_door_gave_never_waits(gate, billing, clock):
    billing.grants[ANNA] = (feature(),)
    known = asyncio.run(gate.aget(ANNA))
    billing.grants[ANNA] = (feature(), feature("sso"))
    clock.advance(45)
    decision = known.check("sso")
    assert (decision.allowed, decision.age, len(billing.calls)) == (False, 45, 1)
    assert asyncio.run(gate.acheck(ANNA, "sso")).allowed


def test_reading_what_is_there_asks_billing_for_nothing(gate, billing, clock):
    known = gate.get(ANNA)
    clock.advance(40)
    assert gate.get(ANNA)["reports"]
    assert known.has("reports")
    assert len(billing.calls) == 1


@pytest.mark.parametrize("name", ["", None, 5])
def test_what_is_no_name_is_not_in_it(known, name):
    assert name not in known
    with pytest.raises(KeyError):
        _ = known[name]


def test_a_requirement_raises_what_stands_for_the_decision(known):
    with pytest.raises(EntitlementDenied):
        known.require("sso")
    assert known.require("reports").allowed


def test_an_outage_does_not_look_like_a_customer_without_entitlements(unknown):
    assert unknown.customer_id == ANNA
    assert unknown.check("reports").reason is Reason.UNAVAILABLE
    assert not unknown.has("reports")
    for look in (list, len, lambda them: them["reports"], lambda them: "reports" in them):
        with pytest.raises(EntitlementUnavailable):
            look(unknown)
    with pytest.raises(EntitlementUnavailable):
        unknown.require("reports")


@pytest.mark.parametrize(("customer", "reason"), [(None, Reason.NO_CUSTOMER), ("anna", Reason.INVALID_CUSTOMER)])
def test_nobody_has_no_entitlements(gate, ask, customer, reason):
    nobody = ask(gate, "get", customer)
    assert (nobody.customer_id, list(nobody), len(nobody)) == (None, [], 0)
    assert nobody.check("reports").reason is reason


def test_an_allowance_is_handed_through(known):
    decision = known.check("reports")
    assert required(decision) is decision
