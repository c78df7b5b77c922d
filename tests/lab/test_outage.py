"""A steady outage: how much of it billing gets to feel."""

import random

import pytest

from entitlement_gate.engine.gate import EntitlementGate
from tests.engine.fakes import Billing, Clock, customers


def test_60_s_of_outage_at_50_checks_a_second_cost_a_few_probes(make_gate, sandbox, monkeypatch):
    monkeypatch.setattr("entitlement_gate.zenskar.client.time.sleep", lambda _: None)
    clock = Clock()
    gate = make_gate(clock=clock)
    fetch, fetches = gate.source.fetch, []
    gate._snapshots._fetcher.source = type("Counted", (), {"fetch": lambda _, c: fetches.append(c) or fetch(c)})()
    sandbox.fail("status", status=503)
    for customer in customers(3_000):
        assert not gate.has(customer, "reports")
        clock.advance(1 / 50)
    # 5 failures open the breaker, then one probe in 5 s; only the first fetch is tried three times.
    assert len(fetches) <= 5 + 60 / 5 + 1
    assert sandbox.request_count <= len(fetches) + 2


def test_without_the_breaker_retries_add_less_than_a_tenth(make_gate, sandbox, monkeypatch):
    monkeypatch.setattr("entitlement_gate.zenskar.client.time.sleep", lambda _: None)
    monkeypatch.setattr("entitlement_gate.resilience.circuit_breaker.CircuitBreaker.FAILURES", 10**9)
    gate = make_gate()
    sandbox.fail("status", status=503)
    for customer in customers(300):
        assert not gate.has(customer, "reports")
    assert 300 <= sandbox.request_count <= 1.1 * 300


@pytest.mark.parametrize("rate", [50, 1_000])
def test_random_ids_cost_no_more_than_the_budget(rate):
    clock = Clock()
    billing = Billing(clock)
    gate = EntitlementGate(billing, clock=clock, max_customers=1_000)
    billing.grants = dict.fromkeys(customers(20_000), ())
    known = customers(1, start=10**6)[0]
    seconds = 6_000 // rate
    assert gate.has(known, "reports")
    for customer in customers(6_000):
        gate.has(customer, "reports")
        clock.advance(1 / rate)
        if random.random() < 0.01:
            assert gate.has(known, "reports")
    assert len(billing.calls) <= 1_000 + 100 * seconds + seconds
    gate.close()
