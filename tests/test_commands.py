from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from entitlement_gate.api import default_gate
from entitlement_gate.operators.billing import WarmReport
from entitlement_gate.sandbox import Sandbox, SandboxServer, Scenario
from entitlement_gate.sandbox.scenario import KINDS
from entitlement_gate.signals import entitlement_checked, entitlement_denied
from tests.operators.world import EMPTY, ONE, STRANGER, Terminal, billing, configured, run, scenario, scenario_file

__all__ = ["billing", "scenario_file"]

SHOWN_80 = """\
10000000-0000-4000-8000-000000000001 (data: live, 0 s old)
NAME       ANSWER                 TYPE      LEFT         USED  WINDOW       ROWS
API Calls  allowed                Quantity  ██████░░░░   450   2020-01-01   2
                                            750 of 1200        to
                                            calls              2999-12-31
seats      insufficient_quantity  Quantity  ░░░░░░░░░░   5                  1
                                            0 of 5
sso        allowed                Feature                      from         1
                                                               2020-01-01
"""
SHOWN_200 = """\
10000000-0000-4000-8000-000000000001 (data: live, 0 s old)
NAME       ANSWER                 TYPE      LEFT                                    USED  WINDOW                    ROWS
API Calls  allowed                Quantity  ████████████░░░░░░░░ 750 of 1200 calls  450   2020-01-01 to 2999-12-31  2
seats      insufficient_quantity  Quantity  ░░░░░░░░░░░░░░░░░░░░ 0 of 5             5                               1
sso        allowed                Feature                                                 from 2020-01-01           1
"""
EXPLAINED_80 = """\
denied: 800 of API Calls: insufficient_quantity: not enough is left (750 of 1200
calls left)
  customer 10000000-0000-4000-8000-000000000001, data: live, 0 s old

COUNTED  WHY
yes      live, 750 calls left
         Quantity, active, 2020-01-01 to 2999-12-31, row
         a0000000-0000-4000-8000-000000000001
yes      live, 0 calls left
         Quantity, active, 2020-01-01 to 2999-12-31, row
         a0000000-0000-4000-8000-000000000002

What would have to change
  Grant at least 50 calls more in billing, or let usage of it be taken back.
"""


@pytest.fixture
def width(monkeypatch):
    return lambda columns: monkeypatch.setenv("COLUMNS", str(columns))


@pytest.mark.parametrize(("columns", "shown"), [(80, SHOWN_80), (200, SHOWN_200)])
def test_show_fits_the_terminal(billing, width, columns, shown):
    width(columns)
    assert run("show", ONE) == (0, shown, "")
    assert max(map(len, shown.splitlines())) <= columns


def test_show_lists_the_rows_when_asked(billing, width):
    width(200)
    code, out, _ = run("show", ONE.upper(), "--rows")
    assert code == 0
    assert "API Calls  active  Quantity  1000   250   750   2020-01-01 to 2999-12-31  a0000000-" in out


def test_show_answers_programs(billing):
    code, out, _ = run("show", ONE, "--format", "json")
    told = json.loads(out)
    assert (code, told["customer_id"], told["source"]) == (0, ONE, "live")
    calls = told["entitlements"][0]
    assert (calls["name"], calls["limit"], calls["remaining"], len(calls["rows"])) == ("API Calls", "1200", "750", 2)
    assert calls["rows"][0]["expires_at"] == "2999-12-31T00:00:00+00:00"


def test_show_of_a_customer_who_holds_nothing_is_no_error(billing):
    assert run("show", EMPTY)[:2] == (0, f"{EMPTY} (data: live, 0 s old)\nholds no entitlement\n")


def test_check_says_it_in_a_line_and_in_the_exit_code(billing, width):
    width(200)
    assert run("check", ONE, "API Calls", "750") == (
        0, "allowed: 750 of API Calls: allowed: billing grants it (750 of 1200 calls left)\n", "",
    )  # fmt: skip
    assert run("check", ONE, "seats") == (
        1,
        "denied: seats: insufficient_quantity: not enough is left (0 of 5 left)\n",
        "",
    )
    code, out, _ = run("check", ONE, "sso", "--format", "json")
    assert (code, json.loads(out)["allowed"], json.loads(out)["source"]) == (0, True, "cache")


