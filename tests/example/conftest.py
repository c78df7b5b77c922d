"""The example as its user runs it: a server in another process, reached over HTTP."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import httpx
import pytest

PROJECT = Path(__file__).parents[2] / "example_project"
CUSTOMERS = {
    "free": "10000000-0000-4000-8000-000000000001",
    "pro": "20000000-0000-4000-8000-000000000002",
    "lapsed": "30000000-0000-4000-8000-000000000003",
    "signed out": "",
}
_OWN = ("DJANGO_SETTINGS_MODULE", "REDIS_URL")
_PREFIXES = ("COVERAGE_", "FIELDNOTES_", "ZENSKAR_")  # as its user runs it: measuring coverage makes it slow
_LAST_LINE = "Open the page"
PATIENCE = 60


class Demo(NamedTuple):
    """A running demo."""

    process: subprocess.Popen[str]
    address: str
    billing: str
    said: str

    def stop(self, by: signal.Signals = signal.SIGTERM) -> None:
        """Tell it to stop, and wait until it has."""
        self.process.send_signal(by)
        self.process.wait(PATIENCE)


def environment(**given):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_PREFIXES) and name not in _OWN}
    return {**kept, **given}


@contextmanager
def running(*arguments, through=(), stdin=None, **given):
    """Start ``demo.py``, or a command ``through`` which it is started, and read what it says."""
    with subprocess.Popen(
        [*through, sys.executable, str(PROJECT / "demo.py"), *arguments],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**given),
    ) as process:
        try:
            said = "".join(_greeting(process))
            address = re.search(r"^Fieldnotes: (http://127\.0\.0\.1:\d+)/", said)
            assert address, said + process.stderr.read()
            billing = re.search(r"^  billing: (.+)$", said, re.MULTILINE)
            yield Demo(process, address[1], billing[1], said)
        finally:
            end(process)


def _greeting(process):
    for line in process.stdout:
        yield line
        if line.startswith(_LAST_LINE):
            return


def descendants_of(pid):
    """Return the processes that it has started, and those that they have."""
    children = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return {*children, *(each for child in children for each in descendants_of(child))}


def wait_until_ended(pids):
    """Wait until none of them runs: what nobody has waited for is a zombie."""
    end_of_patience = time.monotonic() + PATIENCE
    while running_now := {pid for pid in pids if _is_running(pid)}:
        assert time.monotonic() < end_of_patience, running_now
        time.sleep(0.05)


def _is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False


def end(process):
    """Let the demo end in order; one that does not is killed, and fails the test."""
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


@contextmanager
def visiting(address, customer="signed out", accept="text/html"):
    """A browser, or a program, that has switched to the customer."""
    with httpx.Client(base_url=address, headers={"Accept": accept}, trust_env=False, timeout=PATIENCE) as visitor:
        switch(visitor, customer)
        yield visitor


def switch(visitor, customer):
    chosen = {"csrfmiddlewaretoken": token(visitor), "customer": CUSTOMERS[customer]}
    answer = visitor.post("/sign-in/", data=chosen)
    assert (answer.status_code, answer.headers["location"]) == (302, "/")


def ask(visitor, question, **headers):
    """Send the form of the page that uses something up."""
    return visitor.post("/ask/", data={"csrfmiddlewaretoken": token(visitor), "question": question}, headers=headers)


def token(visitor):
    page = visitor.get("/plans/", headers={"Accept": "text/html"})
    return re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)[1]


@pytest.fixture(scope="module", params=["in the process", "over HTTP"])
def demo(request):
    """The demo over each of its two billings."""
    with running("--port", "0", *(["--sandbox-server"] if request.param == "over HTTP" else [])) as started:
        yield started


@pytest.fixture
def folder():
    """A folder of a short name: that of a socket may have 107 bytes."""
    with TemporaryDirectory() as name:
        yield Path(name)
