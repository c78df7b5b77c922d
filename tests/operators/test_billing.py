"""Commands about many customers, where nobody names them: billing's own list."""

from __future__ import annotations

import keyword
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entitlement_gate import EntitlementGate, ZenskarClient
from entitlement_gate.api import default_gate
from entitlement_gate.operators.billing import collect_names, format_enum, sample_customers
from entitlement_gate.operators.terminal import OperatingError, Progress
from tests.ledger.conftest import redis_url
from tests.operators.world import EMPTY, GRANTS, ONE, STRANGER, Terminal, configured, run

__all__ = ["redis_url"]


@pytest.fixture
def crowd(scenario_file):
    """Ninety customers on pages of forty, the last of whom holds what nobody else does."""
    people = [{"id": f"30000000-0000-4000-8000-{number:012}", "name": str(number)} for number in range(90)]
    people[0]["grants"] = GRANTS[:1]
    people[-1]["grants"] = [{"name": "rare", "type": "Feature"}]
    path = scenario_file(customers=people)
    with configured(BASE_URL=f"sandbox:{path}", CUSTOMER_ATTRIBUTE="username", PAGE_SIZE=40):
        yield default_gate().source._transport.sandbox


def paths(sandbox):
    return [target.partition("?")[0] for _, target in sandbox.requests]


def test_warm_fetches_every_customer_that_billing_lists(crowd):
    code, out, err = run("warm", "--all")
    assert (code, out) == (0, "")
    assert err.endswith("90 fetched, 0 held before\n")
    assert paths(crowd).count("/customers") == 3
    assert "0 fetched, 90 held before" in run("warm", "--all")[2]


def test_where_a_store_is_shared_nothing_is_said_of_its_reach(scenario_file, redis_url):
    settings = {"BASE_URL": f"sandbox:{scenario_file()}", "CUSTOMER_ATTRIBUTE": "username"}
    with configured(**settings):
        assert "no shared store" in run("invalidate", ONE)[2]
    with configured(**settings, REDIS_URL=redis_url):
        assert run("invalidate", ONE) == (0, "", "")
        default_gate().close()


def test_warm_shows_how_far_it_is_on_a_terminal(crowd):
    terminal = Terminal()
    run("warm", "--all", "--concurrency", "2", stderr=terminal)
    assert "\r1 customers listed\r2 customers listed" in terminal.getvalue()
    assert "\r90 customers listed\n" in terminal.getvalue()
    assert "\r90 of 90, 0 failed\n" in terminal.getvalue()


def test_a_warming_that_was_cut_short_goes_on_from_what_it_printed(crowd, tmp_path):
    crowd.fail("status", status=503, path="/entitlements/customer/30000000-0000-4000-8000-00000000008")
    code, out, _ = run("warm", "--all", "--concurrency", "1")
    failed = out.splitlines()
    assert (code, len(failed) >= 10) == (1, True)
    again = tmp_path / "again"
    again.write_text(out)
    with configured(BASE_URL=f"sandbox:{tmp_path / 'scenario.json'}"):  # another process, later
        assert run("warm", str(again))[:2] == (0, "")


def test_names_come_from_the_customers_that_billing_lists_first(crowd):
    code, out, err = run("names", "--sample", "50")
    assert (code, err) == (0, "note: only the first 50 customers were asked for; --sample takes more\n")
    assert '"API Calls"' in out
    assert "rare" not in out
    assert len(crowd.requests) == 50 + 2
    code, out, err = run("names")
    assert (code, err) == (0, "")
    assert '"rare"' in out


def test_named_customers_are_asked_for_and_no_others(crowd):
    code, out, err = run("names", "30000000-0000-4000-8000-000000000089")
    assert (code, err, '"rare"' in out, "API" in out) == (0, "", True, False)
    assert len(crowd.requests) == 1


def test_names_shows_how_far_it_is_on_a_terminal(crowd):
    terminal = Terminal()
    run("names", "--sample", "3", stderr=terminal)
    said = terminal.getvalue()
    assert said.startswith("\r1 customers listed\r2 customers listed\r3 customers listed")
    assert "\r3 of 3 customers asked for\n" in said


@pytest.mark.parametrize("action", [("warm", "--all"), ("names",)])
@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ({"kind": "status", "status": 404}, "cannot be used: HTTP 404: billing offers no list of customers here; name"),
        ({"kind": "html"}, "cannot be used: the list of customers: the body is no JSON (JSONDecodeError); name the cu"),
        ({"kind": "status", "status": 503}, "cannot be had: HTTP 503 (3 attempts)"),
        ({"kind": "status", "status": 403}, "cannot be used: HTTP 403: Fault; name the customers yourself"),
    ],
)
def test_a_list_that_cannot_be_had_is_one_line(crowd, action, fault, says):
    crowd.fail(path="/customers", **fault)
    code, out, err = run(*action)
    assert (code, out, err.count("\n")) == (2, "", 0)
    assert f"billing's list of customers {says}" in err


