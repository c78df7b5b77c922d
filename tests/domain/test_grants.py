import dataclasses
from decimal import Decimal

import pytest

from entitlement_gate.domain.grants import EntitlementType, Grant, Snapshot, quick_grant
from tests.domain.conftest import CUSTOMER, a_grant


@pytest.mark.parametrize(
    ("numbers", "remaining"),
    [
        ({"reported_remaining": 7, "quantity": 10, "used": 1}, 7),
        ({"reported_remaining": 0, "quantity": 10}, 0),
        ({"quantity": 10, "used": 4}, 6),
        ({"quantity": 10, "used": 12}, -2),
        ({"quantity": 10}, 10),
        ({"used": 4}, None),
    ],
)
def test_remaining_is_reported_or_computed_or_unknown(numbers, remaining):
    assert a_grant(**numbers).remaining == remaining


def test_remaining_is_exact():
    grant = a_grant(quantity=Decimal("1e40"), used=Decimal("1e-40"))

    assert f"{grant.remaining:f}" == "9" * 40 + "." + "9" * 40


@pytest.mark.parametrize(
    ("fields", "is_metered"),
    [
        ({"type": EntitlementType.QUANTITY, "quantity": None}, True),
        ({"type": EntitlementType.CREDITS, "quantity": None}, True),
        ({"type": EntitlementType.FEATURE, "quantity": 5}, False),
        ({"type": "access", "quantity": 5}, False),
        ({"type": None, "quantity": 5}, True),
        ({"type": None, "reported_remaining": 0}, True),
        ({"type": None, "quantity": None}, False),
        ({"type": None, "used": 5}, False),
    ],
)
def test_metered_is_what_is_counted(fields, is_metered):
    assert a_grant(**fields).is_metered is is_metered


def test_a_quick_grant_is_a_grant_like_any_other():
    grant = a_grant(units="people", quantity=3, is_disabled=True)
    quick = quick_grant(*(getattr(grant, field.name) for field in dataclasses.fields(Grant)))

    assert quick == grant
    assert type(quick) is Grant
    assert hash(quick) == hash(grant)
    assert repr(quick) == repr(grant)
    assert dataclasses.replace(quick, id="2") == dataclasses.replace(grant, id="2")
    with pytest.raises(dataclasses.FrozenInstanceError):
        quick.id = "2"


def test_a_quick_grant_has_the_defaults_of_a_grant():
    assert quick_grant("1", "seats") == Grant(id="1", name="seats")


def test_grants_and_snapshots_are_immutable_and_small():
    grant, snapshot = a_grant(), Snapshot(CUSTOMER, (), 0.0)

    for thing, name in ((grant, "id"), (snapshot, "grants")):
        assert not hasattr(thing, "__dict__")
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(thing, name, ())


def test_an_empty_snapshot_is_steady_for_ever():
    assert Snapshot(CUSTOMER, (), 0.0).steady_span(5.0) == (-float("inf"), float("inf"))


def test_a_snapshot_is_steady_between_the_edges_around_an_instant(now, hour):
    grants = (
        a_grant("1", active_from=now - 3 * hour, expires_at=now + 2 * hour),
        a_grant("2", active_from=now - hour, expires_at=None),
        a_grant("3", active_from=now + hour, expires_at=now + 9 * hour),
    )
    since, until = Snapshot(CUSTOMER, grants, 0.0).steady_span(now.timestamp())

    assert since == (now - hour).timestamp()
    assert until == (now + hour).timestamp()


def test_an_edge_at_the_instant_itself_begins_the_span(now):
    since, until = Snapshot(CUSTOMER, (a_grant(expires_at=now),), 0.0).steady_span(now.timestamp())

    assert (since, until) == (now.timestamp(), float("inf"))
