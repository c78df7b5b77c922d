"""The answers of gated views and the caches between them and other customers."""

from __future__ import annotations

from types import ModuleType

import pytest
from asgiref.sync import async_to_sync
from django.core.cache import cache
from django.core.checks import run_checks
from django.http import HttpResponse, StreamingHttpResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.test import AsyncClient, Client
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import cache_control, cache_page, never_cache
from django.views.decorators.vary import vary_on_headers
from ninja import NinjaAPI
from rest_framework.decorators import api_view
from rest_framework.response import Response

from entitlement_gate import ahas_entitlement, has_entitlement, requires_entitlement
from entitlement_gate.mixins import EntitlementRequiredMixin
from tests.customers import FREE, PRO, SETTINGS

pytestmark = pytest.mark.django_db

OURS = "entitlement_gate.middleware.EntitlementMiddleware"
UPDATE, FETCH = (f"django.middleware.cache.{name}CacheMiddleware" for name in ("Update", "FetchFrom"))
WHOLE = "django.middleware.cache.CacheMiddleware"
gate = requires_entitlement("reports")


def plain(request):
    return HttpResponse("in")


async def aplain(request):
    return HttpResponse("in")


class Page(View):
    def get(self, request):
        return HttpResponse("in")


class AsyncPage(View):
    async def get(self, request):
        return HttpResponse("in")


class Mixed(EntitlementRequiredMixin):
    entitlement_required = "reports"

    def get(self, request):
        return HttpResponse("in")


class AsyncMixed(EntitlementRequiredMixin):
    entitlement_required = "reports"

    async def get(self, request):
        return HttpResponse("in")


def streaming(request):
    return StreamingHttpResponse(iter([b"in"]))


def templated(request):
    return TemplateResponse(request, "entitlement_gate/denied.html", {})


def missing(request):
    return HttpResponse(status=404)


@api_view(["GET"])
@gate
def rest(request):
    return Response({"may": True})


api = NinjaAPI(docs_url=None, openapi_url=None, urls_namespace="caching")


@api.get("/operation")
@gate
def operation(request):
    return {"may": True}


def refusing(request, decision):
    return HttpResponse("no", status=403)


GATED = {
    "plain": gate(plain),
    "aplain": gate(aplain),
    "used-up": requires_entitlement("API Calls", consume=True)(plain),
    "aused-up": requires_entitlement("API Calls", consume=True)(aplain),
    "class": gate(Page.as_view()),
    "dispatch": method_decorator(gate, name="dispatch")(type("Gated", (AsyncPage,), {})).as_view(),
    "mixin": Mixed.as_view(),
    "amixin": AsyncMixed.as_view(),
    "streaming": gate(streaming),
    "templated": gate(templated),
    "missing": gate(missing),
    "rest": rest,
    "stacked": gate(gate(plain)),
    "cached": cache_page(60)(gate(plain)),
    "max-age": gate(cache_control(max_age=60)(plain)),
}


def shown(request):
    template = engines["django"].from_string("{% load entitlements %}{% ifentitled 'reports' %}in{% endifentitled %}")
    return HttpResponse(template.render({}, request))


def asked(request):
    return HttpResponse("in" if request.entitlements.has("reports") else "")


def read(request):
    return HttpResponse("in" if "reports" in request.entitlements else "")


def called(request):
    return HttpResponse("in" if has_entitlement(request, "reports") else "")


async def aasked(request):
    return HttpResponse("in" if await request.entitlements.ahas("reports") else "")


async def acalled(request):
    return HttpResponse("in" if await ahas_entitlement(request, "reports") else "")


ASKING = {view.__name__: view for view in (shown, asked, read, called, aasked, acalled)}
SAID = {
    "public": gate(cache_control(public=True, max_age=60)(plain)),
    "above": cache_control(public=True)(gate(plain)),
    "s-maxage": gate(cache_control(s_maxage=60)(plain)),
    "never": gate(never_cache(plain)),
    "own": gate(cache_control(private=True, max_age=5)(plain)),
}
urlconf = ModuleType("caching")
urlconf.urlpatterns = [
    *(path(f"{name}/", view) for name, view in (GATED | SAID | ASKING).items()),
    *(path(f"cached/{name}/", cache_page(60)(view)) for name, view in ASKING.items()),
    path("ninja/", api.urls),
    path("open/", plain),
    path("ruled/plain/", plain),
    path("ruled/templated/", templated),
    path("varied/", gate(vary_on_headers("X-Customer")(plain))),
    path("handled/", requires_entitlement("reports", on_denied=refusing)(plain)),
]


@pytest.fixture(autouse=True)
def project(settings):
    settings.ENTITLEMENT_GATE = SETTINGS | {"RULES": [{"path": "^/ruled/", "requires": "reports"}]}
    settings.ROOT_URLCONF = urlconf
    settings.MIDDLEWARE = [OURS]
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    cache.clear()
    yield
    cache.clear()


@pytest.fixture(params=["WSGI", "ASGI"])
def get(request):
    def get(url, customer=PRO):
        headers = {"X-Customer": customer} if customer else {}
        if request.param == "WSGI":
            return Client().get(url, headers=headers)
        return async_to_sync(AsyncClient().get)(url, headers=headers)

    return get


def kept(response):
    return {part.strip() for part in response.headers.get("Cache-Control", "").split(",") if part.strip()}


def varies(response):
    return {part.strip() for part in response.headers.get("Vary", "").split(",") if part.strip()}


