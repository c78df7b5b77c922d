import json
import logging
from decimal import Decimal

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.http import HttpResponse
from django.test import AsyncRequestFactory, RequestFactory
from django.urls import include, path, reverse_lazy

from entitlement_gate import Decision, Outcome, Reason, requires_entitlement
from entitlement_gate.responses import denied, is_login_url, is_way_in, prefers_json, status_of, upgrade_url_of
from tests.customers import FREE, SETTINGS
from tests.views.browsers import Browser

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
REFUSALS = [reason for reason in Reason if reason.outcome is not Outcome.ALLOWED]


@requires_entitlement("reports")
def page(request):
    return HttpResponse("in")


urlpatterns = [
    path("page/", page),
    path("plans/", page, name="pricing"),
    path("billing/", include(([path("plans/", page, name="plans")], "billing"))),
]


async def priced_later(request, decision):
    return "billing:plans"


@pytest.fixture(autouse=True)
def sandbox(settings):
    settings.ENTITLEMENT_GATE = SETTINGS
    settings.ROOT_URLCONF = __name__


@pytest.fixture
def configure(settings):
    def configure(**values):
        settings.ENTITLEMENT_GATE = {**SETTINGS, **values}

    return configure


def of(reason=Reason.NOT_ENTITLED, entitlement="reports", **fields):
    return Decision.of(reason, entitlement, **fields)


def request_of(accept=None, url="/page/", **headers):
    given = {**({} if accept is None else {"Accept": accept}), **headers}
    return RequestFactory().get(url, headers=given)


def ask(decision=None, accept=BROWSER, **headers):
    return denied(request_of(accept, **headers), of() if decision is None else decision)


# Form


@pytest.mark.parametrize(
    ("accept", "is_json"),
    [
        (None, False),
        ("", False),
        ("*/*", False),
        (BROWSER, False),
        ("text/html", False),
        ("text/*", False),
        ("text/html, application/json;q=0.9", False),
        ("application/json;q=0.5, text/html;q=0.9", False),
        ("application/json", True),
        ("application/json, text/plain, */*", True),
        ("application/problem+json", True),
        ("application/problem+json, text/html;q=0.5", True),
        ("application/vnd.api+json", True),
        ("application/hal+json, text/html;q=0.5", True),
        ("text/html, application/hal+json;q=0.5", False),
        ("application/hal+json;q=0, text/html;q=0.1", False),
        ("application/xhtml+xml", False),
        ("APPLICATION/JSON", True),
        ("application/*", True),
        ("application/json;q=0.9, text/html;q=0.5", True),
        ("application/json;q=0, */*", False),
        ("application/json; charset=utf-8", True),
        ("application/json;charset=utf-8;q=0.5, text/html;q=0.4", True),
        ("text/html; charset=utf-8, application/json;q=0.9", False),
        ("text/html;q=0, */*", True),
        ("text/html;q=0.0, application/*", True),
        ("text/html;q=0.05, application/json;q=0.01", False),
        ("text/csv", False),
        ("image/png, audio/*", False),
        (";;;,,,", False),
        ("/", False),
        ("text/html;q=none, application/json;q=0.9", False),
        ("application/json;q=nan", True),
        ("text/html;q=1;" + "a=b;" * 20_000, False),
        (",".join(["application/json"] * 20_000), True),
        ("text/html\x00, application/json", True),
        ("é" * 1000, False),
    ],
)
def test_the_form_follows_what_the_client_accepts(accept, is_json):
    response = ask(accept=accept)
    expected = "application/problem+json" if is_json else "text/html; charset=utf-8"
    assert (response.status_code, response.headers["Content-Type"]) == (403, expected)


@pytest.mark.parametrize(
    ("accept", "sent", "is_json"),
    [
        (None, "application/json", True),
        ("*/*", "application/json", True),
        ("*/*", "application/json; charset=utf-8", True),
        ("*/*", "application/vnd.api+json", True),
        ("text/csv", "application/json", True),
        ("*/*", "application/x-www-form-urlencoded", False),
        ("*/*", "text/json-is-not-this", False),
        ("*/*", "", False),
        (BROWSER, "application/json", False),
        ("application/json", "text/html", True),
    ],
)
def test_a_json_body_counts_where_the_client_has_no_preference(accept, sent, is_json):
    headers = {} if accept is None else {"Accept": accept}
    request = RequestFactory().post("/", data=b"{}", content_type=sent, headers=headers)
    assert prefers_json(request) is is_json


