import copy
import dataclasses
import itertools
import json
import pickle
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entitlement_gate.domain.decisions import Decision, Reason
from entitlement_gate.domain.grants import (
    EdgeInstant,
    EntitlementType,
    Grant,
    Snapshot,
    aware,
    dedupe,
    showable,
    steady_span,
)
from tests.domain.conftest import CUSTOMER, NOW, a_feature, a_grant


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


def test_grants_and_snapshots_are_immutable_and_small():
    grant, snapshot = a_grant(), Snapshot(CUSTOMER, (), 0.0)

    for thing, name in ((grant, "id"), (snapshot, "grants")):
        assert not hasattr(thing, "__dict__")
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(thing, name, ())


def test_an_empty_snapshot_is_steady_for_ever():
    assert steady_span((), 5.0) == (-float("inf"), float("inf"))


def test_a_snapshot_is_steady_between_the_edges_around_an_instant(now, hour):
    grants = (
        a_grant("1", active_from=now - 3 * hour, expires_at=now + 2 * hour),
        a_grant("2", active_from=now - hour, expires_at=None),
        a_grant("3", active_from=now + hour, expires_at=now + 9 * hour),
    )
    since, until = steady_span(grants, now.timestamp())

    assert since == (now - hour).timestamp()
    assert until == (now + hour).timestamp()


def test_an_edge_at_the_instant_itself_begins_the_span(now):
    since, until = steady_span([a_grant(expires_at=now)], now.timestamp())

    assert (since, until) == (now.timestamp(), float("inf"))


def test_grants_with_ids_of_their_own_are_kept_in_order():
    grants = (a_grant("2"), a_grant("1"), a_grant(""))

    assert dedupe(iter(grants)) == grants


def test_a_repeated_row_counts_once_and_rows_without_id_are_all_kept():
    nameless = a_grant("", is_malformed=True)

    assert dedupe([a_grant("1"), nameless, a_grant("1"), nameless]) == (a_grant("1"), nameless, nameless)


@pytest.mark.parametrize(
    ("less", "more"),
    [
        (a_grant(reported_remaining=1), a_grant(reported_remaining=2)),
        (a_grant(reported_remaining=-1), a_grant(quantity=None)),
        (a_grant(status="voided", reported_remaining=9), a_grant(reported_remaining=1)),
        (a_feature(is_disabled=True), a_feature()),
        (a_grant(reported_remaining=1), a_grant(is_malformed=True)),
        (a_grant(reported_remaining=0), a_feature()),
        (a_grant(expires_at=NOW), a_grant()),
        (a_grant(expires_at=NOW), a_grant(expires_at=NOW + timedelta(days=1))),
        (a_grant(active_from=NOW), a_grant()),
        (a_grant(active_from=NOW), a_grant(active_from=NOW - timedelta(days=1))),
    ],
)
def test_of_two_versions_of_a_row_the_one_that_gives_less_and_can_be_read_is_believed(less, more):
    assert dedupe([less, more]) == dedupe([more, less]) == (less,)


def test_of_three_versions_in_any_order_the_same_is_believed():
    versions = [a_grant(reported_remaining=Decimal(i), units=str(i)) for i in (3, 1, 2)]

    assert {dedupe(order) for order in itertools.permutations(versions)} == {(versions[1],)}


@pytest.mark.parametrize("count", [1, 64, 65, 200])
def test_rows_are_found_by_name_and_by_id_however_many_there_are(count):
    grants = tuple(a_grant(str(n), name=f"name {n % 7}", entitlement_id=f"id {n % 5}") for n in range(count))
    snapshot = Snapshot(CUSTOMER, grants, 0.0)

    for _ in range(2):
        assert list(snapshot.rows_of_name("name 0")) == [row for row in grants if row.name == "name 0"]
        assert list(snapshot.rows_of_id("id 0")) == [row for row in grants if row.entitlement_id == "id 0"]
    assert not snapshot.rows_of_name("nothing")
    assert not snapshot.rows_of_id("nothing")
    assert snapshot == Snapshot(CUSTOMER, grants, 0.0)


LAST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
FIRST = datetime(1, 1, 1, tzinfo=UTC)
ZONES = [
    UTC,
    *map(ZoneInfo, ("Asia/Tokyo", "Pacific/Kiritimati", "America/New_York", "Europe/Berlin")),
    *(timezone(timedelta(hours=hours, minutes=59)) for hours in (-24, -12, 12, 23)),
]


@pytest.mark.parametrize("zone", ZONES, ids=str)
@pytest.mark.parametrize(
    "instant",
    [LAST, FIRST, datetime.max.replace(tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC), datetime(1, 12, 31, tzinfo=UTC)],
)
def test_every_zone_can_show_the_edges(instant, zone):
    shown = showable(instant).astimezone(zone)

    assert shown == instant
    assert shown.astimezone(UTC) == instant


@pytest.mark.parametrize("instant", [LAST, FIRST])
def test_the_edges_stay_the_instants_they_are(instant):
    shown = showable(instant)

    assert (shown, hash(shown), shown.isoformat(), shown.tzinfo) == (
        instant, hash(instant), instant.isoformat(), instant.tzinfo,
    )  # fmt: skip
    assert isinstance(shown.astimezone(), datetime)


@pytest.mark.parametrize("instant", [LAST, FIRST])
@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_their_copies_are_as_safe(instant, twin):
    assert isinstance(twin(showable(instant)), EdgeInstant)


def test_an_ordinary_instant_is_left_alone():
    instant = datetime(2026, 1, 1, tzinfo=UTC)
    assert showable(instant) is instant
    assert aware(instant) is instant


@given(st.datetimes(timezones=st.sampled_from([None, UTC, ZoneInfo("Asia/Tokyo"), ZoneInfo("America/New_York")])))
def test_what_is_aware_is_the_same_instant_or_the_same_time_of_utc(instant):
    expected = instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant
    assert aware(instant).isoformat() == expected.isoformat()
    assert aware(instant).fold == instant.fold


def test_a_grant_and_a_decision_hold_what_can_be_shown():
    grant = Grant(id="r", name="sso", active_from=datetime(1, 1, 1), expires_at=LAST)  # noqa: DTZ001 - may be given
    decision = Decision.of(Reason.ALLOWED, "sso", active_from=FIRST, expires_at=LAST)
    for thing in (grant, decision):
        assert (thing.active_from, thing.expires_at) == (FIRST, LAST)
        assert thing.active_from.astimezone(ZoneInfo("America/New_York")) == FIRST
        assert thing.expires_at.astimezone(ZoneInfo("Asia/Tokyo")) == LAST
    assert json.loads(json.dumps(decision.as_dict()))["expires_at"] == "9999-12-31T23:59:59+00:00"
