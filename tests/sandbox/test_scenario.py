import json

import pytest

from entitlement_gate.sandbox import Sandbox, Scenario, ScenarioError

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
