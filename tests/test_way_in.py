"""The way to signing in stays open where ``ANONYMOUS = "login"`` leads to it: nobody is sent round in a circle."""

from __future__ import annotations

from types import ModuleType

import pytest
from django.conf.urls.i18n import i18n_patterns
from django.contrib.auth import views as auth_views
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.middleware.csrf import get_token
from django.test import AsyncClient, Client, override_settings
from django.urls import path, set_script_prefix
from django.views.generic import RedirectView
from rest_framework.decorators import api_view, permission_classes
from rest_framework.permissions import AllowAny
from rest_framework.response import Response

from tests.browser import follow, serving

BROWSERS = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
OURS = "entitlement_gate.middleware.EntitlementMiddleware"
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    OURS,
]
EVERYTHING = [{"path": "^/", "requires": "reports"}]
PRO = "20000000-0000-4000-8000-000000000002"


def page(request, **kwargs):
    return HttpResponse("<h1>the reports</h1>")


@login_not_required
def sign_up(request):
    return HttpResponse("sign up")


@api_view(["GET"])
@permission_classes([AllowAny])
def api(request):
    return Response({})


class SignIn(auth_views.LoginView):
    """As in a project: a form that needs no template of its own."""

    def render_to_response(self, context, **_):
        token = f'<input type="hidden" name="csrfmiddlewaretoken" value="{get_token(self.request)}">'
        return HttpResponse(f'<form method="post">{context["form"].as_p()}{token}<button>Sign in</button></form>')


class SignOut(auth_views.LogoutView):
    """A project's own kind of it."""


pages = [
    path("accounts/logout/", SignOut.as_view(next_page="/sign-up/"), name="logout"),
    path("reports/", page, name="reports"),
    path("accounts/login/", SignIn.as_view(), name="login"),
    path("accounts/password_reset/", sign_up, name="password_reset"),
    path("sign-up/", sign_up, name="sign-up"),
    path("api/", api),
]
translated = ModuleType("translated")
translated.urlpatterns = i18n_patterns(*pages)
half = ModuleType("half")
half.urlpatterns = i18n_patterns(*pages, prefix_default_language=False)
plain = ModuleType("plain")
plain.urlpatterns = [path("login/", RedirectView.as_view(url="/sign-up/")), *pages]


@pytest.fixture
def gate():
    """Settings of a project whose rule is about everything."""

    def gate(urls=translated, **others):
        rules = others.pop("rules", EVERYTHING)
        given = {
            "BASE_URL": "sandbox:",
            "DEADLINE": 30,
            "CUSTOMER_ATTRIBUTE": "first_name",
            "ANONYMOUS": "login",
            "RULES": rules,
        }
        given |= others.pop("gate", {})
        return override_settings(
            ENTITLEMENT_GATE=given,
            ROOT_URLCONF=urls,
            MIDDLEWARE=MIDDLEWARE,
            USE_I18N=True,
            LANGUAGES=[("en", "English"), ("de", "German")],
            STATIC_URL="/static/",  # asked for by the live server
            **others,
        )

    return gate


def journey(url, client=None, **headers):
    """Return where a browser that follows redirects comes to; as a browser does, it gives up at twenty."""
    answer = (client or Client()).get(url, headers={**BROWSERS, **headers}, follow=True)
    assert len(answer.redirect_chain) < 5
    return answer.request["PATH_INFO"], answer.status_code


@pytest.mark.parametrize(
    ("urls", "login"),
    [
        (translated, "/de/accounts/login/"),
        (translated, "/en/accounts/login/"),
        (half, "/accounts/login/"),
        (plain, "/accounts/login/"),
    ],
)
@pytest.mark.parametrize("named", ["/accounts/login/", "login"])
def test_whoever_is_not_signed_in_comes_to_the_login_page_in_whatever_language(gate, urls, login, named):
    prefix = login.removesuffix("/accounts/login/")
    with gate(urls, LOGIN_URL=named):
        headers = {"Accept-Language": prefix.removeprefix("/") or "en"}
        assert journey(f"{prefix}/reports/", **headers) == (login, 200)
        assert journey(login, **headers) == (login, 200)


async def test_it_is_so_in_the_async_chain_too(gate):
    with gate():
        answer = await AsyncClient().get("/de/accounts/login/", headers=BROWSERS)
    assert answer.status_code == 200


@pytest.mark.parametrize("named", ["http://testserver/accounts/login/", "//testserver/accounts/login/"])
def test_the_login_page_may_be_a_full_address_of_this_host(gate, named):
    with gate(plain, LOGIN_URL=named):
        assert journey("/reports/") == ("/accounts/login/", 200)


def test_a_login_page_on_another_host_is_told_a_way_back_that_it_can_go(gate):
    with gate(plain, LOGIN_URL="https://login.example/accounts/login/"):
        sent = Client().get("/reports/?a=b", headers=BROWSERS)
        assert sent["Location"] == ("https://login.example/accounts/login/?next=http%3A//testserver/reports/%3Fa%3Db")


def test_no_host_that_a_client_makes_up_is_this_one(gate):
    with gate(plain, LOGIN_URL="https://login.example/reports/", ALLOWED_HOSTS=["testserver"]):
        middleware = [OURS]  # which nobody above has asked for the host
        with override_settings(MIDDLEWARE=[*MIDDLEWARE[:1], MIDDLEWARE[3], *middleware]):
            answer = Client().get("/reports/", headers={**BROWSERS, "Host": "login.example"})
    assert answer.status_code == 400


