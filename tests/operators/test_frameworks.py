"""Gates on views of Django REST framework and Django Ninja, which project and library know of but do not import."""

from __future__ import annotations

import json
from functools import partial, wraps
from pathlib import Path
from types import ModuleType

import pytest
from adrf.decorators import api_view as async_api_view
from django.core.checks import run_checks
from django.http import HttpResponse
from django.test import override_settings
from django.urls import URLPattern, include, path
from django.utils.decorators import method_decorator
from django.views import View
from ninja import NinjaAPI
from ninja.decorators import decorate_view
from rest_framework.decorators import action, api_view, permission_classes
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

from entitlement_gate import Requirement, has_entitlement, requires_entitlement
from entitlement_gate.decorators import find_operations, marks_of, targets_of
from entitlement_gate.operators.gates import find_views
from tests.customers import FREE, PRO
from tests.operators.world import run


class HasReports(BasePermission):
    entitlement_requirements = (Requirement("reports"),)

    def has_permission(self, request, view):
        return has_entitlement(request, "reports")


class HasSeats(BasePermission):
    entitlement_requirements = (Requirement("seats", 2),)


class Joined(APIView):
    permission_classes = (IsAuthenticated & HasReports | ~HasSeats, HasSeats)


class Permitted(APIView):
    permission_classes = (HasReports,)

    def get(self, request):
        return Response({"may": True})


@api_view(["GET"])
@permission_classes([HasReports])
def by_function(request):
    return Response()


@requires_entitlement("reports")
@api_view(["GET"])
def over_a_function(request):
    return Response({"may": True})


@api_view(["GET", "POST"])
@requires_entitlement("reports")
def under(request):
    return Response({"may": True})


@async_api_view(["GET"])
@requires_entitlement("reports", on_denied="/plans/")
async def async_under(request):
    return Response({"may": True})


class Things(ViewSet):
    def list(self, request):
        return Response()

    @action(detail=True, permission_classes=[HasSeats])
    def boost(self, request, pk):
        return Response()

    @method_decorator(requires_entitlement("reports"))
    def retrieve(self, request, pk):
        return Response({"may": True})


class Authorised:
    """A callable of Ninja's ``auth=`` that says what it asks for."""

    entitlement_requirements = (Requirement("reports"),)

    def __call__(self, request):
        return has_entitlement(request, "reports")


api = NinjaAPI(docs_url=None, openapi_url=None, urls_namespace="things")


@api.get("/authorised", auth=[Authorised()])
def authorised(request):
    return {"may": True}


@api.get("/both")
@requires_entitlement("reports")
def read(request, page: int = 1):
    return {"page": page}


@api.post("/both")
async def write(request):
    return {}


router = SimpleRouter()
router.register("things", Things, basename="thing")
urlconf = ModuleType("frameworks")
urlconf.urlpatterns = [
    path("joined/", Joined.as_view()),
    path("permitted/", Permitted.as_view()),
    path("given/", Permitted.as_view(permission_classes=[HasSeats])),
    path("partial/", partial(over_a_function)),
    path("function/", by_function),
    path("over/", over_a_function),
    path("under/", under),
    path("async-under/", async_under),
    path("rest/", include(router.urls)),
    path("ninja/", api.urls),
]
RULES = [
    {"path": "^/ninja/both", "requires": "sso", "methods": ["POST"]},
    {"path": "^/ninja/authorised", "requires": "sso", "methods": ["POST"]},
    {"namespace": "things", "requires": "seats"},
]


@pytest.fixture(autouse=True)
def _project(settings):
    settings.ROOT_URLCONF = urlconf
    settings.ENTITLEMENT_GATE = {"BASE_URL": "sandbox:", "DEADLINE": 30, "CUSTOMER_ATTRIBUTE": "username"}


def found():
    return {gate.what: (gate.requires, gate.by) for gate in find_views()}


