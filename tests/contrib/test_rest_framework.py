"""Gates among the permissions of Django REST framework, and of adrf's async views."""

from __future__ import annotations

import copy
import importlib.util
import json
import logging
import os
import pickle
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
from adrf.decorators import api_view as async_api_view
from adrf.generics import GenericAPIView as AsyncGenericAPIView
from adrf.permissions import AsyncBasePermission
from adrf.views import APIView as AsyncAPIView
from adrf.viewsets import ViewSet as AsyncViewSet
from asgiref.sync import async_to_sync
from django.contrib.auth.models import AnonymousUser, User
from django.core.cache import cache
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.http import HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings
from django.urls import path
from django.utils.decorators import method_decorator
from django.views.decorators.cache import cache_page
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import extend_schema
from drf_spectacular.validation import validate_schema
from rest_framework import exceptions, generics, serializers, viewsets
from rest_framework.authentication import BaseAuthentication
from rest_framework.decorators import action, api_view, authentication_classes, permission_classes
from rest_framework.permissions import AllowAny, BasePermission, IsAuthenticated, OperandHolder
from rest_framework.renderers import BrowsableAPIRenderer, JSONRenderer
from rest_framework.response import Response
from rest_framework.test import APIClient, APIRequestFactory
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView
from rest_framework.views import exception_handler as the_frameworks_handler

from entitlement_gate import (
    Decision,
    EntitlementDenied,
    EntitlementUnavailable,
    Reason,
    Requirement,
    check_entitlement,
    require_entitlement,
    requires_entitlement,
)
from entitlement_gate.api import default_gate
from entitlement_gate.contrib import rest_framework as contrib
from entitlement_gate.contrib.rest_framework import (
    EntitlementRefused,
    EntitlementThrottle,
    HasEntitlement,
    answering_refusals,
    exception_handler,
)
from entitlement_gate.operators.gates import find_views
from entitlement_gate.request_entitlements import entitlements_of
from entitlement_gate.resolvers import find_request
from entitlement_gate.responses import denied
from entitlement_gate.testing import FakeBilling, assert_gated
from tests.customers import FREE, PRO

pytestmark = pytest.mark.django_db  # closing a response lets Django look after its connections
OURS = "entitlement_gate.middleware.EntitlementMiddleware"
HANDLER = "entitlement_gate.contrib.rest_framework.exception_handler"
WITH_OUR_HANDLER = {"EXCEPTION_HANDLER": HANDLER, "DEFAULT_AUTHENTICATION_CLASSES": []}
CALLS = 3


class Token(BaseAuthentication):
    """Says who asks inside the view, as tokens do; the customer is the user's name."""

    def authenticate(self, request):
        name = request.headers.get("Authorization", "").removeprefix("Token ")
        return (User(username=name), None) if name else None

    def authenticate_header(self, request):
        return "Token"


class Blocked(BasePermission):
    message, code = "you are blocked", "blocked"

    def has_permission(self, request, view):
        return False


class Mute(BasePermission):
    def has_permission(self, request, view):
        return False


class Key(Token):
    """Says so by a header that no cache knows."""

    def authenticate(self, request):
        return User(username=request.headers["X-Key"]), None


class Named(BasePermission):
    def has_permission(self, request, view):
        return request.user.username == PRO


class Owner(BasePermission):
    message = "it is another's"

    def has_object_permission(self, request, view, obj):
        return obj == request.user.username


class OwnerOfForm(Owner):
    def has_object_permission(self, request, view, obj):
        return super().has_object_permission(request, view, obj["name"])


class AsyncOpen(AsyncBasePermission):
    pass


class AsyncBlocked(AsyncBasePermission):
    message, code = "you are blocked", "blocked"

    async def has_permission(self, request, view):
        return False

    async def has_object_permission(self, request, view, obj):
        return False


has_reports = HasEntitlement.of("reports")
has_calls = HasEntitlement.of("calls", 1)
has_seats = HasEntitlement.of("seats", 2)
uses_calls = HasEntitlement.of("calls", consume=True)


class Plain(APIView):
    authentication_classes = (Token,)

    def get(self, request, *args, **kwargs):
        return Response({"may": True}, status=int(request.GET.get("status", 200)))

    post = get


class Things(viewsets.ViewSet):
    authentication_classes = (Token,)
    permission_classes = (IsAuthenticated, has_reports)

    def list(self, request):
        return Response({"may": True})

    @action(detail=False, permission_classes=[has_reports])
    def boost(self, request):
        return Response({"may": True})


class ByAction(Things):
    def get_permissions(self):
        return [AllowAny()] if self.action == "boost" else [has_reports()]


class Listed(generics.ListAPIView):
    authentication_classes = (Token,)
    permission_classes = (IsAuthenticated & has_reports,)
    queryset = User.objects.none()
    serializer_class = serializers.Serializer


@api_view(["GET"])
@authentication_classes([Token])
@permission_classes([has_reports])
def function(request):
    return Response({"may": True})


@async_api_view(["GET"])
@authentication_classes([Token])
@permission_classes([IsAuthenticated & has_reports])
async def async_function(request):
    return Response({"may": True})


class Async(AsyncAPIView):
    authentication_classes = (Token,)
    permission_classes = (AsyncOpen, IsAuthenticated, has_reports)

    async def get(self, request):
        return Response({"may": True}, status=int(request.GET.get("status", 200)))

    post = get


class AsyncThings(AsyncViewSet):
    authentication_classes = (Token,)
    permission_classes = (AsyncOpen & has_reports,)

    async def list(self, request):
        return Response({"may": True})


SHAPES = {
    "class": Plain.as_view(permission_classes=[IsAuthenticated, has_reports]),
    "generic": Listed.as_view(),
    "set": Things.as_view({"get": "list"}),
    "action": Things.as_view({"get": "boost"}, permission_classes=[has_reports]),
    "by-action": ByAction.as_view({"get": "list"}),
    "function": function,
    "async-class": Async.as_view(),
    "async-function": async_function,
    "async-set": AsyncThings.as_view({"get": "list"}),
}


def urls_of(views):
    module = ModuleType("rest_urls")
    module.urlpatterns = [path(f"{name}/", view) for name, view in views.items()]
    return module


