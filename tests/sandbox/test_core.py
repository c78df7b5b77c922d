import json
import time
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entitlement_gate.sandbox import Request, Sandbox
from tests.sandbox.conftest import FREE, HEADERS, PRO


@pytest.mark.parametrize(
    "change",
    [
        {"x-api-key": "wrong"},
        {"x-api-key": None},
        {"organisation": None},
        {"organisation": "00000000-0000-4000-8000-000000000002"},
    ],
)
@pytest.mark.parametrize("target", ["/entitlements/customer/nobody", "/customers", "/usage/x"])
def test_without_the_right_key_and_organisation_nothing_is_answered(ask, headers, change, target):
    sent = {name: value for name, value in {**headers, **change}.items() if value is not None}
    method = "POST" if "usage" in target else "GET"
    assert ask(target, method=method, headers=sent) == (401, {"Message": "Unauthorized"})


def test_header_names_and_the_organisation_are_read_in_any_case(ask, ids, headers):
    sent = {"X-API-KEY": headers["x-api-key"], "Organisation": ids.ORGANISATION.upper()}
    assert ask(f"/entitlements/customer/{ids.PRO}", headers=sent)[0] == 200


@pytest.mark.parametrize(
    "target",
    [
        "",
        "/",
        "*",
        "/nothing",
        "/entitlements/customer/",
        "/entitlements/customer/a/b",
        "/usage/",
        "/_sandbox/x",
        "//[",
    ],
)
def test_another_path_is_not_found(ask, target):
    assert ask(target) == (404, {"detail": "Not Found"})


@pytest.mark.parametrize(
    ("target", "method", "allow"),
    [
        ("/entitlements/customer/x", "POST", "GET"),
        ("/usage/x", "GET", "POST"),
        ("/customers", "DELETE", "GET"),
        ("/_sandbox/faults", "POST", "GET, PUT, DELETE"),
        ("/_sandbox/acts", "GET", "POST"),
        ("/_sandbox/customers/x", "POST", "GET"),
    ],
)
def test_another_method_is_not_allowed(sandbox, target, method, allow):
    reply = sandbox.respond(Request(method, target))
    assert (reply.status, reply.headers["Allow"]) == (405, allow)


PATHS = st.sampled_from(
    ["/entitlements/customer/", "/customers", "/usage/api_calls", "/_sandbox/faults", "/_sandbox/acts", "/"]
)
NAMES = st.sampled_from(["cursor", "limit", "sort_key", "sort_type", "search", "populate", "status", "external_id"])
QUERIES = st.lists(st.tuples(NAMES, st.text()), max_size=4).map(urlencode) | st.text()
BODIES = st.binary() | st.recursive(st.none() | st.text(), st.lists).map(lambda value: json.dumps(value).encode())


@given(
    path=st.tuples(PATHS, st.sampled_from(["", PRO]) | st.text()).map("".join),
    query=QUERIES,
    body=BODIES,
    method=st.sampled_from(["GET", "POST", "PUT"]),
)
def test_whatever_is_asked_there_is_an_answer(path, query, body, method):
    reply = Sandbox().respond(Request(method, f"{path}?{query}", HEADERS, body))
    assert reply.status in {200, 404, 405, 422}
    json.loads(reply.body)


def test_head_is_answered_without_a_body(sandbox):
    reply = sandbox.respond(Request("HEAD", "/customers"))
    assert (reply.status, reply.body) == (405, b"")


def test_requests_are_counted_but_not_those_to_the_control_plane(sandbox, ask):
    ask("/customers")
    ask("/_sandbox")
    ask("/openapi.json")
    ask("/usage/x?y", method="POST")
    assert sandbox.requests == [("GET", "/customers"), ("POST", "/usage/x?y")]
    assert sandbox.request_count == 2


def test_only_the_last_thousand_requests_are_kept(sandbox):
    for number in range(1_005):
        sandbox.respond(Request("GET", f"/{number}"))
    assert (len(sandbox.requests), sandbox.requests[0], sandbox.request_count) == (1_000, ("GET", "/5"), 1_005)


def test_the_summary_names_customers_and_faults(sandbox, ask, ids):
    sandbox.fail("delay", seconds=0.5)
    status, summary = ask("/_sandbox", headers={})
    assert status == 200
    assert [c["id"] for c in summary["customers"]] == [ids.FREE, ids.PRO, ids.LAPSED]
    assert summary["customers"][1]["rows"] == 13
    assert summary["faults"][0]["kind"] == "delay"
    assert (summary["requests"], summary["usage_events"]) == (0, 0)


def test_faults_are_switched_through_the_control_plane(sandbox, ask):
    body = json.dumps([{"kind": "status", "status": 500, "times": 1}, {"kind": "delay", "seconds": 0.25}]).encode()
    status, faults = ask("/_sandbox/faults", method="PUT", body=body)
    assert (status, [fault["kind"] for fault in faults]) == (200, ["status", "delay"])
    assert ask("/customers")[0] == 500
    assert [fault["kind"] for fault in ask("/_sandbox/faults")[1]] == ["delay"]
    assert ask("/_sandbox/faults", method="DELETE") == (200, [])
    assert ask("/customers")[0] == 200


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "body is not valid JSON"),
        (b"{}", "faults: expected a list"),
        (b'[{"kind": []}]', "faults[0].kind: expected one of"),
        (b'[{"kind": "null"}, {"kind": "delay", "times": 0}]', "faults[1].times: expected"),
    ],
)
def test_faults_that_cannot_be_are_refused_and_change_nothing(sandbox, ask, body, says):
    sandbox.fail("null")
    status, answer = ask("/_sandbox/faults", method="PUT", body=body)
    assert (status, answer["detail"][0]["msg"][: len(says)]) == (422, says)
    assert [fault.kind for fault in sandbox.faults] == ["null"]


