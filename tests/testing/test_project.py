"""A user's own project, run as its user runs it."""

from __future__ import annotations

import pytest

LEAKING = """
    import pytest
    from entitlement_gate import check_entitlement
    from entitlement_gate.testing import override_entitlements
    from customers import ANNA, BERT

    def says():
        return [check_entitlement(customer, name).source for customer in (ANNA, BERT) for name in ("sso", "seats")]

    @pytest.mark.parametrize("number", range(10))
    def test_clean(number):
        assert "override" not in says()

    @pytest.mark.parametrize("number", range(10))
    def test_within(number):
        with override_entitlements({"sso": True}), override_entitlements({"seats": number}, BERT):
            assert says() == ["override"] * 4
            assert check_entitlement(BERT, "seats").remaining == number

    @pytest.mark.parametrize("number", range(10))
    @pytest.mark.entitlements(sso=True)
    def test_marked(number):
        assert check_entitlement(ANNA, "sso")

    @pytest.mark.parametrize("number", range(10))
    def test_granted(number, entitlements):
        assert "customer_not_found" == check_entitlement(ANNA, "sso").reason
        entitlements.grant(ANNA, "sso")
        assert check_entitlement(ANNA, "sso").source == "live"

    @pytest.mark.parametrize("number", range(5))
    @pytest.mark.xfail(strict=True)
    def test_failing(number):
        with override_entitlements({"sso": True}):
            assert not check_entitlement(ANNA, "sso")

    @override_entitlements({"sso": True})
    class TestDecorated:
        @pytest.mark.parametrize("number", range(5))
        def test_inside(self, number):
            assert check_entitlement(ANNA, "sso").source == "override"

    class TestClean:
        @pytest.mark.parametrize("number", range(5))
        async def test_outside(self, number):
            assert "override" not in says()
    """
SANDBOXED = '\nENTITLEMENT_GATE |= {"BASE_URL": "sandbox:", "DEADLINE": 30, "API_KEY": "", "ORGANISATION": ""}\n'


@pytest.fixture
def sandboxed(project):
    """A project whose settings name the sandbox, so that tests outside overrides have something to ask."""
    with (project.path / "settings.py").open("a", encoding="utf-8") as settings:
        settings.write(SANDBOXED)
    return project


@pytest.mark.parametrize("arguments", [("-n", "2"), ("-n", "2", "--dist", "loadfile"), (), ("-p", "no:randomly")])
def test_nothing_leaks_between_tests(sandboxed, arguments):
    sandboxed.write("test_leaking.py", LEAKING)
    sandboxed.write("test_leaking_too.py", LEAKING)
    outcome = sandboxed.pytest(*arguments)
    assert (outcome["passed"], outcome["xfailed"], outcome.code) == (100, 10, 0), outcome.said


def test_a_failing_test_inside_an_override_restores(sandboxed):
    sandboxed.write(
        "test_failing.py",
        """
        import unittest
        from entitlement_gate import check_entitlement
        from entitlement_gate.testing import override_entitlements
        from customers import ANNA

        def test_fails_inside():
            with override_entitlements({"sso": True}):
                raise LookupError

        @override_entitlements({"sso": True})
        class TestClass:
            def test_fails_inside(self):
                raise LookupError

        @override_entitlements({"sso": True})
        class TestCase(unittest.TestCase):
            @classmethod
            def setUpClass(cls):
                raise LookupError

            def test_never(self):
                pass

        def test_after():
            assert check_entitlement(ANNA, "sso").source == "live"
        """,
    )
    outcome = sandboxed.pytest("-p", "no:randomly")
    assert (outcome["failed"], outcome["error"], outcome["passed"]) == (2, 1, 1), outcome.said


def test_async_tests_and_clients_are_overridden(project):
    project.write(
        "test_async.py",
        """
        import asyncio
        import pytest
        from django.test import AsyncClient
        from entitlement_gate import ahas_entitlement
        from entitlement_gate.testing import aassert_gated, override_entitlements
        from customers import ANNA

        @override_entitlements({"sso": True})
        async def test_decorated():
            assert await asyncio.gather(*(ahas_entitlement(ANNA, "sso") for _ in range(10))) == [True] * 10

        @pytest.mark.parametrize("may", [True, False])
        async def test_client(may):
            with override_entitlements({"sso": may}):
                answer = await AsyncClient().get("/reports/", headers={"X-Customer": ANNA})
            assert answer.status_code == (200 if may else 403)

        async def test_gated():
            await aassert_gated("/reports/", "sso")
            await aassert_gated("/ruled/", "ruled")
        """,
    )
    outcome = project.pytest()
    assert outcome["passed"] == 4, outcome.said


