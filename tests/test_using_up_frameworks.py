"""Views of Django REST framework and operations of Django Ninja that use something up, through Django's handlers."""

from __future__ import annotations

import json
import warnings
from types import ModuleType

import pytest
from adrf.decorators import api_view as async_api_view
from adrf.viewsets import ViewSet as AsyncViewSet
from asgiref.sync import async_to_sync
from django.http import HttpResponse, JsonResponse
from django.test import AsyncClient, Client, RequestFactory
from django.urls import path
from django.utils.decorators import method_decorator
from ninja import NinjaAPI, Router
from ninja.decorators import decorate_view
from ninja.errors import HttpError
from ninja.operation import PathView
from ninja.responses import Status
from ninja.testing import TestAsyncClient, TestClient
from rest_framework.decorators import action, api_view
from rest_framework.exceptions import ValidationError
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

from entitlement_gate import check_entitlement, requires_entitlement
from entitlement_gate.api import default_gate
from entitlement_gate.testing import FakeBilling
from tests.customers import PRO, SETTINGS

pytestmark = pytest.mark.django_db  # closing a response lets Django look after its connections

gate = requires_entitlement("calls", consume=True)
PAID, FREE = 9, 10  # what is left of 10 calls


def _fail():
    raise LookupError("broken")


def _say_no():
    raise HttpError(409, "taken")


# What an operation of Ninja gives back, its status on the wire, and what is left then.
ANSWERS = {
    "dict": (lambda: {"may": True}, 200, PAID),
    "text": (lambda: "done", 200, PAID),
    "nothing": (lambda: None, 200, PAID),
    "empty-list": (list, 200, PAID),
    "false": (lambda: False, 200, PAID),
    "created": (lambda: (201, {"may": True}), 201, PAID),
    "no-content": (lambda: (204, None), 204, PAID),
    "conflict": (lambda: (409, {"may": False}), 409, FREE),
    "teapot": (lambda: (418, None), 418, FREE),
    "down": (lambda: (503, {"may": False}), 503, FREE),
    "status-created": (lambda: Status(201, {"may": True}), 201, PAID),
    "status-conflict": (lambda: Status(409, {"may": False}), 409, FREE),
    "response": (lambda: JsonResponse({"may": True}), 200, PAID),
    "error-response": (lambda: HttpResponse(status=404), 404, FREE),
    "http-error": (_say_no, 409, FREE),
    "exception": (_fail, 500, FREE),
}
RESPONSES = dict.fromkeys((200, 201, 204, 409, 418, 503), object)


def signed_in(request):
    return request.headers.get("X-Customer")


def an_operation(api, name, options):
    make = ANSWERS[name][0]

    @api.get(f"/{name}", response=RESPONSES, **options)
    @gate
    def sync_operation(request, page: int = 1):
        return make()

    @api.get(f"/async/{name}", response=RESPONSES, **options)
    @gate
    async def async_operation(request, page: int = 1):
        return make()


def an_api(namespace, options):
    api = NinjaAPI(docs_url=None, openapi_url=None, urls_namespace=namespace)
    for name in ANSWERS:
        an_operation(api, name, options)
    return api


plain, secured = an_api("plain", {}), an_api("secured", {"auth": signed_in})


@plain.get("/bare")
@gate
def bare(request):
    return None


@plain.get("/around")
@decorate_view(gate)
def around(request):
    return {"may": True}


@plain.get("/around/conflict", response=RESPONSES)
@decorate_view(gate)
def around_a_conflict(request):
    return 409, {"may": False}


@gate
@api_view(["GET", "POST"])
def over(request):
    return _rest(request)


@api_view(["GET", "POST"])
@gate
def under(request):
    return _rest(request)


def _rest(request):
    asked = request.GET["answer"]
    if asked == "invalid":
        raise ValidationError("no")
    return None if asked == "nothing" else Response({"may": True}, status=int(asked))


