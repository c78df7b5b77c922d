"""The example as its user runs it: a server in another process, reached over HTTP."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
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
_OWN = ("DJANGO_SETTINGS_MODULE", "ZENSKAR_BASE_URL", "ZENSKAR_API_KEY", "ZENSKAR_ORGANISATION", "FIELDNOTES_CUSTOMERS")
_PATIENCE = 20


class Demo(NamedTuple):
    """A running demo."""

    process: subprocess.Popen[str]
    address: str
    billing: str
    said: str

    def stop(self, by: signal.Signals = signal.SIGTERM) -> float:
        """Tell it to stop; return the seconds that took."""
        began = time.monotonic()
        self.process.send_signal(by)
        self.process.wait(_PATIENCE)
        return time.monotonic() - began


def environment(**given):
    return {**{name: value for name, value in os.environ.items() if name not in _OWN}, **given}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(*arguments, **given):
    """Start ``demo.py`` and read what it says until it has named its customers."""
    with subprocess.Popen(
        [sys.executable, str(PROJECT / "demo.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**given),
    ) as process:
        try:
            lines = [process.stdout.readline() for _ in range(6 if "FIELDNOTES_CUSTOMERS" not in given else 4)]
            address = re.search(r"http://127\.0\.0\.1:\d+", lines[0])
            assert address, lines + process.stderr.readlines()
            yield Demo(process, address[0], lines[1].split(":", 1)[1].strip(), "".join(lines))
        finally:
            end(process)


def end(process):
    """Let the demo end in order; one that does not is killed, and fails the test."""
    process.terminate()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


@contextmanager
def visiting(address, customer="signed out", accept="text/html"):
    """A browser, or a program, that has switched to the customer."""
    with httpx.Client(base_url=address, headers={"Accept": accept}, trust_env=False, timeout=_PATIENCE) as visitor:
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