LIVE = """
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen
    from django.test import LiveServerTestCase
    from entitlement_gate.testing import FakeBilling, override_entitlements
    from customers import ANNA

    def status(server, customer=ANNA):
        try:
            with urlopen(Request(f"{server}/reports/", headers={"X-Customer": customer})) as answer:
                return answer.status
        except HTTPError as refused:
            with refused:
                return refused.code

    @override_entitlements({"sso": True})
    class LiveTests(LiveServerTestCase):
        def test_class(self):
            assert status(self.live_server_url) == 200

        def test_inner(self):
            with override_entitlements({"sso": False}):
                assert status(self.live_server_url) == 403

    class BillingTests(LiveServerTestCase):
        def test_granted(self):
            billing = self.enterContext(FakeBilling())
            assert status(self.live_server_url) == 403
            billing.grant(ANNA, "sso")
            assert status(self.live_server_url) == 200
    """


def test_live_servers_are_reached_by_djangos_runner(project):
    project.write("test_live.py", LIVE)
    outcome = project.python("-m", "django", "test", "--settings=settings", "-v", "0")
    assert (outcome.code, "Ran 3 tests" in outcome.said) == (0, True), outcome.said


def test_live_servers_are_reached_by_pytest(project):
    project.write("test_live.py", LIVE)
    project.write(
        "test_live_server.py",
        """
        import pytest
        from customers import ANNA
        from test_live import status

        @pytest.mark.entitlements(sso=True)
        def test_marked(live_server):
            assert status(live_server.url) == 200

        def test_granted(live_server, entitlements):
            assert status(live_server.url) == 403
            entitlements.grant(ANNA, "sso")
            assert status(live_server.url) == 200

        def test_guarded(live_server):
            assert status(live_server.url) == 503
        """,
    )
    outcome = project.pytest()
    assert (outcome["passed"], outcome["failed"], "would have called" in outcome.said) == (5, 1, True), outcome.said


def test_classes_of_both_kinds_are_decorated(project):
    project.write(
        "test_classes.py",
        """
        from unittest import IsolatedAsyncioTestCase, TestCase as Plain
        from django.test import TestCase
        from entitlement_gate import ahas_entitlement, has_entitlement
        from entitlement_gate.testing import assert_gated, override_entitlements
        from customers import ANNA

        @override_entitlements({"sso": True})
        class Plain(Plain):
            def setUp(self):
                assert has_entitlement(ANNA, "sso")

            def test_inside(self):
                assert_gated("/reports/", "sso")
                assert has_entitlement(ANNA, "sso")

            @override_entitlements({"sso": False})
            def test_method(self):
                assert not has_entitlement(ANNA, "sso")

        @override_entitlements({"sso": True})
        class OfDjango(TestCase):
            @classmethod
            def setUpTestData(cls):
                assert has_entitlement(ANNA, "sso")

            async def test_inside(self):
                assert await ahas_entitlement(ANNA, "sso")

        @override_entitlements({"sso": True})
        class Async(IsolatedAsyncioTestCase):
            async def test_inside(self):
                assert await ahas_entitlement(ANNA, "sso")

        @override_entitlements({"sso": True})
        class TestOfPytest:
            def setup_method(self):
                assert has_entitlement(ANNA, "sso")

            def test_inside(self):
                assert has_entitlement(ANNA, "sso")

            async def test_async(self):
                assert await ahas_entitlement(ANNA, "sso")
        """,
    )
    outcome = project.pytest()
    assert outcome["passed"] == 6, outcome.said
    plain = project.python("-m", "django", "test", "--settings=settings", "-v", "0", "--shuffle", "1")
    assert (plain.code, "Ran 4 tests" in plain.said) == (0, True), plain.said


PATCHING = """
    from unittest import mock
    import pytest

    pytestmark = pytest.mark.entitlements(sso=True)

    @pytest.mark.parametrize("number", range(5))
    def test_patched(client, number):
        assert client.get("/reports/").status_code == 403
        with mock.patch("urls.customer", return_value="10000000-0000-4000-8000-000000000001"):
            assert client.get("/reports/").status_code == 200

    @pytest.mark.parametrize("number", range(5))
    def test_patched_to_the_end(client, number, monkeypatch):
        monkeypatch.setattr("urls.customer", lambda request: "10000000-0000-4000-8000-000000000001")
        assert client.get("/reports/").status_code == 200

    @pytest.mark.parametrize("number", range(5))
    def test_plain(client, number):
        assert client.get("/reports/").status_code == 403
    """


def test_a_patched_resolver_counts_at_once_and_is_gone_with_its_test(project):
    project.write("test_patching.py", PATCHING)
    outcome = project.pytest()
    assert (outcome["passed"], outcome.code) == (15, 0), outcome.said