def test_a_login_page_that_is_gated_itself_sends_nobody_round_in_a_circle(configure, settings):
    configure(ANONYMOUS="login")
    settings.LOGIN_URL = "pricing"
    nobody = of(Reason.NO_CUSTOMER)
    for url, status in (("/page/", 302), ("/plans/", 403)):
        request = request_of(BROWSER, url)
        request.user = AnonymousUser()
        assert denied(request, nobody).status_code == status


def test_a_login_page_elsewhere_is_no_page_of_this_site(configure, settings):
    configure(ANONYMOUS="login")
    settings.LOGIN_URL = "https://login.example/page/"
    request = request_of(BROWSER, "/page/")
    request.user = AnonymousUser()
    assert not is_way_in(request)
    assert denied(request, of(Reason.NO_CUSTOMER)).headers["Location"].startswith("https://login.example/page/?next=")


@pytest.mark.parametrize(
    "accept", ["application/json;a=" + "b" * 200_000, "text/html," * 50_000], ids=["one type", "many types"]
)
def test_a_header_of_absurd_length_is_answered_all_the_same(accept):
    assert ask(accept=accept).status_code == 403


@pytest.mark.parametrize(("body", "kind"), [("text/plain", "text/html"), ("application/json", "application/problem")])
def test_a_header_that_django_will_not_read_says_nothing_of_what_is_preferred(monkeypatch, body, kind):
    def refuse(line):  # as some versions do with what is too long
        raise ValueError("Unable to parse header parameters (value too long).")

    request = RequestFactory().generic("POST", "/", b"{}", content_type=body, headers={"Accept": "application/json"})
    monkeypatch.setattr("django.http.request.parse_header_parameters", refuse)
    assert denied(request, of()).headers["Content-Type"].startswith(kind)


@pytest.mark.parametrize(
    ("login", "url", "is_login"),
    [
        ("/accounts/login/", "/accounts/login/?next=/reports/", True),
        ("/accounts/login/", "/accounts/login/more/", False),
        ("/accounts/login/", "https://elsewhere.example/accounts/login/", False),
        ("https://login.example/page/", "https://login.example/page/?next=/", True),
        ("https://login.example/page/", "/page/", False),
    ],
)
def test_the_address_of_the_login_page_is_known(settings, login, url, is_login):
    settings.LOGIN_URL = login
    assert is_login_url(url) is is_login


def test_an_async_request_is_answered_alike():
    request = AsyncRequestFactory().get("/", headers={"Accept": "application/json"})
    assert denied(request, of()).content == ask(accept="application/json").content


@pytest.mark.parametrize("accept", ["application/json", BROWSER])
@pytest.mark.parametrize("reason", REFUSALS)
def test_every_refusal_is_never_stored_and_varies_by_who_asks_and_how(reason, accept):
    response = ask(of(reason), accept)
    assert response.headers["Cache-Control"] == "no-store, private"
    assert response.headers["Vary"] == "Accept, Cookie, Authorization"


# Status


@pytest.mark.parametrize("reason", REFUSALS)
def test_the_status_follows_the_reason(reason):
    insufficient = (Reason.INSUFFICIENT_QUANTITY, Reason.INSUFFICIENT_CREDITS)
    expected = 503 if reason.outcome is Outcome.UNKNOWN else 402 if reason in insufficient else 403
    response = ask(of(reason))
    assert response.status_code == status_of(of(reason)) == expected
    assert ("Retry-After" in response.headers) is (expected == 503)


def test_an_outage_says_when_to_come_back():
    assert int(ask(of(Reason.UNAVAILABLE)).headers["Retry-After"]) > 0


@pytest.mark.parametrize("accept", ["application/json", BROWSER])
def test_a_status_may_be_chosen_for_each_reason(configure, accept):
    configure(STATUS_CODES={"expired": 402, Reason.NO_CUSTOMER: 401, "unavailable": 500})
    for reason, status in ((Reason.EXPIRED, 402), (Reason.NO_CUSTOMER, 401), (Reason.DRAFT, 403)):
        assert ask(of(reason), accept).status_code == status
    assert ask(of(Reason.UNAVAILABLE), accept).headers["Retry-After"]
    assert ask(of(Reason.UNAVAILABLE), accept).status_code == 500


# Problem details


def test_a_problem_says_all_there_is_to_say(configure):
    configure(UPGRADE_URL="/plans/")
    numbers = {"requested": Decimal("1e2"), "remaining": Decimal("-0.10")}
    decision = of(Reason.INSUFFICIENT_QUANTITY, "seats", customer_id=FREE, units="seats", **numbers)
    assert json.loads(ask(decision, "application/json").content) == {
        "type": "urn:entitlement-gate:insufficient_quantity",
        "title": "You have used up your allowance",
        "status": 402,
        "detail": "What remains of your allowance is not enough for this.",
        "code": "insufficient_quantity",
        "entitlement": "seats",
        "requested": "100",
        "remaining": "-0.10",
        "upgrade_url": "/plans/",
    }


