import copy
import json
import pickle
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entitlement_gate.domain.decisions import Decision, Reason
from entitlement_gate.domain.grants import Grant
from entitlement_gate.domain.instants import EdgeInstant, aware, showable

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
