"""How the example is started and stopped, and what it does when billing fails."""

import os
import pty
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from entitlement_gate.sandbox import Sandbox, SandboxServer
from tests.example.conftest import (
    CUSTOMERS,
    PATIENCE,
    PROJECT,
    ask,
    descendants_of,
    end,
    environment,
    running,
    switch,
    visiting,
    wait_until_ended,
)
from tests.ports import free_port

STOPS = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("by", STOPS, ids=lambda signalled: signalled.name)
def test_the_demo_ends_quietly(by):
    with running("--port", "0") as demo, visiting(demo.address, "pro") as visitor:
        assert visitor.get("/reports/").status_code == 200  # a connection stays open
        demo.stop(by)
        assert demo.process.returncode == 0
        assert demo.process.stdout.read() + demo.process.stderr.read() == ""


@pytest.mark.parametrize("by", STOPS, ids=lambda signalled: signalled.name)
def test_the_sandbox_server_ends_with_the_demo(by):
    with running("--port", "0", "--sandbox-server") as demo:
        assert httpx.get(f"{demo.billing}/_sandbox", trust_env=False, timeout=PATIENCE).json()["requests"] == 0
        with visiting(demo.address, "pro") as visitor:
            assert visitor.get("/reports/").status_code == 200
        assert httpx.get(f"{demo.billing}/_sandbox", trust_env=False, timeout=PATIENCE).json()["requests"] == 1
        demo.stop(by)
        assert demo.process.returncode == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{demo.billing}/_sandbox", trust_env=False, timeout=PATIENCE)


@pytest.mark.parametrize("by", STOPS, ids=lambda signalled: signalled.name)
@pytest.mark.parametrize("seconds", [0, 0.1, 0.3])
def test_a_demo_that_has_not_begun_to_serve_ends_as_quietly(seconds, by):
    with running("--port", "0") as demo:
        time.sleep(seconds)  # the start takes about a second after the greeting
        demo.stop(by)
        assert demo.process.returncode == 0
        assert demo.process.stdout.read() + demo.process.stderr.read() == ""


@pytest.mark.parametrize("others", [[], ["--sandbox-server"], ["--redis"]], ids=["alone", "sandbox", "redis"])
def test_nothing_outlives_a_demo_that_is_killed(folder, others):
    with running("--port", "0", *others, TMPDIR=str(folder)) as demo:
        started = descendants_of(demo.process.pid)
        assert len(started) >= 1 + len(others)
        demo.stop(signal.SIGKILL)
        wait_until_ended(started)
        wait_for_none_in(folder)
        with pytest.raises(httpx.ConnectError):
            httpx.get(demo.address, trust_env=False, timeout=PATIENCE)


def test_a_demo_ends_in_order_when_who_started_it_was_killed(folder):
    through = [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])"]
    with running("--port", "0", "--redis", "--end-with-parent", through=through, TMPDIR=str(folder)) as starter:
        started = descendants_of(starter.process.pid)
        starter.stop(signal.SIGKILL)
        wait_until_ended(started)
        assert list(folder.iterdir()) == []
        assert starter.process.stderr.read() == ""


def test_a_demo_ends_in_order_when_its_terminal_is_closed():
    window, terminal = pty.openpty()
    with running("--port", "0", "--end-with-parent", stdin=terminal) as demo:
        os.close(terminal)
        os.close(window)
        demo.process.wait(PATIENCE)
        assert (demo.process.returncode, demo.process.stderr.read()) == (0, "")


def test_make_asks_the_demo_to_end_with_it():
    recipe = (PROJECT.parent / "Makefile").read_text().partition("\ndemo:")[2].partition("\n\n")[0]
    assert "demo.py --end-with-parent $(DEMO)" in recipe


def wait_for_none_in(folder):
    end_of_patience = time.monotonic() + PATIENCE
    while left := list(folder.iterdir()):
        assert time.monotonic() < end_of_patience, left
        time.sleep(0.05)


def test_a_taken_port_is_replaced_by_a_free_one():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with running("--port", str(port)) as demo:
            assert not demo.address.endswith(f":{port}")
            assert f"port {port} is taken: this is a free one" in demo.said
            assert httpx.get(f"{demo.address}/plans/", trust_env=False, timeout=PATIENCE).status_code == 200


def test_the_port_asked_for_is_taken_where_it_is_free():
    port = free_port()
    with running("--port", str(port)) as demo:
        assert demo.address == f"http://127.0.0.1:{port}"
        assert "taken" not in demo.said


