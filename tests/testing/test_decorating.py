"""Classes are run by the real runners: those of unittest here, those of pytest in ``test_project``."""

from __future__ import annotations

import unittest
from functools import partial

import pytest
from django.test import SimpleTestCase

import entitlement_gate as eg
from entitlement_gate.api import _Default, make_gate
from entitlement_gate.testing import override_entitlements
from tests.customers import FREE

may = partial(eg.has_entitlement, FREE)


@pytest.fixture(autouse=True)
def _nothing_is_left(request):
    yield
    assert _Default.make is make_gate or request.cls is not None


def run(case):
    """Run a test case as unittest does; return what went wrong."""
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(case)
    result = suite.run(unittest.TestResult())
    return [text for _, text in result.errors + result.failures]


@override_entitlements({"sso": True})
def test_a_function_is_decorated():
    assert may("sso")


@override_entitlements({"sso": True})
async def test_a_coroutine_function_is_decorated():
    assert await eg.ahas_entitlement(FREE, "sso")


@override_entitlements({"sso": True, "seats": 1})
@override_entitlements({"sso": False})
def test_of_several_decorators_the_lowest_is_innermost():
    assert (may("sso"), may("seats")) == (False, True)


@pytest.fixture
@override_entitlements({"sso": True})
def overridden():
    """A fixture that overrides for the test."""
    yield may("sso")  # noqa: PT022 - being a generator is the point


@pytest.fixture
@override_entitlements({"seats": 1})
async def aoverridden():
    """The same in an event loop."""
    yield may("seats")  # noqa: PT022 - as above


def test_a_fixture_is_decorated_for_as_long_as_it_lives(overridden):
    assert overridden
    assert may("sso")


async def test_an_async_fixture_is_decorated_for_as_long_as_it_lives(aoverridden):
    assert aoverridden
    assert may("seats")


def test_a_decorated_function_keeps_its_name_and_result():
    @override_entitlements({})
    def named(given, *, more):
        """Its documentation."""
        return given, more

    assert (named(1, more=2), named.__name__, named.__doc__) == ((1, 2), "named", "Its documentation.")


def test_a_function_that_fails_leaves_nothing():
    @override_entitlements({"sso": True})
    def failing():
        raise LookupError

    with pytest.raises(LookupError):
        failing()
    assert not may("sso")


def test_a_method_of_a_test_case_is_decorated():
    class Case(unittest.TestCase):
        @override_entitlements({"sso": True})
        def test_inside(self):
            assert may("sso")

        def test_beside(self):
            assert not may("sso")

    assert run(Case) == []


@pytest.mark.parametrize("base", [unittest.TestCase, SimpleTestCase])
def test_all_of_a_test_case_is_inside(base):
    @override_entitlements({"sso": True})
    class Case(base):
        @classmethod
        def setUpClass(cls):
            super().setUpClass()
            assert may("sso")

        def setUp(self):
            assert may("sso")

        def test_inside(self):
            assert may("sso")

        def tearDown(self):
            assert may("sso")

        @classmethod
        def tearDownClass(cls):
            assert may("sso")
            super().tearDownClass()

    assert run(Case) == []
    assert not may("sso")


def test_an_async_test_case_is_decorated():
    @override_entitlements({"sso": True})
    class Case(unittest.IsolatedAsyncioTestCase):
        async def test_inside(self):
            assert await eg.ahas_entitlement(FREE, "sso")

    assert run(Case) == []


def test_a_class_whose_set_up_fails_leaves_nothing():
    @override_entitlements({"sso": True})
    class Case(unittest.TestCase):
        @classmethod
        def setUpClass(cls):
            raise LookupError

        def test_never(self):
            """Not reached."""

    assert "LookupError" in run(Case)[0]
    assert not may("sso")


def test_a_subclass_inherits_and_its_own_override_is_innermost():
    @override_entitlements({"sso": True, "seats": 1})
    class Base(unittest.TestCase):
        pass

    class Inheriting(Base):
        def test_inside(self):
            assert may("sso")

    @override_entitlements({"reports": True})
    @override_entitlements({"sso": False, "reports": False})
    class Case(Base):
        @classmethod
        def setUpClass(cls):
            """Sets up without its parents, as plain test cases do."""

        def test_inside(self):
            assert (may("sso"), may("seats"), may("reports")) == (False, True, False)

    assert run(Inheriting) == run(Case) == run(Case) == []


def test_siblings_in_multiple_inheritance_are_set_up():
    seen = []

    class Mixin:
        @classmethod
        def setUpClass(cls):
            seen.append(may("sso"))
            super().setUpClass()

    @override_entitlements({"sso": True})
    class Base(unittest.TestCase):
        pass

    class Case(Base, Mixin, unittest.TestCase):
        def test_inside(self):
            """Something to set up for."""

    assert run(Case) == []
    assert seen == [True]


@override_entitlements({"sso": True})
class TestOfPytest:
    @classmethod
    def setup_class(cls):
        cls.is_set_up = True

    def setup_method(self):
        assert may("sso")

    @pytest.fixture
    def asked(self):
        return may("sso")

    def test_its_methods_and_fixtures_are_inside(self, asked):
        assert asked
        assert may("sso")

    async def test_async_methods_are_inside(self):
        assert await eg.ahas_entitlement(FREE, "sso")

    @override_entitlements({"sso": False})
    def test_a_methods_own_override_is_innermost(self):
        assert not may("sso")


@override_entitlements({"sso": True, "seats": 2})
class TestAround:
    @override_entitlements({"seats": 1})
    class TestNested:
        def test_a_class_within_is_inside_both(self):
            assert (may("sso"), may("seats", 1), may("seats", 2)) == (True, True, False)


@override_entitlements({"reports": True})
@override_entitlements({"sso": False, "reports": False})
class TestSubclass(TestOfPytest):
    def setup_method(self):
        assert not may("sso")

    test_its_methods_and_fixtures_are_inside = None

    async def test_async_methods_are_inside(self):
        assert not await eg.ahas_entitlement(FREE, "sso")

    def test_its_own_overrides_are_innermost(self):
        assert (may("sso"), may("reports")) == (False, False)


@pytest.mark.parametrize("target", [None, "text", 7])
def test_what_is_neither_function_nor_class_is_refused(target):
    with pytest.raises(TypeError, match="decorates functions and test classes"):
        override_entitlements({})(target)
