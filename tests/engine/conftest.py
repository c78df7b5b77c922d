"""Gates over a fake billing, asked through either door."""

import asyncio
import logging

import pytest

from entitlement_gate.engine.gate import EntitlementGate
from tests.engine.fakes import Billing, Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def levels(caplog):
    """Tell the levels of the package's lines in the log so far."""
    caplog.set_level(logging.INFO, logger="entitlement_gate")
    return lambda: [record.levelname for record in caplog.records]


@pytest.fixture
def billing(clock):
    source = Billing(clock)
    yield source
    source.release()


@pytest.fixture
def make_gate(billing, clock, monkeypatch):
    """Make gates whose data is fresh for exactly their TTL."""
    monkeypatch.setattr("entitlement_gate.engine.fetcher._JITTER", 0)
    made = []

    def make(source=billing, **options):
        gate = EntitlementGate(source, **{"clock": clock, "deadline": 10, **options})
        made.append(gate)
        return gate

    yield make
    for gate in made:
        gate.close()


@pytest.fixture
def gate(make_gate):
    return make_gate()


def _sync(gate, verb, *args, **options):
    return getattr(gate, verb)(*args, **options)


def _async(gate, verb, *args, **options):
    return asyncio.run(getattr(gate, f"a{verb}")(*args, **options))


@pytest.fixture(params=[_sync, _async], ids=["sync", "async"])
def ask(request):
    """Ask a gate by a verb: through its sync door, and in another test through its async one."""
    return request.param