def act(ask, **given):
    return ask("/_sandbox/acts", method="POST", body=json.dumps(given).encode(), headers={})


def test_billing_is_played_through_the_control_plane(ask, ids):
    def rows():
        return {row["name"]: row for row in ask(f"/_sandbox/customers/{ids.PRO.upper()}", headers={})[1]["results"]}

    status, answer = act(ask, act="grant", customer=ids.PRO, name="exports", quantity=10)
    assert (status, rows()["exports"]["id"]) == (200, answer["result"])
    assert act(ask, act="use", customer=ids.PRO, name="exports", quantity=4) == (200, {"result": None})
    assert rows()["exports"]["quantity_remaining"] == 6
    act(ask, act="expire", customer=ids.PRO, name="exports")
    assert rows()["exports"]["expiry_at"] == "2026-01-15T11:59:59Z"
    act(ask, act="void", customer=ids.PRO, name="exports")
    assert rows()["exports"]["status"] == "voided"
    assert act(ask, act="revoke", customer=ids.PRO, name="exports") == (200, {"result": 1})
    assert "exports" not in rows()


def test_billing_is_broken_and_mended_through_the_control_plane(ask):
    assert act(ask, act="fail", kind="status", status=500)[0] == 200
    assert ask("/customers")[0] == 500
    assert act(ask, act="recover")[0] == 200
    assert ask("/customers")[0] == 200


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "act: expected one of grant, revoke, use, expire, void, fail, recover"),
        ({"act": "respond", "request": 1}, "act: expected one of"),
        ({"act": "grant", "customer": FREE}, "missing 1 required positional argument: 'name'"),
        ({"act": "grant", "customer": "me", "name": "x"}, "customer: expected a UUID"),
        ({"act": "use", "customer": FREE, "name": "dashboards"}, "has no live balance named 'dashboards'"),
        (
            {"act": "use", "customer": FREE, "name": "API Calls", "quantity": 0},
            "quantity: expected a number",
        ),
        ({"act": "void", "customer": FREE, "name": "x"}, "has no row named 'x'"),
        ({"act": "fail", "kind": "flood"}, "fault.kind: expected one of"),
    ],
)
def test_acts_that_cannot_be_are_refused(ask, given, says):
    status, answer = act(ask, **given)
    assert (status, says in answer["detail"][0]["msg"]) == (422, True), answer


@pytest.mark.parametrize("body", [b"", b"7", b"[]", b"{"])
def test_an_act_is_a_json_object(sandbox, body):
    assert sandbox.respond(Request("POST", "/_sandbox/acts", {}, body)).status == 422


def test_a_fault_that_answers_for_the_handler_records_no_usage(sandbox, ask):
    event = b'{"customer_id": "c", "timestamp": "2026-01-15", "data": {}}'
    sandbox.fail("status", times=1, path="/usage")
    assert ask("/usage/api_calls", method="POST", body=event)[0] == 503
    assert sandbox.usage_events == []
    sandbox.fail("garbage", times=1)
    sandbox.respond(Request("POST", "/usage/api_calls", {}, event))
    assert sandbox.usage_events == []


def test_a_fault_that_spoils_the_answer_comes_after_the_work(sandbox, headers):
    event = b'{"customer_id": "c", "timestamp": "2026-01-15", "data": {}}'
    sandbox.fail("reset")
    assert sandbox.respond(Request("POST", "/usage/api_calls", headers, event)).delivery.reset
    assert len(sandbox.usage_events) == 1


def test_the_control_plane_has_no_faults(sandbox, ask):
    sandbox.fail("status")
    assert ask("/_sandbox")[0] == 200
    sandbox.recover()
    assert len(sandbox.faults) == 0


def test_a_scenario_brings_its_faults(make_sandbox, ask):
    sandbox = make_sandbox(faults=[{"kind": "status", "status": 418, "times": 1}])
    assert ask("/customers", to=sandbox)[0] == 418
    assert ask("/customers", to=sandbox)[0] == 200


def test_the_clock_is_the_wall_clock_unless_another_is_given(sandbox):
    default = Sandbox()
    assert abs(default._now().timestamp() - time.time()) < 5
    assert sandbox._now().isoformat() == "2026-01-15T12:00:00+00:00"


def test_the_openapi_document_is_served_without_a_key(ask, ids):
    status, document = ask("/openapi.json", headers={})
    assert (status, document["openapi"]) == (200, "3.1.0")
    examples = document["paths"]["/entitlements/customer/{customer_id}"]["get"]["parameters"][0]["examples"]
    assert ids.PRO in {example["value"] for example in examples.values()}
