from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial, wraps
from pathlib import Path
from types import ModuleType

import pytest
from django.conf import settings as django_settings
from django.core.checks import run_checks
from django.db import connections
from django.test import modify_settings, override_settings
from django.urls import include, path, re_path
from django.utils.decorators import method_decorator
from django.utils.translation import gettext_lazy
from django.views import View

from entitlement_gate import requires_entitlement
from entitlement_gate.ledger.memory import MemoryLedger
from entitlement_gate.middleware import EntitlementMiddleware
from entitlement_gate.mixins import EntitlementRequiredMixin

AUTH = "django.contrib.auth.middleware.AuthenticationMiddleware"
OURS = "entitlement_gate.middleware.EntitlementMiddleware"
GOOD = {"API_KEY": "key", "ORGANISATION": "org", "CUSTOMER_ATTRIBUTE": "username", "LEDGER": None}


class Ours(EntitlementMiddleware):
    """A project's own kind of it."""


def found(settings, **others):
    with override_settings(ENTITLEMENT_GATE=settings, **others):
        return [
            (message.id.removeprefix("entitlement_gate."), message.msg)
            for message in run_checks(tags=["entitlement_gate"])
        ]


def test_good_settings_are_passed_in_silence():
    assert found(GOOD) == []


def test_missing_settings_say_what_to_set():
    assert found(None)[0][0] == "E001"
    assert "API_KEY" in found({})[0][1]
    assert "ORGANISATION" in found({"API_KEY": "key"})[0][1]


def test_an_unknown_key_names_the_nearest():
    with override_settings(ENTITLEMENT_GATE={**GOOD, "API_KYE": "x", "ZZZ": 1}):
        near, far = run_checks(tags=["entitlement_gate"])
    assert (near.id, near.hint) == ("entitlement_gate.E002", "Did you mean 'API_KEY'?")
    assert "reference" in far.hint


@pytest.mark.parametrize("key", ["SOURCE", "CUSTOMER_RESOLVER", "DENIED_HANDLER", "WEBHOOK_VERIFIER"])
@pytest.mark.parametrize("path", ["no.such.thing", "tests.customers.FREE", "nodots"])
def test_a_bad_dotted_path_names_its_key(key, path):
    (problem,) = found({**GOOD, key: path})
    assert problem[0] == "E003"
    assert key in problem[1]


def test_rules_without_the_middleware_are_an_error():
    rules = [{"path": "^/", "requires": "reports"}]
    assert [code for code, _ in found({**GOOD, "RULES": rules}, MIDDLEWARE=[AUTH])] == ["E004"]
    assert [code for code, _ in found({**GOOD, "RULES": rules}, MIDDLEWARE=[AUTH, "no.such"])] == ["E004"]
    for ours in (OURS, f"{__name__}.Ours"):
        assert found({**GOOD, "RULES": rules}, MIDDLEWARE=[AUTH, ours]) == []


def test_a_rule_that_names_no_url_is_warned_about():
    rules = [{"view": name, "requires": "x"} for name in ("entitlement_gate:me", "nothing:here")]
    rules += [{"namespace": name, "requires": "x"} for name in ("entitlement_gate", "nothing")]
    problems = found({**GOOD, "RULES": rules}, ROOT_URLCONF="tests.included_urls")
    assert [(code, "nothing" in text) for code, text in problems] == [("W003", True), ("W003", True)]
    assert all("gates nothing" in text for _, text in problems)


def urls_by_host(get_response):
    """A project's own middleware, which sets ``request.urlconf``."""
    return get_response


def test_a_rule_that_may_be_about_other_urls_of_a_request_is_not_said_to_gate_nothing():
    rules = [{"view": "entitlement_gate:me", "requires": "x"}]
    others = {"MIDDLEWARE": [f"{__name__}.urls_by_host", AUTH, OURS]}
    ((code, text),) = found({**GOOD, "RULES": rules}, **others)
    assert (code, "gates nothing" in text, "request.urlconf" in text) == ("W003", False, True)
    ((code, text),) = found({**GOOD, "RULES": rules, "URLCONFS": ["tests.urls"]}, **others)
    assert (code, "gates nothing" in text) == ("W003", True)


