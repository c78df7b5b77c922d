"""Several processes, one Redis, one billing over real sockets."""

import time

import pytest

from entitlement_gate.sandbox import Sandbox, SandboxServer
from tests.engine.fakes import customers, eventually
from tests.shared.fleet import Member

SIZE, THREADS = 4, 8


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory):
    from tests.ledger.servers import RedisServer

    server = RedisServer(tmp_path_factory.mktemp("fleet"))
    yield server.patient_url
    server.kill()


@pytest.fixture(scope="module")
def sandbox():
    return Sandbox()


@pytest.fixture(scope="module")
def server(sandbox):
    with SandboxServer(sandbox) as running:
        yield running


@pytest.fixture(scope="module")
def fleet(server, redis_url):
    members = [Member(server.url, redis_url) for _ in range(SIZE)]
    for member, customer in zip(members, customers(SIZE, start=900), strict=True):
        member.ask("check", customer)  # up, and listening
    yield members
    for member in members:
        member.stop()


@pytest.fixture
def calls(sandbox, fleet):
    """Give the number of requests that billing got since the test began."""
    before = sandbox.request_count
    return lambda: sandbox.request_count - before


def test_one_cold_customer_costs_the_whole_fleet_one_call(fleet, sandbox, calls):
    customer = customers(1, start=1)[0]
    sandbox.grant(customer, "reports")
    sandbox.fail("delay", seconds=0.3, times=1)
    for member in fleet:
        member.tell("check", customer, THREADS)
    answers = [answer for member in fleet for answer in member.hear()]
    assert len(answers) == SIZE * THREADS
    assert all(allowed for allowed, _, _ in answers)
    assert calls() == 1
    assert {source for _, source, _ in answers} >= {"live", "shared"}


def test_an_invalidation_in_one_reaches_all(fleet, sandbox, calls):
    customer = customers(1, start=2)[0]
    sandbox.grant(customer, "other")
    assert not any(member.ask("check", customer)[0][0] for member in fleet)
    sandbox.grant(customer, "reports")
    fleet[0].ask("invalidate", customer)
    eventually(lambda: all(member.ask("check", customer)[0][0] for member in fleet))
    assert calls() <= 3


def test_the_fleet_goes_on_where_one_dies_in_the_middle_of_a_fetch(server, redis_url, fleet, sandbox):
    customer = customers(1, start=3)[0]
    sandbox.grant(customer, "reports")
    options = {"deadline": 6.0}
    doomed, heir = Member(server.url, redis_url, **options), Member(server.url, redis_url, **options)
    heir.ask("check", customers(1, start=4)[0])
    doomed.ask("check", customers(1, start=5)[0])
    before = sandbox.request_count
    sandbox.fail("delay", seconds=20, times=1)
    doomed.tell("check", customer)
    eventually(lambda: sandbox.request_count > before)
    doomed.process.kill()
    began = time.monotonic()
    assert [answer[:2] for answer in heir.ask("check", customer)] == [(True, "live")]
    assert time.monotonic() - began < options["deadline"]
    doomed.stop()
    heir.stop()
