from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from django.test import TestCase, override_settings

import entitlement_gate as eg
from entitlement_gate import EntitlementGate, ZenskarClient
from entitlement_gate.api import default_gate
from entitlement_gate.testing import FakeBilling, plugin
from entitlement_gate.testing.assertions import RealBillingRefused
from entitlement_gate.testing.plugin import BillingGuard, advice
from tests.customers import FREE, PRO
from tests.testing.projects import CUSTOMER

PLAIN = "[pytest]\nasyncio_default_fixture_loop_scope = function\n"
REAL = {"API_KEY": "test", "ORGANISATION": "test"}


def may(name, *quantity):
    return eg.has_entitlement(FREE, name, *quantity)


@pytest.mark.entitlements(sso=True, seats=5)
def test_a_marker_says_what_customers_may():
    assert (may("sso"), may("seats", 5), may("seats", 6), may("reports")) == (True, True, False, False)


@pytest.mark.entitlements({"API Calls": 5, "customer": True}, customer=FREE, sso=True)
def test_a_marker_takes_any_name_and_a_customer():
    assert (may("API Calls", 5), may("sso"), may("customer")) == (True, True, True)
    assert not eg.has_entitlement(PRO, "sso")


@pytest.mark.entitlements({"seats": 1})
@pytest.mark.entitlements(sso=True, seats=2)
class TestMarked:
    @pytest.fixture
    def asked(self):
        return may("sso")

    def test_function_fixtures_are_inside(self, asked):
        assert asked

    def test_of_several_markers_the_lowest_is_innermost(self):
        assert may("seats", 2)

    @pytest.mark.entitlements(sso=False)
    async def test_the_closest_marker_is_innermost(self):
        assert not await eg.ahas_entitlement(FREE, "sso")
        assert await eg.ahas_entitlement(FREE, "seats")

    @pytest.mark.entitlements(reports=True)
    def test_a_marker_stands_before_the_fixture(self, entitlements):
        entitlements.grant(FREE, "other")
        assert (may("reports"), may("sso"), may("other")) == (True, True, False)


def test_a_marker_that_is_no_dict_says_how_to_write_it():
    with pytest.raises(TypeError, match="takes keywords or a dict of name to value, such as sso=True, not 'sso'"):
        plugin._override("sso")


@pytest.mark.parametrize("turn", [1, 2])
@override_settings(ENTITLEMENT_GATE={"BASE_URL": "sandbox:", "DEADLINE": 30})
def test_what_one_test_uses_up_is_there_for_the_next(turn):
    assert eg.consume_entitlement(PRO, "seats", 2).remaining == 0


def test_no_gate_is_left_for_the_next_test():
    with override_settings(ENTITLEMENT_GATE={"BASE_URL": "sandbox:", "DEADLINE": 30}):
        gate = default_gate()
        plugin._forget_gate()
        assert default_gate() is not gate


@pytest.mark.entitlements(sso=True)
class TestMarkedCase(TestCase):
    databases = ()

    def setUp(self):
        assert may("sso")

    def test_test_cases_are_marked_like_any_class(self):
        assert may("sso")


def test_the_fixture_is_a_fake_billing(entitlements):
    assert isinstance(entitlements, FakeBilling)


@pytest.mark.parametrize("run", range(3))
def test_the_fixture_starts_empty_each_time(entitlements, run):
    assert not may("sso")
    entitlements.grant(FREE, "sso")
    assert may("sso")


@override_settings(ENTITLEMENT_GATE=REAL)
def test_the_fixture_and_overrides_call_no_real_billing(entitlements):
    assert not may("sso")


GUARDED = f"""
    import unittest
    import pytest
    from entitlement_gate import EntitlementGate, ZenskarClient, has_entitlement
    from entitlement_gate.testing import override_entitlements

    def ask():
        return has_entitlement("{CUSTOMER}", "sso")

    def test_passing():
        assert not ask()

    def test_failing():
        assert ask()

    def test_expecting():
        with pytest.raises(AssertionError):
            assert ask()

    @pytest.mark.xfail
    def test_known():
        assert ask()

    @pytest.fixture
    def asked():
        return ask()

    def test_setting_up(asked):
        pass

    @pytest.fixture
    def asking_late():
        yield
        ask()

    def test_tearing_down(asking_late):
        pass

    def test_with_a_gate_of_its_own():
        with EntitlementGate(ZenskarClient("k", "o", base_url="https://billing.example")) as gate:
            assert not gate.has("{CUSTOMER}", "sso")

    class TestCases(unittest.TestCase):
        def test_passing(self):
            self.assertFalse(ask())

    def test_that_asks_nothing():
        pass

    @override_entitlements({{"sso": True}})
    def test_overridden():
        assert ask()

    def test_granted(entitlements):
        assert not ask()
    """