class ByMethod(APIView):
    @method_decorator(gate)
    def get(self, request):
        return _rest(request)


@method_decorator(gate, name="dispatch")
class ByDispatch(APIView):
    def get(self, request):
        return _rest(request)


@gate
class ByClass(APIView):
    def get(self, request):
        return _rest(request)


class Plain(APIView):
    def get(self, request):
        return _rest(request)


class BySet(ViewSet):
    @method_decorator(gate)
    def list(self, request):
        return _rest(request)

    @method_decorator(gate)
    @action(detail=False)
    def above(self, request):
        return _rest(request)

    @action(detail=False)
    @method_decorator(gate)
    def below(self, request):
        return _rest(request)


class ByAsyncSet(AsyncViewSet):
    async def list(self, request):
        return _rest(request)


@async_api_view(["GET"])
@gate
async def async_under(request):
    return _rest(request)


def forgetful(request):
    return None


async def async_forgetful(request):
    return None


REST = {
    "over": over,
    "under": under,
    "method": ByMethod.as_view(),
    "dispatch": ByDispatch.as_view(),
    "class": ByClass.as_view(),
    "as-view": gate(Plain.as_view()),
    "list": BySet.as_view({"get": "list"}),
    "above": BySet.as_view({"get": "above"}),
    "below": BySet.as_view({"get": "below"}),
    "async-list": gate(ByAsyncSet.as_view({"get": "list"})),
    "async-under": async_under,
}
urlconf = ModuleType("consuming_frameworks")
urlconf.urlpatterns = [
    path("plain/", plain.urls),
    path("secured/", secured.urls),
    path("forgetful/sync/", gate(forgetful)),
    path("forgetful/async/", gate(async_forgetful)),
    *(path(f"rest/{name}/", view) for name, view in REST.items()),
]


@pytest.fixture(autouse=True)
def billing(settings):
    settings.ENTITLEMENT_GATE = SETTINGS
    settings.ROOT_URLCONF = urlconf
    with FakeBilling() as billing:
        billing.grant(PRO, "calls", 10)
        yield billing


@pytest.fixture(params=["with", "without"])
def middleware(request, settings):
    settings.MIDDLEWARE = ["entitlement_gate.middleware.EntitlementMiddleware"] if request.param == "with" else []


def left():
    (tallies,) = default_gate().ledger.charges(PRO).values() or [{}]
    assert not any(tally.held for tally in tallies.values())
    return int(check_entitlement(PRO, "calls").remaining)


def get(handler, url, method="get"):
    client = (Client if handler == "WSGI" else AsyncClient)(raise_request_exception=False)
    ask = getattr(client, method)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Ninja would have us write Status; a pair still works
        return (ask if handler == "WSGI" else async_to_sync(ask))(url, headers={"X-Customer": PRO})


@pytest.mark.parametrize("handler", ["WSGI", "ASGI"])
@pytest.mark.parametrize("colour", ["", "async/"])
@pytest.mark.parametrize("api", ["plain", "secured"])
@pytest.mark.parametrize("name", ANSWERS)
def test_an_operation_of_ninja_counts_unless_it_says_that_it_failed(name, api, colour, handler):
    _, status, expected = ANSWERS[name]
    assert get(handler, f"/{api}/{colour}{name}").status_code == status
    assert left() == expected


def test_an_operation_without_declared_responses_counts():
    assert get("WSGI", "/plain/bare").status_code == 200
    assert left() == PAID


def test_a_gate_around_an_operation_sees_its_response():
    assert get("WSGI", "/plain/around").status_code == 200
    assert left() == PAID
    assert get("WSGI", "/plain/around/conflict").status_code == 409
    assert left() == PAID


def test_arguments_that_ninja_refuses_hold_nothing():
    assert get("WSGI", "/plain/dict?page=no").status_code == 422
    assert left() == FREE