def test_a_name_with_a_typo_asks_what_was_meant(billing, width):
    width(200)
    code, out, err = run("check", ONE, "api_cals")
    assert (code, out.count("\n"), err) == (1, 1, "")
    assert out.endswith("nothing of this name. Did you mean 'API Calls'?\n")
    assert json.loads(run("check", ONE, "api_cals", "--format", "json")[1])["near"] == ["API Calls"]


def test_explain_tells_each_rows_part(billing, width):
    width(80)
    assert run("explain", ONE, "API Calls", "800") == (1, EXPLAINED_80, "")
    width(200)
    assert "row a0000000-0000-4000-8000-000000000001\n" in run("explain", ONE, "API Calls", "800")[1]


def test_explain_finds_the_draft_that_the_filter_leaves_out(billing):
    code, out, _ = run("explain", ONE, "reports", "--format", "json")
    told = json.loads(out)
    assert (code, told["decision"]["reason"]) == (1, "not_entitled")
    assert [(row["standing"], row["part"], row["status"]) for row in told["rows"]] == [("draft", "none", "draft")]
    assert told["change"] == "Confirm the draft in billing."


def test_explain_of_what_nobody_grants_lists_what_is_granted(billing, width):
    width(200)
    code, out, _ = run("explain", ONE, "ssso")
    assert code == 1
    assert "billing gives this customer: API Calls, seats, sso" in out
    assert "Did you mean 'sso'? Grant it to the customer" in out
    assert "billing gives" not in run("explain", EMPTY, "sso")[1].split("\n", 1)[1].replace("billing, or", "")


def test_an_operator_who_looks_is_no_customer_who_was_refused(billing):
    told = []

    def hear(**sent):
        told.append(sent)

    for signal in (entitlement_checked, entitlement_denied):
        signal.connect(hear)
    run("check", ONE, "seats")
    run("explain", ONE, "seats")
    for signal in (entitlement_checked, entitlement_denied):
        signal.disconnect(hear)
    assert told == []


def test_shadow_mode_and_the_failure_policy_are_told(scenario_file, width):
    width(200)
    with configured(BASE_URL=f"sandbox:{scenario_file()}", SHADOW=True, ON_UNAVAILABLE="allow"):
        code, out, _ = run("check", ONE, "seats")
        assert (code, out.partition(":")[0]) == (0, "allowed (in shadow mode; else denied)")
        default_gate().source._transport.sandbox.fail("status", status=503)
        code, _, err = run("check", EMPTY, "seats")
        assert (code, err.endswith("; the failure policy allows meanwhile")) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ("show", "nobody"),
            "'nobody' is no customer id: a hyphenated UUID; it has 2 hexadecimal digits in place of 32",
        ),
        (("check", ONE.replace("-", ""), "sso"), f"is no customer id: a hyphenated UUID; did you mean {ONE}?"),
        (("explain", f"{ONE}0", "sso"), "is no customer id: a hyphenated UUID; it has 33 hex"),
        (("check", "z" + ONE[:35] + "0", "sso"), "is no customer id: a hyphenated UUID"),
        (("check", ONE, "sso", "lots"), "a quantity is a positive int"),
        (("check", ONE, ""), "an entitlement needs a name"),
        (("warm", "/no/such/file"), "/no/such/file: No such file or directory"),
        (("warm", "-", "--concurrency", "0"), "--concurrency: at least 1, not 0"),
        (("invalidate", ONE, "x"), "'x' is no customer id"),
        (("names", STRANGER), f"{STRANGER}: CustomerNotFound"),
    ],
)
def test_misuse_is_one_line_and_exit_code_2(billing, arguments, says):
    code, out, err = run(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 0)
    assert says in err


@pytest.mark.parametrize(
    "arguments", [("check", "nobody", "sso"), ("check", ONE, "seats", "-1"), ("show", "x"), ("ship",), ("doctor", "x")]
)
def test_misuse_is_told_to_programs_too(billing, arguments):
    code, out, err = run(*arguments, "--format", "json")
    assert (code, json.loads(out)) == (2, {"error": err})


def test_without_credentials_programs_are_told_and_gates_are_listed(width):
    width(200)
    rules = [{"path": "^/x/", "requires": "sso"}]
    with configured(RULES=rules):
        code, out, err = run("check", ONE, "sso", "--format", "json")
        assert (code, json.loads(out)) == (2, {"error": err})
        assert "API_KEY" in err
        assert "path ^/x/" in run("gates")[1]
    with configured(RULES=5):
        assert run("gates")[2] == "ENTITLEMENT_GATE['RULES']: a list of dicts, not 5"


