from __future__ import annotations

import json
import re
import sys
import time
import uuid
from email.utils import formatdate

import httpx
import pytest
import redis
from django.conf import settings
from django.core.management import call_command
from django.test import override_settings

from entitlement_gate import EntitlementGate, ZenskarClient
from entitlement_gate.api import default_gate
from entitlement_gate.ledger.redis import RedisLedger
from entitlement_gate.operators.doctor import NameInCode, examine, find_ledger_problems, find_redis_problems
from entitlement_gate.sandbox import Sandbox, SandboxServer, SandboxTransport, Scenario
from tests.ledger.conftest import redis_url
from tests.ledger.servers import RedisServer
from tests.operators.outboxes import REFUSED, USAGE, Elsewhere, use
from tests.operators.world import EMPTY, ONE, ORGANISATION, STRANGER, configured, run, scenario
from tests.ports import free_port
from tests.usage.conftest import sqlite_alias, usage_app

__all__ = [
    "redis_url",
    "sqlite_alias",
    "usage_app",
]


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
    def answer(_):
        date = formatdate(time.time() + off_by, usegmt=True) if isinstance(off_by, int) else off_by
        return httpx.Response(200, json={"results": []}, headers={} if date is None else {"Date": date})

    found = list(examine(gate_with(answer)))
    (clock,) = [finding for finding in found if finding.about == "clock"]
    assert clock.level == level
    rounded = re.sub(r"(35\d\d|360\d)|(8\d|9\d)(?= s)", lambda found: "3600" if found[1] else "90", clock.text)
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


@pytest.fixture
def ledger_doctor(scenario_file):
    """Run doctor over the sandbox; give its exit code, and level, place, text and hint of what it says of ledgers."""

    def look(*customers, **settings):
        with configured(BASE_URL=f"sandbox:{scenario_file()}", CUSTOMER_ATTRIBUTE="username", **settings):
            with override_settings(DEBUG=True):
                code, out, err = run("doctor", *customers, "--format", "json")
            default_gate().close()
        assert err == ""
        told = [finding for finding in json.loads(out)["findings"] if finding["level"] != "ok"]
        shown = ("ledger", "outbox", "redis", "names", "settings")
        return code, [(each["level"], each["about"], each["text"], each["hint"]) for each in told
                      if each["about"] in shown and "no names" not in each["text"]]  # fmt: skip

    return look


class OfOurOwn(RedisLedger):
    """A Redis ledger under a prefix that no other test has."""

    def __init__(self, url):
        super().__init__(url, prefix=uuid.uuid4().hex)


def test_a_good_redis_is_no_problem(ledger_doctor, tmp_path):
    server = RedisServer(tmp_path, "--appendonly", "yes")
    try:
        assert ledger_doctor(LEDGER=OfOurOwn(server.patient_url), REDIS_URL=server.patient_url) == (0, [])
    finally:
        server.kill()


def test_a_redis_that_writes_nothing_down_is_warned_of(ledger_doctor, redis_url):
    code, [(level, about, text, hint)] = ledger_doctor(LEDGER=OfOurOwn(redis_url))
    assert (code, level, about, hint) == (1, "warning", "ledger", "Set appendonly yes.")
    assert "a restart loses what was used up" in text


def test_a_redis_that_evicts_is_an_error(ledger_doctor, tmp_path):
    server = RedisServer(tmp_path, "--appendonly", "yes", "--maxmemory-policy", "allkeys-lru")
    try:
        code, [(level, about, text, hint)] = ledger_doctor(LEDGER="redis", REDIS_URL=server.patient_url)
    finally:
        server.kill()
    assert (code, level, about) == (1, "error", "ledger")
    assert "maxmemory-policy allkeys-lru" in text
    assert hint == "Set maxmemory-policy noeviction, or give the ledger a server of its own."


