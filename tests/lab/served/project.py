"""Settings, URLs, views and both applications of the project."""

import asyncio
import os
import time

import django
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse, StreamingHttpResponse
from django.urls import path

SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = __name__
MIDDLEWARE = ["entitlement_gate.middleware.EntitlementMiddleware"]
INSTALLED_APPS = ["entitlement_gate"]
ENTITLEMENT_GATE = {
    "BASE_URL": os.environ["BILLING"],
    "API_KEY": "sandbox-key",
    "ORGANISATION": "00000000-0000-4000-8000-000000000001",
    "CUSTOMER_RESOLVER": "tests.customers.from_header",
    "DEADLINE": 30,  # the machine may be busy
    "TTL": 0.5,
    "STALE_WHILE_REVALIDATE": 0.2,
}
if "REDIS" in os.environ:
    ENTITLEMENT_GATE |= {"LEDGER": "redis", "REDIS_URL": os.environ["REDIS"]}
    ENTITLEMENT_GATE["RULES"] = [{"path": "^/ruled/", "requires": "calls", "consume": True}]

REST_FRAMEWORK = {
    "EXCEPTION_HANDLER": "entitlement_gate.contrib.rest_framework.exception_handler",
    "UNAUTHENTICATED_USER": None,
}

os.environ["DJANGO_SETTINGS_MODULE"] = __name__
django.setup()

# ruff: noqa: E402 - after the set-up, as in a urls.py
from adrf.views import APIView as AsyncAPIView
from ninja import NinjaAPI
from rest_framework.authentication import BaseAuthentication
from rest_framework.response import Response
from rest_framework.views import APIView

from entitlement_gate import check_entitlement, has_entitlement, requires_entitlement
from entitlement_gate.contrib import ninja
from entitlement_gate.contrib.rest_framework import HasEntitlement

if "WARM_BEFORE_FORK" in os.environ:  # what a `--preload` master may do: open connections and threads, then fork
    has_entitlement("20000000-0000-4000-8000-000000000002", "reports")
    # uWSGI tells Python nothing of its forks unless it is asked to. A thread that waits for the interpreter just then
    # leaves a worker in which the next thread hangs: let ours come to rest.
    time.sleep(1)


@requires_entitlement("reports")
def reports(request):
    return JsonResponse({"customer": request.entitlements.all().customer_id})


@requires_entitlement("reports")
async def reports_async(request):
    return JsonResponse({"customer": (await request.entitlements.aall()).customer_id})


def own(request):
    """Answer with the row that nobody else has, and with who says so."""
    customer = request.headers["X-Customer"]
    decision = check_entitlement(customer, f"only {customer}")
    return JsonResponse({**decision.as_dict(), "process": os.getpid()})


@requires_entitlement("calls", consume=True)
def use(request):
    return JsonResponse({"used": 1})


@requires_entitlement("calls", consume=True)
async def use_async(request):
    await asyncio.sleep(0)
    return JsonResponse({"used": 1})


@requires_entitlement("calls", consume=True)
async def slow_async(request):
    await asyncio.sleep(30)
    return JsonResponse({"used": 1})


@requires_entitlement("calls", consume=True)
def stream(request):
    def body():
        for number in range(int(request.GET["parts"])):
            yield b"%d\n" % number * 1_000
            time.sleep(0.05)

    return StreamingHttpResponse(body())


@requires_entitlement("calls", consume=True)
async def stream_async(request):
    async def body():
        for number in range(int(request.GET["parts"])):
            yield b"%d\n" % number * 1_000
            await asyncio.sleep(0.05)

    return StreamingHttpResponse(body())


api = NinjaAPI(docs_url=None)


@api.get("sync/")
@ninja.requires_entitlement("reports")
def reports_ninja(request):
    return {"customer": request.entitlements.all().customer_id}


@api.get("async/")
@ninja.requires_entitlement("reports")
async def reports_ninja_async(request):
    return {"customer": (await request.entitlements.aall()).customer_id}


class ByHeader(BaseAuthentication):
    def authenticate(self, request):
        customer = request.headers.get("X-Customer")
        return customer and (customer, None)

    def authenticate_header(self, request):
        return "X-Customer"


class Rest(APIView):
    authentication_classes = (ByHeader,)
    permission_classes = (HasEntitlement.of("reports"),)

    def get(self, request):
        return Response({"customer": request.user})


class AsyncRest(AsyncAPIView):
    authentication_classes = (ByHeader,)
    permission_classes = (HasEntitlement.of("reports"),)

    async def get(self, request):
        await asyncio.sleep(0)
        return Response({"customer": request.user})


uses_calls = [HasEntitlement.of("calls", consume=True)]
urlpatterns = [
    path("ninja/", api.urls),
    path("rest/sync/", Rest.as_view()),
    path("rest/async/", AsyncRest.as_view()),
    path("rest/sync/use/", Rest.as_view(permission_classes=uses_calls)),
    path("rest/async/use/", AsyncRest.as_view(permission_classes=uses_calls)),
    path("own/", own),
    path("sync/", reports),
    path("async/", reports_async),
    path("sync/use/", use),
    path("async/use/", use_async),
    path("async/slow/", slow_async),
    path("sync/stream/", stream),
    path("async/stream/", stream_async),
    # The same without their own gates: a rule stands before them.
    path("ruled/sync/use/", use.__wrapped__),
    path("ruled/async/use/", use_async.__wrapped__),
    path("ruled/async/slow/", slow_async.__wrapped__),
    path("ruled/sync/stream/", stream.__wrapped__),
    path("ruled/async/stream/", stream_async.__wrapped__),
]
wsgi = get_wsgi_application()
asgi = get_asgi_application()
