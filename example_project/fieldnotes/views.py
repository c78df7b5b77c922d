"""The pages of Fieldnotes: a gate of each kind, on sync and async views."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django.views.decorators.vary import vary_on_headers
from django.views.generic import TemplateView

from entitlement_gate import CustomerEntitlements, Decision, Entitlement, EntitlementUnavailable, requires_entitlement
from entitlement_gate.mixins import EntitlementRequiredMixin
from fieldnotes import customers, jobs, prices
from fieldnotes.models import Export
from fieldnotes.notes import NOTES, find_notes

if TYPE_CHECKING:
    from decimal import Decimal

    from entitlement_gate.request_entitlements import RequestEntitlements


class Request(HttpRequest):
    """What the middleware makes of a request, for type checkers."""

    entitlements: RequestEntitlements


# In an async view: a template that names the user asks the database, which must not be done in the event loop.
arender = sync_to_async(render)


async def home(request: Request) -> HttpResponse:
    """Show what the customer has. An outage of billing is told, and is no empty list."""
    entitlements = await request.entitlements.aall()
    try:
        rows = [_to_row(entitlement) for entitlement in entitlements.values()]
    except EntitlementUnavailable:
        return await arender(request, "fieldnotes/home.html", {"is_unknown": True}, status=503)
    return await arender(request, "fieldnotes/home.html", {"entitlements": rows, "pages": _pages(entitlements)})


class Dashboard(EntitlementRequiredMixin, TemplateView):
    """A Feature, on a view class. Its template shows parts of the page by what else the customer has."""

    entitlement_required = prices.DASHBOARD
    template_name = "fieldnotes/dashboard.html"
    extra_context = {"notes": NOTES}


@require_GET
@requires_entitlement(prices.REPORTS)
def reports(request: Request) -> HttpResponse:
    """A Feature: there or not."""
    return render(request, "fieldnotes/reports.html", {"notes": NOTES})


def translation_key(request: HttpRequest) -> str:
    """Name the work, so that it is counted once: a number of the application's, never one that a client makes up."""
    return f"translation of note {request.resolver_match.kwargs['number']}" if request.resolver_match else ""


@require_POST
@requires_entitlement(prices.REPORTS)
@requires_entitlement(prices.TRANSLATION, consume=True, key=translation_key)
def translate(request: Request, number: int) -> HttpResponse:
    """Credits that are used up once: the same note again is free. A note that is not there costs nothing."""
    if number >= len(NOTES):
        raise Http404
    remaining = request.entitlements.check("ai_credits").remaining
    context = {"notes": NOTES, "translation": list(NOTES.values())[number], "remaining": remaining}
    return render(request, "fieldnotes/reports.html", context)


@requires_entitlement(prices.EXPORT)
async def export(request: Request) -> HttpResponse:
    """A Quantity, in an async view. The gate sees whether there is enough; the job that is started uses it up."""
    user: Any = await request.auser()
    if request.method == "POST":
        await sync_to_async(jobs.start_export)(user)
        return redirect("export")
    decision = await request.entitlements.acheck(prices.EXPORT)
    exports = [each async for each in Export.objects.filter(user=user).order_by("-pk")[:5]]
    return await arender(request, "fieldnotes/export.html", {"decision": decision, "exports": exports})


def credits_of(request: HttpRequest) -> Decimal:
    """Return what the summary that is asked for costs; the application sets the price, never the client."""
    return prices.SUMMARY_CREDITS.get(request.GET.get("length", ""), prices.SUMMARY_CREDITS["short"])


@requires_entitlement("ai_credits", credits_of)
async def summary(request: Request) -> HttpResponse:
    """Credits, of which the request decides how many are needed."""
    decision = await request.entitlements.acheck("ai_credits", credits_of(request))
    return await arender(request, "fieldnotes/summary.html", {"decision": decision})


class Ask(View):
    """Credits that are used up: looking at the form takes none, each answer takes ten."""

    @method_decorator(requires_entitlement(prices.ANSWER))
    def get(self, request: Request) -> HttpResponse:
        """Show the form, and what is left."""
        return self._page(request)

    @method_decorator(requires_entitlement(prices.ANSWER, consume=True))
    def post(self, request: Request) -> HttpResponse:
        """Answer; the balance is without the ten already. Where nothing is found the 404 gives them back."""
        question = request.POST.get("question", "")
        answers = find_notes(question)
        return self._page(request, status=200 if answers else 404, question=question, answers=answers)

    def _page(self, request: Request, status: int = 200, **context: Any) -> HttpResponse:
        decision = request.entitlements.check(prices.ANSWER)
        context |= {"decision": decision, "percent": _percent_left(decision)}
        return render(request, "fieldnotes/ask.html", context, status=status)


@require_http_methods(["GET", "POST"])
def team(request: Request) -> HttpResponse:
    """Ask in code. What ``require`` raises is answered by the middleware like any refusal."""
    decision = request.entitlements.require(prices.SEAT)
    people = ""
    if request.method == "POST":
        people = request.POST.get("people", "")
        try:
            decision = request.entitlements.require("seats", people)
        except ValueError:  # what was typed is no quantity
            return render(request, "fieldnotes/team.html", {"decision": decision, "is_no_number": True}, status=400)
    may_sso = request.entitlements.has("sso")
    return render(request, "fieldnotes/team.html", {"decision": decision, "people": people, "may_sso": may_sso})


@vary_on_headers("Accept")
@requires_entitlement(prices.API_REPORT)
async def api_report(request: Request) -> HttpResponse:
    """Answer programs with JSON, people with a page; a refusal is ``application/problem+json`` or a page alike."""
    report = {"notes": len(NOTES), "latest": next(iter(NOTES))}
    if request.get_preferred_type(["application/json", "text/html"]) != "text/html":
        return JsonResponse(report)
    page = {"title": "Report API", "status": HTTPStatus.OK, "answer": json.dumps(report, indent=2)}
    return await arender(request, "fieldnotes/answer.html", page)


def plans(request: Request) -> HttpResponse:
    """Show what can be had: where refused pages point to."""
    return render(request, "fieldnotes/plans.html")


@require_POST
def sign_in(request: Request) -> HttpResponse:
    """Switch the customer, and show a page: the one that is named, of those on the home page, or that."""
    customers.sign_in(request, request.POST.get("customer", ""))
    url_name = request.POST.get("page")
    return redirect(url_name if url_name in {page.url_name for page in prices.PAGES} else "home")


def _pages(entitlements: CustomerEntitlements) -> list[dict[str, Any]]:
    return [{**page._asdict(), "decision": entitlements.check(page.requirement)} for page in prices.PAGES]


def _to_row(entitlement: Entitlement) -> dict[str, Any]:
    return {
        "name": entitlement.name,
        "type": entitlement.type,
        "decision": entitlement.decision,
        "percent": _percent_left(entitlement.decision),
    }


def _percent_left(decision: Decision) -> int | None:
    """Return how long the bar is, or None where nothing is counted."""
    if decision.limit is None or decision.remaining is None or decision.limit <= 0:
        return None
    return max(0, min(100, round(100 * decision.remaining / decision.limit)))
