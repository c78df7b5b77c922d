"""Settings, URLs, views and both applications of the project."""

import os

import django
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
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
    "TTL": 0.5,
    "STALE_WHILE_REVALIDATE": 0.2,
}

os.environ["DJANGO_SETTINGS_MODULE"] = __name__
django.setup()

from entitlement_gate import has_entitlement, requires_entitlement  # noqa: E402 - after the set-up, as in a urls.py

if "WARM_BEFORE_FORK" in os.environ:  # what a `--preload` master may do: open connections and threads, then fork
    has_entitlement("20000000-0000-4000-8000-000000000002", "reports")


@requires_entitlement("reports")
def reports(request):
    return JsonResponse({"customer": request.entitlements.all().customer_id})


@requires_entitlement("reports")
async def reports_async(request):
    return JsonResponse({"customer": (await request.entitlements.aall()).customer_id})


urlpatterns = [path("sync/", reports), path("async/", reports_async)]
wsgi = get_wsgi_application()
asgi = get_asgi_application()