@pytest.mark.parametrize("reason", REFUSALS)
def test_a_problem_leaves_out_what_there_is_not(reason):
    problem = json.loads(ask(of(reason, customer_id=FREE), "application/json").content)
    assert list(problem) == ["type", "title", "status", "detail", "code", "entitlement"]
    assert (problem["code"], problem["status"]) == (reason, status_of(of(reason)))


# The page


HOSTILE = '"><script>alert(1)</script><a href="javascript:alert(2)">{{ request }}{% now "Y" %}'


def test_a_hostile_name_is_escaped():
    body = ask(of(entitlement=HOSTILE)).content.decode()
    assert "<script" not in body
    assert "javascript:alert(2)&quot;" in body
    assert "&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;" in body
    assert "{{ request }}{% now &quot;Y&quot; %}" in body


def test_a_hostile_name_stays_text_in_json():
    assert json.loads(ask(of(entitlement=HOSTILE), "application/json").content)["entitlement"] == HOSTILE


def test_a_page_shows_what_is_needed_and_left():
    numbers = {"requested": Decimal(5), "remaining": Decimal(2)}
    body = ask(of(Reason.INSUFFICIENT_QUANTITY, "seats", **numbers)).content.decode()
    assert "Needed: 5. Left: 2." in body
    assert "You have used up your allowance" in body
    assert "Needed" not in ask().content.decode()


def test_a_page_offers_an_upgrade_but_not_in_an_outage(configure):
    configure(UPGRADE_URL="/plans/?a=1&b=2")
    assert 'href="/plans/?a=1&amp;b=2"' in ask().content.decode()
    assert "href=" not in ask(of(Reason.UNAVAILABLE)).content.decode()


def test_a_project_may_bring_its_own_template(settings, tmp_path):
    folder = tmp_path / "entitlement_gate"
    folder.mkdir()
    (folder / "denied.html").write_text("{{ decision.reason }} {{ title }} {{ upgrade_url }}", encoding="utf-8")
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]
    assert ask().content == b"not_entitled Not part of your plan None"


def test_a_project_may_fill_the_blocks_of_the_template(settings, tmp_path):
    (tmp_path / "own.html").write_text(
        '{% extends "entitlement_gate/denied.html" %}{% block title %}Own{% endblock %}'
        "{% block entitlement %}{% endblock %}",
        encoding="utf-8",
    )
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]
    from django.template.loader import render_to_string

    body = render_to_string("own.html", {"decision": of(), "title": "T"})
    assert "<title>Own</title>" in body
    assert "not_entitled" not in body


@pytest.mark.parametrize(
    "templates", [[], [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]], ids=["none", "not found"]
)
def test_without_templates_the_answer_is_plain_text(settings, templates):
    settings.TEMPLATES = templates
    response = ask(of(entitlement=HOSTILE))
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert response.content == b"Not part of your plan\n\nYour plan does not include this.\n"
    assert (response.status_code, response.headers["Cache-Control"]) == (403, "no-store, private")


# UPGRADE_URL


@pytest.mark.parametrize(
    ("setting", "url"),
    [
        (None, None),
        ("", None),
        ("pricing", "/plans/"),
        (reverse_lazy("pricing"), "/plans/"),
        ("billing:plans", "/billing/plans/"),
        (priced_later, "/billing/plans/"),
        ("/plans/", "/plans/"),
        ("?upgrade=1", "?upgrade=1"),
        ("#plans", "#plans"),
        ("https://shop.example/plans?a=b", "https://shop.example/plans?a=b"),
        ("mailto:sales@example.com", "mailto:sales@example.com"),
        (
            lambda request, decision: f"/plans/{decision.entitlement}/?from={request.path}",
            "/plans/reports/?from=/page/",
        ),
        (lambda request, decision: "pricing", "/plans/"),
        (lambda request, decision: None, None),
    ],
)
def test_an_upgrade_url_is_a_url_a_name_or_a_callable(configure, setting, url):
    configure(UPGRADE_URL=setting)
    assert upgrade_url_of(request_of(), of()) == url


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        " javascript:alert(1)",
        "java\nscript:alert(1)",
        "\x01javascript:alert(1)",
        "javascript://example.com/%0aalert(1)",
        "data:text/html,<script>alert(1)</script>",
        "vbscript:x",
        "https://[broken",
        "no-such-name",
        "billing:no-such-name",
    ],
)
def test_an_upgrade_url_that_is_no_address_to_visit_is_left_out_and_logged(configure, caplog, url):
    configure(UPGRADE_URL=lambda request, decision: url)
    with caplog.at_level(logging.ERROR, logger="entitlement_gate"):
        response = ask()
    assert b"href=" not in response.content
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert caplog.records[0].getMessage().startswith("UPGRADE_URL: ")
    assert "upgrade_url" not in json.loads(ask(accept="application/json").content)


