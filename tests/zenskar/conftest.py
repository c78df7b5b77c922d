"""A scripted server and a client of it, both gone when the test is over."""

import contextlib
import time

import pytest

from entitlement_gate.zenskar.client import ZenskarClient
from tests.zenskar.scripted import KEY, ORGANISATION, ScriptedServer

NOON = 1_768_478_400.0  # 2026-01-15T12:00:00Z


class Clock:
    """A wall clock that a test sets, and a stopwatch that runs and may leap."""

    def __init__(self, now=NOON):
        self.now = now
        self.leapt = 0.0

    def time(self):
        return self.now

    def monotonic(self):
        return time.monotonic() + self.leapt


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def serve():
    with contextlib.ExitStack() as stack:

        def serve(*script):
            server = ScriptedServer(*script)
            stack.callback(server.stop)
            return server

        yield serve


@pytest.fixture
def connect(serve):
    """Make a client of a server, by default one with a budget no test exhausts by accident."""
    with contextlib.ExitStack() as stack:

        def connect(server, api_key=KEY, organisation=ORGANISATION, **options):
            base_url = server if isinstance(server, str) else server.url
            return stack.enter_context(ZenskarClient(api_key, organisation, base_url=base_url, **options))

        yield connect
