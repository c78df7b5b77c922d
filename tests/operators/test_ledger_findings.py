"""What `doctor` says of ledgers: misconfigurations seeded in real stores, and reports that no store gives on demand."""

from __future__ import annotations

import json
import sys
import uuid

import pytest
import redis
from django.conf import settings
from django.core.management import call_command
from django.test import override_settings

from entitlement_gate.api import default_gate
from entitlement_gate.ledger.redis import RedisLedger
from entitlement_gate.operators.ledger_findings import ledger_findings, redis_findings
from tests.ledger.conftest import redis_url
from tests.ledger.servers import RedisServer, free_port
from tests.operators.outboxes import REFUSED, USAGE, Elsewhere, use
from tests.operators.world import ONE, configured, run
from tests.usage.conftest import sqlite_alias, usage_app

__all__ = ["redis_url", "sqlite_alias", "usage_app"]


@pytest.fixture
def doctor(scenario_file):
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


def test_a_good_redis_is_no_problem(doctor, tmp_path):
    server = RedisServer(tmp_path, "--appendonly", "yes")
    try:
        assert doctor(LEDGER=OfOurOwn(server.url), REDIS_URL=server.url) == (0, [])
    finally:
        server.kill()


def test_a_redis_that_writes_nothing_down_is_warned_of(doctor, redis_url):
    code, [(level, about, text, hint)] = doctor(LEDGER=OfOurOwn(redis_url))
    assert (code, level, about, hint) == (1, "warning", "ledger", "Set appendonly yes.")
    assert "a restart loses what was used up" in text


def test_a_redis_that_evicts_is_an_error(doctor, tmp_path):
    server = RedisServer(tmp_path, "--appendonly", "yes", "--maxmemory-policy", "allkeys-lru")
    try:
        code, [(level, about, text, hint)] = doctor(LEDGER="redis", REDIS_URL=server.url)
    finally:
        server.kill()
    assert (code, level, about) == (1, "error", "ledger")
    assert "maxmemory-policy allkeys-lru" in text
    assert hint == "Set maxmemory-policy noeviction, or give the ledger a server of its own."


def test_a_redis_that_does_not_say_how_it_keeps_is_no_problem_but_noted(doctor, tmp_path):
    server = RedisServer(tmp_path)
    try:
        with redis.Redis(port=server.port) as admin:
            admin.execute_command("ACL", "SETUSER", "anna", "on", ">hush", "~*", "+@all", "-@dangerous")
        url = server.url.replace("//", "//anna:hush@")
        code, [(level, about, text, hint)] = doctor(LEDGER="redis", REDIS_URL=url)
    finally:
        server.kill()
    assert (code, level, about) == (0, "note", "ledger")
    assert text == "this Redis does not say how it keeps: INFO is refused"
    assert "noeviction" in hint


def test_a_redis_that_is_not_there_is_one_error_without_its_password(doctor):
    url = f"redis://anna:hush@127.0.0.1:{free_port()}/0"
    code, [(level, about, text, hint)] = doctor(LEDGER="redis", REDIS_URL=url)
    assert (code, level, about) == (1, "error", "ledger")
    assert text.startswith("the ledger (redis) does not answer: LedgerUnavailable: Redis: ConnectionError")
    assert hint.startswith("Check REDIS_URL")
    assert "hush" not in text


def test_a_redis_url_for_snapshots_alone_is_asked_too(doctor):
    port = free_port()
    code, [_, (level, about, text, hint)] = doctor(LEDGER=None, REDIS_URL=f"redis://:hush@127.0.0.1:{port}/0")
    assert (code, level, about) == (1, "error", "redis")
    assert text.startswith(f"REDIS_URL (127.0.0.1:{port}) does not answer: ConnectionError")
    assert "hush" not in text
    assert hint


def test_a_redis_url_without_the_package_is_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    (finding,) = redis_findings("redis://127.0.0.1/0")
    assert (finding.level, finding.text) == ("error", "REDIS_URL is set, but the package redis is not installed")
    assert finding.hint == "Install entitlement_gate[redis]."


def test_a_redis_that_answers_is_fine_and_none_is_no_news(redis_url):
    (finding,) = redis_findings(redis_url)
    assert finding.level == "ok"
    assert list(redis_findings(None)) == []
    (finding,) = redis_findings("unix:///no/such/socket")
    assert finding.text.startswith("REDIS_URL (its socket) does not answer")


def test_a_database_ledger_is_fine_where_it_is_migrated(doctor, sqlite_alias):
    from entitlement_gate.usage.ledger import DatabaseLedger

    assert doctor(LEDGER=DatabaseLedger(sqlite_alias)) == (0, [])


