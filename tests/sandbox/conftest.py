"""A sandbox at a fixed instant, and the shortest way to ask it something."""

from types import SimpleNamespace

import pytest

from entitlement_gate.sandbox import Request, Sandbox, SandboxServer, Scenario
from entitlement_gate.sandbox.messages import read_json

ORGANISATION = "00000000-0000-4000-8000-000000000001"
HEADERS = {"x-api-key": "sandbox-key", "organisation": ORGANISATION}
FREE = "10000000-0000-4000-8000-000000000001"
PRO = "20000000-0000-4000-8000-000000000002"
LAPSED = "30000000-0000-4000-8000-000000000003"
NOON = 1_768_478_400.0  # 2026-01-15T12:00:00Z


class Clock:
    def __init__(self, now=NOON):
        self.now = now

    def time(self):
        return self.now


@pytest.fixture
def ids():
    return SimpleNamespace(FREE=FREE, PRO=PRO, LAPSED=LAPSED, ORGANISATION=ORGANISATION)


@pytest.fixture
def headers():
    return dict(HEADERS)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def sandbox(clock):
    return Sandbox(clock=clock)


@pytest.fixture
def make_sandbox(clock):
    """A sandbox with one customer, FREE, who has the grants given."""

    def make(*grants, **scenario):
        customers = [{"id": FREE, "name": "Free Fields", "email": "f@example.com", "grants": list(grants)}]
        given = {"api_key": "sandbox-key", "organisation": ORGANISATION, "customers": customers, **scenario}
        return Sandbox(Scenario.parse(given), clock=clock)

    return make


@pytest.fixture
def ask(sandbox):
    """Send a request with good headers and give (status, JSON with exact numbers)."""

    def ask(target, *, method="GET", to=sandbox, body=b"", headers=None):
        reply = to.respond(Request(method, target, HEADERS if headers is None else headers, body))
        return reply.status, read_json(reply.body)

    return ask


@pytest.fixture
def rows(ask, sandbox):
    """The rows of a customer, all on one page."""

    def rows(customer=FREE, query="", to=sandbox):
        status, page = ask(f"/entitlements/customer/{customer}?limit=100{query}", to=to)
        assert status == 200, page
        return page["results"]

    return rows


@pytest.fixture
def server(sandbox):
    with SandboxServer(sandbox) as running:
        yield running