@pytest.mark.parametrize("colour", ["", "async/"])
def test_an_operation_of_a_customer_who_ran_out_is_refused(colour):
    assert [get("WSGI", f"/plain/{colour}dict").status_code for _ in range(11)] == [200] * 10 + [402]
    assert left() == 0


@pytest.mark.parametrize("name", ["dict", "nothing", "conflict"])
def test_ninjas_own_test_client_counts_alike(name):
    _, status, expected = ANSWERS[name]
    api = an_api(f"tested-{name}", {})
    headers = {"X-Customer": PRO}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert TestClient(api).get(f"/{name}", headers=headers).status_code == status
        assert left() == expected
        asked = TestAsyncClient(api).get(f"/async/{name}", headers=headers)
        assert async_to_sync(_only)(asked).status_code == status
    assert left() == expected - (expected == PAID)


async def _only(awaitable):
    return await awaitable


@pytest.mark.parametrize("handler", ["WSGI", "ASGI"])
@pytest.mark.parametrize("shape", REST)
@pytest.mark.parametrize(
    "told",
    [("200", 200, PAID), ("201", 201, PAID), ("409", 409, FREE), ("invalid", 400, FREE), ("nothing", 500, FREE)],
)
def test_a_view_of_rest_framework_counts_by_its_status(middleware, shape, handler, told):
    answer, status, expected = told
    assert get(handler, f"/rest/{shape}/?answer={answer}").status_code == status
    assert left() == expected


@pytest.mark.parametrize("handler", ["WSGI", "ASGI"])
@pytest.mark.parametrize("shape", ["over", "dispatch", "class"])
def test_options_of_rest_framework_use_nothing_up(shape, handler):
    response = get(handler, f"/rest/{shape}/", method="options")
    assert (response.status_code, json.loads(response.content)["name"].startswith(("Over", "By"))) == (200, True)
    assert left() == FREE


@pytest.mark.parametrize("handler", ["WSGI", "ASGI"])
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_django_view_that_forgets_its_response_is_an_error_and_gives_back(middleware, colour, handler):
    assert get(handler, f"/forgetful/{colour}/").status_code == 500
    assert left() == FREE


def test_a_value_counts_where_nobody_tells_what_becomes_of_it():
    request = RequestFactory().get("/", headers={"X-Customer": PRO})
    assert gate(lambda _: {"may": True})(request) == {"may": True}
    assert left() == PAID


def test_an_awaitable_that_nobody_awaits_gives_back():
    async def inner(request):
        return HttpResponse()

    def looks_sync(request):
        return inner(request)

    answer = gate(looks_sync)(RequestFactory().get("/", headers={"X-Customer": PRO}))
    answer.close()
    assert left() == FREE


def _queued(name):
    def work(request):
        """Do it later."""

    setattr(work, name, lambda *args: None)
    return work


def _generator(request):
    yield b""


async def _async_generator(request):
    yield b""


class _Generating:
    def __call__(self, request):
        yield b""


@pytest.mark.parametrize("consume", [True, False])
@pytest.mark.parametrize(
    ("decorated", "why"),
    [
        (_generator, "StreamingHttpResponse"),
        (_async_generator, "StreamingHttpResponse"),
        (_Generating(), "StreamingHttpResponse"),
        (_queued("delay"), "task"),
        (_queued("apply_async"), "task"),
        (_queued("enqueue"), "task"),
        (NinjaAPI(urls_namespace="refused"), "cannot be called"),
        (Router(), "cannot be called"),
        (PathView(), "cannot be called"),
        (bare, "below the operation"),
    ],
    ids=["generator", "async", "call", "delay", "apply_async", "enqueue", "api", "router", "path view", "operation"],
)
def test_what_no_gate_can_judge_is_refused_where_it_is_decorated(decorated, why, consume):
    with pytest.raises(TypeError, match=f"gates views, not .*{why}"):
        requires_entitlement("calls", consume=consume)(decorated)
