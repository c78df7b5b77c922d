from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from entitlement_gate import cli
from entitlement_gate.sandbox import Sandbox, SandboxServer, Scenario
from tests.operators.world import EMPTY, ONE, ORGANISATION, STRANGER, configured, run, scenario, scenario_file

__all__ = ["scenario_file"]


@pytest.fixture
def environment(monkeypatch):
    """Sets the variables that are named, and no other."""

    def use(**variables):
        for name in ("API_KEY", "ORGANISATION", "BASE_URL"):
            monkeypatch.delenv(f"ZENSKAR_{name}", raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(f"ZENSKAR_{name}", value)

    monkeypatch.delenv("NO_COLOR", raising=False)
    return use


@pytest.fixture
def server(environment):
    with SandboxServer(Sandbox(Scenario.parse(scenario()))) as running:
        environment(API_KEY="key", ORGANISATION=ORGANISATION, BASE_URL=running.url)
        yield running


def aged(text):
    """Give the text with all data of one age: on a busy machine one door may look a second later."""
    return re.sub(r"\d+ s old", "0 s old", text)


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize(
    "arguments",
    [
        ("show", ONE), ("show", ONE, "--rows"), ("check", ONE, "sso"), ("check", ONE, "seats"),
        ("explain", ONE, "API Calls", "800"), ("explain", ONE, "ssso"), ("show", ONE, "--format", "json"),
        ("show", STRANGER), ("check", "x", "y"),
    ],
)  # fmt: skip
def test_both_doors_say_the_same(server, capsys, monkeypatch, *, arguments, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    code = cli.main(arguments)
    said = capsys.readouterr()
    with configured(API_KEY="key", ORGANISATION=ORGANISATION, BASE_URL=server.url):
        there = run(*arguments)
    out, error = there[1], there[2]
    assert (code, said.err) == (there[0], f"entitlement-gate: {error}\n" if error else "")
    if "json" in arguments:
        assert {**json.loads(said.out), "age": 0} == {**json.loads(out), "age": 0}
    else:
        assert aged(said.out) == aged(out)


def test_doctor_looks_at_billing_and_at_names(server, capsys):
    assert cli.main(["doctor", ONE, "--name", "seets", "--name", "sso", "--format", "json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["problems"] == 1
    (problem,) = [finding for finding in told["findings"] if finding["level"] == "warning"]
    assert (problem["about"], problem["hint"]) == ("names", "Did you mean 'seats'?")
    assert cli.main(["doctor", EMPTY]) == 0
    assert "no problems" in capsys.readouterr().out


def test_without_credentials_it_says_which_to_set(environment, capsys):
    environment()
    assert cli.main(["show", ONE]) == 2
    assert capsys.readouterr().err == (
        "entitlement-gate: no credentials: set ZENSKAR_API_KEY and ZENSKAR_ORGANISATION in the environment\n"
    )
    environment(API_KEY="k")
    assert cli.main(["show", ONE]) == 2
    assert "set ZENSKAR_ORGANISATION in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"BASE_URL": "ftp://x"}, "ZENSKAR_BASE_URL: https"),
        ({"BASE_URL": "sandbox:/no/such"}, "ZENSKAR_BASE_URL: /no/such: No such file"),
        ({"API_KEY": "a\nb"}, "ZENSKAR_API_KEY: text that a header can hold"),
    ],
)
def test_a_variable_that_cannot_work_is_named(environment, capsys, variables, says):
    environment(**{"API_KEY": "k", "ORGANISATION": "o", **variables})
    assert cli.main(["show", ONE]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_no_network_is_one_line(environment, capsys):
    environment(API_KEY="k", ORGANISATION="o", BASE_URL="http://127.0.0.1:1")
    assert cli.main(["check", ONE, "sso"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("entitlement-gate: unknown: unavailable")
    assert "no connection (ConnectError)" in error
    assert error.count("\n") == 1


def test_the_sandbox_needs_no_credentials(environment, scenario_file, capsys):
    environment(BASE_URL=f"sandbox:{scenario_file()}")
    assert cli.main(["check", ONE, "sso"]) == 0
    assert capsys.readouterr().out == "allowed: sso: allowed: billing grants it\n"


def test_colours_are_for_terminals_and_those_who_ask(server, capsys, monkeypatch):
    painted = ["check", ONE, "sso", "--force-color"]
    assert cli.main(painted) == 0
    assert "\x1b[" in capsys.readouterr().out
    cli.main(["check", ONE, "sso", "--no-color"])
    assert "\x1b[" not in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    cli.main(painted)
    assert "\x1b[" not in capsys.readouterr().out


def test_the_sandbox_is_served_from_here_too(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["sandbox", "--port", "x"])
    assert end.value.code == 2
    assert "python -m entitlement_gate.sandbox" in capsys.readouterr().err


def test_an_interrupt_is_one_line(server, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "answer", interrupted)
    assert cli.main(["check", ONE, "sso"]) == 130
    assert capsys.readouterr().err == "entitlement-gate: interrupted\n"


SCRIPT = [sys.executable, "-c", "import sys; from entitlement_gate.cli import main; sys.exit(main())"]


def test_a_closed_pipe_is_one_line_and_no_traceback(server):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*SCRIPT, "show", ONE], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (
        2, "entitlement-gate: the output was closed before everything was written\n",
    )  # fmt: skip


def test_misuse_is_told_to_programs_too(server, capsys):
    assert cli.main(["check", "nobody", "sso", "--format", "json"]) == 2
    told = capsys.readouterr()
    assert f"entitlement-gate: {json.loads(told.out)['error']}\n" == told.err


def test_a_closed_output_is_one_line(server):
    done = subprocess.run(
        f"{sys.executable} -m entitlement_gate.cli show {ONE} >&-",
        shell=True, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (2, "entitlement-gate: there is no output to write to\n")


def test_it_needs_no_django_settings(server):
    code = (
        "import sys; from entitlement_gate.cli import main; code = main(); "
        "from django.conf import settings; sys.exit(99 if settings.configured else code)"
    )
    bare = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    for arguments, expected in ((["check", ONE, "sso"], 0), (["explain", ONE, "seats"], 1), (["doctor", ONE], 0)):
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=bare, check=False)
        assert (done.returncode, done.stderr) == (expected, "")


def test_a_terminal_without_block_characters_gets_others(server):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "120"}
    done = subprocess.run([*SCRIPT, "show", ONE], capture_output=True, text=True, env=environment, check=False)
    assert "############........ 750 of 1200 calls" in done.stdout
    assert done.stderr == ""