def test_urls_that_only_some_requests_have_may_be_named():
    rules = [{"view": "entitlement_gate:me", "requires": "x"}]
    problems = found({**GOOD, "RULES": rules})
    assert [code for code, _ in problems] == ["W003"]
    assert found({**GOOD, "RULES": rules, "URLCONFS": ["tests.included_urls"]}) == []


@pytest.mark.parametrize("name", ["", "no.such.urls", "."])
def test_urls_that_cannot_be_imported_are_an_error(name):
    ((code, text),) = found({**GOOD, "URLCONFS": [name]})
    assert (code, "URLCONFS" in text) == ("E003", True)


def shop(*names):
    urls = ModuleType("shop")
    pages = ([path("export/", answering, name="export")], "shop")
    urls.urlpatterns = [path(f"{name}/", include(pages, namespace=name)) for name in names]
    return urls


@pytest.mark.parametrize(
    ("rule", "names", "is_known"),
    [
        ({"view": "shop:export"}, ["eu"], True),
        ({"view": "eu:export"}, ["eu"], True),
        ({"view": "us:export"}, ["eu"], False),
        ({"namespace": "shop"}, ["eu", "us"], True),
        ({"namespace": "us"}, ["eu", "us"], True),
        ({"namespace": "export"}, ["eu"], False),
    ],
)
def test_a_rule_that_names_the_application_or_an_instance_is_known(rule, names, is_known):
    problems = found({**GOOD, "RULES": [{**rule, "requires": "x"}]}, ROOT_URLCONF=shop(*names))
    assert (problems == []) is is_known


@pytest.mark.parametrize(("name", "is_known"), [("shop", True), ("eu:shop", True), ("eu", True), ("shop:eu", False)])
def test_a_rule_that_names_a_namespace_within_another_is_known(name, is_known):
    urls = ModuleType("nested")
    urls.urlpatterns = [path("eu/", include((shop("shop").urlpatterns, "eu")))]
    problems = found({**GOOD, "RULES": [{"namespace": name, "requires": "x"}]}, ROOT_URLCONF=urls)
    assert (problems == []) is is_known


class Flat(EntitlementMiddleware):
    """Stands in for a project's kind of the flat pages' middleware, whose app is not installed here."""


FLAT = "django.contrib.flatpages.middleware.FlatpageFallbackMiddleware"
WHITE = "whitenoise.middleware.WhiteNoiseMiddleware"
PREMIUM = {"path": "^/premium/", "requires": "x"}
STATIC = {"path": "^/static/premium/", "requires": "x"}


@pytest.mark.parametrize(
    ("rules", "middleware", "named"),
    [
        ([PREMIUM], [FLAT, AUTH, OURS], ["FlatpageFallbackMiddleware"]),
        ([PREMIUM], [AUTH, OURS, FLAT], []),
        ([{"view": "a", "requires": "x"}], [FLAT, AUTH, OURS], []),
        ([], [FLAT, AUTH, OURS], []),
        ([STATIC], [WHITE, AUTH, OURS], ["WhiteNoiseMiddleware"]),
        ([STATIC], [AUTH, OURS, WHITE], []),
        ([PREMIUM, {"path": "^/", "requires": "x"}, {"path": "pdf$", "requires": "x"}], [WHITE, AUTH, OURS], []),
    ],
)
def test_middleware_that_answers_before_the_rules_is_warned_about(rules, middleware, named):
    problems = found({**GOOD, "RULES": rules}, MIDDLEWARE=middleware, STATIC_URL="/static/")
    told = [text for code, text in problems if code == "W010"]
    assert [name in text for name, text in zip(named, told, strict=True)] == [True] * len(named)
    assert all(code in {"W010", "W003"} for code, _ in problems)


