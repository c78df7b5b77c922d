"""Operations of Django Ninja that use something up, in whatever a project puts around them: Ninja's answer counts."""

from __future__ import annotations

import warnings
from functools import wraps
from types import ModuleType

import pytest
from asgiref.sync import async_to_sync, iscoroutinefunction
from django.db import connection, transaction
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.test import AsyncClient, Client
from django.urls import URLPattern, include, path
from django.utils.decorators import method_decorator
from django.views import View
from ninja import NinjaAPI, Router

from entitlement_gate import check_entitlement, requires_entitlement
from entitlement_gate.api import default_gate
from entitlement_gate.routing import entitled_include
from entitlement_gate.testing import FakeBilling
from tests.customers import PRO, SETTINGS

OURS = "entitlement_gate.middleware.EntitlementMiddleware"
gate = requires_entitlement("calls", consume=True)
PAID, FREE = 9, 10  # what is left of 10 calls


def _unlike_its_schema():
    return "no number"


ANSWERS = {
    "nothing": (lambda: None, {}, 200, PAID),
    "dict": (lambda: {"may": True}, {}, 200, PAID),
    "number": (lambda: 1, {"response": {200: int}}, 200, PAID),
    "no-number": (_unlike_its_schema, {"response": {200: int}}, 500, FREE),
    "undeclared": (lambda: (202, {}), {"response": {200: dict}}, 500, FREE),
    "conflict": (lambda: (409, {}), {"response": {409: dict}}, 409, FREE),
    "streamed": (lambda: StreamingHttpResponse(iter([b"a"])), {}, 200, PAID),
}


def an_api(namespace):
    api = NinjaAPI(docs_url=None, openapi_url=None, urls_namespace=namespace)
    router = Router()
    for name, (make, options, _, _) in ANSWERS.items():
        operation, async_operation = _made(make)
        router.post(f"/sync/{name}", **options)(gate(operation))
        router.post(f"/async/{name}", **options)(gate(async_operation))
        router.post(f"/wrapped/{name}", **options)(wrapping(gate(_made(make)[0])))
        router.post(f"/concealed/{name}", **options)(concealing(gate(operation)))
        router.post(f"/concealed-async/{name}", **options)(concealing(gate(async_operation)))
    api.add_router("/", router)
    api.add_router("/again", router, url_name_prefix="again")
    return api


def _made(make):
    def operation(request):
        return make()

    async def async_operation(request):
        return make()

    return operation, async_operation


def wrapping(view):
    @wraps(view)
    def inner(*args, **kwargs):
        return view(*args, **kwargs)

    return inner


def hiding(view):
    def inner(request, *args, **kwargs):
        return view(request, *args, **kwargs)

    async def async_inner(request, *args, **kwargs):
        return await view(request, *args, **kwargs)

    made = async_inner if iscoroutinefunction(view) else inner
    made.csrf_exempt = True
    return made


def concealing(view):
    """Wrap it without ``functools.wraps``: Ninja sees nothing of the gate."""

    def inner(request):
        return view(request)

    async def async_inner(request):
        return await view(request)

    return async_inner if iscoroutinefunction(view) else inner


def around(api, decorator):
    patterns, app_name, namespace = api.urls
    each = [URLPattern(p.pattern, decorator(p.callback), p.default_args, p.name) for p in patterns]
    return each, app_name, namespace


def as_json(view):
    """Make a response of what a view gives back, as frameworks of a project's own do."""

    def answering(request):
        return JsonResponse({"result": view(request)})

    return answering


class Silent(View):
    @method_decorator(gate)
    def get(self, request):
        return None


def refusing(view):
    def answering(request):
        return HttpResponse(status=409) if view(request) is None else HttpResponse()

    return answering


@gate
def nothing(request):
    return None


urlconf = ModuleType("using_up_operations")
urlconf.urlpatterns = [
    path("plain/", an_api("ops-plain").urls),
    path("entitled/", entitled_include(an_api("ops-entitled").urls, requires="sso")),
    path("hidden/", around(an_api("ops-hidden"), hiding)),
    path("nested/", include([path("v1/", an_api("ops-nested").urls)])),
    path("json/", as_json(nothing)),
    path("conflict/", refusing(nothing)),
    path("silent/", Silent.as_view()),
]


@pytest.fixture(autouse=True)
def _billing(settings):
    settings.ENTITLEMENT_GATE = SETTINGS
    settings.ROOT_URLCONF = urlconf
    with FakeBilling() as billing:
        billing.grant(PRO, "calls", 10)
        billing.grant(PRO, "sso")
        yield


@pytest.fixture(params=["with", "without"])
def _middleware(request, settings):
    settings.MIDDLEWARE = [OURS] if request.param == "with" else []


