"""The control room: play billing, and watch what each check answers.

For a demo on your own machine. A project has nothing of this: whoever opens it can break and change billing.
"""

import asyncio
import time
from typing import Any, NamedTuple

from asgiref.sync import sync_to_async
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST
from fieldnotes.customers import CUSTOMERS, Customer, signed_in

from control_room import acts, billing, records
from control_room.balances import balances_of
from control_room.timeline import HEIGHT, SECONDS, Timeline, state_of
from entitlement_gate import Decision, acheck_entitlement
from entitlement_gate.api import default_gate


class Watched(NamedTuple):
    """A check that is made again and again, as a customer at work does, and the page that needs it."""

    entitlement: str
    quantity: int | None
    page: str


WATCHED = (
    Watched("reports", None, page="reports"),
    Watched("api_calls", 100, page="export"),
    Watched("seats", 1, page="team"),
    Watched("ai_credits", 10, page="ask"),
)


class Answer(NamedTuple):
    """What a check said, after how many milliseconds."""

    watched: Watched
    decision: Decision
    state: str
    milliseconds: int


@never_cache
@require_GET
async def room(request: HttpRequest) -> HttpResponse:
    """Check, and show it. The page is whole without a script; with one its parts are renewed each second."""
    customer = await sync_to_async(_choose_customer)(request)
    answers = await asyncio.gather(*(_answer(customer, watched) for watched in WATCHED))
    return await sync_to_async(_show)(request, customer, answers)


@require_POST
def act(request: HttpRequest) -> HttpResponse:
    """Do what a button says."""
    customer = _find_customer(request.POST.get("customer"))
    name, entitlement, tell = (request.POST.get(field, "") for field in ("act", "entitlement", "tell"))
    if name not in acts.ACTS:
        raise Http404("there is no such act")
    outcome = acts.perform(name, customer.id, entitlement, tell=bool(tell))
    records.note("played", customer.id, text=outcome)
    # What was picked and ticked is so on the next page, too; the steps of the guide have nothing to pick.
    picks = {"entitlement": entitlement, "tell": tell} if entitlement else {}
    return redirect(f"{reverse('control_room:room')}?{urlencode({'customer': customer.id, **picks})}")


def _find_customer(customer_id: str | None) -> Customer:
    customer = next((customer for customer in CUSTOMERS if customer.id == customer_id), None)
    if customer is None:
        raise Http404("there is no such customer")
    return customer


def _choose_customer(request: HttpRequest) -> Customer:
    customer_id = request.GET.get("customer")
    return _find_customer(customer_id) if customer_id else signed_in(request) or CUSTOMERS[0]


async def _answer(customer: Customer, watched: Watched) -> Answer:
    began = time.perf_counter()
    decision = await acheck_entitlement(customer.id, watched.entitlement, watched.quantity)
    milliseconds = round(1000 * (time.perf_counter() - began))
    state = state_of(decision.source, decision.age, default_gate().options.ttl)
    return Answer(watched, decision, state, milliseconds)


def _show(request: HttpRequest, customer: Customer, answers: list[Answer]) -> HttpResponse:
    now, options = time.time(), default_gate().options
    timeline = Timeline(records.recent(customer.id, now - SECONDS), now, options.ttl)
    context: dict[str, Any] = {
        "watched_customer": customer,
        "answers": answers,
        "health": default_gate().health(),
        "options": options,
        "billing": billing.overview(),
        "rows": billing.rows_of(customer.id),
        "balances": balances_of(customer.id),
        "groups": acts.GROUPS,
        "names": acts.NAMES,
        "entitlement": request.GET.get("entitlement", ""),
        "tell": request.GET.get("tell", ""),
        "timeline": timeline,
        "outcomes": [(watched.entitlement, timeline.outcomes(watched.entitlement)) for watched in WATCHED],
        "height": HEIGHT,
        "seconds": SECONDS,
    }
    return render(request, "control_room/room.html", context)
