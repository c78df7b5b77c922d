"""Whom a gate takes a request to be of, where a framework, a middleware or the view itself says who asks."""

import asyncio

import pytest
from adrf.decorators import api_view as async_api_view
from adrf.views import APIView as AsyncAPIView
from asgiref.sync import async_to_sync, iscoroutinefunction, markcoroutinefunction
from django.contrib.auth import alogin, alogout, login, logout
from django.contrib.auth.models import AnonymousUser, User
from django.http import HttpResponse
from django.test import AsyncRequestFactory, RequestFactory
from django.urls import path
from django.utils.decorators import method_decorator
from django.utils.functional import SimpleLazyObject
from ninja import NinjaAPI
from ninja.security import HttpBearer
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.decorators import api_view, authentication_classes
from rest_framework.permissions import BasePermission
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory, force_authenticate
from rest_framework.views import APIView

from entitlement_gate import acheck_entitlement, check_entitlement, has_entitlement, requires_entitlement
from entitlement_gate.request_entitlements import entitlements_of
from entitlement_gate.resolvers import find_request
from tests.customers import FREE, LAPSED, PRO
from tests.views.browsers import GATE, MIDDLEWARE, OURS, Browser

pytestmark = pytest.mark.django_db(transaction=True)
TOKEN = {"Authorization": f"Bearer {PRO}"}
gate = requires_entitlement("reports")


@pytest.fixture(autouse=True)
def project(settings):
    settings.ENTITLEMENT_GATE = GATE
    settings.MIDDLEWARE = [*MIDDLEWARE, OURS]
    settings.ROOT_URLCONF = __name__
    for name in (FREE, PRO, LAPSED):
        User.objects.create(username=name)


class Token(BaseAuthentication):
    def authenticate(self, request):
        name = request.headers.get("Authorization", "").removeprefix("Bearer ")
        return (User.objects.get(username=name), None) if name else None


class Entitled(BasePermission):
    def has_permission(self, request, view):
        return has_entitlement(request, "reports") and entitlements_of(find_request(request)).has("reports")


class TokenView(APIView):
    authentication_classes = (Token, SessionAuthentication)

    def get(self, request):
        return Response(entitlements_of(find_request(request)).check("reports").customer_id)


class Permitted(TokenView):
    permission_classes = (Entitled,)


class OnMethod(TokenView):
    @method_decorator(gate)
    def get(self, request):
        return super().get(request)


class OnInitial(TokenView):
    """Asks before the framework has authenticated."""

    def initial(self, request, *args, **kwargs):
        self.early = check_entitlement(request, "reports").customer_id
        super().initial(request, *args, **kwargs)

    def get(self, request):
        assert self.early == super().get(request).data
        return Response(self.early)


class Lazy(TokenView):
    """Authenticates when the user is first read, as Django REST framework's documentation allows."""

    def perform_authentication(self, request):
        pass

    @method_decorator(gate)
    def get(self, request):
        return super().get(request)


@api_view(["GET"])
@authentication_classes([Token])
@gate
def function(request):
    return Response(check_entitlement(request, "reports").customer_id)


@async_api_view(["GET"])
@authentication_classes([Token])
@gate
async def async_function(request):
    return Response((await acheck_entitlement(request, "reports")).customer_id)


class Async(AsyncAPIView):
    authentication_classes = (Token, SessionAuthentication)

    async def get(self, request):
        found = (await acheck_entitlement(request, "reports")).customer_id
        assert (await request.entitlements.acheck("reports")).customer_id == found
        assert check_entitlement(request, "reports").customer_id == found
        return Response(found)


class AsyncPermitted(Async):
    permission_classes = (Entitled,)


class AsyncLazy(Async):
    def perform_authentication(self, request):
        pass


class Bearer(HttpBearer):
    def authenticate(self, request, token):
        request.user = User.objects.get(username=token)
        return token


class AsyncBearer(HttpBearer):
    async def authenticate(self, request, token):
        request.user = await User.objects.aget(username=token)
        return token


ninja = NinjaAPI(urls_namespace="who asks")


@ninja.get("sync/", auth=Bearer())
@gate
def ninja_sync(request):
    return HttpResponse(check_entitlement(request, "reports").customer_id)


@ninja.get("async/", auth=AsyncBearer())
@gate
async def ninja_async(request):
    assert check_entitlement(request, "reports").customer_id == PRO
    return HttpResponse((await acheck_entitlement(request, "reports")).customer_id)


def named(request):
    return request.entitlements.check("reports").customer_id, check_entitlement(request, "seats").customer_id


async def anamed(request):
    both = [await request.entitlements.acheck("reports"), await acheck_entitlement(request, "seats")]
    return both[0].customer_id, both[1].customer_id


def coming_and_going(request):
    seen = [named(request)]
    login(request, User.objects.get(username=PRO))
    seen.append(named(request))
    request.user = User.objects.get(username=LAPSED)
    seen.append(named(request))
    logout(request)
    return HttpResponse(repr([*seen, named(request)]))


async def acoming_and_going(request):
    seen = [await anamed(request)]
    await alogin(request, await User.objects.aget(username=PRO))
    seen.append(await anamed(request))
    request.user = await User.objects.aget(username=LAPSED)
    seen.append(await anamed(request))
    await alogout(request)
    return HttpResponse(repr([*seen, await anamed(request)]))


def plain(request):
    return HttpResponse(repr(named(request)))


async def aplain(request):
    return HttpResponse(repr(await anamed(request)))