def test_a_projects_own_kind_of_such_middleware_is_known():
    kind = type("Mine", (type("FlatpageFallbackMiddleware", (), {"__module__": FLAT.rpartition(".")[0]}),), {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[__name__], "Flat", kind)
        problems = found({**GOOD, "RULES": [PREMIUM]}, MIDDLEWARE=[f"{__name__}.Flat", AUTH, OURS])
    assert [code for code, _ in problems] == ["W010"]


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ({"path": "^reports/"}, "begins with a slash"),
        ({"path": "^/reports/", "methods": ["GTE", "PSOT"]}, "no request has the method GTE, PSOT"),
    ],
)
def test_a_rule_that_can_match_no_request_is_warned_about(rule, why):
    ((code, text),) = found({**GOOD, "RULES": [{**rule, "requires": "x"}]}, MIDDLEWARE=[AUTH, OURS])
    assert code == "W003"
    assert why in text


def test_the_methods_perhaps_meant_are_told():
    rules = [{"path": "^/", "methods": ["GTE", "PSOT"], "requires": "x"}]
    with override_settings(ENTITLEMENT_GATE={**GOOD, "RULES": rules}, MIDDLEWARE=[AUTH, OURS]):
        (problem,) = run_checks(tags=["entitlement_gate"])
    assert problem.hint == "Did you mean GET, POST?"


places = ModuleType("places")
places.urlpatterns = [
    path("", View.as_view()),
    path("reports/<int:number>/export/", View.as_view()),
    path("shop/", include([re_path(r"^cart/$", View.as_view()), path("new/<slug:name>", View.as_view())])),
    path("either/", include([re_path(r"^a/|^b/", View.as_view())])),
    re_path(r"^files?/", View.as_view()),
    re_path(r"^docs/", include([path("start/", View.as_view())])),
    path("any/", include([path(gettext_lazy("about/"), View.as_view())])),
]


@pytest.mark.parametrize(
    "pattern",
    ["^/premium/", "^/report/", "^/shop/cart/x", "^/shop/old/", "^/docs/begin/", "^/docs/start/x/", "^/other"],
)
def test_a_rule_about_paths_that_no_url_begins_with_is_warned_about(pattern):
    rules = [{"path": pattern, "requires": "x"}]
    ((code, text),) = found({**GOOD, "RULES": rules}, MIDDLEWARE=[AUTH, OURS], ROOT_URLCONF=places)
    assert (code, "no URL begins like this" in text) == ("W003", True)
    assert found({**GOOD, "RULES": rules}, MIDDLEWARE=[AUTH, OURS, FLAT], ROOT_URLCONF=places) == []
    assert (
        found({**GOOD, "RULES": rules}, MIDDLEWARE=[f"{__name__}.urls_by_host", AUTH, OURS], ROOT_URLCONF=places) == []
    )


@pytest.mark.parametrize(
    "pattern",
    [
        *("^/", "/premium/", "premium", "^/(premium|reports)/", "^/premium/|^/reports/"),
        *("^/reports/", "^/rep", "^/reports?/", "^/reports/5/", "^/REPORTS/5/export/$", r"^/reports/\d+/", "^/[a-z]+/"),
        *("^/shop/", "^/shop/cart/$", "^/shop/new/hat", "^/either/c/", "^/file/", "^/files/a.pdf", "^/docs/start/$"),
        "^/any/where/",
    ],
)
def test_a_rule_about_paths_that_some_url_may_have_is_not(pattern):
    rules = [{"path": pattern, "requires": "x"}]
    for ours in (OURS, f"{__name__}.Ours"):
        assert found({**GOOD, "RULES": rules}, MIDDLEWARE=[AUTH, ours], ROOT_URLCONF=places) == []


