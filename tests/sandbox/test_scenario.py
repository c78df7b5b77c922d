import json
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from entitlement_gate.sandbox import Sandbox, Scenario, ScenarioError
from entitlement_gate.sandbox import scenario as reading

GOOD = {"api_key": "k", "organisation": "00000000-0000-4000-8000-000000000001"}


def with_grant(**grant):
    return {**GOOD, "customers": [{"name": "A"}, {"name": "B", "grants": [{"name": "x", **grant}]}]}


@pytest.mark.parametrize(
    ("scenario", "says"),
    [
        ([], "scenario: expected an object"),
        ({}, "scenario: 'api_key' is missing"),
        ({"api_key": "k"}, "scenario: 'organisation' is missing"),
        ({**GOOD, "organisation": "acme"}, "organisation: expected a UUID, not 'acme'"),
        ({**GOOD, "usage_slugs": [""]}, "usage_slugs[0]: expected a text"),
        ({**GOOD, "customers": [{}]}, "customers[0]: 'name' is missing"),
        ({**GOOD, "customers": [{"name": "A"}, {"name": "A"}]}, "customers[1].id: "),
        ({**GOOD, "faults": [{"kind": "delay", "seconds": -1}]}, "faults[0].seconds: expected 0 to 3600"),
        (with_grant(active_from="someday"), "customers[1].grants[0].active_from: expected a date"),
        (with_grant(type="Seats"), "customers[1].grants[0].type: expected one of Feature, Quantity, Credits"),
        (with_grant(quantity="many"), "customers[1].grants[0].quantity: expected a number"),
        (with_grant(name=None), "customers[1].grants[0].name: expected a text"),
        (with_grant(raw=[]), "customers[1].grants[0].raw: expected an object"),
        (with_grant(statuss="active"), "customers[1].grants[0]: unknown field 'statuss' (did you mean 'status'?)"),
        ({**GOOD, "customers": [{"name": "A", "grants": [{}]}]}, "customers[0].grants[0]: 'name' is missing"),
    ],
)
def test_a_mistake_is_named_with_its_place(scenario, says):
    with pytest.raises(ScenarioError) as caught:
        Scenario.parse(scenario)
    assert str(caught.value).startswith(says)


def test_ids_that_are_left_out_are_the_same_in_every_run():
    first, second = (Scenario.parse({**GOOD, "customers": [{"name": "A"}, {"name": "B"}]}) for _ in range(2))
    assert [c.id for c in first.customers] == [c.id for c in second.customers]
    assert first.customers[0].id != first.customers[1].id


def test_a_file_is_read_with_exact_numbers(tmp_path, ask):
    path = tmp_path / "scenario.json"
    path.write_text(json.dumps(with_grant(quantity=0)).replace(": 0", ": 9007199254740993.5"))
    scenario = Scenario.load(path)
    headers = {"x-api-key": "k", "organisation": GOOD["organisation"]}
    sandbox = Sandbox(scenario)
    _, page = ask(f"/entitlements/customer/{scenario.customers[1].id}", to=sandbox, headers=headers)
    assert str(page["results"][0]["quantity_remaining"]) == "9007199254740993.5"


@pytest.mark.parametrize(
    ("content", "says"), [(None, "No such file"), (b"{", "not JSON"), (b"\xff\xff", "not JSON"), (b"[" * 10**5, "deep")]
)
def test_a_file_that_cannot_be_read_is_one_clear_line(tmp_path, content, says):
    path = tmp_path / "scenario.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ScenarioError, match=says) as caught:
        Scenario.load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_the_default_scenario_has_the_three_customers_of_the_tutorial(ids, rows):
    scenario = Scenario.default()
    assert (scenario.api_key, scenario.organisation) == ("sandbox-key", ids.ORGANISATION)
    assert scenario.usage_slugs == ("api_calls",)
    assert [(c.id, c.name) for c in scenario.customers] == [
        (ids.FREE, "Free Fields"),
        (ids.PRO, "Pro Plumbing"),
        (ids.LAPSED, "Lapsed Logistics"),
    ]
    pro = rows(ids.PRO)
    assert len(pro) > 10
    balances = [(r["name"], str(r["quantity_remaining"])) for r in pro if r["quantity"] is not None]
    assert balances == [("seats", "2"), ("API Calls", "750"), ("API Calls", "200"), ("ai_credits", "54.8")]
    assert {r["entitlement"] for r in pro if r["name"] == "API Calls"} == {pro[8]["entitlement"]}
    assert {r["status"] for r in rows(ids.LAPSED)} == {"active", "expired", "voided"}


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
    assert reading.read_number(value, "n") == read


@pytest.mark.parametrize(
    "value", [True, None, "many", "", [], Decimal("NaN"), float("inf"), 10**501, Decimal("1E-501"), "sNaN"]
)
def test_what_is_no_reasonable_number_names_the_place(value):
    with pytest.raises(ScenarioError, match=r"^a\.b: expected a number"):
        reading.read_number(value, "a.b")


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
    assert reading.read_moment(value, "d") == read


@pytest.mark.parametrize("value", ["30d", "+1w", "soon", 5, "", "+999999999d", [], timedelta(days=40_000)])
def test_what_is_no_date_names_the_place_and_the_forms(value):
    with pytest.raises(ScenarioError, match=r'^at: expected a date: ISO text, "now"'):
        reading.read_moment(value, "at")


def test_an_id_is_a_uuid_or_its_text_in_any_case():
    read_text = "ABCDEF00-0000-4000-8000-000000000001"
    assert reading.read_identifier(read_text, "id") == read_text.lower()
    assert reading.read_identifier(UUID(read_text), "id") == read_text.lower()


@pytest.mark.parametrize("value", ["abcdef0000004000800000000000000001", None, 5, "{abc}", "\u0661" * 8])
def test_another_form_of_id_is_refused(value):
    with pytest.raises(ScenarioError, match=r"^id: expected a UUID"):
        reading.read_identifier(value, "id")


def test_an_unknown_field_is_named_with_its_neighbour():
    with pytest.raises(ScenarioError, match=r"unknown field 'activ_from' \(did you mean 'active_from'\?\)"):
        reading.read_mapping({"activ_from": 1}, "g", ["active_from", "name"])
    with pytest.raises(ScenarioError, match=r"^scenario: unknown field 'zzz'$"):
        reading.read_mapping({"zzz": 1}, "", ["name"])


def test_wrong_kinds_are_named_briefly():
    with pytest.raises(ScenarioError, match=r"^scenario: expected an object, not null"):
        reading.read_mapping(None, "", [])
    with pytest.raises(ScenarioError, match=r"^l: expected a list, not 'x{56}\.\.\.$"):
        reading.read_list("x" * 100, "l")
    with pytest.raises(ScenarioError, match=r"^t: expected a text, not ''"):
        reading.read_text("", "t")
    with pytest.raises(ScenarioError, match=r"^n: expected an integer from 1 to 2, not True"):
        reading.read_integer(True, "n", 1, 2)  # noqa: FBT003 - a boolean where none belongs is the point
    with pytest.raises(ScenarioError, match=r"^s: expected one of draft, active, expired, voided, not 'Active'"):
        reading.make_choice_reader("EntitlementCustomerStatus")("Active", "s")
