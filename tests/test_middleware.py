from __future__ import annotations

from types import ModuleType
from unittest import mock

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.http import HttpResponse
from django.template import Context, Template
from django.template.response import SimpleTemplateResponse, TemplateResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path

from entitlement_gate.api import default_gate
from entitlement_gate.middleware import EntitlementMiddleware
from entitlement_gate.request_entitlements import RequestEntitlements
from tests.customers import FREE, LAPSED, PRO, SETTINGS, STRANGER

WITH = ["entitlement_gate.middleware.EntitlementMiddleware"]


def raising(request):
    request.entitlements.require("reports")
    return HttpResponse(request.entitlements["reports"].reason)


async def async_raising(request):
    await request.entitlements.arequire("reports")
    return HttpResponse("in")


class _Asking:
    def __init__(self, request):
        self.request = request

    def ask(self):
        return self.request.entitlements.require("reports").reason


def rendering(request):
    template = Template("{{ asking.ask }}")
    context = Context({"asking": _Asking(request)})
    return SimpleTemplateResponse(_Rendered(template), context)


class _Rendered:
    def __init__(self, template):
        self.template = template

    def render(self, context, request=None):
        return self.template.render(context)


def idle(request):
    return HttpResponse("in")


def twice(request):
    first = request.entitlements.has("reports")
    default_gate().source._transport.sandbox.revoke(PRO, "reports")
    default_gate().invalidate(PRO)
    second = request.entitlements.has("reports")
    return HttpResponse(f"{first} {second}")


def broken(request):
    raise LookupError("unrelated")


urlconf = ModuleType("urlconf")
urlconf.urlpatterns = [
    path("raising/", raising),
    path("async/", async_raising),
    path("rendering/", rendering),
    path("idle/", idle),
    path("twice/", twice),
    path("broken/", broken),
]


@pytest.fixture(autouse=True)
def _project():
    with override_settings(ENTITLEMENT_GATE=SETTINGS, ROOT_URLCONF=urlconf, MIDDLEWARE=WITH):
        yield


def get(url, customer=FREE, **options):
    return Client(**options).get(url, headers={"X-Customer": customer, "Accept": "application/json"})


@pytest.mark.parametrize("url", ["/raising/", "/rendering/", "/async/"])
@pytest.mark.parametrize(
    ("customer", "status", "code"),
    [(PRO, 200, None), (FREE, 403, "draft"), (LAPSED, 403, "expired"), (STRANGER, 403, "customer_not_found")],
)
@override_settings(ENTITLEMENT_GATE={**SETTINGS, "STATUS_FILTER": None})
async def test_a_denial_that_a_view_or_its_template_raises_is_answered(url, customer, status, code):
    headers = {"X-Customer": customer, "Accept": "application/json"}
    answers = [await AsyncClient().get(url, headers=headers)]
    if url != "/async/":
        answers.append(await sync_to_async(Client().get)(url, headers=headers))
    for answer in answers:
        assert answer.status_code == status
        assert code is None or answer.json()["code"] == code


def _page(request, decision):
    return TemplateResponse(request, "entitlement_gate/denied.html", {"decision": decision}, status=418)


async def _apage(request, decision):
    return _page(request, decision)


@pytest.mark.parametrize("handler", [_page, _apage])
@pytest.mark.parametrize("url", ["/raising/", "/rendering/", "/async/"])
@pytest.mark.parametrize("ask", [get, lambda url: async_to_sync(AsyncClient().get)(url, headers={"X-Customer": FREE})])
def test_a_handler_may_answer_with_a_template_response_wherever_the_denial_is_raised(handler, url, ask):
    with override_settings(ENTITLEMENT_GATE={**SETTINGS, "DENIED_HANDLER": handler}):
        answer = ask(url)
    assert answer.status_code == 418
    assert answer.is_rendered


class Subclass(EntitlementMiddleware):
    def process_view(self, request, view, *_):
        return HttpResponse("mine")


async def test_a_test_may_put_something_else_in_the_place_of_process_view():
    with mock.patch.object(EntitlementMiddleware, "process_view", return_value=HttpResponse(status=418)):
        assert (await AsyncClient().get("/idle/")).status_code == 418
        assert (await sync_to_async(Client().get)("/idle/")).status_code == 418


@override_settings(MIDDLEWARE=[f"{__name__}.Subclass"])
async def test_a_subclass_has_its_own_process_view_in_both_modes():
    assert (await AsyncClient().get("/idle/")).content == b"mine"
    assert (await sync_to_async(Client().get)("/idle/")).content == b"mine"


def test_an_unknown_answer_is_503_and_says_when_to_come_back():
    default_gate().source._transport.sandbox.fail("status", status=503)
    answer = get("/raising/", PRO)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert answer.json()["code"] == "unavailable"


def test_other_exceptions_are_left_alone():
    with pytest.raises(LookupError, match="unrelated"):
        get("/broken/")


@override_settings(MIDDLEWARE=[])
def test_without_the_middleware_a_denial_is_djangos_403():
    def gated(request):
        from entitlement_gate import require_entitlement

        require_entitlement(request, "reports")

    urlconf = ModuleType("urlconf")
    urlconf.urlpatterns = [path("", gated)]
    with override_settings(ROOT_URLCONF=urlconf):
        assert get("/").status_code == 403


def test_a_request_that_asks_nothing_costs_nothing(monkeypatch):
    monkeypatch.setattr("tests.customers.from_header", lambda request: pytest.fail("resolved"))
    assert get("/idle/").status_code == 200
    assert default_gate().source._transport.sandbox.request_count == 0


def test_a_request_keeps_one_snapshot_whatever_changes_midway():
    assert get("/twice/", PRO).content == b"True True"
    assert get("/raising/", PRO).status_code == 403


def test_the_entitlements_of_a_request_read_like_a_mapping(rf):
    request = rf.get("/", headers={"X-Customer": PRO})
    entitlements = RequestEntitlements(request)
    assert repr(entitlements) == "<RequestEntitlements: nothing asked yet>"
    assert "reports" in entitlements
    assert "nothing" not in entitlements
    assert len(entitlements) == len(list(entitlements))
    assert str(entitlements["API Calls"].remaining) == "950"
    assert repr(entitlements) == f"<RequestEntitlements: <CustomerEntitlements of {PRO}>>"


async def test_both_doors_of_a_request_answer_alike(rf):
    request = rf.get("/", headers={"X-Customer": PRO})
    entitlements = RequestEntitlements(request)
    assert await entitlements.ahas("reports")
    assert entitlements.has("reports")
    assert (await entitlements.arequire("API Calls", 3)).remaining == entitlements.require("API Calls", 3).remaining
    assert (await entitlements.aall())["seats"].limit == entitlements.all()["seats"].limit