@pytest.fixture(autouse=True)
def billing(settings):
    settings.ENTITLEMENT_GATE = {
        "BASE_URL": "sandbox:",
        "DEADLINE": 30,
        "CUSTOMER_ATTRIBUTE": "username",
        "UPGRADE_URL": "/plans/",
    }
    settings.REST_FRAMEWORK = WITH_OUR_HANDLER
    settings.ROOT_URLCONF = urls_of(SHAPES)
    settings.MIDDLEWARE = []
    with FakeBilling() as billing:
        for name in ("reports", "sso"):
            billing.grant(PRO, name)
        billing.grant(PRO, "calls", CALLS)
        billing.grant(PRO, "seats", 5)
        billing.grant(FREE, "calls", 1, quantity_used=1)
        billing.grant(FREE, "credits", 2, type="Credits", quantity_used=2)
        yield billing


@pytest.fixture(params=["with our middleware", "without"])
def middleware(request, settings):
    settings.MIDDLEWARE = [OURS] if request.param == "with our middleware" else []


def get(url, customer=PRO, *, handler="WSGI", method="get", **headers):
    client = (Client if handler == "WSGI" else AsyncClient)(raise_request_exception=False)
    if customer:
        headers["Authorization"] = f"Token {customer}"
    ask = getattr(client, method)
    return (ask if handler == "WSGI" else async_to_sync(ask))(url, headers=headers)


def ask(*permissions, customer=FREE, view=Plain, method="get", **kwargs):
    """Ask a view that has these permissions, past Django's handlers."""
    request = getattr(APIRequestFactory(), method)("/", headers={"Authorization": f"Token {customer}"})
    response = view.as_view(permission_classes=permissions)(request, **kwargs)
    return (async_to_sync(_only)(response) if hasattr(response, "__await__") else response).render()


async def _only(awaitable):
    return await awaitable


def told(response):
    """Return the status of an answer, and the code of who refused."""
    data = response.data
    return response.status_code, None if "may" in data else data.get("code", getattr(data.get("detail"), "code", None))


def left(customer=PRO, name="calls"):
    charges = default_gate().ledger.charges(customer).values()
    assert not any(tally.held for tallies in charges for tally in tallies.values())
    return int(check_entitlement(customer, name).remaining)


