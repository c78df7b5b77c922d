from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from django.http import HttpResponse
from django.test import Client, override_settings
from django.urls import include, path, re_path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from entitlement_gate import Requirement, requires_entitlement
from entitlement_gate.mixins import EntitlementRequiredMixin
from entitlement_gate.operators.gates import find_gates, find_views, format_requirement, format_route, make_sample_path
from entitlement_gate.routing import entitled_include
from entitlement_gate.url_rules import entitlement_exempt
from tests.operators.world import run

HERE = "tests/operators/test_gates.py"


@requires_entitlement("outer")
@csrf_exempt
@requires_entitlement("inner", 3)
def stacked(request):
    return HttpResponse()


@requires_entitlement(Requirement("a") & ~(Requirement("b") | Requirement("c", 2)))
async def joined(request):
    return HttpResponse()


def plain(request):
    return HttpResponse()


@entitlement_exempt
def exempt(request):
    return HttpResponse()


@method_decorator(requires_entitlement("posting"), name="post")
@requires_entitlement("class")
class Both(View):
    def get(self, request):
        return HttpResponse()

    def post(self, request):
        return HttpResponse()


class Mixed(EntitlementRequiredMixin, View):
    entitlement_required = "mixed"
    entitlement_quantity = 2


class ByRequest(EntitlementRequiredMixin, View):
    def get_entitlement_requirement(self):
        return Requirement(self.request.GET["what"])


class Callable:
    def __call__(self, request):
        return HttpResponse()


inner = [
    path("stacked/<int:pk>/", stacked, name="stacked"),
    re_path(r"^joined/(?P<slug>[\w-]+)/$", joined, name="joined"),
    path("both/", Both.as_view()),
]
middle = [path("deep/", include((inner, "inner"), namespace="deep")), path("plain/", plain, name="plain")]
urlconf = ModuleType("urlconf")
urlconf.urlpatterns = [
    path("app/", include((middle, "middle"))),
    path("mixed/", Mixed.as_view(), name="mixed"),
    path("more/", Mixed.as_view(entitlement_required="more", entitlement_quantity=len)),
    path("by-request/", ByRequest.as_view()),
    path("exempt/", exempt),
    path("partial/", functools.partial(plain)),
    path("callable/", Callable()),
    path("", include("entitlement_gate.urls")),
    path("using-up/", Mixed.as_view(entitlement_consume=True), name="using-up"),
    path("by-request/using-up/", ByRequest.as_view(entitlement_consume=True)),
    path("wrapped/", entitled_include(([path("plain/", plain)], "wrapped"), requires="wrapped")),
]
RULES = [
    {"path": r"^/app/deep/stacked/[0-9]+/$", "requires": "by-path", "methods": ["POST"]},
    {"view": "mixed", "requires": "by-view"},
    {"namespace": "middle", "requires": "by-namespace", "quantity": 2},
]


@pytest.fixture
def project():
    with override_settings(
        ROOT_URLCONF=urlconf, ENTITLEMENT_GATE={"BASE_URL": "sandbox:", "DEADLINE": 30, "RULES": RULES}
    ):
        yield


@pytest.fixture
def bare():
    with override_settings(ROOT_URLCONF=urlconf, ENTITLEMENT_GATE={"BASE_URL": "sandbox:", "DEADLINE": 30}):
        yield


def found():
    return {gate.what: gate for gate in find_views()}


def test_every_shape_of_a_gated_view_is_found_through_nested_includes(bare):
    requires = {what: gate.requires for what, gate in found().items()}
    assert requires == {
        "/app/deep/stacked/<int:pk>/": ("outer", "inner 3"),
        r"/app/deep/joined/(?P<slug>[\w-]+)/$": ("a & ~(b | c 2)",),
        "/app/deep/both/": ("class", "posting"),
        "/app/plain/": (),
        "/mixed/": ("mixed 2",),
        "/more/": ("more",),
        "/by-request/": ("(by the request)",),
        "/using-up/": ("mixed 2",),
        "/by-request/using-up/": ("(by the request)",),
        "/exempt/": (),
        "/partial/": (),
        "/callable/": (),
        "/me/": (),
        "/webhook/": (),
        "/wrapped/plain/": ("wrapped",),
    }


def test_each_says_by_what_it_is_gated_and_where_it_is_written(bare):
    gates = found()
    line = next(
        number
        for number, text in enumerate(Path(HERE).read_text().splitlines(), 1)
        if text == '@requires_entitlement("outer")'
    )
    assert (gates["/app/deep/stacked/<int:pk>/"].by, gates["/app/deep/stacked/<int:pk>/"].where) == (
        ("@requires_entitlement",), f"{HERE}:{line}",
    )  # fmt: skip
    assert gates["/mixed/"].by == gates["/by-request/"].by == ("EntitlementRequiredMixin",)
    assert gates["/exempt/"].by == gates["/me/"].by == ("exempt",)
    assert gates["/app/deep/both/"].where.startswith(f"{HERE}:")
    assert gates["/callable/"].where == "tests.operators.test_gates"
    assert gates["/app/deep/stacked/<int:pk>/"].name == "middle:deep:stacked"
    assert gates["/me/"].where == "entitlement_gate/views.py:35" or gates["/me/"].where.startswith("entitlement_gate/")


