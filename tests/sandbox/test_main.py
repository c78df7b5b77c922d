import json
import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

from entitlement_gate.sandbox.__main__ import main
from tests.ports import free_port

COMMAND = [sys.executable, "-m", "entitlement_gate.sandbox"]


@pytest.fixture
def running():
    started = []

    def run(*arguments, **options):
        process = subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.PIPE, text=True, **options)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(autouse=True)
def signals():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def greeting(process):
    lines = []
    while not lines or "Lapsed" not in lines[-1]:
        lines.append(process.stdout.readline())
        assert lines[-1], process.stderr.read()
    return lines


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_is_and_stops_when_told(running, number, headers, ids):
    process = running("--port", "0", stdout=subprocess.PIPE)
    lines = greeting(process)
    url = lines[0].split()[3]
    assert "sandbox-key" in lines[1]
    assert ids.ORGANISATION in lines[2]
    assert [line.split()[0] for line in lines[4:]] == [ids.FREE, ids.PRO, ids.LAPSED]
    assert httpx.get(f"{url}/customers", headers=headers, trust_env=False).status_code == 200
    process.send_signal(number)
    assert process.wait(30) == 0
    assert process.stderr.read() == ""


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_closed_pipe_makes_no_noise_and_ends_nothing(running):
    port = free_port()
    reader, writer = os.pipe()
    os.close(reader)
    process = running("--port", str(port), stdout=writer)
    os.close(writer)
    end = time.monotonic() + 20
    while not listens(port):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    process.terminate()
    assert process.wait(30) == 0
    assert process.stderr.read() == ""


@pytest.mark.parametrize(
    ("scenario", "says"),
    [
        (None, "No such file"),
        ("{", "not JSON"),
        ({"api_key": "k", "organisation": "x"}, "organisation: expected a UUID, not 'x'"),
    ],
)
def test_a_bad_scenario_is_one_line_and_exit_code_2(tmp_path, capsys, scenario, says):
    path = tmp_path / "scenario.json"
    if scenario is not None:
        path.write_text(scenario if isinstance(scenario, str) else json.dumps(scenario))
    assert main(["--scenario", str(path)]) == 2
    shown = capsys.readouterr()
    assert says in shown.err
    assert (shown.err.count("\n"), shown.out) == (1, "")


def test_a_port_in_use_is_one_line_and_exit_code_2(server, capsys):
    port = server.url.rsplit(":", 1)[1]
    assert main(["--port", port]) == 2
    assert capsys.readouterr().err == f"sandbox: cannot listen on 127.0.0.1:{port}: Address already in use\n"


@pytest.mark.parametrize("arguments", [["--port", "65536"], ["--port", "x"], ["--host", "0.0.0.0"], ["--nothing"]])
def test_options_that_cannot_be_are_exit_code_2(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err