@pytest.mark.parametrize("handler", ["WSGI", "ASGI"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_view_is_gated(billing, middleware, shape, handler):
    assert get(f"/{shape}/", handler=handler).status_code == 200
    nobody = get(f"/{shape}/", None, handler=handler)
    assert (nobody.status_code, nobody.headers["WWW-Authenticate"]) == (401, "Token")
    refused = get(f"/{shape}/", FREE, handler=handler)
    assert (refused.status_code, refused.headers["Content-Type"]) == (403, "application/problem+json")
    assert (refused.json()["code"], refused.json()["entitlement"]) == ("not_entitled", "reports")
    billing.fail()
    unknown = get(f"/{shape}/", "40000000-0000-4000-8000-000000000004", handler=handler)
    assert (unknown.status_code, unknown.headers["Retry-After"]) == (503, "5")


@pytest.mark.parametrize("handler", ["WSGI", "ASGI"])
def test_an_action_may_have_no_gate_where_others_have(handler, settings):
    settings.ROOT_URLCONF = urls_of({"boost": ByAction.as_view({"get": "boost"})})
    assert get("/boost/", FREE, handler=handler).status_code == 200


@pytest.mark.parametrize("name", ["reports", "calls", "credits"])
def test_a_refusal_says_what_it_says_everywhere_else(name, settings):
    settings.ROOT_URLCONF = urls_of({"gated": Plain.as_view(permission_classes=[HasEntitlement.of(name, 1)])})
    answer = get("/gated/", FREE)
    request = RequestFactory().get("/", headers={"Accept": "application/json"})
    expected = denied(request, check_entitlement(FREE, name, 1))
    assert (answer.status_code, answer.json()) == (expected.status_code, json.loads(expected.content))
    for header in ("Content-Type", "Cache-Control"):
        assert answer.headers[header] == expected.headers[header]
    assert {*expected.headers["Vary"].split(", ")} <= {*answer.headers["Vary"].split(", ")}


def test_a_view_with_a_gate_is_found_gated(settings):
    settings.ROOT_URLCONF = urls_of({"gated": function})
    client = Client(headers={"Authorization": f"Token {PRO}"})
    assert_gated(client, "/gated/", "reports")


def test_a_refusal_in_an_error_class_keeps_its_decision_and_no_customer():
    decision = check_entitlement(FREE, "reports")
    error = EntitlementRefused(decision, "ask your admin")
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (other.decision, other.detail, other.status_code) == (decision, "ask your admin", 403)
    assert FREE not in repr(error) + str(error)


@pytest.mark.parametrize(
    ("text", "status"),
    [("seats: insufficient_quantity", 402), ("sso: not_entitled", 403), ("sso: unavailable", 503), ("a text", 403)],
)
def test_a_refusal_made_anew_of_its_text_has_the_status_that_it_had(text, status):
    error = EntitlementRefused(text)
    assert (error.status_code, error.args) == (status, (text,))


def test_without_our_handler_status_words_and_code_are_kept(settings, billing):
    settings.REST_FRAMEWORK = {}
    assert told(ask(has_calls)) == (402, "insufficient_quantity")
    assert ask(has_calls).data == {"detail": "What remains of your allowance is not enough for this."}
    billing.fail()
    unknown = ask(has_reports, customer="40000000-0000-4000-8000-000000000004")
    assert (told(unknown), unknown.headers["Retry-After"]) == ((503, "unavailable"), "5")


@pytest.mark.parametrize("handler", ["WSGI", "ASGI"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("exceptions_by", ["ours", "the framework's"])
def test_a_refusal_is_kept_by_nobody_whoever_makes_the_answer(
    settings, billing, middleware, shape, exceptions_by, handler
):
    if exceptions_by == "the framework's":
        settings.REST_FRAMEWORK = {}
    for customer in (FREE, "40000000-0000-4000-8000-000000000004"):
        refused = get(f"/{shape}/", customer, handler=handler)
        assert refused.status_code in (403, 503)
        assert refused.headers["Cache-Control"] == "no-store, private"
        assert {"Accept", "Cookie", "Authorization"} == set(refused.headers["Vary"].split(", "))
        billing.fail()
    billing.recover()
    assert "no-store" not in get(f"/{shape}/", handler=handler).headers.get("Cache-Control", "")


def test_a_message_of_ones_own_is_told():
    class Worded(HasEntitlement.of("reports")):
        message = "ask your admin"

    assert ask(Worded).data["detail"] == "ask your admin"
    assert ask(Worded | Blocked).data["detail"] == "ask your admin"


def test_the_language_of_the_request_is_spoken():
    with override_settings(LANGUAGE_CODE="de"):
        assert ask(has_reports).data["title"] == "Nicht in Ihrem Tarif enthalten"


ALLOWED = (200, None)
NOT_ENTITLED = (403, "not_entitled")
USED_UP = (402, "insufficient_quantity")
BLOCKED = (403, "blocked")
DENIED = (403, "permission_denied")
COMPOSED = {
    # What is composed, and what the customer with nothing left is told.
    "ours & ours": (has_reports & has_calls, NOT_ENTITLED),
    "ours & ours, the other way": (has_calls & has_reports, USED_UP),
    "ours | ours": (has_reports | has_calls, USED_UP),
    "theirs & ours": (IsAuthenticated & has_reports, NOT_ENTITLED),
    "ours & theirs": (has_reports & IsAuthenticated, NOT_ENTITLED),
    "theirs refuses before ours": (Blocked & has_reports, BLOCKED),
    "ours refuses before theirs": (has_calls & Blocked, USED_UP),
    "theirs allows": (has_reports | IsAuthenticated, ALLOWED),
    "theirs allows first": (IsAuthenticated | has_reports, ALLOWED),
    "neither allows": (Blocked | has_calls, USED_UP),
    "neither allows, the other way": (has_calls | Blocked, USED_UP),
    "a composition of theirs before &": ((IsAuthenticated | Blocked) & has_calls, USED_UP),
    "a composition of theirs refuses": ((IsAuthenticated & Blocked) & has_calls, BLOCKED),
    "a composition of theirs in which one has words": ((Mute | Blocked) & has_calls, BLOCKED),
    "a composition of theirs before |": ((Blocked & IsAuthenticated) | has_calls, USED_UP),
    "a chain": ((Blocked | Mute) | has_calls | IsAuthenticated, ALLOWED),
    "ours in brackets": (IsAuthenticated & (has_reports | has_calls), USED_UP),
    "not theirs, before": (~Blocked & has_calls, USED_UP),
    "not theirs, after": (has_calls | ~Blocked, ALLOWED),
    "not theirs, refusing": (~IsAuthenticated & has_calls, DENIED),
    "not not theirs": (~~Blocked & has_calls, BLOCKED),
    "not a composition of theirs": (~(Blocked | Mute) & has_calls, USED_UP),
    "not a composition of theirs, refusing": (~(IsAuthenticated | Blocked) & has_calls, DENIED),
    "not ours": (~has_reports, ALLOWED),
    "not ours &": (~has_reports & has_calls, USED_UP),
    "not (ours & theirs)": (~(has_reports & IsAuthenticated), ALLOWED),
    "not (theirs | ours)": (~(Blocked | has_reports), ALLOWED),
    "not not ours": (~~has_reports, NOT_ENTITLED),
    "adrf's & ours": (AsyncOpen & has_calls, USED_UP),
    "adrf's refuses": (AsyncBlocked & has_calls, BLOCKED),
    "adrf's | ours": (AsyncBlocked | has_calls, USED_UP),
    "ours | adrf's": (has_calls | AsyncOpen, ALLOWED),
    "a chain of adrf's": ((AsyncBlocked | AsyncBlocked) | has_calls | IsAuthenticated, ALLOWED),
    "not adrf's": (~AsyncBlocked & has_calls, USED_UP),
    "not a composition of adrf's": (~(AsyncOpen & AsyncOpen) | has_calls, USED_UP),
    "a requirement": (HasEntitlement.of(Requirement("reports") | Requirement("calls", 1)), USED_UP),
    "ours & a requirement": (IsAuthenticated & (has_calls & Requirement("reports")), USED_UP),
    "a requirement | ours": (Requirement("calls", 1) | has_reports, USED_UP),
    "a callable": (has_calls | partial(IsAuthenticated), ALLOWED),
}


@pytest.mark.parametrize("view", [Plain, Async], ids=["sync", "async"])
@pytest.mark.parametrize("name", COMPOSED)
def test_a_composition_tells_who_refused(name, view):
    composed, expected = COMPOSED[name]
    assert told(ask(composed, view=view)) == expected


@pytest.mark.parametrize("view", [Plain, Async], ids=["sync", "async"])
@pytest.mark.parametrize(
    ("composed", "entitlement"),
    [(~has_reports, "reports"), (~(has_reports & IsAuthenticated), "reports"), (~(has_reports | has_calls), "reports")],
    ids=["ours", "ours & theirs", "ours | ours"],
)
def test_who_has_what_must_not_be_had_is_refused_for_that(composed, entitlement, view):
    answer = ask(composed, customer=PRO, view=view)
    assert (told(answer), answer.data["entitlement"]) == (NOT_ENTITLED, entitlement)


def test_a_permission_that_did_not_decide_is_not_told():
    assert told(ask(has_reports | IsAuthenticated, Mute)) == DENIED
    assert told(ask(has_reports | IsAuthenticated, Blocked)) == BLOCKED


def test_the_words_of_others_are_kept_by_the_frameworks_own_handler_too(settings):
    settings.REST_FRAMEWORK = {}
    answer = ask((Mute | Blocked) & has_reports)
    assert (answer.status_code, answer.data["detail"], answer.data["detail"].code) == (403, Blocked.message, "blocked")


UNKNOWN = (503, "unavailable")
IN_AN_OUTAGE = {
    "ours": (has_reports, UNKNOWN),
    "not ours": (~has_reports, UNKNOWN),
    "not (theirs & not ours)": (~(IsAuthenticated & ~has_reports), UNKNOWN),
    "theirs denies after": (has_reports & Blocked, BLOCKED),
    "theirs denies before": (Blocked & has_reports, BLOCKED),
    "theirs allows": (has_reports | IsAuthenticated, ALLOWED),
    "theirs would not allow": (has_reports | Blocked, UNKNOWN),
    "theirs & ours": (IsAuthenticated & has_reports & has_calls, UNKNOWN),
    "allowed by policy": (HasEntitlement.of("reports", on_unavailable="allow"), ALLOWED),
    "allowed by policy, not": (~HasEntitlement.of("reports", on_unavailable="allow"), ALLOWED),
}


@pytest.mark.parametrize("name", IN_AN_OUTAGE)
def test_what_cannot_be_learned_is_neither_denied_nor_let_in_by_accident(name, billing):
    composed, expected = IN_AN_OUTAGE[name]
    billing.fail()
    assert told(ask(composed, customer="40000000-0000-4000-8000-000000000004")) == expected


@pytest.mark.parametrize("composed", [has_reports, ~has_reports, has_reports | has_calls, has_calls & AllowAny])
def test_who_is_not_authenticated_is_asked_to(composed):
    request = APIRequestFactory().get("/")
    assert Plain.as_view(permission_classes=[composed])(request).status_code == 401
    assert Plain.as_view(permission_classes=[uses_calls])(request).status_code == 401


def test_who_could_not_authenticate_is_refused():
    request = APIRequestFactory().get("/")
    assert told(Plain.as_view(permission_classes=[has_reports], authentication_classes=[])(request)) == (
        403,
        "no_customer",
    )


def test_a_customer_that_is_found_without_a_user_is_told_the_truth():
    by_header = HasEntitlement.of("calls", 1, customer=lambda request: request.headers["X-Customer"])
    request = APIRequestFactory().get("/", headers={"X-Customer": FREE})
    assert told(Plain.as_view(permission_classes=[by_header])(request)) == USED_UP


def test_a_view_that_hides_what_it_refuses_goes_on_doing_so():
    class Hiding(Plain):
        def permission_denied(self, request, message=None, code=None):
            raise exceptions.NotFound

    request = APIRequestFactory().get("/")
    assert Hiding.as_view(permission_classes=[has_reports])(request).status_code == 404


@pytest.mark.parametrize("view", [Plain, Async], ids=["sync", "async"])
def test_a_request_is_answered_from_one_snapshot(billing, view):
    class Telling(view):
        def finalize_response(self, request, *args, **kwargs):
            self.headers["X-Same"] = str(entitlements_of(find_request(request)).check("sso").allowed)
            return super().finalize_response(request, *args, **kwargs)

    before = len(billing.sandbox.requests)
    billing.advance(3_600)
    answer = ask(has_reports & has_calls, has_seats | has_reports, customer=PRO, view=Telling)
    assert (answer.status_code, answer.headers["X-Same"]) == (200, "True")
    assert len(billing.sandbox.requests) == before + 1


def test_callables_are_given_the_frameworks_request():
    seats = HasEntitlement.of("seats", lambda request: len(request.data["rows"]))

    async def rows(request):
        return len(request.data["rows"])

    for permission in (seats, HasEntitlement.of("seats", rows)):
        for count, status in ((5, 200), (6, 402)):
            request = APIRequestFactory().post(
                "/", {"rows": list(range(count))}, format="json", headers={"Authorization": f"Token {PRO}"}
            )
            assert Plain.as_view(permission_classes=[permission])(request).status_code == status


@pytest.mark.parametrize("handler", ["WSGI", "ASGI"])
@pytest.mark.parametrize("consume", [False, True])
def test_a_callable_that_cannot_read_the_data_says_so_with_a_400(settings, consume, handler):
    def number(request):
        raise exceptions.ValidationError({"rows": "how many?"})

    permission = HasEntitlement.of("calls", number, consume=consume)
    settings.ROOT_URLCONF = urls_of({"gated": Plain.as_view(permission_classes=[permission])})
    answer = get("/gated/", method="post", handler=handler)
    assert (answer.status_code, answer.json()) == (400, {"rows": "how many?"})
    assert left() == CALLS


def test_methods_and_actions_that_are_not_named_are_let_in():
    writing = HasEntitlement.of("reports", methods=["post"])
    assert [ask(writing, method=method).status_code for method in ("get", "head", "options", "post")] == [
        *(200, 200, 200),
        403,
    ]
    reading = HasEntitlement.of("reports", methods=["GET"])
    assert [ask(reading, method=method).status_code for method in ("get", "head", "post")] == [403, 403, 200]
    boosting = HasEntitlement.of("reports", actions=["boost"])
    for name, expected in (("list", 200), ("boost", 403)):
        view = Things.as_view({"get": name}, permission_classes=[boosting])
        assert view(APIRequestFactory().get("/", headers={"Authorization": f"Token {FREE}"})).status_code == expected
    assert ask(~writing, customer=PRO, method="get").status_code == 200
    assert ask(~writing, customer=PRO, method="post").status_code == 403


def test_an_action_that_a_view_set_does_not_have_gates_nothing_and_is_told():
    view = Things.as_view({"get": "list"}, permission_classes=[HasEntitlement.of("reports", actions=["bost"])])
    with pytest.raises(ImproperlyConfigured, match="Things has no action bost"):
        view(APIRequestFactory().get("/", headers={"Authorization": f"Token {PRO}"}))


class Detail(generics.GenericAPIView):
    authentication_classes = (Token,)

    def get(self, request, whose):
        self.check_object_permissions(request, whose)
        return Response({"may": True})


class AsyncDetail(AsyncGenericAPIView):
    authentication_classes = (Token,)

    async def get(self, request, whose):
        self.check_object_permissions(request, whose)
        return Response({"may": True})


OBJECTS = {
    "ours": (has_reports, ALLOWED),
    "not ours": (~HasEntitlement.of("sso 2"), ALLOWED),
    "ours & owner": (has_reports & Owner, DENIED),
    "owner & ours": (Owner & has_reports, DENIED),
    "ours | owner": (has_reports | Owner, ALLOWED),
    "owner | ours": (Owner | has_reports, ALLOWED),
    "owner | what one lacks": (Owner | HasEntitlement.of("sso 2"), NOT_ENTITLED),
    "what one lacks | owner": (HasEntitlement.of("sso 2") | Owner, NOT_ENTITLED),
    "not blocked & ours": (~Blocked & has_reports, ALLOWED),
    "using up | owner": (uses_calls | Owner, ALLOWED),
    "owner | using up what one lacks": (Owner | HasEntitlement.of("sso 2", consume=True), NOT_ENTITLED),
}


@pytest.mark.parametrize("view", [Detail, AsyncDetail], ids=["sync", "async"])
@pytest.mark.parametrize("name", OBJECTS)
def test_objects_are_for_those_whose_part_let_them_in(name, view):
    composed, expected = OBJECTS[name]
    assert told(ask(composed, customer=PRO, view=view, whose=PRO)) == ALLOWED
    assert told(ask(composed, customer=PRO, view=view, whose=FREE)) == expected


def test_an_object_refused_by_one_of_adrfs_is_refused():
    assert told(ask(AsyncBlocked | has_reports, customer=PRO, view=AsyncDetail, whose=FREE)) == ALLOWED


# Using up


class Failing(BaseThrottle):
    def allow_request(self, request, view):
        return False


class Using(Plain):
    permission_classes = (IsAuthenticated, uses_calls)

    def get(self, request, *args, **kwargs):
        asked = request.GET.get("answer", "200")
        if asked.startswith("object"):
            self.check_object_permissions(request, FREE)
        match asked.removeprefix("object-"):
            case "invalid":
                raise exceptions.ValidationError("no")
            case "broken":
                raise LookupError("broken")
            case "nothing":
                return None
            case "plain":
                return HttpResponse("plain")
            case "plain-409":
                return HttpResponse(status=409)
            case "stream":
                return StreamingHttpResponse(iter([b"a", b"b"]))
            case status:
                return Response({"may": True}, status=int(status))

    post = get


class AsyncUsing(AsyncAPIView):
    authentication_classes = (Token,)
    permission_classes = (IsAuthenticated, uses_calls)

    async def get(self, request):
        return Using.get(self, request)


class UsingSet(AsyncViewSet):
    authentication_classes = (Token,)
    permission_classes = (HasEntitlement.of("calls", consume=True, actions=["list"]),)

    async def list(self, request):
        return Using.get(self, request)


USING = {
    "class": Using.as_view(permission_classes=[IsAuthenticated, uses_calls & Owner]),
    "async": AsyncUsing.as_view(permission_classes=[AsyncOpen & uses_calls, Owner]),
    "async-set": UsingSet.as_view({"get": "list"}, permission_classes=[*UsingSet.permission_classes, Owner]),
    "function": api_view(["GET"])(
        authentication_classes([Token])(
            permission_classes([uses_calls, Owner])(lambda request: Using.get(request.parser_context["view"], request))
        )
    ),
}
ENDS = {
    "200": (200, 1),
    "201": (201, 1),
    "404": (404, 0),
    "409": (409, 0),
    "invalid": (400, 0),
    "broken": (500, 0),
    "nothing": (500, 0),
    "object-200": (403, 0),
    "plain": (200, 1),
    "plain-409": (409, 0),
    "stream": (200, 1),
}


@pytest.mark.parametrize("handler", ["WSGI", "ASGI"])
@pytest.mark.parametrize("shape", USING)
@pytest.mark.parametrize("answer", ENDS)
def test_what_is_used_up_counts_where_the_answer_is_no_failure(settings, middleware, shape, *, handler, answer):
    settings.ROOT_URLCONF = urls_of(USING)
    status, used = ENDS[answer]
    response = get(f"/{shape}/?answer={answer}", handler=handler)
    assert response.status_code == status
    if answer == "stream":
        assert response.getvalue() == b"ab"
        response.close()
    assert left() == CALLS - used


@pytest.mark.parametrize("shape", USING)
def test_who_has_used_all_up_is_told_so(settings, shape):
    settings.ROOT_URLCONF = urls_of(USING)
    assert [get(f"/{shape}/").status_code for _ in range(CALLS + 1)] == [*[200] * CALLS, 402]
    answer = get(f"/{shape}/")
    assert (answer.json()["code"], answer.headers["Content-Type"]) == (USED_UP[1], "application/problem+json")
    assert left() == 0


@pytest.mark.parametrize("handler", ["WSGI", "ASGI"])
@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"permission_classes": [uses_calls, Blocked]}, 403),
        ({"permission_classes": [uses_calls & Blocked]}, 403),
        ({"permission_classes": [Blocked, uses_calls]}, 403),
        ({"permission_classes": [uses_calls, has_reports & HasEntitlement.of("sso 2")]}, 403),
        ({"throttle_classes": [Failing]}, 429),
        ({"permission_classes": [uses_calls | IsAuthenticated]}, 200),
        ({"permission_classes": [IsAuthenticated | uses_calls]}, 200),
        ({"permission_classes": [HasEntitlement.of("calls", consume=True, methods=["POST"])]}, 200),
    ],
)
def test_what_another_permission_or_a_throttle_decides_costs_nothing(settings, handler, options, status):
    settings.ROOT_URLCONF = urls_of({"using": Using.as_view(**options), "async": AsyncUsing.as_view(**options)})
    assert [get(f"/{name}/", handler=handler).status_code for name in ("using", "async")] == [status, status]
    assert left() == CALLS