@pytest.mark.parametrize("methods", [["PURGE"], ["PROPFIND"], ["GTE", "POST"]])
def test_methods_that_are_not_https_own_may_be_meant(methods):
    rules = [{"path": "^/", "methods": methods, "requires": "x"}]
    assert found({**GOOD, "RULES": rules}, MIDDLEWARE=[AUTH, OURS]) == []


def test_a_project_without_urls_is_checked_all_the_same():
    rules = [{"path": "^/", "requires": "x"}, {"view": "reports", "requires": "x"}]
    with override_settings(MIDDLEWARE=[AUTH, OURS]):
        del django_settings.ROOT_URLCONF
        assert [code for code, _ in found({**GOOD, "RULES": rules})] == ["W003"]
        with override_settings(MIDDLEWARE=[AUTH]):
            assert found(GOOD) == []


@pytest.mark.parametrize("path", ["^/reports/", "reports/", "^.*/reports/", "^(?:/a|/b)/", "^reports/|^/reports/"])
def test_a_path_that_can_match_is_passed_in_silence(path):
    rules = [{"path": path, "requires": "x", "methods": ["POST"]}]
    assert found({**GOOD, "RULES": rules}, MIDDLEWARE=[AUTH, OURS]) == []


@pytest.mark.parametrize("methods", [5, "POST", [5]])
def test_methods_that_cannot_be_read_are_an_error(methods):
    rules = [{"path": "^/", "requires": "x", "methods": methods}]
    ((code, text),) = found({**GOOD, "RULES": rules}, MIDDLEWARE=[AUTH, OURS])
    assert code == "E001"
    assert "methods is a list" in text


@requires_entitlement("sso", on_denied="raise")
def raising(request):
    """Left to the middleware."""


@requires_entitlement("sso")
def answering(request):
    """Answered by the gate itself."""


class Shop(View):
    @method_decorator(requires_entitlement("sso", on_denied="raise"))
    def get(self, request):
        """As above."""


urls = ModuleType("urls")
urls.urlpatterns = [
    path("a/", include([path("raising/", raising)])),
    path("answering/", answering),
    path("shop/", Shop.as_view()),
]


def test_gates_that_raise_where_nobody_answers_are_warned_about():
    problems = found(GOOD, ROOT_URLCONF=urls, MIDDLEWARE=[AUTH])
    assert [(code, text.split()[0]) for code, text in problems] == [
        ("W007", f"{__name__}.Shop"),
        ("W007", f"{__name__}.raising"),
    ]
    assert found(GOOD, ROOT_URLCONF=urls, MIDDLEWARE=[AUTH, OURS]) == []


class Quota(View):
    @method_decorator(requires_entitlement("calls", consume=True))
    async def post(self, request):
        """Uses one up."""


using = ModuleType("using")
using.urlpatterns = [
    path("twice/", requires_entitlement("sso")(requires_entitlement("calls", 2, consume=True)(answering))),
    path("quota/", include([path("", Quota.as_view())])),
    path("answering/", answering),
]


def test_gates_that_use_something_up_need_a_ledger():
    problems = found(GOOD, ROOT_URLCONF=using)
    assert [(code, text.split()[0]) for code, text in problems] == [
        ("E006", f"{__name__}.Quota"),
        ("E006", f"{__name__}.answering"),
    ]
    assert found({**GOOD, "LEDGER": "memory"}, ROOT_URLCONF=using, DEBUG=True) == []
    assert found(GOOD, ROOT_URLCONF=urls, MIDDLEWARE=[OURS]) == []


class Mixed(EntitlementRequiredMixin, View):
    entitlement_required = "calls"


mixed = ModuleType("mixed")


