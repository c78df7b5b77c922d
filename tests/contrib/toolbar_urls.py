"""The pages of the project with the toolbar; imported when it is installed, and not before."""

import asyncio

from django.http import HttpResponse
from django.urls import include, path

from entitlement_gate import check_entitlement, requires_entitlement
from tests.customers import PRO


def page(text="a page"):
    return HttpResponse(f"<html><head><title>{text}</title></head><body><h1>{text}</h1></body></html>")


def plain(request):
    return page()


def gated(request):
    for name in request.GET.getlist("name"):
        check_entitlement(PRO, name)
    return page()


async def agated(request):
    for name in request.GET.getlist("name"):
        await request.entitlements.acheck(name)
        await asyncio.sleep(0)  # another request's turn
    return page()


@requires_entitlement("sso")
@requires_entitlement("seats", 100)
def refused(request):
    raise AssertionError("nobody has a hundred seats")


def failing(request):
    check_entitlement(PRO, "sso")
    raise RuntimeError("a bug of the view's")


urlpatterns = [
    path("plain/", plain),
    path("gated/", gated),
    path("agated/", agated),
    path("refused/", refused),
    path("failing/", failing),
    path("__debug__/", include("debug_toolbar.urls")),
]
