from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from entitlement_gate import EntitlementGate, ZenskarClient
from entitlement_gate.testing.assertions import RealBillingRefused
from entitlement_gate.testing.network_guard import Guard, advice
from tests.customers import FREE

CLIENT = "entitlement_gate.zenskar.client"


@pytest.fixture
def guard():
    """A guard of our own inside the one of this very run, which hears nothing of it."""
    guard = Guard()
    guard.start()
    yield guard
    guard.stop()


def client(**options):
    return ZenskarClient("key", "organisation", **options)


def test_a_real_address_is_refused_and_noted_once(guard):
    with pytest.raises(RealBillingRefused, match=r"^a test would have called https://billing\.example"):
        client(base_url="https://billing.example").fetch(FREE)
    assert guard.taken() == ["https://billing.example"]
    assert guard.taken() == []


def test_a_gate_over_a_real_address_never_knows(guard):
    with EntitlementGate(client()) as gate:
        assert [gate.check(FREE, "sso").reason for _ in range(8)] == ["rejected"] * 8
    assert guard.taken() == ["https://api.zenskar.com"] * 8


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "http://localhost:9", "http://[::1]:9"])
def test_a_loopback_address_is_not(guard, address):
    assert client(base_url=address)._made_network() is not None
    assert guard.taken() == []


def test_the_sandbox_is_not(guard):
    assert ZenskarClient(base_url="sandbox:").fetch(FREE).customer_id == FREE
    assert guard.taken() == []


def test_a_guard_leaves_everything_as_it_was():
    before, finders = ZenskarClient._made_network, list(sys.meta_path)
    guard = Guard()
    guard.start()
    assert ZenskarClient._made_network is not before
    guard.stop()
    guard.stop()
    assert (ZenskarClient._made_network, sys.meta_path) == (before, finders)


@pytest.fixture
def not_imported(monkeypatch):
    """Have the client not imported yet."""
    import entitlement_gate.zenskar as package

    module = sys.modules[CLIENT]
    monkeypatch.delitem(sys.modules, CLIENT)
    yield
    sys.modules[CLIENT] = package.client = module


def test_the_client_is_guarded_when_it_is_imported(not_imported):
    import importlib

    guard = Guard()
    guard.start()
    module = importlib.import_module(CLIENT)
    try:
        assert module.__loader__ is module.__spec__.loader
        assert "_Then" not in repr(module.__loader__)
        with pytest.raises(Exception, match="a test would have called"):
            module.ZenskarClient("key", "organisation").fetch(FREE)
        assert guard not in sys.meta_path
    finally:
        guard.stop()


def test_a_client_that_is_never_imported_is_watched_for_until_the_end(not_imported):
    guard = Guard()
    guard.start()
    assert guard.find_spec("json") is None
    assert guard in sys.meta_path
    guard.stop()
    assert guard not in sys.meta_path


def test_the_advice_names_the_addresses_and_the_ways_out():
    text = advice(["https://b", "https://a", "https://b"])
    assert text.startswith("this test would have called billing at https://a, https://b, and tests must not.")
    for way in (
        "override_entitlements",
        "@pytest.mark.entitlements",
        "`entitlements`",
        "sandbox:",
        "no:entitlement_gate",
    ):
        assert way in text


def test_the_refusal_counts_as_a_status_that_opens_no_breaker():
    assert RealBillingRefused("why").status == 400
    assert SimpleNamespace(text=str(RealBillingRefused("why"))).text == "why"