@pytest.mark.parametrize("handler", ["WSGI", "ASGI"])
@pytest.mark.parametrize("shape", ["class", "async"])
@pytest.mark.parametrize("permission", [Owner | uses_calls, Owner | IsAuthenticated & uses_calls])
def test_an_object_that_only_using_up_lets_one_at_is_used_up_for(settings, middleware, permission, *, shape, handler):
    view = {"class": Using, "async": AsyncUsing}[shape].as_view(permission_classes=[permission])
    settings.ROOT_URLCONF = urls_of({"object": view})
    ends = {"object-200": 200, "object-404": 404, "object-invalid": 400, "object-broken": 500, "200": 200}
    assert {end: get(f"/object/?answer={end}", handler=handler).status_code for end in ends} == ends
    assert left() == CALLS - 1
    assert [get("/object/?answer=object-200", handler=handler).status_code for _ in range(CALLS)][-2:] == [200, 402]
    assert left() == 0


@pytest.mark.parametrize("permission", [uses_calls, IsAuthenticated & uses_calls, Blocked | uses_calls])
@pytest.mark.parametrize(("method", "status", "used"), [("get", 200, 1), ("head", 200, 1), ("options", 200, 0)])
def test_options_and_asking_twice_use_nothing_more_up(settings, permission, *, method, status, used):
    class Twice(Using):
        def initial(self, request, *args, **kwargs):
            super().initial(request, *args, **kwargs)
            self.check_permissions(request)

    settings.ROOT_URLCONF = urls_of({"twice": Twice.as_view(permission_classes=[permission])})
    assert get("/twice/", method=method).status_code == status
    assert left() == CALLS - used


