from __future__ import annotations

from types import ModuleType

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.test import Client, RequestFactory, override_settings
from django.urls import path, reverse

from entitlement_gate.admin import EntitlementsAdminSite, EntitlementsAdminView
from entitlement_gate.api import default_gate
from tests.operators.world import EMPTY, ONE, STRANGER, scenario_file

__all__ = ["scenario_file"]

pytestmark = pytest.mark.django_db

site = EntitlementsAdminSite(name="admin")
listed = ModuleType("listed")
derived = ModuleType("derived")
derived.urlpatterns = [path("admin/", site.urls)]
INSTALLED = [
    "django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions",
    "django.contrib.messages", "django.contrib.staticfiles", "entitlement_gate",
]  # fmt: skip
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware", "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware", "django.contrib.messages.middleware.MessageMiddleware",
]  # fmt: skip
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
PAGE = "/admin/entitlements/"


@pytest.fixture(autouse=True)
def _project(scenario_file):
    settings = {"BASE_URL": f"sandbox:{scenario_file()}", "STALE_IF_ERROR": 0}
    with override_settings(
        INSTALLED_APPS=INSTALLED, MIDDLEWARE=MIDDLEWARE, TEMPLATES=TEMPLATES, ROOT_URLCONF=listed,
        STATIC_URL="/static/", ENTITLEMENT_GATE=settings,
    ):  # fmt: skip
        listed.urlpatterns = [
            path("admin/entitlements/", EntitlementsAdminView.as_view(), name="look-up"),
            path("support/", EntitlementsAdminView.as_view(permission_required="auth.view_user")),
            path("admin/", admin.site.urls),
        ]
        yield


def sandbox():
    return default_gate().source._transport.sandbox


def member(*permissions, **fields):
    user = User.objects.create_user("member", is_staff=True, **fields)
    user.user_permissions.set(permissions)
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    return client


@pytest.fixture
def boss():
    return member(is_superuser=True)


def text(response):
    return " ".join(response.content.decode().split())


def test_it_adds_no_model_and_no_migration(capsys):
    assert list(apps.get_app_config("entitlement_gate").get_models()) == []
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)


def test_who_is_no_staff_is_sent_to_the_log_in():
    response = Client().get(PAGE)
    assert (response.status_code, response.url) == (302, f"/admin/login/?next={PAGE}")


def test_the_page_speaks_the_language_of_who_looks(boss):
    with override_settings(LANGUAGE_CODE="de"):
        page = boss.get(PAGE, {"customer": ONE}).content.decode()
    assert "Kunden-ID" in page
    assert "Nachsehen" in page
    assert "Daten: live" in page


def test_staff_need_a_permission_of_its_own():
    client = member()
    assert client.get(PAGE).status_code == 403
    assert client.get("/support/").status_code == 403


def test_the_permission_may_be_a_row_or_one_that_the_project_has():
    kind = ContentType.objects.create(app_label="entitlement_gate", model="entitlements")
    own = Permission.objects.create(codename="view_entitlements", content_type=kind, name="Can view entitlements")
    client = member(own)
    assert (client.get(PAGE).status_code, client.get("/support/").status_code) == (200, 403)
    User.objects.get().user_permissions.set([Permission.objects.get(codename="view_user")])
    assert (client.get(PAGE).status_code, client.get("/support/").status_code) == (403, 200)


def test_it_asks_for_a_customer_first(boss):
    page = boss.get(PAGE)
    assert page.headers["Cache-Control"].startswith("max-age=0, no-cache")
    assert 'name="customer"' in text(page)
    assert 'method="post"' not in page.content.decode().split("content-main")[1]
    assert sandbox().request_count == 0


def test_a_customers_entitlements_are_listed_with_bars_and_rows(boss):
    page = text(boss.get(PAGE, {"customer": f" {ONE.upper()} "}))
    assert '<meter min="0" max="100" value="62" aria-label="750 of 1200 calls"></meter> 750 of 1200 calls' in page
    assert "insufficient_quantity" in page
    assert "<summary>2</summary>" in page
    assert "a0000000-0000-4000-8000-000000000002: active 0" in page
    assert "Data: live, 0 s old." in page
    assert f"?customer={ONE}&amp;name=API+Calls" in page