def test_a_redis_that_does_not_say_how_it_keeps_is_no_problem_but_noted(ledger_doctor, tmp_path):
    server = RedisServer(tmp_path)
    try:
        with redis.Redis(port=server.port) as admin:
            admin.execute_command("ACL", "SETUSER", "anna", "on", ">hush", "~*", "+@all", "-@dangerous")
        url = server.patient_url.replace("//", "//anna:hush@")
        code, [(level, about, text, hint)] = ledger_doctor(LEDGER="redis", REDIS_URL=url)
    finally:
        server.kill()
    assert (code, level, about) == (0, "note", "ledger")
    assert text == "this Redis does not say how it keeps: INFO is refused"
    assert "noeviction" in hint


def test_a_redis_that_is_not_there_is_one_error_without_its_password(ledger_doctor):
    url = f"redis://anna:hush@127.0.0.1:{free_port()}/0"
    code, [(level, about, text, hint)] = ledger_doctor(LEDGER="redis", REDIS_URL=url)
    assert (code, level, about) == (1, "error", "ledger")
    assert text.startswith("the ledger (redis) does not answer: LedgerUnavailable: Redis: ConnectionError")
    assert hint.startswith("Check REDIS_URL")
    assert "hush" not in text


def test_a_redis_url_for_snapshots_alone_is_asked_too(ledger_doctor):
    port = free_port()
    code, [_, (level, about, text, hint)] = ledger_doctor(LEDGER=None, REDIS_URL=f"redis://:hush@127.0.0.1:{port}/0")
    assert (code, level, about) == (1, "error", "redis")
    assert text.startswith(f"REDIS_URL (127.0.0.1:{port}) does not answer: ConnectionError")
    assert "hush" not in text
    assert hint


def test_a_redis_url_without_the_package_is_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    (finding,) = find_redis_problems("redis://127.0.0.1/0")
    assert (finding.level, finding.text) == ("error", "REDIS_URL is set, but the package redis is not installed")
    assert finding.hint == "Install entitlement_gate[redis]."


def test_a_redis_that_answers_is_fine_and_none_is_no_news(redis_url):
    (finding,) = find_redis_problems(redis_url)
    assert finding.level == "ok"
    assert list(find_redis_problems(None)) == []
    (finding,) = find_redis_problems("unix:///no/such/socket")
    assert finding.text.startswith("REDIS_URL (its socket) does not answer")


def test_a_database_ledger_is_fine_where_it_is_migrated(ledger_doctor, sqlite_alias):
    from entitlement_gate.usage.ledger import DatabaseLedger

    assert ledger_doctor(LEDGER=DatabaseLedger(sqlite_alias)) == (0, [])


def test_a_database_that_is_not_migrated_is_an_error(ledger_doctor, sqlite_alias):
    from entitlement_gate.usage.ledger import DatabaseLedger

    call_command("migrate", "entitlement_usage", "zero", database=sqlite_alias, verbosity=0)
    try:
        code, [(level, about, _, hint)] = ledger_doctor(LEDGER=DatabaseLedger(sqlite_alias))
    finally:
        call_command("migrate", "entitlement_usage", database=sqlite_alias, verbosity=0)
    assert (code, level, about, hint) == (1, "error", "ledger", "Run `manage.py migrate entitlement_usage`.")


def test_a_database_ledger_whose_app_is_missing_is_told_once(ledger_doctor):
    apps = [app for app in settings.INSTALLED_APPS if app != "entitlement_gate.usage"]  # which other tests install
    ours = configured(BASE_URL="sandbox:", CUSTOMER_ATTRIBUTE="username", LEDGER="database")
    with override_settings(DEBUG=True, INSTALLED_APPS=apps), ours:
        code, out, _ = run("doctor", "--format", "json")
    problems = [finding for finding in json.loads(out)["findings"] if finding["level"] in ("warning", "error")]
    assert (code, [finding["hint"] for finding in problems]) == (
        1, ["Add 'entitlement_gate.usage' to INSTALLED_APPS."],
    )  # fmt: skip


