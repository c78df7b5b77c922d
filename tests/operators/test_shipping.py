from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from freezegun import freeze_time

from entitlement_gate.api import default_gate
from entitlement_gate.operators.shipping import Stop
from entitlement_gate.sandbox import Sandbox, SandboxServer, Scenario
from entitlement_gate.zenskar.usage import ship
from tests.operators.outboxes import REFUSED, USAGE, Elsewhere, use
from tests.operators.world import ONE, ORGANISATION, Terminal, configured, run, scenario


@pytest.fixture
def ledger():
    return Elsewhere()


@pytest.fixture
def billing(scenario_file, ledger):
    path = scenario_file(usage_slugs=["calls"])
    with configured(BASE_URL=f"sandbox:{path}", CUSTOMER_ATTRIBUTE="username", LEDGER=ledger, USAGE=USAGE):
        yield default_gate().source._transport.sandbox


def test_everything_that_is_due_is_delivered(billing, ledger):
    use(ledger, *map(str, range(7)))
    assert run("ship", "--batch", "3") == (0, "7 delivered, 0 postponed, 0 set aside; 0 wait\n", "")
    assert [event.key for event in billing.usage_events] == list("0123456")
    assert run("ship") == (0, "0 delivered, 0 postponed, 0 set aside; 0 wait\n", "")


def test_a_run_tries_no_more_than_its_limit(billing, ledger):
    use(ledger, *map(str, range(7)))
    assert run("ship", "--batch", "3", "--limit", "5")[1] == "5 delivered, 0 postponed, 0 set aside; 2 wait\n"


def test_progress_is_shown_on_a_terminal(billing, ledger):
    use(ledger, *map(str, range(4)))
    terminal = Terminal()
    code, out, err = run("ship", "--batch", "2", stderr=terminal)
    assert err == "\r2 delivered, 0 postponed, 0 set aside\r4 delivered, 0 postponed, 0 set aside\n"
    assert (code, out) == (0, "4 delivered, 0 postponed, 0 set aside; 0 wait\n")


def test_an_outage_postpones_and_says_why(billing, ledger):
    use(ledger, *map(str, range(9)))
    billing.fail("status", status=503)
    code, out, err = run("ship")
    assert (code, err) == (1, "")
    assert out == "0 delivered, 3 postponed, 0 set aside; 9 wait\n  billing does not answer: HTTP 503\n"


def test_no_network_postpones_and_says_why(ledger):
    use(ledger, "a")
    with configured(API_KEY="k", ORGANISATION="o", BASE_URL="http://127.0.0.1:1", LEDGER=ledger, USAGE=USAGE):
        code, out, err = run("ship")
    assert (code, err) == (1, "")
    assert out == "0 delivered, 1 postponed, 0 set aside; 1 wait\n  no connection (ConnectError)\n"


def test_a_refused_key_postpones_and_sets_nothing_aside(ledger):
    use(ledger, "a", "b")
    with (
        SandboxServer(Sandbox(Scenario.parse(scenario()))) as server,
        configured(API_KEY="wrong", ORGANISATION="o", BASE_URL=server.url, LEDGER=ledger, USAGE=USAGE),
    ):
        code, out, _ = run("ship")
        default_gate().close()
    assert code == 1
    assert "0 set aside; 2 wait\n  billing refuses the credentials: HTTP 401" in out


def test_programs_are_told_the_same(billing, ledger):
    use(ledger, "a")
    use(ledger, "b", target=REFUSED)
    code, out, err = run("ship", "--format", "json")
    assert (code, err) == (1, "")
    assert json.loads(out) == {
        "delivered": 1,
        "postponed": 0,
        "set_aside": 1,
        "stopped": None,
        "last_failure": None,
        "pending": 0,
    }


DEAD_80 = """\
USAGE                 WHY IT WAS SET ASIDE
2.5 of no-such-meter  billing has no meter 'no-such-meter'
                      count, key b, customer
                      10000000-0000-4000-8000-000000000001, {at}
Correct what is wrong in USAGE or in billing, then put them back: `entitlements
ship --revive`.
"""
DEAD_200 = """\
USAGE                 WHY IT WAS SET ASIDE
2.5 of no-such-meter  billing has no meter 'no-such-meter'
                      count, key b, customer 10000000-0000-4000-8000-000000000001, {at}
Correct what is wrong in USAGE or in billing, then put them back: `entitlements ship --revive`.
"""


class Noon:
    def time(self):
        return 1_768_478_400.0


@pytest.mark.parametrize(("columns", "shown"), [(80, DEAD_80), (200, DEAD_200)])
def test_what_billing_refused_is_listed_with_the_reason(scenario_file, monkeypatch, columns, shown):
    monkeypatch.setenv("COLUMNS", str(columns))
    ledger = Elsewhere(Noon())
    use(ledger, "b", target=REFUSED)
    with configured(BASE_URL=f"sandbox:{scenario_file()}", LEDGER=ledger, USAGE=USAGE):
        code, out, _ = run("ship")
        assert (code, out.splitlines()[1]) == (1, "  `entitlements ship --dead` lists what was set aside, and why")
        assert run("ship", "--dead") == (1, shown.format(at="2026-01-15 12:00 UTC"), "")
    assert max(map(len, out.splitlines())) <= columns