def test_rules_are_found_at_the_views_that_they_hold_for(project):
    gates = found()
    assert gates["/app/deep/stacked/<int:pk>/"].requires == ("outer", "inner 3", "by-path", "by-namespace 2")
    assert gates["/mixed/"].by == ("EntitlementRequiredMixin", "rule view mixed")
    assert gates["/app/plain/"].requires == ("by-namespace 2",)
    assert gates["/me/"].requires == ()
    rules = [gate for gate in find_gates() if gate.kind == "rule"]
    assert [rule.what for rule in rules] == [
        r"path ^/app/deep/stacked/[0-9]+/$ [POST]",
        "view mixed",
        "namespace middle",
    ]


def test_the_command_lists_them_as_text_and_as_json(project, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = run("gates")
    assert code == 0
    assert "/app/plain/ (middle:plain)" in out
    assert "2 of 15 views ungated" in out
    told = json.loads(run("gates", "--format", "json")[1])["gates"]
    assert {gate["kind"] for gate in told} >= {"view", "rule"}
    assert [gate["what"] for gate in told if not gate["gated"]] == ["/partial/", "/callable/"]
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, run("gates")[1].splitlines())) <= 80


def test_what_is_used_up_is_told_of_decorators_mixins_and_rules(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    rules = [
        {"path": "^/mixed/", "requires": "calls", "quantity": 3, "consume": True},
        {"path": "^/mixed/", "requires": "by-path"},
    ]
    counted = requires_entitlement("calls", consume=True)(plain)
    urls = [*urlconf.urlpatterns, path("counted/", requires_entitlement("sso")(counted))]
    with override_settings(
        ROOT_URLCONF=tuple(urls), ENTITLEMENT_GATE={"BASE_URL": "sandbox:", "DEADLINE": 30, "RULES": rules}
    ):
        told = json.loads(run("gates", "--format", "json")[1])["gates"]
        lines = run("gates")[1].splitlines()
    assert {gate["what"]: gate["consumes"] for gate in told if gate["consumes"]} == {
        "/counted/": ["calls"],
        "/using-up/": ["mixed 2"],
        "/by-request/using-up/": ["(by the request)"],
        "/mixed/": ["calls 3"],
        "path ^/mixed/": ["calls 3"],
    }
    told_of = {line.split()[0]: line for line in lines}
    assert "sso, calls (used up)" in told_of["/counted/"]
    assert "mixed 2, calls 3 (used up), by-path" in told_of["/mixed/"]


class Parent(View):
    @method_decorator(requires_entitlement("reports"))
    def get(self, request):
        return HttpResponse()


def overriding(*parents, **methods):
    return type("Child", parents, methods)


def answer(self, request):
    return HttpResponse(request.GET.get("super"))


def go_on(self, request):
    return super(self.again, self).get(request)


def go_on_by_name(self, request):
    return Parent.get(self, request)


def answer_all(self, request, *args, **kwargs):
    return HttpResponse(super(View, self).__str__())


def make_gated():
    return requires_entitlement("reports")(overriding(View, get=answer))


def dispatch_on(self, request, *args, **kwargs):
    later = lambda: super(self.again, self).dispatch(request)  # noqa: E731 - as people write it
    return later()


@pytest.mark.parametrize(
    ("view_class", "is_gated"),
    [
        (overriding(Parent), True),
        (overriding(Parent, get=answer), False),
        (overriding(Parent, get=Callable()), False),
        (overriding(overriding(View, get=answer), Parent), False),
        (overriding(Parent, overriding(View, get=answer)), True),
        (overriding(overriding(Parent, get=go_on), get=answer), False),
        (overriding(Parent, get=go_on), True),
        (overriding(Parent, get=go_on_by_name), True),
        (overriding(Parent, get=csrf_exempt(go_on)), True),
        (method_decorator(csrf_exempt, name="get")(overriding(Parent)), True),
        (overriding(Parent, dispatch=dispatch_on), True),
        (requires_entitlement("reports")(overriding(Parent, get=answer)), True),
        (overriding(make_gated(), dispatch=answer_all), False),
        (overriding(make_gated(), dispatch=dispatch_on), True),
        (overriding(overriding(make_gated(), dispatch=answer_all), dispatch=go_on), False),
        (overriding(Mixed, get=answer), True),
        (overriding(Mixed, dispatch=answer_all, get=answer), False),
        (overriding(Mixed, dispatch=dispatch_on, get=answer), True),
    ],
)
def test_a_gate_that_is_overridden_and_not_called_is_none(view_class, is_gated):
    """Nobody's request is refused exactly where the list says so."""
    view_class.again = view_class
    urls = ModuleType("overridden")
    urls.urlpatterns = [path("", view_class.as_view())]
    settings = {"BASE_URL": "sandbox:", "DEADLINE": 30, "CUSTOMER_RESOLVER": lambda request: None}
    with override_settings(ROOT_URLCONF=urls, ENTITLEMENT_GATE=settings):
        assert [gate.is_ungated for gate in find_views()] == [not is_gated]
        assert (Client().get("/").status_code == 403) is is_gated


def test_a_view_whose_source_cannot_be_read_is_rather_looked_at(project):
    made = {}
    exec("def get(self, request): return super(self.again, self).get(request)", made)
    view_class = overriding(Parent, get=made["get"])
    view_class.again = view_class
    urls = ModuleType("unreadable")
    urls.urlpatterns = [path("", view_class.as_view())]
    with override_settings(ROOT_URLCONF=urls):
        assert [gate.is_ungated for gate in find_views()] == [True]


def test_ungated_views_are_a_finding(project):
    code, out, _ = run("gates", "--ungated")
    assert code == 1
    assert "/partial/" in out
    assert "/mixed/" not in out


def test_no_ungated_views_are_none():
    gated = ModuleType("gated")
    gated.urlpatterns = [path("stacked/", stacked)]
    with override_settings(ROOT_URLCONF=gated):
        assert run("gates", "--ungated") == (0, "every view is gated or exempt\n", "")


def test_a_requirement_is_written_as_it_is_read():
    assert format_requirement((Requirement("a") | "b") & ~Requirement("c", 5)) == "(a | b) & ~c 5"


PROJECT = {
    "shop/__init__.py": "",
    "shop/urls.py": "from django.urls import path\nfrom shop import views\nurlpatterns = [path('x/', views.x)]\n",
    "shop/views.py": "from entitlement_gate import requires_entitlement as r\n@r('sso')\ndef x(request): ...\n",
    "shop/decoy.py": "raise SystemExit('imported')\nhas_entitlement(customer, 'in the decoy')\n",
    "shop/templates/x.html": "{% load entitlements %}{% ifentitled 'seats' 3 %}{% endifentitled %}",
    "settings.py": (
        "SECRET_KEY = 'x'\nROOT_URLCONF = 'shop.urls'\nINSTALLED_APPS = ['shop', 'entitlement_gate']\n"
        "TEMPLATES = [{'BACKEND': 'django.template.backends.django.DjangoTemplates', 'APP_DIRS': True}]\n"
        "ENTITLEMENT_GATE = {'BASE_URL': 'sandbox:', 'CUSTOMER_RESOLVER': 'shop.views.x'}\nDEBUG = True\n"
    ),
}


def test_nothing_is_imported_that_django_does_not_import(tmp_path):
    for name, text in PROJECT.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": f"{tmp_path}:{Path.cwd()}"}

    def manage(*arguments):
        command = [sys.executable, "-m", "django", "entitlements", *arguments, "--format", "json"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
        assert done.stderr == ""
        return json.loads(done.stdout)

    gates = manage("gates")["gates"]
    assert [(gate["requires"], gate["where"]) for gate in gates] == [
        (["sso"], "shop/views.py:2"), (["'seats' 3"], "shop/templates/x.html:1"),
    ]  # fmt: skip
    findings = manage("doctor", "20000000-0000-4000-8000-000000000002")["findings"]
    missing = [finding for finding in findings if finding["about"] == "names"]
    assert [finding["text"] for finding in missing] == ["billing lists no 'in the decoy'; asked at shop/decoy.py:2"]


@pytest.mark.parametrize(
    ("pattern", "shown", "sample"),
    [
        (path("", len), "/", "/"),
        (path("a/<int:pk>/<slug>/<uuid:u>/", len), "/a/<int:pk>/<slug>/<uuid:u>/",
         "/a/1/x/00000000-0000-4000-8000-000000000000/"),
        (re_path(r"^a/(?P<y>[0-9]{4})/$", len), r"/a/(?P<y>[0-9]{4})/$", "/a/1/"),
        (re_path(r"^a\.b/(\d+)/[ab]+/\Z", len), r"/a\.b/(\d+)/[ab]+/\Z", "/a.b/1/1/"),
    ],
)  # fmt: skip
def test_a_route_is_shown_as_written_and_tried_as_a_path(pattern, shown, sample):
    assert (format_route([pattern.pattern]), make_sample_path([pattern.pattern])) == (shown, sample)
