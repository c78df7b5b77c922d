"""What a request itself is at fault for: a key that stands for something else, a quantity that is none."""

from types import ModuleType

import pytest
from asgiref.sync import async_to_sync
from django.http import HttpResponse
from django.test import AsyncClient, Client, RequestFactory
from django.urls import path
from django.views import View
from ninja import NinjaAPI
from rest_framework.response import Response
from rest_framework.views import APIView

from entitlement_gate import Decision, EntitlementDenied, check_entitlement, requires_entitlement
from entitlement_gate.api import default_gate
from entitlement_gate.contrib import ninja as of_ninja
from entitlement_gate.contrib.rest_framework import EntitlementRefused, HasEntitlement
from entitlement_gate.domain.decisions import RequestFault
from entitlement_gate.mixins import EntitlementRequiredMixin
from entitlement_gate.testing import FakeBilling
from tests.customers import PRO, SETTINGS

OURS = "entitlement_gate.middleware.EntitlementMiddleware"


def asked(request):
    """Return what the client says, as text."""
    return request.GET.get("n")


def export(_):
    return "export 7"


GATE = {"consume": True, "key": export}


@requires_entitlement("calls", asked, **GATE)
def function(request):
    return HttpResponse()


@requires_entitlement("calls", asked, **GATE)
async def async_function(request):
    return HttpResponse()


class Mixed(EntitlementRequiredMixin, View):
    entitlement_required = "calls"
    entitlement_consume = True

    def entitlement_quantity(self, request):
        return asked(request)

    def get_entitlement_key(self):
        return export(self.request)

    def get(self, request):
        return HttpResponse()


class AsyncMixed(Mixed):
    async def get(self, request):
        return HttpResponse()


class Permitted(APIView):
    permission_classes = (HasEntitlement.of("calls", asked, **GATE),)

    def get(self, request):
        return Response({})


class PermittedByAll(Permitted):
    permission_classes = (HasEntitlement.of("sso") & HasEntitlement.of("calls", asked, **GATE),)


def an_api():
    api = NinjaAPI(urls_namespace="faults", docs_url=None, openapi_url=None)

    def operation(request):
        return {}

    async def async_operation(request):
        return {}

    for name, each in (("operation", operation), ("async-operation", async_operation)):
        api.get(f"/{name}/")(of_ninja.requires_entitlement("calls", asked, **GATE)(each))
    return api


urlconf = ModuleType("request_faults")
urlconf.urlpatterns = [
    path("function/", function),
    path("async-function/", async_function),
    path("mixed/", Mixed.as_view()),
    path("async-mixed/", AsyncMixed.as_view()),
    path("permitted/", Permitted.as_view()),
    path("permitted-by-all/", PermittedByAll.as_view()),
    path("api/", an_api().urls),
]
PLACES = [
    "function",
    "async-function",
    "mixed",
    "async-mixed",
    "permitted",
    "permitted-by-all",
    "api/operation",
    "api/async-operation",
]


@pytest.fixture(autouse=True)
def _billing(settings):
    settings.ENTITLEMENT_GATE = SETTINGS
    settings.ROOT_URLCONF = urlconf
    settings.MIDDLEWARE = [OURS]
    settings.REST_FRAMEWORK = {"EXCEPTION_HANDLER": "entitlement_gate.contrib.rest_framework.exception_handler"}
    with FakeBilling() as billing:
        billing.grant(PRO, "calls", 10)
        billing.grant(PRO, "sso")
        yield


def ask(handler, place, quantity):
    client = Client() if handler == "WSGI" else AsyncClient()
    get = client.get if handler == "WSGI" else async_to_sync(client.get)
    return get(f"/{place}/", {"n": quantity}, headers={"X-Customer": PRO, "Accept": "application/json"})


def left():
    tallies = [tally for each in default_gate().ledger.charges(PRO).values() for tally in each.values()]
    assert not any(tally.held for tally in tallies)
    return int(check_entitlement(PRO, "calls").remaining)


@pytest.mark.django_db
@pytest.mark.parametrize("handler", ["WSGI", "ASGI"])
@pytest.mark.parametrize("place", PLACES)
def test_a_key_that_comes_again_with_another_quantity_is_a_conflict(handler, place):
    assert ask(handler, place, "3").status_code == 200
    assert ask(handler, place, "3").status_code == 200
    answer = ask(handler, place, "4")
    assert (answer.status_code, answer["Content-Type"]) == (409, "application/problem+json")
    problem = answer.json()
    assert (problem["code"], problem["status"], problem["entitlement"]) == ("key_conflict", 409, "calls")
    assert "export 7" not in answer.content.decode()
    assert answer["Cache-Control"] == "no-store, private"
    assert left() == 7


