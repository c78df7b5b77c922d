"""Where a refusal leads: a mistake there is found by a check, and never makes a refusal an error or a circle."""

from __future__ import annotations

import logging
from types import ModuleType

import pytest
from asgiref.sync import async_to_sync
from django.conf.urls.i18n import i18n_patterns
from django.core.checks import run_checks
from django.http import HttpResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path, reverse, reverse_lazy
from django.utils.decorators import method_decorator
from django.views import View

from entitlement_gate import requires_entitlement
from entitlement_gate.decorators import targets_of
from entitlement_gate.routing import entitled_include
from tests.customers import FREE, PRO, SETTINGS
from tests.views.browsers import broken

OURS = "entitlement_gate.middleware.EntitlementMiddleware"
HTML = {"Accept": "text/html"}


def page(request, **kwargs):
    return HttpResponse("in")


def gated(on_denied, *, quantity=None):
    @requires_entitlement("reports", quantity, on_denied=on_denied)
    def view(request, **kwargs):
        return HttpResponse("in")

    return view


@requires_entitlement("reports", on_denied="itself")
async def itself(request):
    return HttpResponse("in")


def dear(request):
    return 9 if "dear" in request.GET else 1


class Post(View):
    """Refused to post, people are shown the page that they came from."""

    def get(self, request):
        return HttpResponse("the form")

    @method_decorator(requires_entitlement("reports", on_denied="post"))
    def post(self, request):
        return HttpResponse("in")


def project(*patterns):
    urls = ModuleType("urls")
    urls.urlpatterns = list(patterns)
    return urls


ALL = project(
    path("plans/", page, name="plans"),
    path("plans/<int:pk>/", page, name="plan"),
    path("typo/", gated("no-such-name")),
    path("typo-in-a-namespace/", gated("shop:plans")),
    path("argument/", gated("plan")),
    path("fine/", gated("plans")),
    path("itself/", itself, name="itself"),
    path("absolute/", gated("http://testserver/absolute/?a=b#c")),
    path("relative/", gated("./")),
    path("query/", gated("/query/?refused=1")),
    path("slash/", gated("/slash")),
    path("caf\u00e9/", gated("/caf%C3%A9/")),
    path("post/", Post.as_view(), name="post"),
    path("cheaper/", requires_entitlement("seats", dear, on_denied="/cheaper/")(page)),
    path("elsewhere/", gated("https://shop.example/elsewhere/")),
    path("a/", gated("/b/")),
    path("b/", gated("/c/")),
    path("c/", gated("/a/")),
    path(
        "",
        entitled_include(
            ([path("all/", page, name="all"), path("all/in/", page)], "all"), requires="sso", on_denied="all:all"
        ),
    ),
)


@pytest.fixture(autouse=True)
def _project():
    with override_settings(ENTITLEMENT_GATE=SETTINGS, ROOT_URLCONF=ALL, MIDDLEWARE=[OURS]):
        yield


@pytest.fixture(params=["WSGI", "ASGI"])
def ask(request):
    def ask(url, customer=FREE, method="get"):
        headers = {"X-Customer": customer, **HTML}
        if request.param == "WSGI":
            return getattr(Client(), method)(url, headers=headers)
        return async_to_sync(getattr(AsyncClient(), method))(url, headers=headers)

    return ask


@pytest.mark.parametrize("url", ["/typo/", "/typo-in-a-namespace/", "/argument/"])
def test_a_refusal_that_leads_nowhere_is_told_plainly_and_logged(ask, url, caplog):
    with caplog.at_level(logging.ERROR, logger="entitlement_gate"):
        assert ask(url).status_code == 403
    assert len([line for line in caplog.messages if line.startswith("on_denied: ")]) == 1
    assert ask(url, PRO).status_code == 200


@pytest.mark.parametrize("url", ["/itself/", "/absolute/", "/relative/", "/query/", "/slash/", "/itself/?a=b", "/all/"])
def test_a_refusal_that_leads_to_its_own_page_is_told_plainly(ask, url):
    assert ask(url).status_code == 403
    assert ask(url, method="head").status_code == 403


def test_a_page_is_known_however_its_address_is_written():
    assert Client().get("/café/", headers={"X-Customer": FREE, **HTML}).status_code == 403


@pytest.mark.parametrize(
    ("url", "to"), [("/fine/", "/plans/"), ("/elsewhere/", "https://shop.example/elsewhere/"), ("/all/in/", "/all/")]
)
def test_a_refusal_that_leads_on_leads_on(ask, url, to):
    answer = ask(url)
    assert (answer.status_code, answer.headers["Location"]) == (302, to)


def test_what_is_refused_to_a_post_may_lead_to_the_page_that_it_came_from(ask):
    answer = ask("/post/", method="post")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/post/")
    assert ask("/post/").status_code == 200


def test_the_same_page_may_be_asked_for_less(ask):
    answer = ask("/cheaper/?dear=1", PRO)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/cheaper/")
    assert ask("/cheaper/", FREE).status_code in (402, 403)