def test_an_unknown_customer_is_a_denial(billing, width):
    width(200)
    assert run("show", STRANGER) == (1, "", f"billing does not know the customer {STRANGER}")
    code, out, err = run("check", STRANGER, "sso")
    assert (code, out, err) == (1, "denied: sso: customer_not_found: billing does not know the customer\n", "")
    code, out, err = run("show", STRANGER, "--format", "json")
    assert (code, json.loads(out)["error"]) == (1, err)


def test_settings_that_cannot_work_are_one_line():
    for settings in ({}, {"BASE_URL": "ftp://x"}, {"BASE_URL": "sandbox:/no/such/file"}):
        with configured(**settings):
            code, out, err = run("check", ONE, "sso")
            assert (code, out, err.count("\n")) == (2, "", 0)
            assert "API_KEY" in err or "BASE_URL" in err or "/no/such/file" in err


def test_no_network_is_one_line():
    with configured(API_KEY="k", ORGANISATION="o", BASE_URL="http://127.0.0.1:1"):
        for arguments in (("show", ONE), ("check", ONE, "sso"), ("explain", ONE, "sso")):
            code, out, err = run(*arguments)
            assert (code, out, err.count("\n")) == (2, "", 0)
            assert err.startswith("unknown: unavailable")
            assert "no connection (ConnectError)" in err or "could not be reached" in err
        code, out, err = run("check", ONE, "sso", "--format", "json")
        assert (code, json.loads(out)["outcome"]) == (2, "unknown")


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"gzip_bomb", "big"}))
@pytest.mark.parametrize("action", ["show", "check", "explain"])
def test_every_fault_of_a_real_server_is_one_line_or_the_answer(kind, action):
    name = () if action == "show" else ("sso",)
    with SandboxServer(Sandbox(Scenario.parse(scenario()))) as server:
        settings = {"API_KEY": "key", "ORGANISATION": scenario()["organisation"], "BASE_URL": server.url}
        with configured(**settings, DEADLINE=0.4, MAX_ATTEMPTS=1):
            server.sandbox.fail(kind)
            code, out, err = run(action, ONE, *name)
            default_gate().close()
    assert code in (0, 2)
    assert bool(out) == (code == 0)
    assert (err.count("\n"), "Traceback" in err) == (0, False)
    assert err.startswith("unknown: ") or code == 0


def test_a_rejected_key_says_what_to_check():
    server = SandboxServer(Sandbox(Scenario.parse(scenario())))
    with server, configured(API_KEY="wrong", ORGANISATION="o", BASE_URL=server.start().url):
        code, _, err = run("show", ONE)
        default_gate().close()
    assert code == 2
    assert "unknown: rejected" in err
    assert "check API_KEY and ORGANISATION" in err


def test_colours_are_for_terminals(billing, width):
    width(80)
    assert "\x1b[" not in run("show", ONE)[1]
    assert "\x1b[" in run("show", ONE, "--force-color")[1]
    assert "\x1b[" in run("show", ONE, force_color=True)[1]
    painted, plain = Terminal(), Terminal()
    run("show", ONE, stdout=painted, force_color=True)
    run("show", ONE, "--no-color", stdout=plain)
    assert "\x1b[" in painted.getvalue()
    assert "\x1b[" not in plain.getvalue()


def test_invalidate_lets_the_next_check_fetch(billing):
    assert default_gate().has(ONE, "sso")
    billing.revoke(ONE, "sso")
    code, out, err = run("invalidate", ONE, EMPTY)
    assert (code, out) == (0, "")
    assert "no shared store" in err
    assert not default_gate().has(ONE, "sso")


def test_warm_fetches_what_is_not_held_and_prints_what_to_try_again(billing, tmp_path):
    ids = tmp_path / "ids"
    ids.write_text(f"# customers\n{ONE}\n{EMPTY}  # the second\n\n{ONE}\n")
    code, out, err = run("warm", str(ids))
    assert (code, out) == (0, "")
    assert "2 fetched, 0 held before" in err
    assert "0 fetched, 2 held before" in run("warm", str(ids))[2]
    assert billing.request_count == 2


