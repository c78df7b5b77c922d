"""Page caches of Django's that stand between a gate and who sees what becomes of a gated view's answer."""

from __future__ import annotations

from types import FunctionType, ModuleType

import pytest
from asgiref.sync import async_to_sync
from django.core.cache import cache
from django.http import HttpResponse, JsonResponse
from django.test import AsyncClient, Client
from django.urls import path
from django.views.decorators.cache import cache_control, cache_page
from ninja import NinjaAPI, Router
from ninja.decorators import decorate_view

from entitlement_gate import requires_entitlement
from entitlement_gate.testing import FakeBilling
from tests.customers import FREE, LAPSED, PRO, SETTINGS

pytestmark = pytest.mark.django_db

OURS = "entitlement_gate.middleware.EntitlementMiddleware"
UPDATE, FETCH = (f"django.middleware.cache.{name}CacheMiddleware" for name in ("Update", "FetchFrom"))
STACKS = {
    "around ours": [UPDATE, OURS, FETCH],
    "below ours": [OURS, UPDATE, FETCH],
    "above ours": [UPDATE, FETCH, OURS],
    "without ours": [UPDATE, FETCH],
    "ours alone": [OURS],
    "none": [],
}
gate = requires_entitlement("reports")


def whose(request, *_):
    return HttpResponse(request.headers["X-Customer"])


def as_json(view):
    """Make a response of what a view gives back, as frameworks of a project's own do."""

    def answering(request):
        answer = view(request)
        return JsonResponse(answer) if isinstance(answer, dict) else answer

    return answering


def data(request):
    return {"for": request.headers["X-Customer"]}


async def async_data(request):
    return data(request)


def an_api(namespace):
    api = NinjaAPI(docs_url=None, openapi_url=None, urls_namespace=namespace)
    router = Router()
    for colour, function in {"sync": data, "async": async_data}.items():
        api.get(f"/{colour}/plain")(gate(function))
        api.get(f"/{colour}/stacked")(gate(gate(function)))
        api.get(f"/{colour}/public")(cache_public(gate(function)))
        router.get(f"/{colour}/below")(decorate_view(cache_page(60))(gate(function)))
        router.get(f"/{colour}/among")(gate(decorate_view(cache_page(60))(copy_of(function))))
        decorate_view(cache_page(60))(api.get(f"/{colour}/above")(gate(function)))
    api.add_router("/once", router)
    api.add_router("/twice", router, url_name_prefix="twice")
    return api


def copy_of(function):
    """Return a function that Ninja's decorators may write on."""
    return FunctionType(function.__code__, function.__globals__, function.__name__)


def cache_public(function):
    decorate_view(cache_control(public=True))(function)
    return function


api = an_api("inside")
PAGES = [
    "/gated/",
    "/cached/",
    "/cached/json/",
    *(f"/api/{colour}/{name}" for colour in ("sync", "async") for name in ("plain", "stacked", "above")),
    *(
        f"/api/{at}/{colour}/{name}"
        for at in ("once", "twice")
        for colour in ("sync", "async")
        for name in ("below", "among")
    ),
]
urlconf = ModuleType("caching_inside")
urlconf.urlpatterns = [
    path("api/", api.urls),
    path("gated/", gate(whose)),
    path("cached/", cache_page(60)(gate(whose))),
    path("cached/json/", cache_page(60)(as_json(gate(data)))),
    path("ruled/", whose),
    path("ruled/public/", cache_control(public=True)(whose)),
]


@pytest.fixture(autouse=True)
def _project(settings):
    settings.ENTITLEMENT_GATE = SETTINGS
    settings.ROOT_URLCONF = urlconf
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    cache.clear()
    with FakeBilling() as billing:
        billing.grant(PRO, "reports")
        billing.grant(LAPSED, "reports")
        yield
    cache.clear()


@pytest.fixture(params=["WSGI", "ASGI"])
def get(request):
    def get(url, customer=PRO):
        headers = {"X-Customer": customer}
        if request.param == "WSGI":
            return Client(raise_request_exception=False).get(url, headers=headers)
        return async_to_sync(AsyncClient(raise_request_exception=False).get)(url, headers=headers)

    return get


def got(get, url):
    """Return what three customers get one after the other, of whom two may; and whose page it is."""
    responses = [get(url, customer) for customer in (PRO, LAPSED, FREE)]
    return [(each.status_code, PRO in each.text) for each in responses]


OWN_PAGES = [(200, True), (200, False), (403, False)]
ONE_FOR_ALL = [(200, True), (200, True), (200, True)]


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("url", PAGES)
def test_each_customer_gets_their_own_page_wherever_a_cache_stands(get, settings, url, stack):
    settings.MIDDLEWARE = STACKS[stack]
    assert got(get, url) == OWN_PAGES


@pytest.mark.parametrize("stack", [name for name, stack in STACKS.items() if OURS in stack])
def test_so_do_those_whom_rules_let_in(get, settings, stack):
    settings.MIDDLEWARE = STACKS[stack]
    settings.ENTITLEMENT_GATE = SETTINGS | {"RULES": [{"path": "^/ruled/", "requires": "reports"}]}
    assert got(get, "/ruled/") == OWN_PAGES


@pytest.mark.parametrize(
    "url", ["/api/sync/plain", "/api/async/plain", "/api/once/sync/below", "/api/twice/async/below"]
)
def test_an_operation_says_without_the_middleware_whose_its_answer_is(get, settings, url):
    settings.MIDDLEWARE = []
    response = get(url)
    assert "private" in response.headers["Cache-Control"]
    assert "Cookie" in response.headers["Vary"]


@pytest.mark.parametrize("stack", ["around ours", "without ours"])
def test_an_operation_that_says_public_is_kept_for_all(get, settings, stack):
    settings.MIDDLEWARE = STACKS[stack]
    assert got(get, "/api/sync/public") == ONE_FOR_ALL


def test_a_page_that_rules_let_in_and_that_says_public_is_kept_by_a_cache_above(get, settings):
    settings.MIDDLEWARE = STACKS["above ours"]
    settings.ENTITLEMENT_GATE = SETTINGS | {"RULES": [{"path": "^/ruled/", "requires": "reports"}]}
    assert got(get, "/ruled/public/") == ONE_FOR_ALL


def test_where_answers_are_not_to_be_private_caches_are_left_alone(get, settings):
    settings.MIDDLEWARE = STACKS["below ours"]
    settings.ENTITLEMENT_GATE = SETTINGS | {"PRIVATE_RESPONSES": False}
    for url in ("/gated/", "/cached/json/", "/api/sync/plain"):
        assert got(get, url) == ONE_FOR_ALL