def test_a_page_in_a_language_is_the_page_without_it(ask):
    urls = project(*i18n_patterns(path("plans/", gated("/plans/"))))
    with override_settings(ROOT_URLCONF=urls):
        assert ask("/en-us/plans/").status_code == 403


def test_a_made_up_host_and_an_odd_path_are_no_error():
    with override_settings(ROOT_URLCONF=project(path("<path:any>", gated("http://shop.example/")))):
        odd = Client().get("/", headers={"X-Customer": FREE}, PATH_INFO="//[broken")
        assert odd.status_code == 302
        with override_settings(ALLOWED_HOSTS=["testserver"]):
            answer = Client().get("/x", headers={"Host": "shop.example", "X-Customer": FREE})
    assert answer.status_code == 302


def test_without_a_slash_to_be_appended_another_path_is_another_page(ask):
    with override_settings(APPEND_SLASH=False):
        assert ask("/slash/").status_code == 302


# Rules


def handle(request, decision):
    return HttpResponse(decision.entitlement, status=418)


async def handle_async(request, decision):
    return handle(request, decision)


@pytest.fixture
def ruled(settings):
    def ruled(*rules, **others):
        settings.ENTITLEMENT_GATE = {**SETTINGS, "RULES": list(rules), **others}
        settings.ROOT_URLCONF = project(
            path("plans/", page, name="plans"),
            path("reports/", page, name="reports"),
            path("reports/plans/", page),
            path("exports/", page, name="exports"),
        )

    return ruled


REPORTS = {"path": "^/reports/", "requires": "reports"}
EXPORTS = {"view": "exports", "requires": "exports"}


@pytest.mark.parametrize("on_denied", [handle, handle_async, f"{__name__}.handle", f"{__name__}.handle_async"])
def test_whom_a_rule_refuses_a_function_of_its_own_answers(ask, ruled, on_denied):
    ruled({**REPORTS, "on_denied": on_denied})
    assert (ask("/reports/").status_code, ask("/reports/").content) == (418, b"reports")
    assert ask("/reports/", PRO).content == b"in"


@pytest.mark.parametrize("on_denied", ["/plans/", "plans", "https://shop.example/"])
def test_whom_a_rule_refuses_it_leads_on(ask, ruled, on_denied):
    ruled({**REPORTS, "on_denied": on_denied})
    answer = ask("/reports/")
    assert (answer.status_code, answer.headers["Location"]) == (302, on_denied if "/" in on_denied else "/plans/")
    assert ask("/reports/", PRO).content == b"in"


def test_a_rule_that_leads_to_a_page_that_it_is_about_itself_tells_there_plainly(ask, ruled):
    ruled({**REPORTS, "on_denied": "/reports/plans/"})
    assert ask("/reports/").headers["Location"] == "/reports/plans/"
    assert ask("/reports/plans/").status_code == 403


def test_an_outage_leads_nobody_on(ask, ruled, tmp_path):
    ruled({**REPORTS, "on_denied": "/plans/"}, BASE_URL=broken(tmp_path)["BASE_URL"], MAX_ATTEMPTS=1)
    assert ask("/reports/").status_code == 503


@pytest.mark.parametrize("on_denied", ["no-such-name", "reports"])
def test_a_rule_that_leads_nowhere_or_back_tells_plainly(ask, ruled, on_denied):
    ruled({**REPORTS, "on_denied": on_denied})
    assert ask("/reports/").status_code == 403


@pytest.mark.parametrize(
    ("rules", "codes"),
    [
        ([{**REPORTS, "on_denied": "plans"}], []),
        ([{**REPORTS, "on_denied": "no-such-name"}], ["W011"]),
        ([{**REPORTS, "on_denied": "/reports/plans/"}], ["W012"]),
        ([{**REPORTS, "on_denied": "/reports/plans/", "methods": ["POST"]}], []),
        ([{**REPORTS, "on_denied": "/exports"}, {**EXPORTS, "on_denied": "plans"}], []),
        ([{**REPORTS, "on_denied": "/exports"}, {**EXPORTS, "on_denied": "reports"}], ["W012", "W012"]),
        ([{**REPORTS, "on_denied": f"{__name__}.handle"}], []),
        ([{**REPORTS, "on_denied": f"{__name__}.dear"}], ["E003"]),
        ([{**REPORTS, "on_denied": f"{__name__}.nothing"}], ["E003"]),
    ],
)
def test_checks_find_where_rules_lead_nobody(ruled, rules, codes):
    ruled(*rules, LEDGER=None)
    with override_settings(DEBUG=True):
        messages = run_checks(tags=["entitlement_gate"])
    assert [message.id.removeprefix("entitlement_gate.") for message in messages] == codes
    assert all("rule path ^/reports/" in m.msg or "RULES']: path ^/reports/" in m.msg for m in messages[:1])


# UPGRADE_URL


