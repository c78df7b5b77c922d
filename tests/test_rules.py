from __future__ import annotations

from types import ModuleType

import pytest
from asgiref.sync import iscoroutinefunction
from django.http import HttpResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import ResolverMatch, include, path
from django.views import View
from django.views.static import serve

from entitlement_gate.domain.requirements import Requirement
from entitlement_gate.rules import entitlement_exempt, is_exempt, read_rules
from tests.customers import FREE, PRO, SETTINGS


def page(request, **kwargs):
    return HttpResponse("in")


async def async_page(request):
    return HttpResponse("in")


@entitlement_exempt
def open_page(request):
    return HttpResponse("in")


@entitlement_exempt
class OpenView(View):
    def get(self, request):
        return HttpResponse("in")


urlconf = ModuleType("urlconf")
inner = [path("deep/", page, name="deep")]
outer = [path("", page, name="index"), path("inner/", include((inner, "inner")))]
urlconf.urlpatterns = [
    path("reports/", page, name="reports"),
    path("reports/async/", async_page),
    path("reports/open/", open_page),
    path("reports/open-class/", OpenView.as_view()),
    path("reports/files/<path:path>", serve, {"document_root": "/nowhere"}),
    path("app/", include((outer, "app"))),
    path("apple/", page, name="apple"),
]


@pytest.fixture
def ask():
    def ask(rules, url, customer=FREE, method="get"):
        with override_settings(ENTITLEMENT_GATE={**SETTINGS, "RULES": rules}, ROOT_URLCONF=urlconf):
            return getattr(Client(), method)(url, headers={"X-Customer": customer}).status_code

    return ask


def test_a_rule_by_path_gates_what_it_matches(ask):
    rules = [{"path": r"^/reports/", "requires": "reports"}]
    assert ask(rules, "/reports/") == 403
    assert ask(rules, "/reports/", PRO) == 200
    assert ask(rules, "/apple/") == 200


def test_a_rule_by_view_name_gates_that_view_alone(ask):
    rules = [{"view": "app:index", "requires": "reports"}]
    assert ask(rules, "/app/") == 403
    assert ask(rules, "/app/inner/deep/") == 200
    assert ask([{"view": "app:inner:deep", "requires": "reports"}], "/app/inner/deep/") == 403


def test_a_rule_by_namespace_gates_all_that_is_below_it(ask):
    rules = [{"namespace": "app", "requires": "reports"}]
    assert ask(rules, "/app/") == 403
    assert ask(rules, "/app/inner/deep/") == 403
    assert ask(rules, "/apple/") == 200


def test_a_rule_may_be_for_some_methods_only(ask):
    rules = [{"path": "^/apple/", "methods": ["post"], "requires": "reports"}]
    assert ask(rules, "/apple/") == 200
    assert ask(rules, "/apple/", method="post") == 403


def test_a_rule_for_get_is_one_for_head_too(ask):
    rules = [{"path": "^/apple/", "methods": ["GET"], "requires": "reports"}]
    assert ask(rules, "/apple/", method="head") == 403
    assert ask(rules, "/apple/", method="post") == 200


def test_the_page_that_people_are_sent_to_for_a_login_is_left_alone(settings):
    rules = [{"path": "^/", "requires": "reports"}]
    gate = {**SETTINGS, "RULES": rules, "ANONYMOUS": "login"}
    with override_settings(ENTITLEMENT_GATE=gate, ROOT_URLCONF=urlconf, LOGIN_URL="apple"):
        sent = Client().get("/reports/")
        assert (sent.status_code, sent.headers["Location"]) == (302, "/apple/?next=/reports/")
        assert Client().get("/apple/").status_code == 200
    with override_settings(ENTITLEMENT_GATE={**gate, "ANONYMOUS": "deny"}, ROOT_URLCONF=urlconf, LOGIN_URL="apple"):
        assert Client().get("/apple/").status_code == 403


def test_a_bound_method_and_a_view_set_may_be_exempt(rf):
    class Site:
        def index(self, request):
            return "index"

    view = entitlement_exempt(Site().index)
    match = ResolverMatch(view, (), {})
    assert is_exempt(view, match)
    assert view(None) == "index"

    def as_view():
        """What Django REST framework gives, whose class is `cls`."""

    as_view.cls = entitlement_exempt(Site)
    assert is_exempt(as_view, match)


async def test_an_exempt_bound_method_that_is_async_stays_so():
    class Site:
        async def index(self, request):
            return "index"

    view = entitlement_exempt(Site().index)
    assert iscoroutinefunction(view)
    assert await view(None) == "index"


def test_every_rule_that_matches_must_hold(ask):
    rules = [{"path": "^/apple/", "requires": "reports"}, {"path": "le/$", "requires": "API Calls", "quantity": 951}]
    assert ask(rules, "/apple/", PRO) == 402
    assert ask(rules[:1], "/apple/", PRO) == 200


def test_a_rule_takes_a_combined_requirement(ask):
    rules = [{"view": "apple", "requires": Requirement("nothing") | Requirement("reports")}]
    assert ask(rules, "/apple/", PRO) == 200
    assert ask(rules, "/apple/", FREE) == 403


@pytest.mark.parametrize("url", ["/reports/open/", "/reports/open-class/"])
def test_an_exempt_view_is_left_alone(ask, url):
    assert ask([{"path": "^/", "requires": "reports"}], url) == 200


def test_static_files_are_left_alone(ask):
    assert ask([{"path": "^/", "requires": "reports"}], "/reports/files/x.css") == 404


def test_a_url_that_leads_nowhere_is_not_found_whatever_the_rules(ask):
    assert ask([{"path": "^/", "requires": "reports"}], "/nowhere/") == 404


async def test_rules_hold_in_the_async_chain():
    with override_settings(
        ENTITLEMENT_GATE={**SETTINGS, "RULES": [{"path": "^/reports/", "requires": "reports"}]}, ROOT_URLCONF=urlconf
    ):
        for url in ("/reports/", "/reports/async/"):
            refused = await AsyncClient().get(url, headers={"X-Customer": FREE})
            allowed = await AsyncClient().get(url, headers={"X-Customer": PRO})
            assert (refused.status_code, allowed.status_code) == (403, 200)
        assert (await AsyncClient().get("/apple/", headers={"X-Customer": FREE})).status_code == 200


async def test_without_rules_the_async_chain_asks_nothing():
    with override_settings(ENTITLEMENT_GATE=SETTINGS, ROOT_URLCONF=urlconf):
        assert (await AsyncClient().get("/reports/async/")).status_code == 200


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("reports", "a list of dicts"),
        ([{"path": "^/", "requires": "x", "when": 1}], "entry 0 is a dict of"),
        (["^/"], "entry 0 is a dict of"),
        ([{"requires": "x"}], 'one of "path", "view", "namespace"'),
        ([{"path": "^/", "view": "x", "requires": "x"}], 'one of "path", "view", "namespace"'),
        ([{"path": "^/"}], '"requires"'),
        ([{"path": "(", "requires": "x"}], "entry 0: "),
        ([{"view": "", "requires": "x"}], "'view' is text"),
        ([{"view": "v", "requires": "x"}, {"view": "v", "requires": "x", "quantity": 0}], "entry 1: a quantity"),
        ([{"view": "v", "requires": 3}], "entry 0: an entitlement"),
        ([{"view": "v", "requires": "x", "methods": "POST"}], "methods is a list"),
    ],
)
def test_a_rule_that_cannot_work_is_refused_early(raw, said):
    with pytest.raises(ValueError, match="rules: ") as refused:
        read_rules(raw)
    assert said in str(refused.value)
