import dataclasses
import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entitlement_gate.domain.grants import EntitlementType, Grant, Snapshot
from entitlement_gate.shared.records import Seal, SharedRecord, Stamp, Unreadable, read, write
from tests.engine.fakes import ANNA, BERT, NOON, feature

SEAL = Seal("the key", "organisation")
RECORD = SharedRecord(Snapshot(ANNA, (feature(),), NOON), NOON, Stamp("generation", 5))

texts = st.none() | st.text(max_size=20)
# Offsets of whole minutes, as ISO 8601 and billing have them: datetime itself misreads its own microseconds of one.
zones = st.just(UTC) | st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
dates = st.none() | st.datetimes(timezones=zones) | st.datetimes()
numbers = st.none() | st.decimals(allow_nan=False) | st.just(Decimal("1." + "0" * 60 + "1"))
grants = st.builds(
    Grant,
    id=st.text(max_size=20),
    name=st.text(max_size=20),
    entitlement_id=texts,
    type=st.none() | st.sampled_from(EntitlementType) | st.text(max_size=10),
    status=texts,
    units=texts,
    active_from=dates,
    expires_at=dates,
    quantity=numbers,
    used=numbers,
    reported_remaining=numbers,
    is_disabled=st.booleans(),
    is_malformed=st.booleans(),
)
times = st.floats(allow_nan=False)
snapshots = st.builds(
    Snapshot, st.uuids().map(str), st.lists(grants, max_size=4).map(tuple), times, is_found=st.booleans()
)
stamps = st.builds(Stamp, st.text("0123456789abcdef", max_size=32), st.integers(0, 2**53))


@given(snapshots, times, stamps)
def test_what_is_read_equals_what_was_written(snapshot, at, stamp):
    record = SharedRecord(snapshot, at, stamp)
    found = read(write(record, SEAL), SEAL, snapshot.customer_id)
    assert found == record
    for ours, theirs in zip(snapshot.grants, found.snapshot.grants, strict=True):
        assert type(theirs) is Grant
        assert [str(getattr(theirs, name)) for name in ("quantity", "used", "reported_remaining")] == [
            str(getattr(ours, name)) for name in ("quantity", "used", "reported_remaining")
        ]  # to the last zero: 1.0 is not 1.00
        assert (theirs.active_from and theirs.active_from.utcoffset()) == (
            ours.active_from and ours.active_from.utcoffset()
        )


def test_a_known_type_is_that_type_again():
    grant = feature(type=EntitlementType.CREDITS, active_from=datetime(2026, 1, 1, tzinfo=UTC))
    found = read(write(RECORD._replace(snapshot=Snapshot(ANNA, (grant,), NOON)), SEAL), SEAL, ANNA)
    assert found.snapshot.grants[0].type is EntitlementType.CREDITS


def test_the_version_stands_for_these_fields_in_this_order():
    """Whoever changes them raises the version, or a fleet in mid-deployment reads nonsense."""
    assert [field.name for field in dataclasses.fields(Grant)] == [
        "id",
        "name",
        "entitlement_id",
        "type",
        "status",
        "units",
        "active_from",
        "expires_at",
        "quantity",
        "used",
        "reported_remaining",
        "is_disabled",
        "is_malformed",
    ]
    assert [field.name for field in dataclasses.fields(Snapshot)] == ["customer_id", "grants", "fetched_at", "is_found"]


@given(st.integers(0, len(write(RECORD, SEAL)) - 1), st.integers(1, 255))
def test_a_record_of_which_one_byte_was_changed_is_none(place, difference):
    text = bytearray(write(RECORD, SEAL))
    text[place] ^= difference
    with pytest.raises(Unreadable, match="not signed"):
        read(bytes(text), SEAL, ANNA)


@given(st.binary(max_size=200))
def test_whatever_else_is_there_is_no_record(text):
    with pytest.raises(Unreadable):
        read(text, SEAL, ANNA)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b"\xff", b'"text"', b"[" * 100_000])
def test_nor_is_nonsense_that_was_signed(text):
    with pytest.raises(Unreadable):
        read(SEAL.sign(text) + text, SEAL, ANNA)


@pytest.mark.parametrize(
    "changed",
    [
        {"version": 2},
        {"scope": "another"},
        {"customer": BERT},
        {"grants": None},
        {"grants": [[]]},
        {"grants": [["id", "name", None, None, None, None, "yesterday", None, None, None, None, False, False]]},
        {"grants": [["id", "name", None, None, None, None, None, None, "many", None, None, False, False]]},
        {"grants": [["id", 5, None, None, None, None, None, None, None, None, None, False, False]]},
        {"generation": None, "version": None},
    ],
)
def test_nor_one_of_another_version_scope_customer_or_form(changed):
    text = json.dumps(json.loads(write(RECORD, SEAL)[64:]) | changed).encode()
    with pytest.raises(Unreadable) as error:
        read(SEAL.sign(text) + text, SEAL, ANNA)
    assert "organisation" not in str(error.value)


def test_another_customers_genuine_record_does_not_stand_in():
    with pytest.raises(Unreadable):
        read(write(RECORD, SEAL), SEAL, BERT)


def test_a_record_of_another_key_is_none():
    with pytest.raises(Unreadable, match="not signed"):
        read(write(RECORD, Seal("another key", "organisation")), SEAL, ANNA)