def test_two_demos_that_are_started_at_once_do_not_meet():
    port = str(free_port())
    with ExitStack() as stack, ThreadPoolExecutor(2) as starting:
        demos = list(starting.map(lambda _: stack.enter_context(running("--port", port)), range(2)))
        assert demos[0].address != demos[1].address
        assert any(f"port {port} is taken" in demo.said for demo in demos)
        # Cookies know no port: one browser sends them to both.
        with httpx.Client(headers={"Accept": "text/html"}, trust_env=False, timeout=PATIENCE) as browser:
            for demo, customer in zip(demos, ("pro", "lapsed"), strict=True):
                browser.base_url = demo.address
                switch(browser, customer)
            assert [browser.get(f"{demo.address}/reports/").status_code for demo in demos] == [200, 403]
            demos[1].stop()
            browser.base_url = demos[0].address
            assert "44.8 of 100 credits left" in ask(browser, "the barn").text


def test_the_environment_names_another_account():
    with SandboxServer(Sandbox()) as billing:
        account = {
            "ZENSKAR_BASE_URL": billing.url,
            "ZENSKAR_API_KEY": "sandbox-key",
            "ZENSKAR_ORGANISATION": "00000000-0000-4000-8000-000000000001",
            "FIELDNOTES_CUSTOMERS": f"Acme={CUSTOMERS['pro']}, Other = {CUSTOMERS['free']}",
        }
        with running("--port", "0", **account) as demo, visiting(demo.address, "pro") as visitor:
            assert demo.billing == billing.url
            assert visitor.get("/reports/").status_code == 200
            assert "Signed in as <strong>Acme</strong>" in visitor.get("/").text
        with running("--port", "0", **account | {"ZENSKAR_API_KEY": "wrong"}) as demo:
            with visiting(demo.address, "pro", accept="application/json") as visitor:
                refused = visitor.get("/reports/")
            assert (refused.status_code, refused.json()["code"]) == (503, "rejected")


def test_customers_that_are_no_customers_are_told_before_anything_starts():
    done = subprocess.run(
        [sys.executable, str(PROJECT / "demo.py"), "--port", "0"],
        capture_output=True,
        text=True,
        env=environment(FIELDNOTES_CUSTOMERS="Acme=12"),
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("FIELDNOTES_CUSTOMERS: expected “Name=id, Name=id”")


def test_the_demo_says_where_it_is_and_who_can_be_switched_to():
    with running("--port", "0") as demo:
        assert demo.billing == "the sandbox, in this process"
        for name in ("Free Fields", "Pro Plumbing", "Lapsed Logistics"):
            assert name in demo.said


def test_the_environment_names_other_customers():
    with running("--port", "0", FIELDNOTES_CUSTOMERS="Acme=20000000-0000-4000-8000-000000000002") as demo:
        assert "Acme" in demo.said
        assert "Free Fields" not in demo.said


@pytest.mark.parametrize("port", ["-1", "70000", "eighty"])
def test_what_is_no_port_is_refused(port):
    done = subprocess.run(
        [sys.executable, str(PROJECT / "demo.py"), f"--port={port}"],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 2
    assert "expected a port from 0 to 65535" in done.stderr


def test_an_outage_of_billing_is_503_and_never_about_the_plan():
    with running("--port", "0", "--sandbox-server") as demo:
        faults = [{"kind": "status", "status": 503}]
        httpx.put(f"{demo.billing}/_sandbox/faults", json=faults, trust_env=False, timeout=PATIENCE).raise_for_status()
        with visiting(demo.address, "pro") as visitor:
            page = visitor.get("/reports/")
            home = visitor.get("/")
            problem = visitor.get("/export/", headers={"Accept": "application/json"})
    assert (page.status_code, home.status_code, problem.status_code) == (503, 503, 503)
    assert page.headers["retry-after"] == problem.headers["retry-after"] == "5"
    assert problem.json()["code"] == "unavailable"
    assert "This is not about your plan" in page.text
    assert "This is not about your plan" in home.text


def test_the_example_runs_under_wsgi_too(tmp_path):
    port = free_port()
    own = environment(FIELDNOTES_DATABASE=str(tmp_path / "db.sqlite3"))
    manage = [sys.executable, "-W", "error", str(PROJECT / "manage.py")]
    for command in ("migrate", "seed"):
        subprocess.run([*manage, command], stdout=subprocess.DEVNULL, env=own, timeout=PATIENCE, check=True)
    command = [*manage, "runserver", "--noreload", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=own) as server:
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for(address)
            with visiting(address, "pro") as visitor:
                pages = ("/", "/reports/", "/export/", "/summary/", "/summary/?length=long", "/team/", "/api/report/")
                assert [visitor.get(page).status_code for page in pages] == [200, 200, 200, 200, 402, 200, 200]
                assert ask(visitor, "the barn").status_code == 200
                assert "44.8 of 100 credits" in visitor.get("/ask/").text
        finally:
            end(server)


def wait_for(address):
    for _ in range(600):
        try:
            return httpx.get(f"{address}/plans/", trust_env=False, timeout=PATIENCE)
        except httpx.ConnectError:
            time.sleep(0.1)
    raise AssertionError(f"nothing listens at {address}")


def test_the_examples_settings_pass_every_check():
    done = subprocess.run(
        [sys.executable, str(PROJECT / "manage.py"), "check", "--fail-level", "WARNING"],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