@pytest.fixture
def _script():
    set_script_prefix("/script/")  # as the handlers do, and the test client does not
    yield
    set_script_prefix("/")


@pytest.mark.usefixtures("_script")
@pytest.mark.parametrize("named", ["login", "/script/accounts/login/"])
def test_below_a_script_name_the_login_page_is_found_by_its_whole_path(gate, named):
    with gate(plain, LOGIN_URL=named):
        client = Client(SCRIPT_NAME="/script")
        sent = client.get("/reports/", headers=BROWSERS)
        assert sent["Location"] == "/script/accounts/login/?next=/script/reports/"
        assert client.get("/accounts/login/", headers=BROWSERS).status_code == 200


@pytest.mark.usefixtures("_script")
def test_below_a_script_name_the_language_is_told_from_the_path_within_it(gate):
    with gate(translated, LOGIN_URL="/script/accounts/login/"):
        client = Client(SCRIPT_NAME="/script")
        assert client.get("/de/accounts/login/", headers=BROWSERS).status_code == 200
        assert client.get("/de/reports/", headers=BROWSERS).status_code == 302


def test_a_path_that_only_looks_like_one_in_a_language_is_no_way_in(gate):
    looks = ModuleType("looks")
    looks.urlpatterns = [path("en/accounts/login/", page)]
    with gate(looks):
        assert Client().get("/en/accounts/login/", headers=BROWSERS).status_code == 302


def test_nobody_comes_through_a_rule_about_everything_to_pages_that_are_open_to_all(gate):
    with gate(plain, LOGIN_URL="/login/"):
        assert journey("/reports/") == ("/sign-up/", 200)
    with gate(plain):
        assert journey("/accounts/password_reset/") == ("/accounts/password_reset/", 200)


@pytest.mark.django_db
def test_who_is_known_is_held_to_the_rule_on_pages_that_are_open_to_all(gate):
    client = Client()
    client.force_login(User.objects.create_user("free", first_name="10000000-0000-4000-8000-000000000001"))
    with gate(plain):
        assert journey("/sign-up/", client) == ("/sign-up/", 403)
        assert journey("/accounts/login/", client) == ("/accounts/login/", 200)


@pytest.mark.django_db
@pytest.mark.parametrize("anonymous", ["login", "deny"])
def test_whoever_is_signed_in_comes_out_whatever_they_have(gate, anonymous):
    client = Client()
    client.force_login(User.objects.create_user("free", first_name="10000000-0000-4000-8000-000000000001"))
    with gate(plain, gate={"ANONYMOUS": anonymous}):
        assert client.post("/accounts/logout/").headers["Location"] == "/sign-up/"
    assert "_auth_user_id" not in client.session


@pytest.mark.django_db
@pytest.mark.parametrize("rule", [{"path": "^/accounts/"}, {"path": "^/(?!sign-up/)"}, {"view": "logout"}])
def test_a_way_out_that_a_rule_singles_out_is_gated(gate, rule):
    client = Client()
    client.force_login(User.objects.create_user("free", first_name="10000000-0000-4000-8000-000000000001"))
    with gate(plain, rules=[{**rule, "requires": "reports"}]):
        assert client.post("/accounts/logout/").status_code == 403


@pytest.mark.parametrize("rule", [{"path": "^/sign-up/"}, {"view": "sign-up"}])
def test_an_open_page_that_a_rule_singles_out_is_gated_and_sends_nobody_to_log_in(gate, rule):
    with gate(plain, rules=[{**rule, "requires": "reports"}]):
        assert journey("/sign-up/") == ("/sign-up/", 403)


def test_views_that_a_framework_calls_open_are_gated_as_any(gate):
    with gate(plain):
        assert Client().get("/api/", headers=BROWSERS).status_code == 302
        assert Client().get("/api/", headers={"Accept": "application/json"}).status_code == 403


def test_without_a_way_to_log_in_open_pages_are_gated_as_any(gate):
    with gate(plain, gate={"ANONYMOUS": "deny"}):
        for url in ("/sign-up/", "/accounts/login/"):
            assert Client().get(url, headers=BROWSERS).status_code == 403


@pytest.mark.parametrize("named", ["no-such-name", "", None])
def test_a_login_page_that_nobody_has_is_a_plain_refusal_and_no_error(gate, named, caplog):
    with gate(plain, LOGIN_URL=named):
        assert Client().get("/reports/", headers=BROWSERS).status_code == 403
    assert any("LOGIN_URL" in line for line in caplog.messages) is bool(named)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("urls", [translated, plain], ids=["in a language", "plain"])
def test_a_person_signs_in_and_arrives(gate, urls, browser):
    User.objects.create_user("pro", password="secret", first_name=PRO)
    prefix = "/de" if urls is translated else ""

    async def go(page):
        answer = await page.goto(f"{prefix}/reports/")
        assert answer.status == 200
        assert page.url.startswith(f"{address}{prefix}/accounts/login/")
        await page.locator("[name=username]").fill("pro")
        await page.locator("[name=password]").fill("secret")
        await follow(page, page.get_by_role("button"))
        assert page.url == f"{address}{prefix}/reports/"
        assert await page.inner_text("h1") == "the reports"

    with gate(urls), serving() as address:
        browser.visit(go, base_url=address, locale="de")