@pytest.mark.django_db
@pytest.mark.parametrize("handler", ["WSGI", "ASGI"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("quantity", ["0", "-1", "many", "0.0000001"])
def test_what_is_no_quantity_is_told_to_whoever_asks_for_it(handler, place, quantity, caplog):
    answer = ask(handler, place, quantity)
    assert (answer.status_code, answer["Content-Type"]) == (400, "application/problem+json")
    assert answer.json()["code"] == "invalid_quantity"
    assert f"calls: a gate was to ask for '{quantity}', which is no quantity: refused" in caplog.messages
    assert left() == 10


@pytest.mark.django_db
def test_a_log_line_quotes_no_long_text_that_a_client_sends(caplog):
    assert ask("WSGI", "function", PRO).status_code == 400
    assert PRO not in caplog.text
    assert "ask for a str, which" in caplog.text


class Unspeakable:
    def __repr__(self):
        raise RuntimeError


@pytest.mark.django_db
@pytest.mark.parametrize("quantity", [float("nan"), True, 0, [1], Unspeakable(), 10**4000], ids=range(6))
def test_whatever_the_function_gives_is_a_refusal(settings, quantity):
    settings.ROOT_URLCONF = alone = ModuleType("alone")
    gated = requires_entitlement("calls", lambda _: quantity, consume=True)(checked)
    alone.urlpatterns = [path("checked/", gated)]
    assert ask("WSGI", "checked", "1").status_code == 400


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["k" * 300, "a\0b", "a\ud800", 7, b"k"], ids=range(5))
def test_what_names_a_use_may_be_any_text_and_is_counted_once(settings, key):
    settings.ROOT_URLCONF = alone = ModuleType("alone")
    alone.urlpatterns = [path("checked/", requires_entitlement("calls", consume=True, key=lambda _: key)(checked))]
    assert [ask("WSGI", "checked", "1").status_code for _ in range(2)] == [200, 200]
    assert left() == 9


@pytest.mark.django_db
def test_an_empty_name_of_a_use_is_a_mistake_of_the_project():
    gated = requires_entitlement("calls", consume=True, key=lambda _: "")(checked)
    with pytest.raises(ValueError, match="key is text of 1 to 200 characters"):
        gated(RequestFactory().get("/", headers={"X-Customer": PRO}))


def checked(request):
    return HttpResponse()


@pytest.mark.django_db
def test_so_it_is_where_nothing_is_used_up(settings):
    settings.ROOT_URLCONF = alone = ModuleType("alone")
    alone.urlpatterns = [path("checked/", requires_entitlement("calls", asked)(checked))]
    assert [ask("WSGI", "checked", quantity).status_code for quantity in ("10", "11", "0")] == [200, 402, 400]


@pytest.mark.django_db
@pytest.mark.parametrize("handler", ["WSGI", "ASGI"])
def test_rules_of_one_key_that_ask_for_different_things_are_a_conflict(settings, handler):
    rule = {"path": "^/function/", "requires": "calls", "quantity": 5, "consume": True, "key": export}
    settings.ENTITLEMENT_GATE = {**SETTINGS, "RULES": [rule]}
    assert ask(handler, "async-function", "3").status_code == 200
    assert ask(handler, "function", "3").status_code == 409
    assert left() == 7


@pytest.mark.django_db
@pytest.mark.parametrize("place", PLACES)
def test_in_shadow_both_are_let_in_and_nothing_more_is_counted(settings, place):
    settings.ENTITLEMENT_GATE = {**SETTINGS, "SHADOW": True}
    statuses = [ask("WSGI", place, quantity).status_code for quantity in ("3", "4", "0")]
    assert statuses == [200, 200, 200]
    assert left() == 7


@pytest.mark.django_db
def test_the_settings_say_another_status(settings):
    settings.ENTITLEMENT_GATE = {**SETTINGS, "STATUS_CODES": {"key_conflict": 422, "invalid_quantity": 422}}
    assert [ask("WSGI", "function", quantity).status_code for quantity in ("3", "4", "0")] == [200, 422, 422]


@pytest.mark.django_db
@pytest.mark.parametrize("handler", ["WSGI", "ASGI"])
def test_a_fault_of_the_request_leads_to_no_page_about_plans(settings, handler):
    settings.ROOT_URLCONF = alone = ModuleType("alone")
    gated = requires_entitlement("calls", asked, on_denied="/plans/", **GATE)(checked)
    alone.urlpatterns = [path("checked/", gated)]
    assert [ask(handler, "checked", quantity).status_code for quantity in ("3", "4", "0", "11")] == [200, 409, 400, 409]
    alone.urlpatterns = [path("checked/", requires_entitlement("calls", asked, on_denied="/plans/")(checked))]
    settings.ROOT_URLCONF = again = ModuleType("again")
    again.urlpatterns = alone.urlpatterns
    assert [ask(handler, "checked", quantity).status_code for quantity in ("3", "0", "11")] == [200, 400, 302]


@pytest.mark.parametrize(("fault", "status"), [(RequestFault.KEY_CONFLICT, 409), (RequestFault.INVALID_QUANTITY, 400)])
def test_a_refusal_made_anew_of_its_text_has_the_same_status(fault, status):
    refused = EntitlementRefused(str(EntitlementDenied(Decision.of(fault, "calls"))))
    assert (refused.decision.reason, refused.status_code) == (fault, status)