@pytest.mark.parametrize("consume", [True, False])
def test_so_do_mixins_and_rules_that_use_something_up(consume):
    mixed.urlpatterns = [path("x/", Mixed.as_view(entitlement_consume=consume))]
    rules = [{"path": "^/x/", "methods": ["POST"], "requires": "calls", "consume": consume}]
    problems = found({**GOOD, "RULES": rules}, ROOT_URLCONF=mixed, MIDDLEWARE=[OURS])
    told = [
        ("E006", "ENTITLEMENT_GATE['RULES']: path ^/x/ [POST] uses something up (consume=True), and "),
        ("E006", f"{__name__}.Mixed uses something up (consume=True), and "),
    ]
    assert [(code, text.partition("ENTITLEMENT_GATE['LEDGER']")[0]) for code, text in problems] == told * consume
    good = {**GOOD, "RULES": rules, "LEDGER": "memory"}
    assert found(good, ROOT_URLCONF=mixed, MIDDLEWARE=[OURS], DEBUG=True) == []


def no_argument():
    """Takes nothing."""


def one_argument(request):
    """Takes a request."""


def two_arguments(request, decision):
    """Takes a request and a decision."""


def three_arguments(request, decision, more):
    """Takes more than anybody gives."""


async def two_async(request, decision):
    """Takes the same in an event loop."""


class Handler:
    def __init__(self, request): ...

    def method(self, request, decision): ...


def any_arguments(*args, **kwargs):
    """Takes whatever comes."""


SHAPES = {
    no_argument: {0},
    one_argument: {1},
    two_arguments: {2},
    two_async: {2},
    three_arguments: {3},
    Handler(None).method: {2},
    Handler: {1},
    wraps(no_argument)(any_arguments): {0, 1, 2, 3},
    partial(three_arguments, None): {2},
    lambda request, decision=None: None: {1, 2},
    lambda request, *, decision: None: set(),
    getattr: {0, 1, 2, 3},
}


@pytest.mark.parametrize(
    ("key", "count"),
    [
        ("API_KEY", 0),
        ("ORGANISATION", 0),
        ("CUSTOMER_RESOLVER", 1),
        ("DENIED_HANDLER", 2),
        ("UPGRADE_URL", 2),
        ("WEBHOOK_VERIFIER", 1),
    ],
)
@pytest.mark.parametrize(("call", "counts"), SHAPES.items(), ids=range(len(SHAPES)))
def test_a_callable_takes_what_it_is_called_with(key, count, call, counts):
    problems = found({**GOOD, key: call})
    assert [code for code, _ in problems] == ([] if count in counts else ["E003"])
    assert all(key in text and "cannot be called with (" in text for _, text in problems)


@pytest.mark.parametrize("name", ["key", "customer"])
@pytest.mark.parametrize(("call", "counts"), SHAPES.items(), ids=range(len(SHAPES)))
def test_what_a_rule_calls_takes_a_request(name, call, counts):
    rule = {"path": "^/x/", "requires": "calls", "consume": True, name: call}
    problems = found({**GOOD, "LEDGER": "memory", "RULES": [rule]}, MIDDLEWARE=[OURS], DEBUG=True)
    told = f"ENTITLEMENT_GATE['RULES']: path ^/x/: {name} cannot be called with (request)."
    assert problems == ([] if 1 in counts else [("E003", told)])


@pytest.mark.parametrize("name", ["key", "customer"])
@pytest.mark.parametrize(("dotted", "why"), [("no.such", "imported"), ("tests.customers.FREE", "called")])
def test_a_bad_dotted_path_names_the_rule(name, dotted, why):
    rules = [{"path": "^/x/", "requires": "calls", "consume": True, name: path} for path in ("os.getcwd", dotted)]
    (_, (code, text)) = found({**GOOD, "LEDGER": "memory", "RULES": rules}, MIDDLEWARE=[OURS], DEBUG=True)
    assert code == "E003"
    assert text.startswith(f"ENTITLEMENT_GATE['RULES']: path ^/x/: {name}: {dotted!r} cannot be {why}")


