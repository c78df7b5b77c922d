"""The pages of Fieldnotes: one gate of each type, in sync and in async views, as decorator and in code.

One page uses up what it needs; the others look whether it is there.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, JsonResponse
from django.shortcuts import redirect, render
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from entitlement_gate import (
    CustomerEntitlements,
    Decision,
    Entitlement,
    EntitlementUnavailable,
    Requirement,
    requires_entitlement,
)
from fieldnotes import customers

if TYPE_CHECKING:
    from entitlement_gate.request_entitlements import RequestEntitlements


class Request(HttpRequest):
    """What the middleware makes of a request, for type checkers."""

    entitlements: RequestEntitlements


# In an async view: a template that names the user asks the database, which must not be done in the event loop.
arender = sync_to_async(render)

NOTES = ("North meadow: gate repaired", "Barn 3: roof to be checked", "Well: level 2.4 m", "Orchard: first blossoms")

# What each page needs, in one place: the home page tells it and the views below enforce it.
REPORTS = Requirement("reports")
EXPORT = Requirement("api_calls", 100)
API_REPORT = REPORTS & Requirement("api_calls", 1)
SEAT = Requirement("seats", 1)
SUMMARY_CREDITS = {"short": Decimal("12.5"), "long": Decimal(60)}
SUMMARY = Requirement("ai_credits", SUMMARY_CREDITS["short"])
ANSWER = Requirement("ai_credits", 10)

_TELLING = 4  # letters of a word that is worth looking for


class Page(NamedTuple):
    """A page as the home page shows it."""

    url_name: str
    title: str
    kind: str
    needs: str
    requirement: Requirement


PAGES = (
    Page("reports", "Reports", "Feature", "“reports”", REPORTS),
    Page("export", "Export", "Quantity", "100 of “api_calls”", EXPORT),
    Page("summary", "Summary", "Credits", "12.5 of “ai_credits”; 60 for a long one", SUMMARY),
    Page("ask", "Ask", "Credits, used up", "10 of “ai_credits” for each answer", ANSWER),
    Page("team", "Team", "Quantity, in code", "1 of “seats”", SEAT),
    Page("api-report", "Report API", "both, as JSON", "“reports” and 1 of “api_calls”", API_REPORT),
)


async def home(request: Request) -> HttpResponse:
    """Show what the customer has. An outage of billing is told, and is no empty list."""
    known = await request.entitlements.aall()
    try:
        entitlements = [_shown(entitlement) for entitlement in known.values()]
    except EntitlementUnavailable:
        return await arender(request, "fieldnotes/home.html", {"is_unknown": True}, status=503)
    return await arender(request, "fieldnotes/home.html", {"entitlements": entitlements, "pages": _pages(known)})


@require_GET
@requires_entitlement(REPORTS)
def reports(request: Request) -> HttpResponse:
    """A Feature: there or not."""
    return render(request, "fieldnotes/reports.html", {"notes": NOTES})


@requires_entitlement(EXPORT)
async def export(request: Request) -> HttpResponse:
    """A Quantity: an export makes 100 calls, so 100 have to be left."""
    decision = await request.entitlements.acheck(EXPORT)
    return await arender(request, "fieldnotes/export.html", {"decision": decision})


def credits_of(request: HttpRequest) -> Decimal:
    """Return what the summary that is asked for costs; the application sets the price, never the client."""
    return SUMMARY_CREDITS.get(request.GET.get("length", ""), SUMMARY_CREDITS["short"])


@requires_entitlement("ai_credits", credits_of)
async def summary(request: Request) -> HttpResponse:
    """Credits, of which the request decides how many are needed."""
    decision = await request.entitlements.acheck("ai_credits", credits_of(request))
    return await arender(request, "fieldnotes/summary.html", {"decision": decision})


class Ask(View):
    """Credits that are used up: looking at the form takes none, each answer takes ten."""

    @method_decorator(requires_entitlement(ANSWER))
    def get(self, request: Request) -> HttpResponse:
        """Show the form, and what is left."""
        return self._page(request)

    @method_decorator(requires_entitlement(ANSWER, consume=True))
    def post(self, request: Request) -> HttpResponse:
        """Answer; the balance is without the ten already. Where nothing is found the 404 gives them back."""
        question = request.POST.get("question", "")
        answers = answers_to(question)
        return self._page(request, status=200 if answers else 404, question=question, answers=answers)

    def _page(self, request: Request, status: int = 200, **given: Any) -> HttpResponse:
        decision = request.entitlements.check(ANSWER)
        given |= {"decision": decision, "percent": _percent_left(decision)}
        return render(request, "fieldnotes/ask.html", given, status=status)


def answers_to(question: str) -> list[str]:
    """Return the notes that share a longer word with the question."""
    words = [word for word in re.findall(r"\w+", question.lower()) if len(word) >= _TELLING]
    return [note for note in NOTES if any(word in note.lower() for word in words)]


@require_http_methods(["GET", "POST"])
def team(request: Request) -> HttpResponse:
    """Ask in code. What ``require`` raises is answered by the middleware like any refusal."""
    decision = request.entitlements.require(SEAT)
    invited = ""
    if request.method == "POST":
        invited = request.POST.get("people", "")
        try:
            decision = request.entitlements.require("seats", invited)
        except ValueError:  # what was typed is no quantity
            return HttpResponseBadRequest("How many people? A number of at least 1.", content_type="text/plain")
    may_sso = request.entitlements.has("sso")
    return render(request, "fieldnotes/team.html", {"decision": decision, "invited": invited, "may_sso": may_sso})


@requires_entitlement(API_REPORT)
async def api_report(request: Request) -> JsonResponse:
    """Answer programs; a refusal is ``application/problem+json`` for those that accept JSON."""
    return JsonResponse({"notes": len(NOTES), "latest": NOTES[0]})


def plans(request: Request) -> HttpResponse:
    """Show what can be had: where refused pages point to."""
    return render(request, "fieldnotes/plans.html")


@require_POST
def sign_in(request: Request) -> HttpResponse:
    """Switch the customer."""
    customers.sign_in(request, request.POST.get("customer", ""))
    return redirect("home")


def _pages(known: CustomerEntitlements) -> list[dict[str, Any]]:
    return [{**page._asdict(), "decision": known.check(page.requirement)} for page in PAGES]


def _shown(entitlement: Entitlement) -> dict[str, Any]:
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