def test_what_a_view_does_not_answer_costs_nothing(settings):
    settings.ROOT_URLCONF = urls_of({"using": Using.as_view(permission_classes=[uses_calls])})
    assert get("/using/", method="delete").status_code == 405
    assert left() == CALLS


def test_a_retry_counts_once_also_where_nothing_is_left(settings):
    retried = HasEntitlement.of("calls", 3, consume=True, key=lambda request: request.query_params["order"])
    settings.ROOT_URLCONF = urls_of({"using": Using.as_view(permission_classes=[Blocked | retried])})
    assert [get(f"/using/?order={order}").status_code for order in ("a", "a", "b", "a")] == [200, 200, 402, 200]
    assert left() == 0


def test_two_that_use_something_up_are_both_counted_or_neither(settings, billing):
    permissions = [uses_calls, HasEntitlement.of("seats", 2, consume=True)]
    settings.ROOT_URLCONF = urls_of({"using": Using.as_view(permission_classes=permissions)})
    assert [get("/using/").status_code for _ in range(3)] == [200, 200, 402]
    assert (left(), left(name="seats")) == (CALLS - 2, 1)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("answer", "used"), [("200", 1), ("invalid", 0)])
def test_within_a_transaction_it_counts_when_that_is_kept(settings, answer, used):
    settings.ROOT_URLCONF = urls_of({"using": transaction.atomic(Using.as_view(permission_classes=[uses_calls]))})
    get(f"/using/?answer={answer}")
    assert left() == CALLS - used