def test_permissions_and_operations_are_listed_with_what_they_ask_for():
    assert found() == {
        "/joined/": (("reports", "seats 2"), ("permission",)),
        "/permitted/": (("reports",), ("permission",)),
        "/given/": (("seats 2",), ("permission",)),
        "/partial/": (("reports",), ("@requires_entitlement",)),
        "/function/": (("reports",), ("permission",)),
        "/over/": (("reports",), ("@requires_entitlement",)),
        "/under/": (("reports",), ("@requires_entitlement",)),
        "/async-under/": (("reports",), ("@requires_entitlement",)),
        "/rest/things/$": ((), ()),
        "/rest/things/(?P<pk>[^/.]+)/boost/$": (("seats 2",), ("permission",)),
        "/rest/things/(?P<pk>[^/.]+)/$": (("reports",), ("@requires_entitlement",)),
        "/ninja/authorised [GET]": (("reports",), ("permission",)),
        "/ninja/both [GET]": (("reports",), ("@requires_entitlement",)),
        "/ninja/both [POST]": ((), ()),
        "/ninja/": ((), ()),
    }


@pytest.mark.parametrize("function", ["by_function", "over_a_function", "under", "async_under"])
def test_a_function_made_a_class_by_a_decorator_is_told_by_its_own_line(function):
    lines = Path("tests/operators/test_frameworks.py").read_text(encoding="utf-8").splitlines()
    below = next(number for number, text in enumerate(lines) if f"def {function}(" in text)
    above = max(number for number in range(below) if not lines[number])
    route = {"by_function": "/function/", "over_a_function": "/over/"}.get(function, f"/{function.replace('_', '-')}/")
    (gate,) = (gate for gate in find_views() if gate.what == route)
    assert gate.where in {f"tests/operators/test_frameworks.py:{line}" for line in range(above + 2, below + 2)}


def test_where_a_refusal_leads_is_known_of_such_a_function_too():
    assert targets_of(async_under) == ("/plans/",)


def test_where_a_refusal_of_an_operation_leads_is_known_by_its_method():
    own = NinjaAPI(docs_url=None, openapi_url=None, urls_namespace="own")
    own.get("/x")(requires_entitlement("reports", on_denied="/plans/")(lambda request: {}))
    own.post("/x")(requires_entitlement("reports", on_denied="raise")(lambda request: {}))
    view = next(pattern.callback for pattern in own.urls[0] if str(pattern.pattern) == "x")
    assert (targets_of(view), targets_of(view, ["post"])) == (("/plans/",), ())
    assert [mark.on_denied for mark in marks_of(view)] == ["/plans/", "raise"]


def test_a_rule_holds_for_the_operations_of_its_methods():
    with override_settings(ENTITLEMENT_GATE={"BASE_URL": "sandbox:", "DEADLINE": 30, "RULES": RULES}):
        requires = {what: asked for what, (asked, _) in found().items() if what.startswith("/ninja/")}
    assert requires == {
        "/ninja/authorised [GET]": ("reports", "seats"),
        "/ninja/both [GET]": ("reports", "seats"),
        "/ninja/both [POST]": ("sso", "seats"),
        "/ninja/": ("seats",),
    }


def test_an_operation_without_a_gate_is_told_apart_from_the_gated_one_at_its_route():
    told = json.loads(run("gates", "--ungated", "--format", "json")[1])["gates"]
    assert {gate["what"] for gate in told} == {"/rest/things/$", "/ninja/both [POST]"}
    told = json.loads(run("gates", "--ungated", "--all", "--format", "json")[1])["gates"]
    assert {gate["what"] for gate in told} == {"/rest/things/$", "/ninja/both [POST]", "/ninja/"}
    (operation,) = (gate for gate in told if gate["what"] == "/ninja/both [POST]")
    assert operation["where"].startswith("tests/operators/test_frameworks.py:")


@pytest.mark.django_db
@pytest.mark.parametrize(
    "url", ["/permitted/", "/over/", "/under/", "/rest/things/1/", "/ninja/authorised", "/ninja/both"]
)
def test_what_is_listed_is_enforced(client, django_user_model, url):
    for customer, may in ((PRO, True), (FREE, False)):
        client.force_login(django_user_model.objects.create_user(customer))
        assert (client.get(url).status_code == 200) is may


class OneOfTwo(View):
    @method_decorator(requires_entitlement("reports"))
    def post(self, request):
        return HttpResponse()

    def get(self, request):
        return HttpResponse()


class BothOfTwo(View):
    @method_decorator(requires_entitlement("reports"))
    def post(self, request):
        return HttpResponse()

    @method_decorator(requires_entitlement("seats"))
    def get(self, request):
        return HttpResponse()


class Mapped(ViewSet):
    @method_decorator(requires_entitlement("reports"))
    def list(self, request):
        return Response()

    def create(self, request):
        return Response()


