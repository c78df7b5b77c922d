from __future__ import annotations

from types import ModuleType

import pytest
from django.http import HttpResponse, HttpResponseRedirect
from django.test import AsyncClient, Client, override_settings
from django.urls import path
from django.views import View

from entitlement_gate import Requirement, requires_entitlement
from entitlement_gate.api import _Default, make_gate
from entitlement_gate.mixins import EntitlementRequiredMixin
from entitlement_gate.testing import aassert_gated, aassert_not_gated, assert_gated, assert_not_gated
from tests.customers import FREE, SETTINGS


@requires_entitlement("sso")
def gated(request):
    return HttpResponse(request.method)


@requires_entitlement("sso")
@requires_entitlement("seats", 5)
def twice(request):
    return HttpResponse("in")


@requires_entitlement("sso", on_denied="/upgrade/")
def redirecting(request):
    return HttpResponseRedirect("/done/")


class Mixed(EntitlementRequiredMixin, View):
    entitlement_required = "sso"

    async def get(self, request):
        return HttpResponse("in")


def asking(request):
    return HttpResponse("a button" if request.entitlements.has("sso") else "no button")


def inside(request):
    request.entitlements.require("sso")
    return HttpResponse("in")


def locked(request):
    return HttpResponse(status=200 if "X-Key" in request.headers else 401)


urlconf = ModuleType("urlconf")
urlconf.urlpatterns = [
    path("gated/", gated, name="gated"),
    path("twice/", twice),
    path("redirecting/", redirecting),
    path("mixed/", Mixed.as_view()),
    path("asking/", asking),
    path("inside/", inside),
    path("locked/", locked),
    path("members/", lambda request: HttpResponseRedirect("/accounts/login/?next=/members/")),
    path("open/", lambda request: HttpResponse("in")),
    path("ruled/", lambda request: HttpResponse("in")),
]
GATED = ["gated", "/gated/", "/twice/", "/redirecting/", "/mixed/", "/inside/", "/ruled/"]


@pytest.fixture(autouse=True)
def _project():
    rules = [{"path": "^/ruled/", "requires": "sso"}]
    with override_settings(ENTITLEMENT_GATE={**SETTINGS, "RULES": rules}, ROOT_URLCONF=urlconf):
        yield
    assert _Default.make is make_gate


@pytest.mark.parametrize("url", GATED)
def test_every_shape_of_gate_is_seen(url):
    assert_gated(url, "sso")
    assert_gated(Client(headers={"X-Customer": FREE}), url, "sso")
    with pytest.raises(AssertionError, match="is gated by Requirement"):
        assert_not_gated(url, "sso")


@pytest.mark.parametrize("url", GATED)
async def test_every_shape_of_gate_is_seen_by_an_async_client(url):
    await aassert_gated(url, "sso")
    await aassert_gated(AsyncClient(), url, "sso")
    with pytest.raises(AssertionError, match="is gated by Requirement"):
        await aassert_not_gated(url, "sso")


def test_each_of_several_gates_is_seen_alone():
    assert_gated("/twice/", "seats")
    assert_gated("/twice/", Requirement("sso") & Requirement("seats", 5))
    with pytest.raises(AssertionError, match=r"/twice/ is not gated by Requirement\('reports'\).*: 'seats', 'sso'"):
        assert_gated("/twice/", "reports")


@pytest.mark.parametrize(("url", "asked"), [("/open/", "nothing"), ("/asking/", "'sso'")])
def test_what_lets_in_without_it_is_not_gated(url, asked):
    assert_not_gated(url, "sso")
    with pytest.raises(AssertionError, match=f"the answer is HTTP 200; what was asked: {asked}"):
        assert_gated(url, "sso")


async def test_an_async_client_sees_what_lets_in():
    await aassert_not_gated("/open/", "sso")
    with pytest.raises(AssertionError, match="is not gated"):
        await aassert_gated("/open/", "sso")


@pytest.mark.parametrize("ask", [assert_gated, assert_not_gated])
@pytest.mark.parametrize("url", ["/locked/", "/nowhere/"])
def test_what_is_refused_for_another_reason_cannot_be_told(ask, url):
    with pytest.raises(AssertionError, match="with every entitlement granted: something else refuses it"):
        ask(url, "sso")


@pytest.mark.parametrize("ask", [assert_gated, assert_not_gated])
def test_a_login_page_in_front_says_nothing_of_the_gate(ask):
    with pytest.raises(AssertionError, match=r"it sends people to log in\. Give a client"):
        ask("/members/", "sso")


def test_a_request_is_made_as_told():
    assert_not_gated("/locked/", "sso", headers={"X-Key": "k"})
    assert_gated("/gated/", "sso", method="post", data={"name": "value"})


def test_a_customer_that_cannot_be_is_still_refused():
    with pytest.raises(AssertionError, match="something else"):
        assert_gated(Client(headers={"X-Customer": "anna"}), "/gated/", "sso")