def test_the_answer_of_what_uses_something_up_is_private(settings):
    settings.ROOT_URLCONF = urls_of({"using": Using.as_view()})
    assert get("/using/").headers["Cache-Control"] == "private"


def test_with_our_middleware_every_gated_answer_is_private(settings):
    settings.MIDDLEWARE = [OURS]
    assert get("/class/").headers["Cache-Control"] == "private"


@pytest.mark.parametrize("middleware", [[], [OURS]])
@pytest.mark.parametrize(
    "options",
    [
        {"permission_classes": [has_reports]},
        {"permission_classes": [uses_calls]},
        {"permission_classes": [Named & HasEntitlement.of("sso 2") | has_reports]},
        {"permission_classes": [Named | has_reports]},
        {"throttle_classes": [EntitlementThrottle.of("calls")]},
    ],
)
def test_no_page_cache_gives_what_one_was_let_in_to_to_another(settings, middleware, options):
    cache.clear()
    settings.MIDDLEWARE = middleware
    settings.ROOT_URLCONF = urls_of({"kept": cache_page(60)(Plain.as_view(authentication_classes=[Key], **options))})
    answers = [Client().get("/kept/", headers={"X-Key": customer}) for customer in (PRO, FREE, PRO)]
    assert [answer.status_code < 400 for answer in answers] == [True, False, True]


# The browsable API


class Form(serializers.Serializer):
    name = serializers.CharField()


class Browsable(generics.GenericAPIView):
    authentication_classes = (Token,)
    renderer_classes = (JSONRenderer, BrowsableAPIRenderer)
    serializer_class = Form

    def get(self, request):
        return Response({"may": True})

    post = put = get


@pytest.fixture
def browse(settings):
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "rest_framework"]

    def browse(permission, customer=PRO, method="get"):
        settings.ROOT_URLCONF = urls_of({"page": Browsable.as_view(permission_classes=[permission])})
        return get("/page/", customer, method=method, Accept="text/html")

    return browse


@pytest.mark.parametrize("permission", [uses_calls, IsAuthenticated & uses_calls])
def test_forms_of_the_browsable_api_use_nothing_up(browse, permission):
    page = browse(permission)
    assert (page.status_code, "<form" in page.content.decode()) == (200, True)
    assert left() == CALLS - 1
    assert browse(permission, method="post").status_code == 200
    assert left() == CALLS - 2


def test_a_form_about_an_object_uses_nothing_up(browse, settings):
    class Creating(Browsable):
        def post(self, request):
            form = Form(instance={"name": FREE}, data={"name": FREE})
            form.is_valid(raise_exception=True)
            return Response(form.data)

    settings.ROOT_URLCONF = urls_of({"page": Creating.as_view(permission_classes=[OwnerOfForm | uses_calls])})
    page = get("/page/", method="post", Accept="text/html")
    assert (page.status_code, "<form" in page.content.decode()) == (200, True)
    page.close()
    assert left() == CALLS


def noted(caplog):
    return [record.message for record in caplog.records if record.name == "entitlement_gate"]


@pytest.mark.parametrize("permission", [has_reports, has_reports & IsAuthenticated])
def test_the_browsable_api_shows_the_refusal(browse, permission, caplog):
    with caplog.at_level(logging.INFO, logger="entitlement_gate"):
        page = browse(permission, FREE)
    text = page.content.decode()
    assert (page.status_code, page.headers["Content-Type"]) == (403, "text/html; charset=utf-8")
    assert ("Not part of your plan" in text, "Traceback (most" in text) == (True, False)
    assert noted(caplog) == ["refused: reports: not_entitled"]


def test_a_form_that_would_be_refused_is_not_shown_and_no_refusal(browse, caplog):
    writing = HasEntitlement.of("reports", methods=["POST", "PUT"])
    with caplog.at_level(logging.INFO, logger="entitlement_gate"):
        page = browse(writing, FREE)
    assert (page.status_code, 'name="name"' in page.content.decode(), noted(caplog)) == (200, False, [])
    assert 'name="name"' in browse(writing, PRO).content.decode()


# Answers to exceptions


class Raising(Plain):
    def get(self, request):
        if "plain" in request.GET:
            raise exceptions.NotFound
        require_entitlement(request, "reports")
        return Response({"may": True})


@pytest.mark.parametrize("view", [Raising], ids=["sync"])
def test_what_a_view_raises_is_answered_alike(view, billing):
    assert told(ask(AllowAny, view=view)) == NOT_ENTITLED
    billing.fail()
    answer = ask(AllowAny, view=view, customer="40000000-0000-4000-8000-000000000004")
    assert (told(answer), answer.headers["Retry-After"]) == (UNKNOWN, "5")


def test_other_exceptions_are_left_to_who_answered_them_before():
    seen = []

    def theirs(exc, context):
        seen.append(exc)
        return Response({"theirs": True}, status=418)

    ours = answering_refusals(theirs)
    other = exceptions.NotFound()
    assert ours(other, {}).status_code == 418
    assert ours.__name__ == "theirs"
    assert seen == [other]
    assert exception_handler(other, {}).data == the_frameworks_handler(other, {}).data
    assert exception_handler(LookupError(), {}) is None


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("error", [EntitlementDenied, EntitlementUnavailable, EntitlementRefused])
def test_a_refusal_undoes_what_the_request_wrote(error, settings):
    def writing(request):
        User.objects.create(username="written")
        raise error(Decision.of(Reason.UNAVAILABLE if "Unavail" in error.__name__ else Reason.DRAFT, "reports"))

    settings.DATABASES["default"]["ATOMIC_REQUESTS"] = True
    try:
        settings.ROOT_URLCONF = urls_of({"writing": api_view(["GET"])(authentication_classes([])(writing))})
        assert get("/writing/", None).status_code in {403, 503}
    finally:
        settings.DATABASES["default"]["ATOMIC_REQUESTS"] = False
    assert not User.objects.filter(username="written").exists()


