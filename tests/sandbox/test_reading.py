from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from entitlement_gate.sandbox import ScenarioError, reading


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (5, 5),
        (Decimal("5.50"), Decimal("5.50")),
        (0.1, Decimal("0.1")),
        ("9007199254740993.5", Decimal("9007199254740993.5")),
        (Decimal("1E+400"), Decimal("1E+400")),
    ],
)
def test_a_number_is_exact(value, read):
    assert reading.number(value, "n") == read


@pytest.mark.parametrize(
    "value", [True, None, "many", "", [], Decimal("NaN"), float("inf"), 10**501, Decimal("1E-501"), "sNaN"]
)
def test_what_is_no_reasonable_number_names_the_place(value):
    with pytest.raises(ScenarioError, match=r"^a\.b: expected a number"):
        reading.number(value, "a.b")


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("now", timedelta()),
        ("-30d", timedelta(days=-30)),
        ("+12h", timedelta(hours=12)),
        ("+90m", timedelta(minutes=90)),
        ("-5s", timedelta(seconds=-5)),
        (timedelta(days=1), timedelta(days=1)),
        ("2026-01-15T12:00:00", datetime(2026, 1, 15, 12)),  # noqa: DTZ001 - a date without an offset stays so
        (datetime(2026, 1, 15), datetime(2026, 1, 15)),  # noqa: DTZ001 - as above
    ],
)
def test_a_date_is_absolute_or_relative(value, read):
    assert reading.moment(value, "d") == read


@pytest.mark.parametrize("value", ["30d", "+1w", "soon", 5, "", "+999999999d", [], timedelta(days=40_000)])
def test_what_is_no_date_names_the_place_and_the_forms(value):
    with pytest.raises(ScenarioError, match=r'^at: expected a date: ISO text, "now"'):
        reading.moment(value, "at")


def test_an_id_is_a_uuid_or_its_text_in_any_case():
    text = "ABCDEF00-0000-4000-8000-000000000001"
    assert reading.identifier(text, "id") == text.lower()
    assert reading.identifier(UUID(text), "id") == text.lower()


@pytest.mark.parametrize("value", ["abcdef0000004000800000000000000001", None, 5, "{abc}", "\u0661" * 8])
def test_another_form_of_id_is_refused(value):
    with pytest.raises(ScenarioError, match=r"^id: expected a UUID"):
        reading.identifier(value, "id")


def test_an_unknown_field_is_named_with_its_neighbour():
    with pytest.raises(ScenarioError, match=r"unknown field 'activ_from' \(did you mean 'active_from'\?\)"):
        reading.mapping({"activ_from": 1}, "g", ["active_from", "name"])
    with pytest.raises(ScenarioError, match=r"^scenario: unknown field 'zzz'$"):
        reading.mapping({"zzz": 1}, "", ["name"])


def test_wrong_kinds_are_named_briefly():
    with pytest.raises(ScenarioError, match=r"^scenario: expected an object, not null"):
        reading.mapping(None, "", [])
    with pytest.raises(ScenarioError, match=r"^l: expected a list, not 'x{56}\.\.\.$"):
        reading.listed("x" * 100, "l")
    with pytest.raises(ScenarioError, match=r"^t: expected a text, not ''"):
        reading.text("", "t")
    with pytest.raises(ScenarioError, match=r"^n: expected an integer from 1 to 2, not True"):
        reading.integer(True, "n", 1, 2)  # noqa: FBT003 - a boolean where none belongs is the point
    with pytest.raises(ScenarioError, match=r"^s: expected one of draft, active, expired, voided, not 'Active'"):
        reading.one_of("EntitlementCustomerStatus")("Active", "s")
