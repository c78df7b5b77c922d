from __future__ import annotations

import json
import re
import time
from email.utils import formatdate

import httpx
import pytest
from django.test import override_settings

from entitlement_gate import EntitlementGate, ZenskarClient
from entitlement_gate.operators.doctor import NameInCode, examine
from entitlement_gate.sandbox import Sandbox, SandboxServer, SandboxTransport, Scenario
from tests.operators.world import EMPTY, ONE, ORGANISATION, STRANGER, run, scenario

AUTH = "django.contrib.auth.middleware.AuthenticationMiddleware"
OURS = "entitlement_gate.middleware.EntitlementMiddleware"
RULE = {"path": "^/x/", "requires": "sso"}


@pytest.fixture
def server():
    with SandboxServer(Sandbox(Scenario.parse(scenario()))) as running:
        yield running


@pytest.fixture
def doctor(server):
    """Run doctor with good settings, changed as told; give its exit code and its problems."""

    def look(*customers, others=None, fault=None, **changed):
        good = {
            "API_KEY": "key",
            "ORGANISATION": ORGANISATION,
            "BASE_URL": server.url,
            "CUSTOMER_ATTRIBUTE": "username",
            "LEDGER": None,
        }
        if fault:
            server.sandbox.fail(**fault)
        with override_settings(ENTITLEMENT_GATE={**good, **changed}, **(others or {})):
            code, out, err = run("doctor", *(customers or (ONE,)), "--format", "json")
        assert err == ""
        findings = json.loads(out)["findings"]
        return code, [finding for finding in findings if finding["level"] in ("warning", "error")]

    return look


def test_good_settings_have_no_problems(doctor):
    assert doctor() == (0, [])


@pytest.mark.parametrize(
    ("seeded", "about", "says"),
    [
        ({"API_KEY": ""}, "settings", "API_KEY"),
        ({"BASE_URL": "sandbox:/no/such/file"}, "settings", "/no/such/file"),
        ({"API_KYE": "x"}, "settings", "API_KYE"),
        ({"CUSTOMER_RESOLVER": "no.such.thing"}, "settings", "CUSTOMER_RESOLVER"),
        ({"RULES": [RULE], "others": {"MIDDLEWARE": [AUTH]}}, "settings", "not in MIDDLEWARE"),
        ({"others": {"MIDDLEWARE": [OURS, AUTH]}}, "settings", "before AuthenticationMiddleware"),
        ({"RULES": [{"view": "no:such", "requires": "sso"}]}, "settings", "this rule gates nothing"),
        ({"CUSTOMER_ATTRIBUTE": "organisation.id"}, "settings", "nobody will have a customer"),
        ({"BASE_URL": "sandbox:", "others": {"DEBUG": False}, "customers": ()}, "settings", "is the sandbox"),
        ({"API_KEY": "wrong"}, "credentials", "HTTP 401"),
        ({"API_KEY": dict}, "credentials", "callable failed"),
        ({"ORGANISATION": "00000000-0000-4000-8000-00000000000f"}, "credentials", "HTTP 401"),
        ({"BASE_URL": "http://127.0.0.1:1"}, "reachability", "no connection"),
        ({"fault": {"kind": "redirect"}}, "reachability", "redirected (HTTP 302)"),
        ({"fault": {"kind": "html"}}, "reachability", "not billing"),
        ({"fault": {"kind": "status", "status": 404, "body": "<h1>no</h1>"}}, "reachability", "HTTP 404, no JSON"),
        ({"fault": {"kind": "status", "status": 503}}, "reachability", "HTTP 503"),
        ({"fault": {"kind": "hang"}, "DEADLINE": 0.3}, "reachability", "no answer in time"),
        ({"fault": {"kind": "delay", "seconds": 3}, "DEADLINE": 5.5}, "reachability", "one call took"),
        ({"fault": {"kind": "status", "status": 422, "body": '{"detail": "no"}'}}, "parameters", "HTTP 422 no"),
        ({"STATUS_FILTER": ["activ"]}, "parameters", "STATUS_FILTER asks for 'activ'"),
        ({"STATUS_FILTER": ["qqq", "active"]}, "parameters", "STATUS_FILTER asks for 'qqq'"),
        ({"fault": {"kind": "status", "status": 418}}, "parameters", "billing refuses the call: HTTP 418"),
        ({"customers": (STRANGER,)}, "customer", "does not know"),
        ({"MAX_PAGES": 1, "PAGE_SIZE": 2}, "limits", "more than 1 pages"),
        ({"MAX_PAGES": 1, "PAGE_SIZE": 5}, "limits", "4 rows, of 5"),
        ({"MAX_BODY_BYTES": 100}, "limits", "longer than 100 bytes"),
        ({"MAX_BODY_BYTES": 2200}, "limits", "bytes, of MAX_BODY_BYTES"),
        ({"RULES": [{"path": "^/x/", "requires": "seets"}]}, "names", "no 'seets'"),
        ({"ALIASES": {"calls": "API Cals"}}, "names", "no 'calls' (an alias of 'API Cals')"),
        ({"SHADOW": {"nothing like it"}}, "names", "ENTITLEMENT_GATE['SHADOW']"),
        ({"ON_EXHAUSTED": {"*": "deny", "API calls": "allow"}}, "names", "ENTITLEMENT_GATE['ON_EXHAUSTED']"),
    ],
)  # fmt: skip
def test_each_misconfiguration_is_found_and_says_what_to_do(doctor, seeded, about, says):
    code, problems = doctor(*seeded.pop("customers", (ONE,)), **seeded)
    assert code == 1
    (problem,) = [problem for problem in problems if says in problem["text"]]
    assert problem["about"] == about
    assert problem["hint"]