@pytest.mark.parametrize("name", GATED)
@pytest.mark.parametrize("middleware", [[OURS], []])
def test_what_a_gated_view_answers_is_for_its_customer_alone(get, settings, name, middleware):
    settings.MIDDLEWARE = middleware
    response = get(f"/{name}/")
    assert response.status_code == (404 if name == "missing" else 200)
    assert "private" in kept(response)
    assert {"Cookie", "Authorization"} <= varies(response)


@pytest.mark.parametrize("url", ["/ruled/plain/", "/ruled/templated/", "/ninja/operation"])
def test_so_is_what_rules_let_in_and_what_a_framework_makes_of_a_value(get, url):
    response = get(url)
    assert response.status_code == 200
    assert "private" in kept(response)
    assert {"Cookie", "Authorization"} <= varies(response)


@pytest.mark.parametrize("name", ASKING)
def test_so_is_what_a_view_answers_that_asks_itself(get, name):
    response = get(f"/{name}/")
    assert (response.content, kept(response)) == (b"in", {"private"})
    assert {"Cookie", "Authorization"} <= varies(response)


@pytest.mark.parametrize("name", ASKING)
@pytest.mark.parametrize("place", ["", "cached/"])
@pytest.mark.parametrize("stack", [[UPDATE, FETCH, OURS], [OURS, UPDATE, FETCH], [OURS]])
def test_a_page_of_a_view_that_asks_itself_is_kept_for_nobody_else(get, settings, stack, place, name):
    settings.MIDDLEWARE = stack
    customers = (FREE, PRO, None, PRO, FREE)
    assert [get(f"/{place}{name}/", customer).content for customer in customers] == [b"", b"in", b"", b"in", b""]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("public", {"public", "max-age=60"}),
        ("above", {"public"}),
        ("s-maxage", {"s-maxage=60"}),
        ("never", {"max-age=0", "no-cache", "no-store", "must-revalidate", "private"}),
        ("own", {"private", "max-age=5"}),
    ],
)
def test_a_view_that_says_who_may_keep_its_answer_has_the_last_word(get, name, expected):
    response = get(f"/{name}/")
    assert kept(response) == expected
    assert ("Cookie" in varies(response)) is (name not in {"public", "s-maxage"})


def test_what_a_view_varies_on_stays(get):
    assert varies(get("/varied/")) == {"X-Customer", "Cookie", "Authorization"}


def test_a_refusal_by_a_handler_of_the_project_is_private_too(get):
    response = get("/handled/", FREE)
    assert (response.status_code, kept(response)) == (403, {"private"})


def test_a_view_without_a_gate_is_left_alone(get):
    response = get("/open/")
    assert (kept(response), varies(response)) == (set(), set())


def test_a_setting_switches_it_off(get, settings):
    settings.ENTITLEMENT_GATE |= {"PRIVATE_RESPONSES": False}
    for url in ("/plain/", "/aplain/", "/mixin/", "/ruled/plain/", "/ninja/operation"):
        assert (kept(get(url)), varies(get(url))) == (set(), set())


@pytest.mark.parametrize("name", ["plain", "aplain", "cached", "templated", "mixin", "ruled/plain", "rest"])
@pytest.mark.parametrize("cache", [[UPDATE, OURS, FETCH], [WHOLE, OURS]])
def test_no_page_cache_gives_one_customers_page_to_another(get, settings, name, cache):
    settings.MIDDLEWARE = cache
    assert [get(f"/{name}/", customer).status_code for customer in (PRO, FREE, PRO)] == [200, 403, 200]


def test_a_public_page_is_kept_for_everybody(get, settings):
    settings.MIDDLEWARE = [UPDATE, OURS, FETCH]
    assert [get("/public/").status_code, get("/public/", FREE).status_code] == [200, 200]


def warnings():
    return [str(found.msg) for found in run_checks(tags=["entitlement_gate"]) if found.id == "entitlement_gate.W013"]


@pytest.mark.parametrize("caches", [[UPDATE, OURS, FETCH], [WHOLE, OURS], [WHOLE], [UPDATE, FETCH]])
def test_a_check_warns_of_a_page_cache_above_gated_views(settings, caches):
    settings.MIDDLEWARE = caches
    settings.ENTITLEMENT_GATE |= {"RULES": []}
    (warning,) = warnings()
    assert warning.startswith(f"{caches[0]} stands above gated views")
    assert "public" in warning
    settings.ENTITLEMENT_GATE |= {"PRIVATE_RESPONSES": False}
    assert "none is private" in warnings()[0]


def test_a_check_warns_of_nothing_where_nothing_is_kept_or_gated(settings):
    settings.ENTITLEMENT_GATE |= {"RULES": []}
    for middleware in ([OURS], [], [FETCH]):
        settings.MIDDLEWARE = middleware
        assert warnings() == []
    settings.ROOT_URLCONF = "tests.included_urls"
    settings.MIDDLEWARE = [UPDATE, FETCH]
    assert warnings() == []


def test_a_check_knows_gated_operations(settings):
    settings.ENTITLEMENT_GATE |= {"RULES": []}
    settings.MIDDLEWARE = [UPDATE]
    settings.ROOT_URLCONF = alone = ModuleType("alone")
    alone.urlpatterns = [path("ninja/", api.urls)]
    assert len(warnings()) == 1


@pytest.mark.parametrize("value", [None, 1, "yes"])
def test_the_setting_is_true_or_false(settings, value):
    settings.ENTITLEMENT_GATE |= {"PRIVATE_RESPONSES": value}
    assert any("PRIVATE_RESPONSES" in found.msg for found in run_checks(tags=["entitlement_gate"]))
