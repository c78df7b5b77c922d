from __future__ import annotations

from types import ModuleType

import pytest
from django.http import HttpResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import include, path, resolve, reverse

from entitlement_gate.routing import entitled_include, entitled_path
from tests.customers import FREE, PRO, SETTINGS


def page(request, **kwargs):
    return HttpResponse("in")


async def async_page(request):
    return HttpResponse("in")


deepest = ([path("<int:pk>/", page, name="one")], "deepest")
inner = ([path("", page, name="index"), path("async/", async_page), path("deep/", include(deepest))], "inner")

urlconf = ModuleType("urlconf")
urlconf.urlpatterns = [
    entitled_path("single/", page, requires="reports", name="single"),
    entitled_path("whole/", include(inner, namespace="whole"), requires="reports"),
    path("counted/", entitled_include(inner, "counted", requires="API Calls", quantity=951)),
    path("listed/", entitled_include([path("x/", page, name="x")], requires="reports")),
    path("open/", page),
]


@pytest.fixture(autouse=True)
def _project():
    with override_settings(ENTITLEMENT_GATE=SETTINGS, ROOT_URLCONF=urlconf):
        yield


@pytest.mark.parametrize("url", ["/single/", "/whole/", "/whole/async/", "/whole/deep/3/", "/listed/x/"])
async def test_every_view_below_the_gate_is_gated_at_any_depth(url):
    for customer, status in ((FREE, 403), (PRO, 200)):
        assert (await AsyncClient().get(url, headers={"X-Customer": customer})).status_code == status


def test_a_quantity_reaches_the_gate():
    assert Client().get("/counted/", headers={"X-Customer": PRO}).status_code == 402


def test_what_is_beside_the_gate_stays_open():
    assert Client().get("/open/").status_code == 200


def test_names_and_namespaces_stay():
    assert reverse("single") == "/single/"
    assert reverse("whole:deepest:one", args=[3]) == "/whole/deep/3/"
    assert reverse("counted:index") == "/counted/"
    assert resolve("/whole/deep/3/").namespace == "whole:deepest"
    assert resolve("/whole/").app_name == "inner"


def test_a_gated_view_tells_what_it_requires():
    assert [r.entitlement for r in resolve("/whole/deep/3/").func.entitlement_requirements] == ["reports"]