@pytest.mark.parametrize("key", ["SOURCE", "CUSTOMER_RESOLVER", "DENIED_HANDLER", "WEBHOOK_VERIFIER"])
def test_so_does_what_a_dotted_path_leads_to(key):
    assert [code for code, _ in found({**GOOD, key: f"{__name__}.three_arguments"})] == ["E003"]
    assert found({**GOOD, key: f"{__name__}.any_arguments"}) == []


def test_a_scenario_that_is_not_there_is_an_error(tmp_path):
    sandbox = {"BASE_URL": f"sandbox:{tmp_path}/none.json", "CUSTOMER_ATTRIBUTE": "username", "LEDGER": None}
    ((code, text),) = found(sandbox, DEBUG=True)
    assert code == "E001"
    assert "none.json" in text
    good = {"api_key": "k", "organisation": "00000000-0000-4000-8000-000000000001"}
    (tmp_path / "none.json").write_text(json.dumps(good))
    assert found(sandbox, DEBUG=True) == []


@pytest.mark.parametrize(("text", "why"), [("{", "not JSON"), ("{}", "api_key"), ('{"api_key": 3}', "organisation")])
def test_a_scenario_that_cannot_be_read_is_an_error(tmp_path, text, why):
    (tmp_path / "broken.json").write_text(text)
    sandbox = {"BASE_URL": f"sandbox:{tmp_path}/broken.json", "CUSTOMER_ATTRIBUTE": "username", "LEDGER": None}
    ((code, message),) = found(sandbox, DEBUG=True)
    assert code == "E001"
    assert "broken.json" in message
    assert why in message


def test_a_ledger_that_is_a_class_is_an_error():
    ((code, text),) = found({**GOOD, "LEDGER": MemoryLedger})
    assert code == "E001"
    assert "a Ledger or None" in text


@pytest.mark.parametrize("key", ["CUSTOMER_RESOLVER", "DENIED_HANDLER"])
def test_what_is_needed_cannot_be_none(key):
    ((code, text),) = found({**GOOD, key: None})
    assert code == "E001"
    assert key in text


def test_every_problem_says_what_to_do():
    for wrong in ({}, {"API_KYE": "x"}, {**GOOD, "DENIED_HANDLER": "no.such"}, {**GOOD, "TTL": -1}):
        with override_settings(ENTITLEMENT_GATE=wrong):
            assert all(message.hint for message in run_checks(tags=["entitlement_gate"]))


def test_middleware_before_authentication_is_warned_about():
    assert [code for code, _ in found(GOOD, MIDDLEWARE=[OURS, AUTH])] == ["W001"]
    assert found(GOOD, MIDDLEWARE=[AUTH, OURS]) == []


def test_the_sandbox_outside_debug_is_warned_about():
    sandbox = {"BASE_URL": "sandbox:", "CUSTOMER_ATTRIBUTE": "username", "LEDGER": None}
    assert [code for code, _ in found(sandbox, DEBUG=False)] == ["W002"]
    assert found(sandbox, DEBUG=True) == []


def test_a_user_without_the_customer_attribute_is_warned_about():
    assert [code for code, _ in found({**GOOD, "CUSTOMER_ATTRIBUTE": "organisation.customer"})] == ["W004"]
    assert found({**GOOD, "CUSTOMER_ATTRIBUTE": "nope", "CUSTOMER_RESOLVER": "tests.customers.from_header"}) == []
    assert found({**GOOD, "CUSTOMER_ATTRIBUTE": "groups"}) == []


def test_the_checks_never_reach_for_billing(monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("connected"))
    assert found(GOOD) == []


def test_a_ledger_in_memory_is_warned_about_outside_debug():
    assert [code for code, _ in found({**GOOD, "LEDGER": "memory"})] == ["W005"]
    assert found({**GOOD, "LEDGER": "memory"}, DEBUG=True) == []


