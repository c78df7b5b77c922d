"""What our exceptions show to whoever catches them: frameworks, task queues, error reports."""

from __future__ import annotations

import copy
import importlib
import inspect
import json
import pickle
import pkgutil
import traceback
from decimal import Decimal
from types import ModuleType

import pytest
from adrf.views import APIView as AsyncAPIView
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path
from ninja import NinjaAPI
from rest_framework.response import Response
from rest_framework.views import APIView

import entitlement_gate
from entitlement_gate import (
    Decision,
    EntitlementDenied,
    EntitlementGateError,
    EntitlementUnavailable,
    Reason,
    ReservationConflict,
    ReservationExpired,
    ReservationNotFound,
    SourceRejected,
)
from entitlement_gate.ledger.balances import Row
from entitlement_gate.ledger.memory import MemoryLedger
from entitlement_gate.ledger.protocol import Demand
from entitlement_gate.sandbox.messages import Reply
from entitlement_gate.testing import FakeSource, aassert_gated, assert_gated
from tests.customers import PRO, SETTINGS

DECISION = Decision.of(
    Reason.INSUFFICIENT_QUANTITY,
    "seats",
    customer_id=PRO,
    requested=Decimal(99),
    remaining=Decimal(271828),
    grants=("row-of-the-customer",),
)
OUTAGE = Decision.of(Reason.UNAVAILABLE, "seats", customer_id=PRO)
SECRETS = (PRO, "271828", "row-of-the-customer", "Decision", "customer_id")


def _modules():
    for found in pkgutil.walk_packages(entitlement_gate.__path__, "entitlement_gate."):
        if not found.name.endswith("__main__"):
            try:
                yield importlib.import_module(found.name)
            except (RuntimeError, ImportError):  # of an app that this project does not install
                continue


ERRORS = sorted(
    {
        kind
        for module in _modules()
        for kind in vars(module).values()
        if inspect.isclass(kind) and issubclass(kind, Exception) and kind.__module__.startswith("entitlement_gate")
    },
    key=lambda kind: f"{kind.__module__}.{kind.__qualname__}",
)
MADE_OF = {
    EntitlementDenied: (DECISION,),
    EntitlementUnavailable: (OUTAGE,),
    SourceRejected: (422, "limit: too large"),
}


def _made(kind):
    """An error as the library raises it; those that carry something of their own say what they are made of."""
    if kind in MADE_OF:
        return kind(*MADE_OF[kind])
    if kind.__name__ == "Refusal":  # the sandbox's own, which carries a reply
        return kind(Reply.json({"detail": "no"}, 400))
    return kind("a plain text")


def _state(error):
    return type(error), error.args, str(error), vars(error)


def test_the_walk_finds_the_errors_of_every_package():
    assert {"EntitlementDenied", "LedgerUnavailable", "RealBillingRefused", "Malformed", "ScenarioError"} <= {
        kind.__name__ for kind in ERRORS
    }


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__qualname__)
@pytest.mark.parametrize(
    "twin",
    [
        *(
            lambda error, n=number: pickle.loads(pickle.dumps(error, n))
            for number in range(pickle.HIGHEST_PROTOCOL + 1)
        ),
        copy.copy,
        copy.deepcopy,
    ],
)
def test_every_error_survives_pickle_and_copy(kind, twin):
    error = _made(kind)

    assert _state(twin(error)) == _state(error)
    assert _state(twin(twin(error))) == _state(error)


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__qualname__)
@pytest.mark.parametrize(
    "rebuilt",
    [
        lambda error: type(error)(str(error)),
        lambda error: type(error)(repr(error)),
        lambda error: type(error)(*json.loads(json.dumps(error.args, default=repr))),
        lambda error: type(error)(*map(repr, error.args)),
        lambda error: type(error)(*map(str, error.args)),
        lambda error: type(error)(json.dumps(error.args, default=repr)),
    ],
    ids=["text", "repr", "arguments", "reprs", "texts", "json"],
)
def test_every_error_can_be_made_anew_by_a_task_queue_and_told(kind, rebuilt):
    error = rebuilt(_made(kind))

    assert isinstance(str(error), str)
    assert isinstance(repr(error), str)
    assert "".join(traceback.format_exception(error))
    assert _state(pickle.loads(pickle.dumps(error))) == _state(error)
    assert _state(type(error)(*error.args))[:2] == _state(error)[:2]


