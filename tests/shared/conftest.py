"""Gates that stand for processes: each has a store of its own, all have one Redis and one billing."""

import pytest

from entitlement_gate.engine.gate import EntitlementGate
from entitlement_gate.resilience.effects import run_sync
from entitlement_gate.shared.records import Seal
from tests.engine.conftest import ask  # noqa: F401 - a fixture
from tests.engine.fakes import Billing, Clock
from tests.ledger.servers import RedisServer


class SealedBilling(Billing):
    """A billing whose snapshots may be shared; ``secret`` and ``organisation`` can be changed."""

    made = 0

    def __init__(self, clock):
        super().__init__(clock)
        SealedBilling.made += 1
        self.secret = "the key"
        self.organisation = f"organisation {SealedBilling.made}"  # one Redis serves all tests

    def seal(self):
        return Seal(self.secret, self.organisation)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory):
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server.patient_url
    server.kill()


@pytest.fixture
def own_redis(tmp_path):
    """Give a server that the test may stop, kill and start again."""
    server = RedisServer(tmp_path)
    yield server
    server.process.kill()
    server.process.wait()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def billing(clock):
    source = SealedBilling(clock)
    yield source
    source.release()


@pytest.fixture
def make_gate(billing, clock, redis_url, monkeypatch):
    """Make gates whose data is fresh for exactly their TTL."""
    monkeypatch.setattr("entitlement_gate.engine.fetcher._JITTER", 0)
    made = []

    def make(source=billing, **options):
        gate = EntitlementGate(source, **{"clock": clock, "deadline": 10, "redis_url": redis_url, **options})
        made.append(gate)
        return gate

    yield make
    for gate in made:
        gate.close()


@pytest.fixture
def gates(make_gate):
    """Give two, which know each other through Redis alone."""
    return make_gate(), make_gate()


def invalidate(gate, customer):
    run_sync(gate._snapshots.invalidating(customer))


def shared_of(gate):
    return gate._snapshots._shared


def raw_client(gate):
    """Return the gate's own connection to Redis."""
    return shared_of(gate)._store._client


def record_key(gate, customer):
    store = shared_of(gate)._store
    return store._keys(gate.source.seal().scope, customer)[1]
