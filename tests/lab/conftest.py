"""Gates over the real client: real sockets where transport is the subject, moved clocks where time is."""

import time

import pytest

from entitlement_gate.engine.gate import EntitlementGate
from entitlement_gate.sandbox import Sandbox, SandboxServer, SandboxTransport
from entitlement_gate.zenskar.client import ZenskarClient
from tests.engine.conftest import ask  # noqa: F401 - a fixture

DEADLINE = 1.0
LATEST = 1.1 * DEADLINE  # nobody waits longer, beyond what the machine is busy with


class Shifted:
    """The real clocks, set forward by as much as the test says."""

    def __init__(self):
        self.ahead = 0.0

    def time(self):
        return time.time() + self.ahead

    def monotonic(self):
        return time.monotonic() + self.ahead


@pytest.fixture
def shifted():
    return Shifted()


@pytest.fixture
def sandbox():
    return Sandbox()


@pytest.fixture
def server(sandbox):
    with SandboxServer(sandbox) as running:
        yield running


@pytest.fixture
def make_gate(sandbox, request):
    """Make gates over a client: over sockets when given a URL, else straight into the sandbox."""
    made = []

    def make(url=None, *, client=None, **options):
        transport = None if url else SandboxTransport(sandbox)
        scenario = sandbox.scenario
        source = ZenskarClient(
            scenario.api_key,
            scenario.organisation,
            transport=transport,
            **{"base_url": url or "https://billing.example", "deadline": DEADLINE, **(client or {})},
        )
        made.append(EntitlementGate(source, **{"deadline": DEADLINE, **options}))
        return made[-1]

    yield make
    for gate in made:
        gate.close()