def test_warm_tells_failures_from_what_will_never_be_had(billing, monkeypatch):
    billing.fail("status", status=503, path=f"/entitlements/customer/{EMPTY}")
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{ONE}\n{EMPTY}\n{STRANGER}\nnonsense\n"))
    code, out, err = run("warm", "-", "--concurrency", "1")
    assert (code, out) == (1, f"{EMPTY}\n")
    assert "1 fetched, 0 held before, 1 unknown to billing, 1 failed, 1 no customer id; last failure: a fetch" in err
    assert f"not to be had: {STRANGER}\n" in err


def test_warm_shows_how_far_it_is_on_a_terminal(billing, tmp_path):
    ids = tmp_path / "ids"
    ids.write_text(f"{ONE}\n{EMPTY}\n")
    err = Terminal()
    run("warm", str(ids), stderr=err)
    assert "\r1 of 2, 0 failed\r2 of 2, 0 failed\n" in err.getvalue()
    ids.write_bytes(b"\xff\xfe")
    assert run("warm", str(ids))[2].endswith("no UTF-8 text")


def test_warming_many_holds_few_at_a_time(billing):
    from entitlement_gate.operators.billing import warm

    seen = []
    ids = [f"10000000-0000-4000-8000-{number:012}" for number in range(40)]
    warmth = warm(default_gate(), ids, concurrency=2, progress=lambda warmth: seen.append(warmth.done))
    assert (len(warmth.fetched), len(warmth.missing), seen) == (1, 39, list(range(1, 41)))
    assert str(WarmReport()) == "0 fetched, 0 held before"


def test_names_writes_a_module_that_the_functions_accept(billing):
    code, out, err = run("names", ONE, EMPTY)
    assert (code, err) == (0, "")
    module = {}
    exec(out, module)
    names = module["Entitlements"]
    assert [member.value for member in names] == ["API Calls", "reports", "seats", "sso"]
    assert default_gate().has(ONE, names.SSO)
    assert default_gate().check(ONE, names.API_CALLS, 5).allowed


def test_an_interrupt_is_one_line(billing, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", type("Keyboard", (), {"read": staticmethod(interrupt)}))
    assert run("warm", "-") == (130, "", "interrupted")


MANAGE = [sys.executable, "-m", "django", "entitlements"]


def test_a_closed_pipe_is_one_line_and_no_traceback(scenario_file):
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        [*MANAGE, "show", "20000000-0000-4000-8000-000000000002"],
        stdout=writer, stderr=subprocess.PIPE, text=True, env=environment, check=False,
    )  # fmt: skip
    os.close(writer)
    assert done.returncode == 2
    assert done.stderr == "CommandError: the output was closed before everything was written\n"


@pytest.mark.parametrize(
    ("output", "says"),
    [
        (">/dev/full", "the output cannot be written: No space left on device"),
        (">&-", "there is no output to write to"),
    ],
)
@pytest.mark.parametrize("style", ["text", "json"])
def test_an_output_that_takes_nothing_is_one_line_and_no_denial(output, says, style):
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONPATH": str(Path.cwd())}
    command = (
        f"{sys.executable} -m django entitlements show 20000000-0000-4000-8000-000000000002 --format {style} {output}"
    )
    done = subprocess.run(command, shell=True, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (2, f"CommandError: {says}\n")


def test_a_check_is_one_line_however_narrow_the_terminal(billing, width):
    width(40)
    assert run("check", ONE, "API Calls", "800")[1].count("\n") == 1


def test_what_is_used_up_here_is_explained(billing, width):
    width(200)
    default_gate().consume(ONE, "API Calls", 5)
    told = "5 calls of it held or used up here, and not yet in billing's numbers"
    assert told in run("explain", ONE, "API Calls")[1]
    assert told not in run("explain", ONE, "sso")[1]


def test_from_a_shell_the_exit_codes_are_the_same():
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONPATH": str(Path.cwd())}
    pro = "20000000-0000-4000-8000-000000000002"
    for arguments, code in (
        (["check", pro, "sso"], 0),
        (["check", pro, "ssso"], 1),
        (["check", "x", "sso"], 2),
        ([], 2),
    ):
        done = subprocess.run([*MANAGE, *arguments], capture_output=True, text=True, env=environment, check=False)
        assert (done.returncode, "Traceback" in done.stderr) == (code, False)