@pytest.mark.parametrize("kind", [kind for kind in ERRORS if issubclass(kind, EntitlementGateError)])
def test_arguments_are_plain_json(kind):
    args = _made(kind).args

    assert json.loads(json.dumps(args)) == list(args)


@pytest.mark.parametrize("error", [EntitlementDenied(DECISION), EntitlementUnavailable(OUTAGE)])
def test_an_error_about_a_check_shows_the_name_and_the_reason_alone(error):
    shown = f"{error} {error!r} {error.args} {''.join(traceback.format_exception(error))}"

    assert error.args == (f"seats: {error.decision.reason}",)
    assert not [secret for secret in SECRETS if secret in shown]


@pytest.mark.parametrize("error", [EntitlementDenied(DECISION), EntitlementUnavailable(OUTAGE)])
def test_made_anew_of_its_text_it_tells_what_the_text_tells(error):
    again = type(error)(str(error))

    assert str(again) == str(error)
    assert again.decision == Decision.of(error.decision.reason, "seats")


@pytest.mark.parametrize(
    ("kind", "text", "decision"),
    [
        (EntitlementDenied, "no", Decision.of(Reason.NOT_ENTITLED, "")),
        (EntitlementDenied, "", Decision.of(Reason.NOT_ENTITLED, "")),
        (EntitlementDenied, "seats: allowed", Decision.of(Reason.NOT_ENTITLED, "seats")),
        (EntitlementDenied, "seats: unavailable", Decision.of(Reason.NOT_ENTITLED, "seats")),
        (EntitlementDenied, "a: b: expired", Decision.of(Reason.EXPIRED, "a: b")),
        (EntitlementUnavailable, "seats: expired", Decision.of(Reason.UNAVAILABLE, "seats")),
        (EntitlementUnavailable, "seats: rejected", Decision.of(Reason.REJECTED, "seats")),
    ],
)
def test_no_text_makes_a_denial_that_allows(kind, text, decision):
    assert kind(text).decision == decision
    assert not kind(text).decision


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("HTTP 401", (401, "")),
        ("HTTP 422: limit: too\nlarge", (422, "limit: too\nlarge")),
        ("401", (0, "401")),
        ("", (0, "")),
    ],
)
def test_a_rejection_is_read_from_its_text(text, told):
    error = SourceRejected(text)

    assert (error.status, error.detail) == told


# What is shown by those who catch them


class Seats(APIView):
    authentication_classes = permission_classes = ()

    def get(self, request):
        request.entitlements.require("seats", 99)
        return Response("in")


class AsyncSeats(AsyncAPIView):
    authentication_classes = permission_classes = ()

    async def get(self, request):
        await request.entitlements.arequire("seats", 99)
        return Response("in")


def plain(request):
    request.entitlements.require("seats", 99)
    return HttpResponse("in")


def caught(request):
    try:
        request.entitlements.require("seats", 99)
    except EntitlementDenied:
        return HttpResponse("buy more", status=402)
    return HttpResponse("in")


ninja = NinjaAPI(urls_namespace="shown")


@ninja.exception_handler(PermissionDenied)
def _say(request, error):
    return ninja.create_response(request, {"detail": error.args}, status=403)


@ninja.get("/seats/")
def ninja_seats(request):
    request.entitlements.require("seats", 99)
    return "in"


urlconf = ModuleType("urlconf")
urlconf.urlpatterns = [
    path("drf/", Seats.as_view()),
    path("adrf/", AsyncSeats.as_view()),
    path("ninja/", ninja.urls),
    path("plain/", plain),
    path("caught/", caught),
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {"loaders": [("django.template.loaders.locmem.Loader", {"403.html": "<p>{{ exception }}</p>"})]},
    }
]


@pytest.fixture
def _project(settings):
    settings.ENTITLEMENT_GATE = SETTINGS
    settings.ROOT_URLCONF = urlconf


