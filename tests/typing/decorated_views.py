"""Read by ``mypy --strict`` as a part of ``make lint``: a gate leaves the types of a view as they were."""

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import assert_type

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.generic import TemplateView

from entitlement_gate import (
    Decision,
    Requirement,
    acheck_entitlement,
    check_entitlement,
    has_entitlement,
    require_entitlement,
    requires_entitlement,
)
from entitlement_gate.contrib import ninja
from entitlement_gate.contrib.celery import consumes_entitlement
from entitlement_gate.mixins import EntitlementRequiredMixin


@requires_entitlement("reports")
def report(request: HttpRequest, year: int, slug: str = "") -> HttpResponse:
    return HttpResponse(f"{year} {slug}")


@requires_entitlement("reports", quantity=lambda request: len(request.GET))
async def report_async(request: HttpRequest, year: int, *, slug: str = "") -> HttpResponse:
    return HttpResponse(f"{year} {slug}")


@requires_entitlement("reports")
@requires_entitlement(Requirement("seats", 2) & ~Requirement("trial"), on_unavailable="allow")
@login_required
def stacked(request: HttpRequest, pk: int) -> HttpResponse:
    return HttpResponse(str(pk))


@requires_entitlement("reports", on_denied="pricing")
class Reports(View):
    def get(self, request: HttpRequest, year: int) -> HttpResponse:
        return HttpResponse(str(year))


@method_decorator(requires_entitlement("reports"), name="dispatch")
class AsyncReports(View):
    async def get(self, request: HttpRequest, year: int) -> HttpResponse:
        return HttpResponse(str(year))


class MixedIn(EntitlementRequiredMixin, TemplateView):
    entitlement_required = Requirement("reports")
    entitlement_quantity = Decimal("1.5")

    def handle_entitlement_denied(self, decision: Decision) -> HttpResponse:
        return HttpResponse(decision.reason, status=403)


@ninja.requires_entitlement("reports")
def operation(request: HttpRequest, page: int = 1) -> dict[str, int]:
    return {"page": page}


@consumes_entitlement("calls", "pages", customer="customer_id")
def export(customer_id: str, pages: int) -> list[int]:
    return list(range(pages))


async def uses(request: HttpRequest) -> None:
    assert_type(report(request, 2026), HttpResponse)
    assert_type(report(request, year=2026, slug="q1"), HttpResponse)
    assert_type(await report_async(request, 2026, slug="q1"), HttpResponse)
    assert_type(stacked(request, 1), HttpResponse)
    assert_type(Reports, type[Reports])
    assert_type(Reports().get(request, 2026), HttpResponse)
    assert_type(await AsyncReports().get(request, 2026), HttpResponse)
    assert_type(MixedIn().get_entitlement_requirement(), Requirement)
    assert_type(operation(request, page=2), dict[str, int])
    assert_type(export("20000000-0000-4000-8000-000000000002", pages=2), list[int])
    assert_type(has_entitlement(request, "reports"), bool)
    assert_type(check_entitlement(request, "seats", 2), Decision)
    assert_type(require_entitlement(request, "seats", Decimal(2)), Decision)
    assert_type(await acheck_entitlement(request, "seats", "2"), Decision)


def what_a_checker_must_refuse(request: HttpRequest) -> None:
    report(request)  # type: ignore[call-arg]  # the year is missing
    report(request, "2026")  # type: ignore[arg-type]  # the year is text
    export(5, 2)  # type: ignore[arg-type]  # a customer's id is text here
    requires_entitlement(5)  # type: ignore[arg-type]  # an entitlement is text
    requires_entitlement("reports", customer="me")  # type: ignore[arg-type]  # a customer is found by a callable


callback: Callable[[HttpRequest, int], HttpResponse] = report
callback_async: Callable[[HttpRequest, int], Awaitable[HttpResponse]] = report_async