def test_a_list_that_ends_in_an_error_warms_nobody(crowd, monkeypatch):
    respond, asked = crowd.respond, []

    def cut_short(request):
        if request.path == "/customers":
            asked.append(request.target)
            if len(asked) == 2:
                crowd.fail("status", status=403, times=1)
        return respond(request)

    monkeypatch.setattr(crowd, "respond", cut_short)
    code, out, err = run("warm", "--all")
    assert (code, out, set(paths(crowd))) == (2, "", {"/customers"})
    assert "HTTP 403" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("warm",), "FILE"),
        (("warm", "x", "--all"), "not allowed"),
        (("names", "--sample", "0"), "--sample: at least 1, not 0"),
        (("names", STRANGER), f"{STRANGER}: CustomerNotFound"),
    ],
)
def test_misuse_is_one_line(crowd, arguments, says):
    code, out, err = run(*arguments)
    assert (out, err.count("\n")) == ("", 0)
    assert code
    assert says in err


def test_no_network_is_one_line():
    with configured(API_KEY="k", ORGANISATION="o", BASE_URL="http://127.0.0.1:1"):
        for arguments in (("warm", "--all"), ("names",)):
            code, out, err = run(*arguments)
            assert (code, out) == (2, "")
            assert err.startswith("billing's list of customers cannot be had: no connection (ConnectError)")


def test_a_billing_without_customers_has_no_names():
    client = ZenskarClient("k", "o", transport=httpx.MockTransport(lambda _: httpx.Response(200, json={"results": []})))
    with pytest.raises(OperatingError, match="billing lists no customer"):
        sample_customers(client, 5, str)


def test_a_customer_removed_since_it_was_listed_holds_nothing(crowd):
    source = default_gate().source
    assert collect_names(source, [ONE, STRANGER], str, may_be_gone=True) == set()
    with pytest.raises(OperatingError, match="CustomerNotFound"):
        collect_names(source, [EMPTY], str)


def test_another_source_than_billing_is_named():
    class Source:
        def fetch(self, customer_id):
            raise NotImplementedError

    with pytest.raises(OperatingError, match="Source is no ZenskarClient"):
        sample_customers(EntitlementGate(Source(), ledger=None).source, 5, str)


def test_progress_writes_over_what_was_longer_and_says_nothing_elsewhere():
    class Stream(Terminal):
        def write(self, text, _style=None, _ending=None):
            return super().write(text)

    stream = Stream()
    with Progress(stream) as show:
        show("one hundred")
        show("one")
    assert stream.getvalue() == "\rone hundred\rone        \n"
    quiet = Stream()
    quiet.isatty = lambda: False
    with Progress(quiet) as show:
        show("one")
    assert quiet.getvalue() == ""


@pytest.mark.parametrize("arguments", [("names",), ("ship", "--dead", "--format", "json")])
def test_a_closed_pipe_is_one_line_and_no_traceback(tmp_path, arguments):
    settings = "from tests.settings import *\nfrom tests.operators.outboxes import Elsewhere\n"
    (tmp_path / "closed.py").write_text(
        f"{settings}ENTITLEMENT_GATE = {{'BASE_URL': 'sandbox:', 'LEDGER': Elsewhere()}}"
    )
    places = os.pathsep.join((str(tmp_path), str(Path.cwd())))
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "closed", "PYTHONPATH": places}
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "django", "entitlements", *arguments]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (
        2, "CommandError: the output was closed before everything was written\n",
    )  # fmt: skip


def test_the_module_has_a_member_for_each_name():
    source = format_enum(["API Calls", "api-calls", "2fa", "", "Größe", 'a "b"', "日本"])
    assert 'API_CALLS = "API Calls"' in source
    assert 'API_CALLS_2 = "api-calls"' in source
    assert 'N2FA = "2fa"' in source
    assert 'GROSSE = "Größe"' in source or 'GROE = "Größe"' in source
    assert "A_B = 'a \"b\"'" in source
    assert 'UNNAMED = ""' in source


def test_a_module_without_names_is_a_module_still():
    namespace = {}
    exec(format_enum([]), namespace)
    assert list(namespace["Entitlements"]) == []


@given(st.lists(st.text(max_size=8), max_size=8, unique=True))
def test_whatever_billing_lists_comes_back_from_the_module(names):
    namespace = {}
    exec(format_enum(names), namespace)
    members = namespace["Entitlements"]
    assert sorted(member.value for member in members) == sorted(names)
    assert not any(keyword.iskeyword(member.name) for member in members)