def test_a_ledger_whose_parts_are_missing_is_an_error(monkeypatch):
    redis = {**GOOD, "LEDGER": "redis", "REDIS_URL": "redis://127.0.0.1:1/0"}
    assert found(redis) == []
    monkeypatch.setattr("entitlement_gate.checks.find_spec", lambda name: None)
    assert [code for code, _ in found(redis)] == ["E005"]
    assert [code for code, _ in found({**redis, "LEDGER": None})] == ["E005"]
    assert [code for code, _ in found({**GOOD, "LEDGER": "database"}, INSTALLED_APPS=["entitlement_gate"])] == ["E005"]
    installed = {*django_settings.INSTALLED_APPS, "entitlement_gate.usage"}  # which other tests may have installed
    assert found({**GOOD, "LEDGER": "database"}, INSTALLED_APPS=sorted(installed)) == []


class RouterTo:
    """Where ``entitlement_usage`` is written, as a project's router says."""

    alias = "default"

    def db_for_write(self, model, **_):
        return self.alias


@pytest.fixture
def _usage():
    with modify_settings(INSTALLED_APPS={"append": "entitlement_gate.usage"}):
        yield


@pytest.mark.usefixtures("_usage")
def test_a_ledger_in_a_database_that_cannot_keep_one_is_an_error(monkeypatch):
    monkeypatch.setattr(connections["default"], "vendor", "mysql")
    ((code, text),) = found({**GOOD, "LEDGER": "database"})
    assert code == "E005"
    assert "PostgreSQL or SQLite, not mysql" in text


@pytest.mark.usefixtures("_usage")
@pytest.mark.parametrize("alias", ["nowhere", "default"])
def test_a_ledger_in_no_database_is_an_error(monkeypatch, alias):
    monkeypatch.setattr(RouterTo, "alias", alias)
    if alias == "default":  # what Django makes of DATABASES = {}
        monkeypatch.setattr(connections["default"], "vendor", "unknown")
    with override_settings(DATABASE_ROUTERS=[f"{__name__}.RouterTo"]):
        ((code, text),) = found({**GOOD, "LEDGER": "database"})
    assert code == "E005"
    assert ("nowhere" if alias == "nowhere" else "not unknown") in text


def test_a_project_without_a_database_is_told_so_before_its_first_request(tmp_path):
    (tmp_path / "settings.py").write_text(
        "SECRET_KEY = 'x'\nROOT_URLCONF = 'settings'\nurlpatterns = []\nDEBUG = True\nUSE_TZ = True\n"
        "INSTALLED_APPS = ['entitlement_gate', 'entitlement_gate.usage']\n"
        "ENTITLEMENT_GATE = {'API_KEY': 'key', 'ORGANISATION': 'org', 'LEDGER': 'database'}\n"
    )
    path_ = os.pathsep.join([str(tmp_path), str(Path.cwd())])
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": path_}
    command = [sys.executable, "-m", "django", "check"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "(entitlement_gate.E005) ENTITLEMENT_GATE['LEDGER'] is 'database', which cannot be had" in done.stderr


@pytest.mark.parametrize(("is_atomic", "codes"), [(True, ["W008"]), (False, [])])
def test_a_ledger_on_sqlite_within_requests_that_are_transactions_is_warned_about(monkeypatch, is_atomic, codes):
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", is_atomic)
    with modify_settings(INSTALLED_APPS={"append": "entitlement_gate.usage"}):
        assert [code for code, _ in found({**GOOD, "LEDGER": "database"})] == codes


def test_usage_that_no_command_can_ship_is_warned_about():
    usage = {"USAGE": {"seats": {"slug": "seats", "field": "count"}}}
    assert [code for code, _ in found({**GOOD, **usage})] == ["W006"]
    assert found({**GOOD, **usage, "LEDGER": "redis", "REDIS_URL": "redis://127.0.0.1:1/0"}) == []