def left():
    (tallies,) = default_gate().ledger.charges(PRO).values() or [{}]
    assert not any(tally.held for tally in tallies.values())
    return int(check_entitlement(PRO, "calls").remaining)


def ask(handler, url, method="post"):
    client = (Client if handler == "WSGI" else AsyncClient)(raise_request_exception=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Ninja would have us write Status; a pair still works
        asked = getattr(client, method)
        asked = asked if handler == "WSGI" else async_to_sync(asked)
        response = asked(url, headers={"X-Customer": PRO})
    if response.streaming:
        _read(response)
    return response.status_code


def _read(response):
    if not response.is_async:
        list(response.streaming_content)


@pytest.mark.unmeasured
@pytest.mark.django_db
@pytest.mark.usefixtures("_middleware")
@pytest.mark.parametrize("handler", ["WSGI", "ASGI"])
@pytest.mark.parametrize("place", ["plain", "entitled", "hidden", "nested/v1", "plain/again"])
@pytest.mark.parametrize("shape", ["sync", "async", "wrapped", "concealed", "concealed-async"])
@pytest.mark.parametrize("name", [name for name in ANSWERS if name != "streamed"])
def test_an_operation_counts_by_what_ninja_answers(name, shape, place, handler):
    _, _, status, expected = ANSWERS[name]
    assert ask(handler, f"/{place}/{shape}/{name}") == status
    assert left() == expected


@pytest.mark.django_db
@pytest.mark.usefixtures("_middleware")
@pytest.mark.parametrize("shape", ["sync", "wrapped"])
def test_what_an_operation_streams_counts_at_its_end(shape):
    assert ask("WSGI", f"/plain/{shape}/streamed") == 200
    assert left() == PAID


@pytest.mark.django_db
@pytest.mark.parametrize("debug", [True, False])
def test_an_answer_that_ninja_cannot_write_gives_back_whatever_it_shows_of_it(settings, debug):
    settings.MIDDLEWARE = []
    api = NinjaAPI(docs_url=None, openapi_url=None, urls_namespace=f"ops-debug-{debug}")
    api.exception_handler(Exception)(lambda request, error: HttpResponse("shown", status=500))
    api.post("/")(gate(lambda request: None))
    api.post("/broken", response={200: int})(gate(_made(_unlike_its_schema)[0]))
    settings.DEBUG = debug
    settings.ROOT_URLCONF = alone = ModuleType("alone")
    alone.urlpatterns = [path("api/", api.urls)]
    assert ask("WSGI", "/api/broken") == 500
    assert left() == FREE
    assert ask("WSGI", "/api/") == 200
    assert left() == PAID


@pytest.mark.django_db
@pytest.mark.usefixtures("_middleware")
@pytest.mark.parametrize("handler", ["WSGI", "ASGI"])
def test_of_nothing_django_makes_an_error_and_gives_back(handler):
    assert ask(handler, "/silent/", "get") == 500
    assert left() == FREE


@pytest.mark.django_db
@pytest.mark.usefixtures("_middleware")
@pytest.mark.parametrize("handler", ["WSGI", "ASGI"])
def test_of_nothing_a_wrapper_makes_a_response_that_counts(handler):
    assert ask(handler, "/json/", "get") == 200
    assert left() == PAID


@pytest.mark.django_db
@pytest.mark.parametrize("handler", ["WSGI", "ASGI"])
def test_the_middleware_sees_that_a_wrapper_made_a_failure_of_nothing(settings, handler):
    settings.MIDDLEWARE = [OURS]
    assert ask(handler, "/conflict/", "get") == 409
    assert left() == FREE


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("_middleware")
@pytest.mark.parametrize(("does_roll_back", "expected"), [(False, PAID), (True, FREE)])
@pytest.mark.parametrize("name", ["nothing", "dict"])
def test_a_transaction_around_the_operation_has_the_last_word(settings, name, does_roll_back, expected):
    def in_transaction(view):
        def inner(request, *args, **kwargs):
            with transaction.atomic():
                connection.cursor()
                response = view(request, *args, **kwargs)
                transaction.set_rollback(does_roll_back)
            return response

        inner.csrf_exempt = True
        return inner

    api = NinjaAPI(
        docs_url=None, openapi_url=None, urls_namespace=f"ops-{name}-{does_roll_back}-{len(settings.MIDDLEWARE)}"
    )
    api.post("/")(gate(_made(ANSWERS[name][0])[0]))
    settings.ROOT_URLCONF = alone = ModuleType("alone")
    alone.urlpatterns = [path("api/", around(api, in_transaction))]
    assert ask("WSGI", "/api/") == 200
    assert left() == expected