def test_dead_letters_answer_programs(billing, ledger):
    use(ledger, "a", "b", "c", target=REFUSED)
    run("ship")
    code, out, _ = run("ship", "--dead", "--limit", "2", "--format", "json")
    told = json.loads(out)
    assert (code, told["has_more"], [letter["key"] for letter in told["dead_letters"]]) == (1, True, ["a", "b"])
    letter = told["dead_letters"][0]
    assert (letter["customer_id"], letter["slug"], letter["field"], letter["quantity"]) == (
        ONE, "no-such-meter", "count", "2.5",
    )  # fmt: skip
    assert "There are more than these 2: --limit" in run("ship", "--dead", "--limit", "2")[1]


def test_dead_letters_are_put_back(billing, ledger):
    assert run("ship", "--dead") == (0, "nothing was set aside\n", "")
    assert run("ship", "--revive") == (0, "nothing was set aside\n", "")
    use(ledger, "a", "b", "c", target=REFUSED)
    run("ship")
    assert run("ship", "--revive", "--limit", "1")[:2] == (0, "1 put back; `entitlements ship` delivers them\n")
    assert json.loads(run("ship", "--revive", "--format", "json")[1]) == {"revived": 2}
    assert ledger.inner.pending() == 3


def test_putting_back_ends_where_another_process_sets_aside_as_fast(billing, ledger, monkeypatch):
    use(ledger, "a", "b", target=REFUSED)
    run("ship")
    revive = ledger.inner.revive

    def revived_in_vain(event):
        revive(event)
        ship(ledger.inner, default_gate().source)

    monkeypatch.setattr(ledger.inner, "revive", revived_in_vain)
    assert json.loads(run("ship", "--revive", "--format", "json")[1]) == {"revived": 2}


@pytest.mark.parametrize(
    ("settings", "arguments", "says"),
    [
        ({"LEDGER": "memory", "USAGE": USAGE}, (), "usage events live in the web process"),
        ({"LEDGER": "memory"}, ("--dead",), 'set LEDGER to "redis" or "database"'),
        ({"LEDGER": None}, (), "LEDGER is None"),
        ({"LEDGER": Elsewhere()}, (), "USAGE is empty"),
        ({}, ("--limit", "0"), "--limit: at least 1, not 0"),
        ({}, ("--batch", "0"), "--batch: at least 1, not 0"),
        ({}, ("--watch", "0"), "--watch: seconds above 0, not 0"),
        ({}, ("--watch", "nan"), "--watch: seconds above 0, not nan"),
        ({}, ("--dead", "--revive"), "not allowed with argument"),
    ],
)
def test_where_nothing_can_be_shipped_one_line_says_why(settings, arguments, says):
    with configured(BASE_URL="sandbox:", **settings):
        code, out, err = run("ship", *arguments)
    assert (code, out, err.count("\n")) in ((2, "", 0), (1, "", 0))
    assert says in err


def test_a_ledger_that_is_no_outbox_is_named():
    class Counter:
        is_local = True

        def adopt_upstream(self, *_):
            raise NotImplementedError

        def close(self):
            pass

    with configured(BASE_URL="sandbox:", LEDGER=Counter()):
        assert run("ship")[2] == "Counter keeps no usage events: it is no outbox"


def test_events_of_an_entitlement_that_left_usage_are_delivered(scenario_file, ledger):
    use(ledger, "a")
    with configured(BASE_URL=f"sandbox:{scenario_file(usage_slugs=['calls'])}", LEDGER=ledger):
        assert run("ship")[1].startswith("1 delivered")


def test_a_ledger_out_of_reach_is_one_line(billing, ledger):
    for arguments in ((), ("--dead",), ("--revive",)):
        ledger.outages = 1
        assert run("ship", *arguments) == (
            2, "", "the ledger cannot be asked: Redis: ConnectionError: gone",
        )  # fmt: skip


def test_another_source_than_billing_is_named(billing, ledger, monkeypatch):
    monkeypatch.setattr(default_gate(), "source", object())
    assert run("ship")[2] == "object is no ZenskarClient: this needs billing itself"


def test_watching_goes_on_until_it_is_asked_to_end(billing, ledger, monkeypatch):
    """And over a ledger that is out of reach meanwhile."""
    use(ledger, "a")
    waits = []

    def wait(stop, seconds):
        waits.append(seconds)
        if len(waits) == 1:
            ledger.outages = 1
        if len(waits) == 3:
            use(ledger, "b")
        return len(waits) == 4

    monkeypatch.setattr(Stop, "wait", wait)
    code, out, err = run("ship", "--watch", "7")
    assert (code, waits) == (0, [7.0] * 4)
    assert out == "1 delivered, 0 postponed, 0 set aside; 0 wait\n" * 2
    assert err == "the ledger cannot be asked: Redis: ConnectionError: gone\n"