def test_names_are_not_compared_with_a_list_that_cannot_be_read(doctor):
    _, problems = doctor(RULES=[{"path": "^/x/", "requires": "sso"}], MAX_PAGES=1, PAGE_SIZE=2)
    assert [problem["about"] for problem in problems] == ["limits"]


def test_a_status_with_a_typo_is_asked_about_in_plain_words(doctor):
    _, (problem,) = doctor(STATUS_FILTER=["activ"])
    assert problem["hint"] == "Did you mean 'active'?"


def test_a_scenario_that_cannot_be_read_is_found(doctor, tmp_path):
    (tmp_path / "broken.json").write_text("{")
    _, problems = doctor(BASE_URL=f"sandbox:{tmp_path}/broken.json")
    assert [problem["about"] for problem in problems if "broken.json" in problem["text"]] == ["settings"]


def test_near_misses_are_asked_about(doctor):
    _, (problem,) = doctor(RULES=[{"path": "^/x/", "requires": "seets"}])
    assert problem["hint"] == "Did you mean 'seats'?"
    assert problem["text"] == "billing lists no 'seets'; asked at ENTITLEMENT_GATE['RULES'][0]"


def test_without_a_customer_names_are_not_compared_and_a_404_is_a_good_answer(server, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    good = {"API_KEY": "key", "ORGANISATION": ORGANISATION, "BASE_URL": server.url, "CUSTOMER_ATTRIBUTE": "username"}
    good["LEDGER"] = None
    with override_settings(ENTITLEMENT_GATE={**good, "RULES": [RULE]}):
        code, out, _ = run("doctor")
    assert code == 0
    assert "not compared with what billing lists: no customer was given" in out
    assert "-> Give the ids of customers" in out
    assert max(map(len, out.splitlines())) <= 80


def test_a_customer_whose_pages_fail_hides_none_of_the_others_names(doctor, server):
    code, problems = doctor(ONE, EMPTY, fault={"kind": "status", "path": f"/entitlements/customer/{EMPTY}"},
                            RULES=[RULE], MAX_ATTEMPTS=1)  # fmt: skip
    assert (code, [problem["about"] for problem in problems]) == (1, ["limits"])


def gate_with(handler, **options):
    client = ZenskarClient("key", "org", transport=httpx.MockTransport(handler))
    return EntitlementGate(client, **options)


@pytest.mark.parametrize(
    ("off_by", "level", "says"),
    [
        (0, "ok", "agrees"),
        (3600, "warning", "3600 s behind"),
        (-90, "warning", "90 s ahead of"),
        (None, "note", "no Date"),
        ("x", "note", "no Date"),
    ],
)
def test_the_clock_is_compared_with_billings(off_by, level, says):
    date = (
        {} if off_by is None else {"Date": off_by if off_by == "x" else formatdate(time.time() + off_by, usegmt=True)}
    )
    found = list(examine(gate_with(lambda _: httpx.Response(200, json={"results": []}, headers=date))))
    (clock,) = [finding for finding in found if finding.about == "clock"]
    assert clock.level == level
    rounded = re.sub(r"(3599|3601)|(89|91)(?= s)", lambda found: "3600" if found[1] else "90", clock.text)
    assert says in rounded


def test_another_source_is_not_looked_at():
    class Source:
        def fetch(self, customer_id):
            raise NotImplementedError

    (finding,) = examine(EntitlementGate(Source()), [ONE], [NameInCode("x")])
    assert (finding.level, finding.text) == ("note", "Source is no ZenskarClient: billing is not looked at")


def test_a_gate_whose_fetches_keep_failing_is_not_healthy():
    sandbox = Sandbox(Scenario.parse(scenario()))
    client = ZenskarClient("key", ORGANISATION, transport=SandboxTransport(sandbox), max_attempts=1)
    gate = EntitlementGate(client)
    sandbox.fail("status", status=503, times=5)
    for number in range(5):
        gate.check(f"10000000-0000-4000-8000-{number:012}", "x")
    *_, health = examine(gate)
    assert (health.level, health.about) == ("warning", "health")
    assert "breaker open" in health.text
    assert health.text.endswith("last failure: SourceUnavailable")


def test_names_by_id_and_where_nobody_said_where():
    client = ZenskarClient(base_url="sandbox:")
    pro = "20000000-0000-4000-8000-000000000002"
    known = client.fetch(pro).grants[0].entitlement_id
    found = list(examine(EntitlementGate(client), [pro], [NameInCode(known.upper()), NameInCode("x")]))
    (names,) = [finding for finding in found if finding.about == "names"]
    assert names.text == "billing lists no 'x'; asked at ?"