@pytest.mark.parametrize(
    "setting", ["no-such-name", reverse_lazy("no-such-name"), lambda request, decision: reverse("no-such-name")]
)
@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_an_upgrade_url_that_nobody_has_is_left_out_and_logged(setting, accept, caplog):
    urls = project(path("gated/", requires_entitlement("reports")(page)))
    with override_settings(ENTITLEMENT_GATE={**SETTINGS, "UPGRADE_URL": setting}, ROOT_URLCONF=urls):
        answer = Client().get("/gated/", headers={"X-Customer": FREE, "Accept": accept})
    assert answer.status_code == 403
    assert [line for line in caplog.messages if line.startswith("UPGRADE_URL: there is no URL named")]


# Checks


def found(**gate):
    others = {name: gate.pop(name) for name in list(gate) if name in ("ROOT_URLCONF", "LOGIN_URL", "FORCE_SCRIPT_NAME")}
    with override_settings(ENTITLEMENT_GATE={**SETTINGS, "LEDGER": None, **gate}, DEBUG=True, **others):
        return [
            (message.id.removeprefix("entitlement_gate."), message.msg)
            for message in run_checks(tags=["entitlement_gate"])
        ]


def test_every_gate_whose_refusal_leads_nowhere_is_found():
    lost = [text for code, text in found() if code == "W011"]
    assert [name in text for name, text in zip(("no-such-name", "plan", "shop"), sorted(lost), strict=True)]
    assert all(text.startswith(f"on_denied of {__name__}.gated.<locals>.view: ") for text in lost)
    assert len(lost) == 3


def test_every_circle_of_refusals_is_found():
    circles = {text.partition(": ")[2] for code, text in found() if code == "W012"}
    assert circles == {
        f"{url!r} is behind gates that lead back to it."
        for url in ("itself", "/slash", "/query/?refused=1", "/caf%C3%A9/", "/cheaper/", "/a/", "/b/", "/c/", "all:all")
    }


def test_a_project_whose_refusals_lead_on_is_passed_in_silence():
    fine = project(
        path("plans/", page, name="plans"),
        path("fine/", gated("plans")),
        path("post/", Post.as_view(), name="post"),
        path("elsewhere/", gated("https://shop.example/elsewhere/")),
        path("nowhere/", gated("/not-of-this-project/")),
        path("first/", gated("/fine/")),
        path("same-path/", gated("https://shop.example/same-path/")),
        path("same-host/", gated("//shop.example/same-host/")),
        path("there-and-back/", gated("https://shop.example/back/")),
        path("back/", gated("/there-and-back/")),
    )
    assert found(ROOT_URLCONF=fine, UPGRADE_URL="plans") == []
    assert found(ROOT_URLCONF=fine, UPGRADE_URL=reverse_lazy("plans")) == []
    assert found(ROOT_URLCONF=fine, UPGRADE_URL=lambda request, decision: "no-such-name") == []
    assert found(ROOT_URLCONF=fine, UPGRADE_URL="") == []


@pytest.mark.parametrize("setting", ["no-such-name", reverse_lazy("no-such-name"), "javascript:alert(1)"])
def test_an_upgrade_url_that_leads_nowhere_is_found(setting):
    ((code, text),) = found(ROOT_URLCONF=project(), UPGRADE_URL=setting)
    assert code == "W011"
    assert text.startswith("ENTITLEMENT_GATE['UPGRADE_URL']: ")


@pytest.mark.parametrize("named", ["no-such-name", "", None])
def test_a_login_page_that_nobody_has_is_found_where_people_are_sent_there(named):
    ((code, text),) = found(ROOT_URLCONF=project(), LOGIN_URL=named, ANONYMOUS="login")
    assert (code, text.partition(":")[0]) == ("W011", "LOGIN_URL")
    assert found(ROOT_URLCONF=project(), LOGIN_URL=named) == []


def test_a_name_is_looked_for_among_all_urls_of_the_project():
    other = project(path("plans/", page, name="plans"), path("fine/", gated("plans")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, "urls_of_the_shop", other)
        assert found(ROOT_URLCONF=project(), URLCONFS=["urls_of_the_shop"], UPGRADE_URL="plans") == []
        assert [code for code, _ in found(ROOT_URLCONF=project(), UPGRADE_URL="plans")] == ["W011"]


def test_urls_that_cannot_be_imported_are_an_error():
    ((code, text),) = found(ROOT_URLCONF=project(), URLCONFS=["no.such.urls"])
    assert code == "E003"
    assert "URLCONFS" in text
    ((code, text),) = found(ROOT_URLCONF=project(), URLCONFS="no.such.urls")
    assert (code, "URLCONFS" in text) == ("E001", True)


def test_targets_are_known_of_every_shape_of_gate():
    @requires_entitlement("a", on_denied="/a/")
    @requires_entitlement("b", on_denied="/b/")
    def stacked(request): ...

    assert set(targets_of(stacked)) == {"/a/", "/b/"}
    assert targets_of(Post.as_view()) == ("post",)
    assert targets_of(Post.as_view(), ("get", "head")) == ()
    assert targets_of(requires_entitlement("a", on_denied="/a/")(type("Both", (Post,), {})).as_view(), ("get",)) == (
        "/a/",
    )
    assert targets_of(page) == targets_of(requires_entitlement("a", on_denied="raise")(page)) == ()