@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_an_upgrade_url_that_raises_is_left_out_and_logged_without_what_it_says(configure, caplog, accept):
    def of_the_organisation(request, decision):
        return {}[decision.customer_id]

    configure(UPGRADE_URL=of_the_organisation)
    response = ask(of(customer_id=FREE), accept=accept)
    assert (response.status_code, b"upgrade_url" in response.content) == (403, False)
    (record,) = caplog.records
    assert record.getMessage().endswith("of_the_organisation raised KeyError")
    assert FREE not in caplog.text


def test_a_hostile_upgrade_url_is_escaped(configure):
    configure(UPGRADE_URL=lambda request, decision: '/plans/"><script>alert(1)</script>')
    body = ask().content.decode()
    assert "<script" not in body
    assert 'href="/plans/&quot;&gt;&lt;script&gt;' in body


# ANONYMOUS


@pytest.mark.parametrize(
    ("accept", "headers", "status"),
    [
        (BROWSER, {}, 302),
        ("application/json", {}, 403),
        ("application/json, text/plain, */*", {}, 403),
        (BROWSER, {"HX-Request": "true"}, 403),
        ("*/*", {"HX-Request": "true"}, 403),
    ],
)
def test_an_anonymous_browser_may_be_sent_to_the_login_page(configure, accept, headers, status):
    configure(ANONYMOUS="login")
    response = ask(of(Reason.NO_CUSTOMER), accept, url="/page/?a=b", **headers)
    assert response.status_code == status
    assert response.headers["Cache-Control"] == "no-store, private"
    if status == 302:
        assert response.headers["Location"] == "/accounts/login/?next=/page/%3Fa%3Db"


@pytest.mark.parametrize("url", ["//evil.example/", "/\\evil.example", "/page/?next=//evil.example"])
def test_the_way_back_from_the_login_page_stays_on_this_site(configure, url):
    configure(ANONYMOUS="login")
    request = RequestFactory().get("/", headers={"Accept": BROWSER})
    request.path, _, request.META["QUERY_STRING"] = url.partition("?")
    location = denied(request, of(Reason.NO_CUSTOMER)).headers["Location"]
    assert location.startswith("/accounts/login/?next=/")
    assert not location.startswith(("/accounts/login/?next=//", "/accounts/login/?next=/\\"))


def test_only_strangers_are_sent_to_the_login_page(configure):
    assert ask(of(Reason.NO_CUSTOMER)).status_code == 403
    configure(ANONYMOUS="login")
    assert ask(of(Reason.NOT_ENTITLED)).status_code == 403
    assert ask(of(Reason.CUSTOMER_NOT_FOUND)).status_code == 403


def test_who_is_logged_in_is_not_sent_to_the_login_page(configure):
    configure(ANONYMOUS="login")
    for user, status in [(AnonymousUser(), 302), (User(), 403)]:
        request = request_of(BROWSER)
        request.user = user
        assert denied(request, of(Reason.NO_CUSTOMER)).status_code == status


# Through the handlers


@pytest.mark.parametrize("handler", ["WSGI", "ASGI"])
@pytest.mark.parametrize("method", ["get", "post"])
def test_a_refusal_reaches_the_client_as_it_was_made(settings, handler, method):
    settings.MIDDLEWARE = []
    response = getattr(Browser(handler), method)("/page/", x_customer=FREE, accept="application/problem+json")
    assert (response.status_code, response.json()["code"]) == (403, "not_entitled")
    assert response.headers["Vary"] == "Accept, Cookie, Authorization"


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("handler", ["WSGI", "ASGI"])
def test_a_project_may_answer_itself(configure, settings, handler, colour):
    def own(request, decision):
        return HttpResponse(f"{decision.entitlement}: {decision.reason}", status=418)

    async def own_async(request, decision):
        return own(request, decision)

    configure(DENIED_HANDLER=own if colour == "sync" else own_async)
    settings.MIDDLEWARE = []
    response = Browser(handler).get("/page/", x_customer=FREE)
    assert (response.status_code, response.content) == (418, b"reports: not_entitled")