@pytest.mark.usefixtures("_project")
@pytest.mark.parametrize("url", ["/drf/", "/adrf/", "/ninja/seats/"])
def test_a_framework_that_shows_the_arguments_shows_neither_customer_nor_balance(url):
    response = Client(headers={"X-Customer": PRO}).get(url)

    assert response.status_code == 403
    assert "seats: insufficient_quantity" in response.text
    assert not [secret for secret in ("Decision", PRO, "remaining", "2000") if secret in response.text]


@pytest.mark.usefixtures("_project")
def test_djangos_own_page_shows_neither():
    with override_settings(MIDDLEWARE=[], TEMPLATES=TEMPLATES, ROOT_URLCONF=_raising()):
        response = Client().get("/")

    assert (response.status_code, response.text) == (403, "<p>seats: insufficient_quantity</p>")


def _raising():
    def view(request):
        raise EntitlementDenied(DECISION)

    module = ModuleType("raising")
    module.urlpatterns = [path("", view)]
    return module


@pytest.mark.usefixtures("_project")
@pytest.mark.parametrize("url", ["/drf/", "/adrf/", "/ninja/seats/"])
def test_a_gate_whose_exception_a_framework_answers_is_not_taken_for_one_that_is_answered(url):
    with pytest.raises(AssertionError, match=r"answers HTTP 403 with the text of EntitlementDenied"):
        assert_gated(url, "seats")


@pytest.mark.usefixtures("_project")
@pytest.mark.parametrize("url", ["/drf/", "/adrf/"])
async def test_nor_by_the_twin(url):
    with pytest.raises(AssertionError, match=r"answers HTTP 403 with the text of EntitlementDenied"):
        await aassert_gated(AsyncClient(), url, "seats")


@pytest.mark.usefixtures("_project")
@pytest.mark.parametrize("url", ["/plain/", "/caught/"])
def test_what_a_view_or_the_middleware_answers_is_an_answer(url):
    assert_gated(url, "seats")


@pytest.mark.usefixtures("_project")
def test_a_handler_that_shows_the_text_on_purpose_answers_too(settings):
    settings.ENTITLEMENT_GATE = {**SETTINGS, "DENIED_HANDLER": _told}

    assert_gated("/plain/", "seats")


def _told(request, decision):
    return HttpResponse(f"{decision.entitlement}: {decision.reason}", status=402)


@pytest.mark.usefixtures("_project")
def test_without_the_middleware_djangos_403_is_an_answer(settings):
    settings.ROOT_URLCONF = _requiring()
    settings.MIDDLEWARE = []

    assert_gated("/", "seats")


def _requiring():
    def view(request):
        entitlement_gate.require_entitlement(request, "seats")
        return HttpResponse("in")

    module = ModuleType("requiring")
    module.urlpatterns = [path("", view)]
    return module


# What the errors of the stores say


KEY = "order-4711-of-somebody"


def _demand(quantity=1):
    return Demand(entitlement_id="seats", quantity=quantity, rows=(Row("r", 10, 0),), ticket=1.0)


@pytest.mark.parametrize("verb", ["reserve again", "release", "extend", "commit late", "unknown", "no book"])
def test_an_error_about_a_reservation_names_neither_key_nor_customer(verb):
    ledger = MemoryLedger()
    if verb != "no book":
        ledger.reserve(PRO, [_demand()], key=KEY, ttl=60)
    with pytest.raises((ReservationConflict, ReservationExpired, ReservationNotFound)) as caught:
        _fail(ledger, verb)
    shown = "".join(traceback.format_exception(caught.value))

    assert KEY not in shown
    assert PRO not in shown


def _fail(ledger, verb):
    if verb == "reserve again":
        ledger.reserve(PRO, [_demand(2)], key=KEY, ttl=60)
    elif verb == "release":
        ledger.commit(PRO, KEY)
        ledger.release(PRO, KEY)
    elif verb == "extend":
        ledger.commit(PRO, KEY)
        ledger.extend(PRO, KEY, 5)
    elif verb == "commit late":
        ledger.commit(PRO, KEY, actual=3)
        ledger.commit(PRO, KEY, actual=4)
    else:
        ledger.commit(PRO, f"another {KEY}")


def test_a_customer_whom_the_test_source_does_not_know_is_not_named():
    with pytest.raises(EntitlementGateError) as caught:
        FakeSource().fetch(PRO)

    assert PRO not in f"{caught.value!r}{caught.value}"