def test_a_database_that_is_not_migrated_is_an_error(doctor, sqlite_alias):
    from entitlement_gate.usage.ledger import DatabaseLedger

    call_command("migrate", "entitlement_usage", "zero", database=sqlite_alias, verbosity=0)
    try:
        code, [(level, about, _, hint)] = doctor(LEDGER=DatabaseLedger(sqlite_alias))
    finally:
        call_command("migrate", "entitlement_usage", database=sqlite_alias, verbosity=0)
    assert (code, level, about, hint) == (1, "error", "ledger", "Run `manage.py migrate entitlement_usage`.")


def test_a_database_ledger_whose_app_is_missing_is_told_once(doctor):
    apps = [app for app in settings.INSTALLED_APPS if app != "entitlement_gate.usage"]  # which other tests install
    ours = configured(BASE_URL="sandbox:", CUSTOMER_ATTRIBUTE="username", LEDGER="database")
    with override_settings(DEBUG=True, INSTALLED_APPS=apps), ours:
        code, out, _ = run("doctor", "--format", "json")
    problems = [finding for finding in json.loads(out)["findings"] if finding["level"] in ("warning", "error")]
    assert (code, [finding["hint"] for finding in problems]) == (
        1, ["Add 'entitlement_gate.usage' to INSTALLED_APPS."],
    )  # fmt: skip


def test_dead_letters_are_warned_of(doctor):
    ledger = Elsewhere()
    use(ledger, "a", target=REFUSED)
    ledger.inner.bury(ledger.inner.take(1)[0], "no")
    code, found = doctor(LEDGER=ledger)
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
def test_events_that_nothing_ships_are_told(doctor, report, level, says):
    ledger = Elsewhere()
    use(ledger, "a", "b")
    ledger.report = report
    code, [found] = doctor(LEDGER=ledger)
    assert (code, found[:3]) == (int(level == "warning"), (level, "outbox", says))
    assert "entitlements ship" in found[3]


def test_usage_of_what_billing_does_not_list_is_told(doctor):
    usage = {**USAGE, "API Cals": USAGE["API Calls"]}
    code, [(level, about, text, hint)] = doctor(ONE, LEDGER=Elsewhere(), USAGE=usage)
    assert (code, level, about, hint) == (1, "warning", "names", "Did you mean 'API Calls'?")
    assert text == "billing lists no 'API Cals'; asked at ENTITLEMENT_GATE['USAGE']"


def test_usage_that_no_command_can_reach_is_told(doctor):
    code, [(level, about, text, hint)] = doctor(ONE, LEDGER="memory", USAGE=USAGE)
    assert (code, level, about, hint) == (1, "warning", "settings", "Set LEDGER to 'redis' or 'database'.")
    assert "USAGE" in text


def test_a_memory_ledger_outside_debug_or_of_several_workers_is_told(doctor, monkeypatch):
    assert doctor(LEDGER="memory") == (0, [])
    monkeypatch.setenv("WEB_CONCURRENCY", "3")
    code, [(level, about, text, hint)] = doctor(LEDGER="memory")
    assert (code, level, about, hint) == (1, "warning", "ledger", "Set LEDGER to 'redis' or 'database'.")
    assert "WEB_CONCURRENCY asks for 3 processes" in text
    monkeypatch.setenv("WEB_CONCURRENCY", "many")
    with configured(BASE_URL="http://127.0.0.1:1", API_KEY="k", ORGANISATION="o", LEDGER="memory"):
        code, out, _ = run("doctor", "--format", "json")
    assert "entitlement_gate.W005" in [finding["id"] for finding in json.loads(out)["findings"]]


def test_a_redis_that_lost_what_it_held_is_an_error(doctor):
    ledger = Elsewhere()
    ledger.report = {"lost": True, "appendonly": True}
    code, [(level, about, text, hint)] = doctor(LEDGER=ledger)
    assert (code, level, about) == (1, "error", "ledger")
    assert "lost what it held" in text
    assert "accept_loss()" in hint


def test_no_ledger_and_one_without_health_are_notes():
    class Gate:
        ledger = None

    (finding,) = ledger_findings(Gate)
    assert (finding.level, finding.text) == ("note", "LEDGER is None: nothing is used up here")
    Gate.ledger = object()
    (finding,) = ledger_findings(Gate)
    assert (finding.level, finding.text) == ("note", "object has no health() to ask")


def test_an_unknown_store_that_does_not_answer_is_an_error():
    class Mine:
        def health(self):
            return {"store": "mine", "reachable": False, "error": "gone"}

    class Gate:
        ledger = Mine()

    (finding,) = ledger_findings(Gate)
    assert (finding.text, finding.hint) == ("the ledger (mine) does not answer: gone", "Check that it runs.")