def test_dead_letters_are_warned_of(ledger_doctor):
    ledger = Elsewhere()
    use(ledger, "a", target=REFUSED)
    ledger.inner.bury(ledger.inner.take(1)[0], "no")
    code, found = ledger_doctor(LEDGER=ledger)
    assert (code, found) == (1, [
        ("warning", "outbox", "1 usage event set aside: billing refused",
         "`manage.py entitlements ship --dead` says why."),
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("report", "level", "says"),
    [
        ({}, "note", "2 usage events to be delivered"),
        ({"oldest_age": 30.0}, "note", "2 usage events to be delivered, the oldest for 30 s"),
        ({"oldest_age": 4000.0}, "warning", "2 usage events to be delivered, the oldest for 4000 s"),
        ({"pending": 5000}, "warning", "5000 usage events to be delivered"),
    ],
)
def test_events_that_nothing_ships_are_told(ledger_doctor, report, level, says):
    ledger = Elsewhere()
    use(ledger, "a", "b")
    ledger.report = report
    code, [found] = ledger_doctor(LEDGER=ledger)
    assert (code, found[:3]) == (int(level == "warning"), (level, "outbox", says))
    assert "entitlements ship" in found[3]


def test_usage_of_what_billing_does_not_list_is_told(ledger_doctor):
    usage = {**USAGE, "API Cals": USAGE["API Calls"]}
    code, [(level, about, text, hint)] = ledger_doctor(ONE, LEDGER=Elsewhere(), USAGE=usage)
    assert (code, level, about, hint) == (1, "warning", "names", "Did you mean 'API Calls'?")
    assert text == "billing lists no 'API Cals'; asked at ENTITLEMENT_GATE['USAGE']"


def test_usage_that_no_command_can_reach_is_told(ledger_doctor):
    code, [(level, about, text, hint)] = ledger_doctor(ONE, LEDGER="memory", USAGE=USAGE)
    assert (code, level, about, hint) == (1, "warning", "settings", 'Set LEDGER to "redis" or "database".')
    assert "USAGE" in text


def test_a_memory_ledger_outside_debug_or_of_several_workers_is_told(ledger_doctor, monkeypatch):
    assert ledger_doctor(LEDGER="memory") == (0, [])
    monkeypatch.setenv("WEB_CONCURRENCY", "3")
    code, [(level, about, text, hint)] = ledger_doctor(LEDGER="memory")
    assert (code, level, about, hint) == (1, "warning", "ledger", "Set LEDGER to 'redis' or 'database'.")
    assert "WEB_CONCURRENCY asks for 3 processes" in text
    monkeypatch.setenv("WEB_CONCURRENCY", "many")
    with configured(BASE_URL="http://127.0.0.1:1", API_KEY="k", ORGANISATION="o", LEDGER="memory"):
        code, out, _ = run("doctor", "--format", "json")
    assert "entitlement_gate.W005" in [finding["id"] for finding in json.loads(out)["findings"]]


def test_a_redis_that_lost_what_it_held_is_an_error(ledger_doctor):
    ledger = Elsewhere()
    ledger.report = {"lost": True, "appendonly": True}
    code, [(level, about, text, hint)] = ledger_doctor(LEDGER=ledger)
    assert (code, level, about) == (1, "error", "ledger")
    assert "lost what it held" in text
    assert "accept_loss()" in hint


def test_no_ledger_and_one_without_health_are_notes():
    class Gate:
        ledger = None

    (finding,) = find_ledger_problems(Gate)
    assert (finding.level, finding.text) == ("note", "LEDGER is None: nothing is used up here")
    Gate.ledger = object()
    (finding,) = find_ledger_problems(Gate)
    assert (finding.level, finding.text) == ("note", "object has no health() to ask")


def test_an_unknown_store_that_does_not_answer_is_an_error():
    class Mine:
        def health(self):
            return {"store": "mine", "reachable": False, "error": "gone"}

    class Gate:
        ledger = Mine()

    (finding,) = find_ledger_problems(Gate)
    assert (finding.text, finding.hint) == ("the ledger (mine) does not answer: gone", "Check that it runs.")
