"""A copy of a request, pickled or not, is asked for itself: never for the customer of the original."""

import asyncio
import copy
import pickle

import pytest
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest
from django.test import RequestFactory

from entitlement_gate import Reason
from entitlement_gate.request_entitlements import RequestEntitlements, entitlements_of
from tests.customers import FREE, PRO, SETTINGS


@pytest.fixture(autouse=True)
def sandbox(settings):
    settings.ENTITLEMENT_GATE = SETTINGS


def by_pickle(thing):
    return pickle.loads(pickle.dumps(thing))


def doors(entitlements):
    """Each way to ask; the name of what is asked for in, a customer's id out."""
    yield lambda name: entitlements.check(name).customer_id
    yield lambda name: asyncio.run(entitlements.acheck(name)).customer_id
    yield lambda name: entitlements.show(name).customer_id
    yield lambda _: entitlements.all().customer_id
    yield lambda _: asyncio.run(entitlements.aall()).customer_id


class Marked(HttpRequest):
    """A request of a project's own."""


COPIES = [copy.copy, copy.deepcopy, by_pickle]
KINDS = [HttpRequest, Marked, WSGIRequest]


def request_of(customer, kind=HttpRequest):
    request = RequestFactory().get("/") if kind is WSGIRequest else kind()
    if kind is WSGIRequest:  # streams go with nobody
        del request.environ, request._stream, request.META["wsgi.input"], request.META["wsgi.errors"]
    request.META["HTTP_X_CUSTOMER"] = customer
    return request


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_asked", [True, False])
@pytest.mark.parametrize("is_original_gone", [True, False])
def test_a_copy_of_a_request_answers_for_whom_the_copy_is(copied, kind, is_asked, is_original_gone):
    for number in range(5):
        request = request_of(PRO, kind)
        request.entitlements = RequestEntitlements(request)
        if is_asked:
            assert request.entitlements.has("reports")
            assert "seats" in request.entitlements
        other = copied(request)
        assert type(other) is kind
        assert entitlements_of(other) is other.entitlements is not request.entitlements
        other.META = {**request.META, "HTTP_X_CUSTOMER": FREE}
        other.__dict__.pop("headers", None)
        if is_original_gone:
            del request
        assert list(doors(other.entitlements))[number]("reports") == FREE
        if not is_original_gone:
            assert list(doors(request.entitlements))[number]("reports") == PRO


@pytest.mark.parametrize("copied", COPIES)
def test_a_copy_that_nobody_changes_answers_as_the_original(copied):
    request = request_of(PRO)
    request.entitlements = RequestEntitlements(request)
    other = copied(request)
    another = copied(other)
    for one in (request, other, another):
        assert [door("reports") for door in doors(one.entitlements)] == [PRO] * 5


@pytest.mark.parametrize("copied", COPIES)
def test_a_copy_keeps_all_else_that_is_on_a_request_circles_too(copied):
    request = request_of(PRO)
    request.entitlements = RequestEntitlements(request)
    request.circle = {"request": request}
    other = copied(request)
    expected = request if copied is copy.copy else other
    assert other.circle["request"] is expected
    assert other.__dict__.keys() == request.__dict__.keys()


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize("given", [None, "something of the project's own"])
def test_a_request_that_was_never_asked_is_copied_as_ever(copied, given):
    RequestEntitlements(HttpRequest())
    request = HttpRequest()
    if given:
        request.entitlements = given
    assert getattr(copied(request), "entitlements", None) == given


class Says(HttpRequest):
    """A request that says itself what to make of a copy."""

    def __reduce__(self):
        return Says, ()


@pytest.mark.parametrize("copied", COPIES)
def test_a_request_that_says_itself_what_a_copy_is_has_the_last_word(copied):
    request = Says()
    request.entitlements = RequestEntitlements(request)
    other = copied(request)
    assert type(other) is Says
    assert not hasattr(other, "entitlements")


class Copied(HttpRequest):
    """A request that is copied with all that is on it."""

    def __deepcopy__(self, memo):
        other = Copied()
        other.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return other


@pytest.mark.parametrize("copied", COPIES)
def test_entitlements_that_are_copied_alone_are_nobodys(copied, settings):
    settings.ENTITLEMENT_GATE = {**SETTINGS, "CUSTOMER_RESOLVER": lambda _: pytest.fail("nobody's request")}
    request = request_of(PRO)
    assert [door("reports") for door in doors(copied(RequestEntitlements(request)))] == [None] * 5
    alone = copied(RequestEntitlements(request))
    assert alone.check("reports").reason == Reason.NO_CUSTOMER
    assert not alone.has("reports")


def test_a_request_with_a_copy_of_its_own_making_never_asks_for_another():
    request = Copied()
    request.META["HTTP_X_CUSTOMER"] = PRO
    request.entitlements = RequestEntitlements(request)
    assert request.entitlements.has("reports")
    other = copy.deepcopy(request)
    assert other.entitlements.check("reports").reason == Reason.NO_CUSTOMER
    assert entitlements_of(other).check("reports").customer_id == PRO


def test_a_request_can_be_pickled_and_asks_anew_where_it_arrives():
    request = RequestFactory().get("/", headers={"X-Customer": PRO})
    request.entitlements = RequestEntitlements(request)
    assert request.entitlements.has("reports")
    del request.environ, request._stream, request.META["wsgi.input"], request.META["wsgi.errors"]
    arrived = pickle.loads(pickle.dumps(request))
    assert entitlements_of(arrived) is arrived.entitlements is not entitlements_of(request)
    assert arrived.entitlements.has("reports")