urlpatterns = [
    path("permitted/", Permitted.as_view()),
    path("method/", OnMethod.as_view()),
    path("initial/", OnInitial.as_view()),
    path("lazy/", Lazy.as_view()),
    path("function/", function),
    path("adrf-function/", async_function),
    path("adrf/", Async.as_view()),
    path("adrf-permitted/", AsyncPermitted.as_view()),
    path("adrf-lazy/", AsyncLazy.as_view()),
    path("ninja/", ninja.urls),
    path("coming-and-going/", coming_and_going),
    path("acoming-and-going/", acoming_and_going),
    path("plain/", plain),
    path("aplain/", aplain),
]
PAGES = [
    *("permitted", "method", "initial", "lazy", "function", "adrf-function", "adrf", "adrf-permitted", "adrf-lazy"),
    *("ninja/sync", "ninja/async"),
]


@pytest.mark.parametrize("is_asked_before", [True, False], ids=["asked before", "not asked before"])
@pytest.mark.parametrize("session", [None, FREE], ids=["no session", "session of another"])
@pytest.mark.parametrize("handler", ["WSGI", "ASGI"])
@pytest.mark.parametrize("page", PAGES)
def test_who_a_framework_authenticates_in_the_view_is_whose_request_it_is(
    settings, page, *, handler, session, is_asked_before
):
    if is_asked_before:
        settings.ENTITLEMENT_GATE = {**GATE, "SHADOW": True, "RULES": [{"path": "^/", "requires": "reports"}]}
    response = Browser(handler, session).get(f"/{page}/", **TOKEN)
    assert (response.status_code, response.content.decode().strip('"')) == (200, PRO)


@pytest.mark.parametrize("handler", ["WSGI", "ASGI"])
@pytest.mark.parametrize("page", ["permitted", "method", "initial", "lazy", "adrf", "adrf-permitted", "adrf-lazy"])
def test_a_session_does_where_the_framework_takes_it(page, handler):
    response = Browser(handler, PRO).get(f"/{page}/")
    assert (response.status_code, response.json()) == (200, PRO)


@pytest.mark.parametrize("page", ["coming-and-going", "acoming-and-going"])
@pytest.mark.parametrize("handler", ["WSGI", "ASGI"])
@pytest.mark.parametrize("session", [None, FREE])
def test_login_a_switch_of_user_and_logout_are_heeded_at_the_next_check(handler, page, session):
    response = Browser(handler, session).get(f"/{page}/")
    assert response.content.decode() == repr([(name, name) for name in (session, PRO, LAPSED, None)])


class Middleware:
    """Puts somebody on each request, as the subclass says."""

    sync_capable = async_capable = True

    def __init__(self, get_response):
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request):
        self.put(request)
        return self.get_response(request)


class LazyUser(Middleware):
    """As those for JSON Web Tokens do: a query, once somebody wants to know."""

    def put(self, request):
        request.user = SimpleLazyObject(lambda: User.objects.get(username=PRO))


class OnlyAuser(Middleware):
    def put(self, request):
        async def auser():
            return await User.objects.aget(username=PRO)

        request.auser = auser


class NoUser(OnlyAuser):
    def put(self, request):
        super().put(request)
        vars(request).pop("user", None)


class Nobody(Middleware):
    def put(self, request):
        request.user = None


@pytest.mark.parametrize("page", ["plain", "aplain"])
@pytest.mark.parametrize("handler", ["WSGI", "ASGI"])
@pytest.mark.parametrize("session", [None, FREE])
@pytest.mark.parametrize(("middleware", "found"), [(LazyUser, PRO), (OnlyAuser, PRO), (NoUser, PRO), (Nobody, None)])
def test_who_a_middleware_puts_on_the_request_wins_over_the_session(
    settings, middleware, found, *, session, handler, page
):
    settings.MIDDLEWARE = [*MIDDLEWARE, f"{__name__}.{middleware.__name__}", OURS]
    assert Browser(handler, session).get(f"/{page}/").content.decode() == repr((found, found))


@pytest.mark.parametrize("page", ["plain", "aplain"])
@pytest.mark.parametrize("handler", ["WSGI", "ASGI"])
@pytest.mark.parametrize("session", [None, FREE])
def test_a_remote_user_wins_over_the_session(settings, session, handler, page):
    settings.MIDDLEWARE = [*MIDDLEWARE, "django.contrib.auth.middleware.RemoteUserMiddleware", OURS]
    settings.AUTHENTICATION_BACKENDS = [
        "django.contrib.auth.backends.RemoteUserBackend",
        "django.contrib.auth.backends.ModelBackend",
    ]
    remote = {"REMOTE_USER": PRO} if handler == "WSGI" else {"Remote-User": PRO}
    browser = Browser(handler, session)
    get = browser._client.get
    response = get(f"/{page}/", **remote) if handler == "WSGI" else async_to_sync(get)(f"/{page}/", headers=remote)
    assert response.content.decode() == repr((PRO, PRO))


@pytest.mark.parametrize("view", [Permitted, OnMethod, OnInitial, Lazy])
def test_who_a_test_authenticates_by_force_is_whose_request_it_is(view):
    request = APIRequestFactory().get("/")
    force_authenticate(request, user=User.objects.get(username=PRO))
    assert view.as_view()(request).data == PRO


def test_both_doors_agree_whatever_was_put_on_a_request():
    people = [AnonymousUser(), None, User(username=PRO), SimpleLazyObject(lambda: User(username=PRO))]
    for factory in (RequestFactory, AsyncRequestFactory):
        for person in people:
            request = factory().get("/")
            request.user = person
            told = asyncio.run(acheck_entitlement(request, "reports")).customer_id
            assert told == check_entitlement(request, "reports").customer_id


def test_an_async_view_reads_the_session_without_a_thread_of_its_own(django_assert_num_queries):
    browser = Browser("ASGI", PRO)
    with django_assert_num_queries(2):  # the session, and its user
        assert browser.get("/aplain/").content.decode() == repr((PRO, PRO))
