"""A helper that freezes all of time, the monotonic clock included, as many test suites use it."""

import asyncio

import pytest
from freezegun import freeze_time

from entitlement_gate import EntitlementGate
from entitlement_gate.testing import FakeSource

ANNA, BERT = "10000000-0000-4000-8000-000000000001", "20000000-0000-4000-8000-000000000002"


def _sync(gate, verb, *args, **options):
    return getattr(gate, verb)(*args, **options)


def _async(gate, verb, *args, **options):
    return asyncio.run(getattr(gate, f"a{verb}")(*args, **options))


@pytest.fixture(params=[_sync, _async], ids=["sync", "async"])
def ask(request):
    return request.param


@pytest.fixture
def source():
    made = FakeSource()
    for customer in (ANNA, BERT):
        made.grant(customer, "sso")
        made.grant(customer, "calls", 5)
    return made


@pytest.fixture
def gate(source):
    with EntitlementGate(source) as made:
        yield made


@pytest.mark.parametrize("at", ["2001-01-01", "2099-01-01"])
def test_afterwards_the_gate_is_as_it_was(gate, source, ask, at):
    with freeze_time(at):
        assert ask(gate, "has", ANNA, "sso")
        source.fail()
        for _ in range(6):
            ask(gate, "check", ANNA, "sso", refresh=True)
        source.recover()
    source.revoke(ANNA, "sso")
    assert ask(gate, "check", ANNA, "sso").reason == "not_entitled"
    assert ask(gate, "check", BERT, "sso").allowed
    assert ask(gate, "check", BERT, "sso").age >= 0
    assert gate.health()["last_success_age"] >= 0
    assert gate.health()["breaker"] == "closed"


def test_data_grows_old_and_holds_run_out_as_the_test_says(gate, source, ask):
    with freeze_time("2030-01-01", real_asyncio=True) as frozen:
        ask(gate, "reserve", ANNA, "calls", 4, ttl=60)
        source.grant(ANNA, "reports")
        assert not ask(gate, "has", ANNA, "reports")
        frozen.tick(6)
        assert ask(gate, "has", ANNA, "reports")
        assert ask(gate, "check", ANNA, "calls").remaining == 1
        frozen.tick(61)
        assert ask(gate, "check", ANNA, "calls").remaining == 5


def test_a_hold_made_in_frozen_time_runs_out_in_real_time_too(gate, ask):
    with freeze_time("2099-01-01"):
        ask(gate, "reserve", ANNA, "calls", 4, ttl=0.05)
    ask(gate, "consume", ANNA, "calls", 1)
    with freeze_time("2030-01-01") as frozen:
        frozen.tick(1)
        assert ask(gate, "check", ANNA, "calls").remaining >= 0
    for _ in range(500):
        if ask(gate, "check", ANNA, "calls").remaining == 4:
            return
        asyncio.run(asyncio.sleep(0.01))
    pytest.fail("it never ran out")


def test_the_kit_s_clock_goes_by_frozen_time(entitlements):
    with freeze_time("2030-01-01") as frozen:
        at = entitlements.clock.time()
        frozen.tick(5)
        assert entitlements.clock.time() - at == 5
        entitlements.advance(3)
        assert entitlements.clock.time() - at == 8