def test_one_entitlement_is_explained(boss):
    page = text(boss.get(PAGE, {"customer": ONE, "name": "API Calls", "quantity": "800"}))
    assert "Denied: not enough is left." in page
    assert "live, 750 calls left" in page
    assert "Grant at least 50 calls more in billing" in page
    assert "Did you mean &#x27;sso&#x27;?" in text(boss.get(PAGE, {"customer": ONE, "name": "ssso"}))
    assert "Allowed: billing grants it." in text(boss.get(PAGE, {"customer": ONE, "name": "sso"}))


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"customer": "nobody"}, "is no customer id"),
        ({"customer": ""}, "This field is required."),
        ({"customer": STRANGER}, "billing does not know the customer"),
        ({"customer": EMPTY}, "Holds no entitlement."),
        ({"customer": ONE, "name": "sso", "quantity": "lots"}, "a quantity is a positive int"),
        ({"customer": ONE, "name": "<script>"}, "&lt;script&gt;"),
    ],
)
def test_whatever_is_asked_there_is_a_page(boss, asked, says):
    response = boss.get(PAGE, asked)
    assert response.status_code == 200
    assert says in text(response)
    assert "<script>" not in text(response).split("content-main")[1]


def test_an_outage_is_told_as_one(boss):
    sandbox().fail("status", status=503)
    page = text(boss.get(PAGE, {"customer": ONE, "name": "sso"}))
    assert "billing could not be reached" in page
    assert "Fetch anew" in page


def test_shadow_mode_is_told(boss, scenario_file):
    with override_settings(ENTITLEMENT_GATE={"BASE_URL": f"sandbox:{scenario_file()}", "SHADOW": True}):
        assert "Allowed (shadow mode): not enough is left." in text(boss.get(PAGE, {"customer": ONE, "name": "seats"}))


def test_a_denial_is_never_old(boss, scenario_file):
    settings = {"BASE_URL": f"sandbox:{scenario_file()}", "DENIAL_MAX_AGE": 0.001}
    with override_settings(ENTITLEMENT_GATE=settings):
        boss.get(PAGE, {"customer": ONE})
        sandbox().grant(ONE, "brand new")
        assert "Allowed" in text(boss.get(PAGE, {"customer": ONE, "name": "brand new"}))


def post(client, data):
    client.get(PAGE, {"customer": ONE})
    token = client.cookies["csrftoken"].value
    return client.post(PAGE, {**data, "csrfmiddlewaretoken": token})


def test_invalidating_is_a_post_that_lets_the_next_check_fetch(boss):
    assert default_gate().has(ONE, "sso")
    sandbox().revoke(ONE, "sso")
    response = post(boss, {"customer": ONE})
    assert (response.status_code, response.url) == (302, f"{PAGE}?customer={ONE}")
    assert "The next check of this customer fetches anew." in text(boss.get(response.url))
    assert not default_gate().has(ONE, "sso")


def test_a_post_without_a_customer_or_a_token_does_nothing(boss):
    assert boss.post(PAGE, {"customer": ONE}).status_code == 403
    response = post(boss, {"customer": "x"})
    assert (response.status_code, response.url) == (302, PAGE)
    assert "That is no customer id." in text(boss.get(PAGE))


def test_it_works_without_scripts_and_follows_the_theme(boss):
    content = boss.get(PAGE, {"customer": ONE, "name": "sso"}).content.decode().split('id="content-main"')[1]
    content = content.split("</main>")[0]
    assert "<script" not in content
    assert "style=" not in content
    assert "color" not in content


def test_a_site_derived_from_ours_has_the_page_and_lists_it(boss):
    with override_settings(ROOT_URLCONF=derived):
        assert reverse("admin:entitlements") == PAGE
        page = text(boss.get(PAGE, {"customer": ONE}))
        assert "API Calls" in page
        assert '<a href="/admin/entitlements/"' in page
        request = RequestFactory().get("/")
        request.user = User.objects.get()
        names = [app["app_label"] for app in site.get_app_list(request)]
        assert names[-1] == "entitlement_gate"
        assert [app["app_label"] for app in site.get_app_list(request, "entitlement_gate")] == ["entitlement_gate"]
        assert "entitlement_gate" not in [app["app_label"] for app in site.get_app_list(request, "auth")]
        request.user = User(username="other", is_staff=True, is_active=True)
        request.user.save()
        assert site.get_app_list(request) == []