def test_watching_tells_programs_a_line_a_run(billing, ledger, monkeypatch):
    waits = []
    monkeypatch.setattr(Stop, "wait", lambda *_: waits.append(1) or len(waits) == 2)
    ledger.outages = 1
    code, out, err = run("ship", "--watch", "7", "--format", "json")
    told = [json.loads(line) for line in out.splitlines()]
    assert (code, err, told[0]) == (0, "", {"error": "the ledger cannot be asked: Redis: ConnectionError: gone"})
    assert (len(told), told[1]["delivered"]) == (2, 0)


def test_a_signal_ends_a_run_after_the_event_that_is_under_way(billing, ledger, monkeypatch):
    use(ledger, *map(str, range(5)))
    delivered = ledger.inner.delivered

    def interrupted(event):
        delivered(event)
        if event.key == "1":
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(ledger.inner, "delivered", interrupted)
    before = signal.getsignal(signal.SIGTERM)
    code, out, err = run("ship")
    assert (code, out, err) == (0, "2 delivered, 0 postponed, 0 set aside; 3 wait\n  interrupted\n", "")
    assert signal.getsignal(signal.SIGTERM) is before
    assert len(ledger.inner.take(9)) == 3, "what was taken out was given back at once"


@pytest.fixture
def interruptible():
    """What a process in the foreground does at SIGINT; one that a shell put in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_the_second_signal_is_not_waited_for():
    with Stop() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop()
        assert stop.wait(60)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_pause_ends_though_a_test_has_frozen_the_clock():
    with Stop() as stop, freeze_time("2030-01-01"):
        assert not stop.wait(0.3)


def test_off_the_main_thread_nobody_asks_for_the_end():
    said = []

    def work():
        with Stop() as stop:
            said.extend((stop(), stop.wait(0.01)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert said == [False, False]


def test_several_may_ship_at_once(billing, ledger):
    use(ledger, *map(str, range(200)))
    runs = [threading.Thread(target=run, args=("ship", "--batch", "7")) for _ in range(4)]
    for each in runs:
        each.start()
    for each in runs:
        each.join()
    assert sorted(int(event.key) for event in billing.usage_events) == list(range(200))


SETTINGS = """\
from tests.settings import *
INSTALLED_APPS = [*INSTALLED_APPS, "entitlement_gate.usage"]
DATABASES = {{"default": {{
    "ENGINE": "django.db.backends.sqlite3", "NAME": {database!r},
    "OPTIONS": {{"init_command": "PRAGMA synchronous = OFF"}},
}}}}
ENTITLEMENT_GATE = {{
    "API_KEY": "key", "ORGANISATION": {organisation!r}, "BASE_URL": {url!r}, "LEDGER": "database", "DEADLINE": 30,
    "USAGE": {{"API Calls": {{"slug": "calls", "field": "count"}}}},
}}
"""
USE = """\
import django; django.setup()
from entitlement_gate.api import consume_entitlement
for number in range(40):
    consume_entitlement({customer!r}, "API Calls", 1, key=str(number))
"""


@pytest.fixture
def project(tmp_path):
    """A project whose ledger is a file, its billing over HTTP, and a way to run commands of it."""
    with SandboxServer(Sandbox(Scenario.parse(scenario(usage_slugs=["calls"])))) as server:
        text = SETTINGS.format(database=str(tmp_path / "db"), organisation=ORGANISATION, url=server.url)
        (tmp_path / "shipping_settings.py").write_text(text)
        paths = os.pathsep.join((str(tmp_path), str(Path.cwd())))
        environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "shipping_settings", "PYTHONPATH": paths}

        def start(*arguments, **options):
            piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
            return subprocess.Popen([sys.executable, *arguments], text=True, env=environment, **piped)

        for arguments in (("-m", "django", "migrate", "-v0"), ("-c", USE.format(customer=ONE))):
            with start(*arguments) as process:
                assert process.wait() == 0, process.stderr.read()
        yield server.sandbox, start


def test_from_a_shell_a_watch_ends_cleanly(project):
    sandbox, start = project
    with start("-m", "django", "entitlements", "ship", "--watch", "60") as process:
        assert process.stdout.readline() == "40 delivered, 0 postponed, 0 set aside; 0 wait\n"
        process.send_signal(signal.SIGTERM)
        assert (process.wait(30), process.stderr.read()) == (0, "")  # the next round is a minute away
    assert sorted(int(event.key) for event in sandbox.usage_events) == list(range(40))


def test_processes_share_the_work(project):
    sandbox, start = project
    command = ("-m", "django", "entitlements", "ship", "--batch", "3", "--format", "json")
    told = [json.loads(process.communicate()[0]) for process in [start(*command) for _ in range(3)]]
    assert sum(each["delivered"] for each in told) == 40
    assert sorted(int(event.key) for event in sandbox.usage_events) == list(range(40))
    assert sandbox.request_count == 40 + 1  # the fetch that the commits were decided by


def test_a_closed_pipe_ends_a_watch_with_one_line(project):
    _, start = project
    reader, writer = os.pipe()
    os.close(reader)
    with start("-m", "django", "entitlements", "ship", "--watch", "60", stdout=writer) as process:
        os.close(writer)
        said = process.stderr.read()
        assert (process.wait(30), said) == (2, "CommandError: the output was closed before everything was written\n")
