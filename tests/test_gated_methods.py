"""Gates on methods that nobody can know for methods where they are decorated: a check finds them in their class."""

from __future__ import annotations

from functools import wraps
from types import ModuleType

import pytest
from django.contrib.auth.decorators import login_required
from django.core.checks import run_checks
from django.http import HttpResponse
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from rest_framework.decorators import action, api_view
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from entitlement_gate import requires_entitlement
from entitlement_gate.mixins import EntitlementRequiredMixin

gate = requires_entitlement("reports")


@gate
def page(request):
    return HttpResponse()


def without_its_name(method):
    def handler(*args, **kwargs):
        return method(*args, **kwargs)

    return handler


class Shared(View):
    get = page


class Inherited(Shared):
    def post(self, request):
        return HttpResponse()


class Overriding(Shared):
    def get(self, request):
        return HttpResponse()


class Wrapped(View):
    post = login_required(page)


class Hidden(View):
    @gate
    @without_its_name
    def get(self, request):
        return HttpResponse()


class Dispatching(View):
    dispatch = page


class Things(ViewSet):
    @action(detail=False)
    @gate
    def shown(this, r):  # noqa: N805 - under another name
        return Response()

    @gate
    @action(detail=False)
    def told(this, r):  # noqa: N805 - under another name
        return Response()

    @method_decorator(gate)
    def list(self, request):
        return Response()


class Right(View):
    get = staticmethod(page)
    head = None

    @method_decorator(gate)
    def post(self, request):
        return HttpResponse()

    @method_decorator([login_required, gate])
    def put(self, request):
        return HttpResponse()

    @wraps(View.options)
    def options(self, request):
        return HttpResponse()


@gate
class Gated(View):
    def get(self, request):
        return HttpResponse()


class Mixed(EntitlementRequiredMixin):
    entitlement_required = "reports"

    @method_decorator(gate)
    def get(self, request):
        return HttpResponse()


def found(settings, view):
    settings.ENTITLEMENT_GATE = {"BASE_URL": "sandbox:", "DEADLINE": 30}
    settings.ROOT_URLCONF = urlconf = ModuleType("gated_methods")
    urlconf.urlpatterns = [path("", view), path("again/", view)]
    messages = [found.msg for found in run_checks(tags=["entitlement_gate"]) if found.id == "entitlement_gate.E007"]
    return [message.partition(" ")[0].removeprefix(f"{__name__}.") for message in messages]


@pytest.mark.parametrize(
    ("view", "names"),
    [
        (Shared.as_view(), ["Shared.get"]),
        (Inherited.as_view(), ["Inherited.get"]),
        (login_required(Inherited.as_view()), ["Inherited.get"]),
        (Wrapped.as_view(), ["Wrapped.post"]),
        (Hidden.as_view(), ["Hidden.get"]),
        (Dispatching.as_view(), ["Dispatching.dispatch"]),
        (Things.as_view({"get": "shown", "post": "told"}), ["Things.shown", "Things.told"]),
    ],
)
def test_a_method_that_is_gated_as_a_function_is_an_error(settings, view, names):
    assert found(settings, view) == names


@pytest.mark.parametrize(
    "view",
    [
        page,
        login_required(page),
        Overriding.as_view(),
        Right.as_view(),
        Gated.as_view(),
        gate(Right.as_view()),
        Mixed.as_view(),
        Things.as_view({"get": "list"}),
        api_view(["GET"])(page),
    ],
)
def test_what_is_gated_rightly_is_none(settings, view):
    assert found(settings, view) == []