def hiding(view):
    def inner(request, *args, **kwargs):
        return view(request, *args, **kwargs)

    return inner


def wrapping(view):
    return wraps(view)(hiding(view))


def listed(*patterns, rules=()):
    project = ModuleType("listed")
    project.urlpatterns = list(patterns)
    gate_settings = {"BASE_URL": "sandbox:", "DEADLINE": 30, "RULES": list(rules)}
    with override_settings(ROOT_URLCONF=project, ENTITLEMENT_GATE=gate_settings):
        return {gate.what: gate.requires for gate in find_views()}


def test_a_view_that_is_gated_in_answer_to_some_methods_is_told_by_its_methods():
    assert listed(
        path("one/", OneOfTwo.as_view()),
        path("around/", wrapping(OneOfTwo.as_view())),
        path("both/", BothOfTwo.as_view()),
        path("set/", Mapped.as_view({"get": "list", "post": "create"})),
    ) == {
        "/one/ [GET]": (),
        "/one/ [POST]": ("reports",),
        "/around/ [GET]": (),
        "/around/ [POST]": ("reports",),
        "/both/": ("seats", "reports"),
        "/set/ [GET]": ("reports",),
        "/set/ [POST]": (),
    }


def test_so_is_one_that_a_rule_gates_in_answer_to_some_methods():
    rule = {"path": "^/both/", "requires": "sso", "methods": ["POST"]}

    class Open(View):
        def get(self, request):
            return HttpResponse()

        def head(self, request):
            return HttpResponse()

        post = get

    assert listed(path("both/", Open.as_view()), rules=[rule]) == {"/both/ [GET]": (), "/both/ [POST]": ("sso",)}


def test_a_rule_about_some_methods_says_so_where_nobody_knows_what_a_view_answers():
    with override_settings(
        ENTITLEMENT_GATE={
            "BASE_URL": "sandbox:",
            "DEADLINE": 30,
            "RULES": [{"path": "^/x/", "requires": "sso", "methods": ["POST"]}],
        },
        ROOT_URLCONF=(project := ModuleType("project")),
    ):
        project.urlpatterns = [path("x/", lambda request: HttpResponse())]
        (gate,) = find_views()
    assert (gate.what, gate.by) == ("/x/", ("rule path ^/x/ [POST]",))


def an_api(namespace):
    own = NinjaAPI(docs_url=None, openapi_url=None, urls_namespace=namespace)
    own.get("/x")(requires_entitlement("reports")(lambda request: {}))
    own.post("/x")(lambda request: {})
    around = requires_entitlement("seats", on_denied="nowhere")
    own.get("/y")(decorate_view(around)(lambda request: {}))
    return own


def routed(own, decorator):
    patterns, app_name, namespace = own.urls
    return [URLPattern(p.pattern, decorator(p.callback)) for p in patterns if str(p.pattern)], app_name, namespace


@pytest.mark.parametrize("decorator", [wrapping, hiding, partial, lambda view: hiding(wrapping(partial(view)))])
def test_operations_are_told_apart_whatever_stands_around_them(decorator):
    own = an_api(f"told-{decorator.__name__}-{decorator.__module__}")
    expected = {"/a/x [GET]": ("reports",), "/a/x [POST]": (), "/a/y [GET]": ("seats",)}
    assert listed(path("a/", routed(own, decorator))) == expected


def test_a_gate_around_operations_is_told_for_each_of_them():
    gated = requires_entitlement("sso")
    for place, decorator in {"in": gated, "under": lambda view: partial(gated(view))}.items():
        told = listed(path("a/", routed(an_api(f"around-{place}"), decorator)))
        assert told == {"/a/x [GET]": ("sso", "reports"), "/a/x [POST]": ("sso",), "/a/y [GET]": ("sso", "seats")}


def test_a_view_whose_closure_is_not_filled_yet_has_no_operations():
    def view(request):
        return later

    assert find_operations(view) == ()
    later = None


def test_a_check_finds_where_a_gate_around_an_operation_leads_nobody():
    project = ModuleType("leading")
    project.urlpatterns = [path("a/", an_api("leading").urls)]
    with override_settings(ROOT_URLCONF=project):
        (warning,) = (found for found in run_checks(tags=["entitlement_gate"]) if found.id == "entitlement_gate.W011")
    assert "'nowhere'" in warning.msg