def test_where_more_can_be_had_may_be_looked_up_in_the_database(settings):
    def plans(request, decision):
        return f"/plans/{User.objects.count()}/"

    settings.ENTITLEMENT_GATE = {**settings.ENTITLEMENT_GATE, "UPGRADE_URL": plans}
    with FakeBilling() as billing:
        billing.grant(FREE, "dashboards")
        for shape in ("class", "async-class"):
            assert get(f"/{shape}/", FREE, handler="ASGI").json()["upgrade_url"] == "/plans/0/"


# What cannot work


@pytest.mark.parametrize(
    ("declare", "why"),
    [
        (lambda: HasEntitlement.of(""), "needs a name"),
        (lambda: HasEntitlement.of("calls", 0), "0"),
        (lambda: HasEntitlement.of(Requirement("calls", 1), 2), "inside the Requirement"),
        (lambda: HasEntitlement.of("calls", key=str), "consume=True"),
        (lambda: HasEntitlement.of("calls", on_unavailable="perhaps"), "on_unavailable"),
        (lambda: HasEntitlement.of("calls", methods="POST"), "lists such as"),
        (lambda: HasEntitlement.of("calls", actions="create"), "lists such as"),
        (lambda: HasEntitlement.of("calls", methods=["PSOT"]), "those of HTTP"),
        (lambda: HasEntitlement & IsAuthenticated, "asks for nothing"),
        (lambda: IsAuthenticated | HasEntitlement, "asks for nothing"),
        (lambda: ~HasEntitlement, "asks for nothing"),
        (HasEntitlement, "asks for nothing"),
        (EntitlementThrottle, "asks for nothing"),
        (lambda: has_reports & IsAuthenticated(), "not with an instance"),
        (lambda: has_reports & "sso", "no permission class"),
        (lambda: has_reports | None, "no permission class"),
        (lambda: uses_calls | HasEntitlement.of("seats", consume=True), "which side"),
        (lambda: ~uses_calls, "says nothing"),
        (lambda: ~(IsAuthenticated & uses_calls), "says nothing"),
        (lambda: ~HasEntitlement.of("calls", lambda request: 1), "says nothing"),
        (lambda: EntitlementThrottle.of("calls", -1), "-1"),
    ],
)
def test_what_cannot_be_held_is_refused_where_it_is_declared(declare, why):
    with pytest.raises(ValueError, match=why):
        declare()


@pytest.mark.parametrize(
    ("declare", "why"),
    [
        (lambda: HasEntitlement.of(7), "text"),
        (lambda: HasEntitlement.of("calls", lambda: 1), "quantity"),
        (lambda: HasEntitlement.of("calls", customer=FREE), "customer"),
        (lambda: HasEntitlement.of("calls", consume=True, key="order"), "key"),
    ],
)
def test_what_is_of_the_wrong_kind_is_refused_where_it_is_declared(declare, why):
    with pytest.raises(TypeError, match=why):
        declare()


def test_a_permission_asked_of_no_request_says_so():
    with pytest.raises(TypeError, match="not of"):
        has_reports().has_permission(ModuleType("no_request"), Plain())


def test_an_operator_of_somebody_elses_is_left_as_it_is():
    class Both:
        def __init__(self, *permissions):
            self.permissions = permissions

        def has_permission(self, request, view):
            return all(each.has_permission(request, view) for each in self.permissions)

    assert told(ask(OperandHolder(Both, IsAuthenticated, Blocked) & has_reports)) == DENIED
    assert told(ask(OperandHolder(Both, IsAuthenticated, has_reports))) == NOT_ENTITLED