def test_a_test_that_would_call_real_billing_fails_and_is_told_how_to_fix_it(project):
    project.write("test_guarded.py", GUARDED)
    outcome = project.pytest("-p", "no:randomly", "-rA")
    assert (outcome["failed"], outcome["error"], outcome["xfailed"], outcome["passed"]) == (5, 2, 1, 4)
    assert "this test would have called billing at https://api.zenskar.com, and tests must not." in outcome.said
    assert "this test would have called billing at https://billing.example, and" in outcome.said
    assert 'with override_entitlements({"sso": True, "seats": 5}):' in outcome.said
    for failed in (
        "test_passing",
        "test_failing",
        "test_expecting",
        "test_with_a_gate_of_its_own",
        "TestCases::test_passing",
    ):
        assert f"FAILED test_guarded.py::{failed}" in outcome.said
    for error in ("test_setting_up", "test_tearing_down"):
        assert f"ERROR test_guarded.py::{error}" in outcome.said
    assert "where False = ask()" in outcome.said


def test_a_run_that_is_meant_to_call_billing_goes_without_the_plugin(project):
    project.write(
        "test_real.py",
        f"""
        from entitlement_gate import check_entitlement

        def test_real(settings):
            settings.ENTITLEMENT_GATE = {{**settings.ENTITLEMENT_GATE, "BASE_URL": "https://billing.invalid"}}
            assert check_entitlement("{CUSTOMER}", "sso").reason == "unavailable"
        """,
    )
    assert project.pytest()["failed"] == 1
    assert project.pytest("-p", "no:entitlement_gate")["passed"] == 1


def test_loading_the_plugin_imports_nothing_heavy(project):
    project.write("pytest.ini", PLAIN)
    project.write(
        "test_light.py",
        """
        import sys

        def test_light():
            assert "entitlement_gate.testing.plugin" in sys.modules
            heavy = {"django", "httpx", "pydantic", "asgiref", "cachetools"}
            assert not heavy & {name.partition(".")[0] for name in sys.modules}
        """,
    )
    quiet = [
        argument
        for name in ("django", "schemathesis", "hypothesispytest", "anyio")
        for argument in ("-p", f"no:{name}")
    ]
    outcome = project.pytest("-p", "no:randomly", *quiet)
    assert outcome["passed"] == 1, outcome.said


def test_a_project_without_settings_is_left_alone(project):
    project.write("pytest.ini", PLAIN)
    project.write("test_plain.py", "def test_plain():\n    pass\n")
    outcome = project.pytest("-p", "no:django")
    assert outcome["passed"] == 1, outcome.said


def test_the_fixture_and_the_marker_are_listed(project):
    assert "entitlements" in project.pytest("--fixtures").said
    assert "@pytest.mark.entitlements(" in project.pytest("--markers").said


CLIENT = "entitlement_gate.zenskar.client"


@pytest.fixture
def guard():
    """A guard of our own inside the one of this very run, which hears nothing of it."""
    guard = BillingGuard()
    guard.start()
    yield guard
    guard.stop()


def client(**options):
    return ZenskarClient("key", "organisation", **options)


def test_a_real_address_is_refused_and_noted_once(guard):
    with pytest.raises(RealBillingRefused, match=r"^a test would have called https://billing\.example"):
        client(base_url="https://billing.example").fetch(FREE)
    assert guard.take_refused() == ["https://billing.example"]
    assert guard.take_refused() == []


def test_a_gate_over_a_real_address_never_knows(guard):
    with EntitlementGate(client()) as gate:
        assert [gate.check(FREE, "sso").reason for _ in range(8)] == ["rejected"] * 8
    assert guard.take_refused() == ["https://api.zenskar.com"] * 8


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "http://localhost:9", "http://[::1]:9"])
def test_a_loopback_address_is_not(guard, address):
    assert client(base_url=address)._make_transport() is not None
    assert guard.take_refused() == []


def test_the_sandbox_is_not(guard):
    assert ZenskarClient(base_url="sandbox:").fetch(FREE).customer_id == FREE
    assert guard.take_refused() == []


def test_a_guard_leaves_everything_as_it_was():
    before, finders = ZenskarClient._make_transport, list(sys.meta_path)
    guard = BillingGuard()
    guard.start()
    assert ZenskarClient._make_transport is not before
    guard.stop()
    guard.stop()
    assert (ZenskarClient._make_transport, sys.meta_path) == (before, finders)


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

    guard = BillingGuard()
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
    guard = BillingGuard()
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