def _without(monkeypatch, missing):
    """Import the module anew where packages are missing."""
    for name in list(sys.modules):
        if name.partition(".")[0] == missing:
            monkeypatch.setitem(sys.modules, name, None)
    spec = importlib.util.spec_from_file_location("contrib_without", contrib.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_adrf_permissions_compose_alike(monkeypatch):
    module = _without(monkeypatch, "adrf")
    composed = (IsAuthenticated | Blocked) & module.HasEntitlement.of("calls", 1)
    assert told(ask(composed, ~Blocked & ~module.HasEntitlement.of("reports"))) == USED_UP


def test_without_drf_spectacular_all_but_its_schema_is_there(monkeypatch):
    module = _without(monkeypatch, "drf_spectacular")
    assert module.exception_handler
    with pytest.raises(ImportError, match="needs drf-spectacular"):
        module.EntitlementAutoSchema  # noqa: B018 - being asked for is what fails
    with pytest.raises(AttributeError, match="no attribute 'AutoSchema'"):
        module.AutoSchema  # noqa: B018 - as above


DEFAULTS = """
from django.conf import settings
own = {"DEFAULT_PERMISSION_CLASSES": ["own.Default"], "DEFAULT_THROTTLE_CLASSES": ["own.Less"]}
settings.configure(REST_FRAMEWORK=own)
import entitlement_gate.contrib.rest_framework
from rest_framework.views import APIView
print([each.__name__ for each in (*APIView.permission_classes, *APIView.throttle_classes)])
"""
OWN = """
from entitlement_gate.contrib.rest_framework import EntitlementThrottle, HasEntitlement

class Default(HasEntitlement.of("api")):
    pass

class Less(EntitlementThrottle.of("calls")):
    pass
"""


def test_a_permission_may_be_the_default_of_the_settings(tmp_path):
    (tmp_path / "own.py").write_text(OWN, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path.cwd()}"}
    command = [sys.executable, "-c", DEFAULTS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert (done.stdout, done.stderr) == ("['Default', 'Less']\n", "")


# The throttle


class Throttled(Plain):
    throttle_classes = (EntitlementThrottle.of("calls"),)


def test_the_throttle_reads_what_is_left_and_uses_nothing_up():
    assert [ask(AllowAny, view=Throttled, customer=PRO).status_code for _ in range(CALLS + 1)] == [200] * (CALLS + 1)
    assert left() == CALLS


@pytest.mark.parametrize(("ends", "wait"), [("+1h", range(3_000, 3_601)), (None, None)])
def test_the_throttle_says_when_the_window_ends(billing, ends, wait):
    customer = "50000000-0000-4000-8000-000000000005"
    billing.grant(customer, "calls", 2, quantity_used=2, expiry_at=ends)
    answer = ask(AllowAny, view=Throttled, customer=customer)
    assert answer.status_code == 429
    assert (int(answer.headers["Retry-After"]) in wait) if wait else ("Retry-After" not in answer.headers)


def test_a_window_that_has_just_ended_is_a_second_away():
    throttle = Throttled.throttle_classes[0]()
    ended = datetime.now(UTC) - timedelta(seconds=1)
    throttle._decision = Decision.of(Reason.INSUFFICIENT_QUANTITY, "calls", expires_at=ended)
    assert throttle.wait() == 1


def test_the_throttle_asks_for_as_much_as_the_request_needs():
    class Big(Plain):
        throttle_classes = (EntitlementThrottle.of("calls", lambda request: int(request.query_params["rows"])),)

    for rows, status in ((3, 200), (4, 429)):
        request = APIRequestFactory().get(f"/?rows={rows}", headers={"Authorization": f"Token {PRO}"})
        assert Big.as_view()(request).status_code == status


def test_the_throttle_refuses_who_has_no_such_entitlement(billing):
    billing.revoke(FREE, "calls")
    assert told(ask(AllowAny, view=Throttled)) == NOT_ENTITLED
    assert Throttled.as_view()(APIRequestFactory().get("/")).status_code == 401
    billing.fail()
    assert told(ask(AllowAny, view=Throttled, customer="40000000-0000-4000-8000-000000000004")) == UNKNOWN


# What audits and schemas know


class Writable(viewsets.GenericViewSet):
    permission_classes = (AllowAny, HasEntitlement.of("reports", actions=["create"]))
    serializer_class = Form

    def list(self, request):
        return Response([])

    def create(self, request):
        return Response([], status=201)


LISTED = {
    "class": Plain.as_view(permission_classes=[IsAuthenticated, has_reports & ~has_seats]),
    "theirs": Plain.as_view(permission_classes=[IsAuthenticated & (Requirement("sso") | has_seats)]),
    "methods": Plain.as_view(permission_classes=[HasEntitlement.of("reports", methods=["POST"])]),
    "set": Writable.as_view({"get": "list", "post": "create"}),
    "list": Writable.as_view({"get": "list"}),
    "using": Using.as_view(permission_classes=[IsAuthenticated & uses_calls]),
}


def test_gates_among_permissions_are_listed_and_not_called_ungated(settings):
    settings.ROOT_URLCONF = urls_of(LISTED)
    assert {gate.what: gate.requires for gate in find_views()} == {
        "/class/": ("reports", "~seats 2"),
        "/theirs/": ("sso", "seats 2"),
        "/methods/ [GET]": (),
        "/methods/ [POST]": ("reports",),
        "/set/ [GET]": (),
        "/set/ [POST]": ("reports",),
        "/list/": (),
        "/using/": ("calls",),
    }
    assert {gate.by for gate in find_views() if gate.requires} == {("permission",)}


def test_what_uses_something_up_without_a_ledger_is_an_error_of_the_checks(settings):
    settings.ROOT_URLCONF = urls_of(LISTED)
    settings.ENTITLEMENT_GATE = {**settings.ENTITLEMENT_GATE, "LEDGER": None}
    (message,) = (message for message in run_checks() if message.id == "entitlement_gate.E006")
    assert "Using uses something up" in message.msg


@pytest.fixture
def documenting(settings):
    schema = "entitlement_gate.contrib.rest_framework.EntitlementAutoSchema"
    settings.REST_FRAMEWORK = {**WITH_OUR_HANDLER, "DEFAULT_SCHEMA_CLASS": schema}


def schema_of(views, *, public=True):
    request = None if public else Plain().initialize_request(RequestFactory().get("/"))
    schema = SchemaGenerator(patterns=urls_of(views).urlpatterns).get_schema(request=request, public=public)
    validate_schema(schema)
    return schema


class Documented(generics.GenericAPIView):
    authentication_classes = ()
    serializer_class = Form
    permission_classes = (has_reports,)

    def get(self, request):
        return Response()


def test_a_schema_tells_of_the_refusals_of_gated_views(documenting):
    class Twice(Documented):
        @extend_schema(responses={200: Form, 403: Form})
        def post(self, request):
            return Response()

        @extend_schema(exclude=True)
        def put(self, request):
            return Response()

    operations = schema_of({"gated": Twice.as_view()})["paths"]["/gated/"]
    assert [*operations] == ["get", "post"]
    answers = operations["get"]["responses"]
    known = answers["403"]["content"]["application/problem+json"]["schema"]
    refused = get("/class/", FREE).json()
    assert {*known["required"]} <= {*refused} <= {*known["properties"]}
    assert refused["code"] in known["properties"]["code"]["enum"]
    assert ("headers" in answers["402"], "Retry-After" in answers["503"]["headers"]) == (False, True)
    assert [*operations["post"]["responses"]["403"]["content"]] == ["application/json"]


def test_a_schema_tells_of_decorated_methods_too(documenting):
    class Decorated(Documented):
        permission_classes = ()

        @method_decorator(requires_entitlement("reports"))
        def post(self, request):
            return Response()

    operations = schema_of({"gated": Decorated.as_view()})["paths"]["/gated/"]
    assert ["402" in operations[method]["responses"] for method in ("get", "post")] == [False, True]


def test_a_schema_tells_of_the_statuses_of_the_settings(documenting, settings):
    settings.ENTITLEMENT_GATE = {"BASE_URL": "sandbox:", "DEADLINE": 30, "STATUS_CODES": {"not_entitled": 451}}
    answers = schema_of({"gated": Documented.as_view()})["paths"]["/gated/"]["get"]["responses"]
    assert [*answers] == ["200", "402", "403", "451", "503"]


def test_a_schema_tells_of_no_refusal_where_nothing_is_gated(documenting):
    schema = schema_of({"set": Writable.as_view({"get": "list", "post": "create"})})
    answers = {method: {*operation["responses"]} for method, operation in schema["paths"]["/set/"].items()}
    assert answers == {"get": {"200"}, "post": {"201", "402", "403", "503"}}


def test_who_asks_for_a_schema_uses_nothing_up(documenting):
    class Using(Documented):
        authentication_classes = (Token,)
        permission_classes = (uses_calls,)

    view = Using.as_view()
    assert schema_of({"using": view})["paths"]["/using/"]["get"]["responses"].keys() >= {"402"}
    schema_of({"using": view}, public=False)
    assert left() == CALLS


def test_the_user_of_a_request_may_be_set_in_the_view():
    class Late(Plain):
        authentication_classes = ()

        def initial(self, request, *args, **kwargs):
            assert isinstance(request.user, AnonymousUser)
            request.user = User(username=PRO)
            super().initial(request, *args, **kwargs)

    assert told(ask(has_reports, view=Late)) == ALLOWED


def test_who_a_test_authenticates_by_force_is_whose_request_it_is(settings):
    client = APIClient()
    for name, status in ((PRO, 200), (FREE, 403)):
        client.force_authenticate(User(username=name))
        assert client.get("/class/").status_code == status
