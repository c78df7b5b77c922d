"""Whose a view is: an audit tells of the project's own, and of others' only where it is asked to."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from django.contrib import admin
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import LoginView
from django.http import HttpResponse
from django.test import modify_settings, override_settings
from django.urls import include, path
from django.views.generic import TemplateView
from django.views.i18n import JavaScriptCatalog
from django.views.static import serve
from rest_framework.generics import ListAPIView
from rest_framework.routers import DefaultRouter
from rest_framework.viewsets import ViewSet

from entitlement_gate import requires_entitlement
from entitlement_gate.operators.gates import find_views
from tests.operators.world import run


def own(request):
    return HttpResponse()


@functools.wraps(serve)
def paid(request, path):
    return serve(request, path, document_root="/nowhere")


class Things(ViewSet):
    def list(self, request):
        return HttpResponse()


class SignIn(LoginView):
    """The project's own."""


class Called:
    def __call__(self, request):
        return HttpResponse()


router = DefaultRouter()
router.register("things", Things, basename="thing")
urlconf = ModuleType("urlconf")
urlconf.urlpatterns = [
    path("own/", own, name="own"),
    path("signed-in/", login_required(own)),
    path("partial/", functools.partial(own)),
    path("called/", Called()),
    path("wrapped/<path:path>", paid),
    path("files/<path:path>", serve, {"document_root": "/nowhere"}),
    path("static/<path:path>", serve, {"document_root": "/nowhere"}),
    path("page/", TemplateView.as_view(template_name="page.html")),
    path("list/", ListAPIView.as_view(queryset=())),
    path("sign-in/", SignIn.as_view()),
    path("api/", include(router.urls)),
    path("gated-jsi18n/", requires_entitlement("sso")(JavaScriptCatalog.as_view())),
    path("login/", LoginView.as_view()),
    path("designed-login/", LoginView.as_view(template_name="login.html")),
    path("jsi18n/", JavaScriptCatalog.as_view()),
    path("accounts/", include("django.contrib.auth.urls")),
]
OWN = [
    "/own/", "/signed-in/", "/partial/", "/called/", "/wrapped/<path:path>", "/files/<path:path>", "/page/", "/list/",
    "/sign-in/", "/api/things/$",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _project():
    gate = {"BASE_URL": "sandbox:", "DEADLINE": 30, "CUSTOMER_ATTRIBUTE": "username"}
    with override_settings(ROOT_URLCONF=urlconf, ENTITLEMENT_GATE=gate, STATIC_URL="/static/"):
        yield


def ungated(*arguments):
    told = json.loads(run("gates", "--ungated", "--format", "json", *arguments)[1])
    return [gate["what"] for gate in told["gates"]], told


def test_views_of_other_packages_are_left_out_unless_asked_for():
    listed, told = ungated()
    assert [what for what in listed if "format" not in what] == OWN
    assert not any(what.startswith(("/accounts/", "/login/", "/designed", "/jsi18n")) for what in listed)
    everything, told_of_all = ungated("--all")
    assert {"/accounts/login/", "/accounts/reset/<uidb64>/<token>/", "/login/", "/designed-login/", "/jsi18n/"} <= set(
        everything
    )
    logout = 1  # exempt, and so listed as ungated by neither
    assert told["left_out"] == len(everything) - len(listed) + logout
    assert told_of_all["left_out"] == 0


def test_a_gate_in_force_is_listed_whosever_view_it_stands_before():
    told = json.loads(run("gates", "--format", "json")[1])["gates"]
    assert "/gated-jsi18n/" in {gate["what"] for gate in told}
    assert "/jsi18n/" not in {gate["what"] for gate in told}


def test_the_total_counts_every_view_and_not_what_is_listed_alone():
    listed, told = ungated()
    assert told["views"] == len(listed) + 2  # the gated one, and that of static files
    assert told["ungated"] == len(listed)
    code, out, _ = run("gates", "--ungated")
    assert code == 1
    assert f"{len(listed)} of {len(listed) + 2} views ungated\n" in out
    assert f"{told['left_out']} views of the admin and of other packages left out: --all lists them\n" in out


def test_a_project_names_what_else_to_leave_out():
    listed, _ = ungated("--exclude", "/*/<path:path>", "--exclude", "own", "--exclude", "/api/*")
    assert listed == ["/signed-in/", "/partial/", "/called/", "/page/", "/list/", "/sign-in/"]
    patterns = [argument for what in (*OWN, "/api/*") for argument in ("--exclude", what)]
    code, out, _ = run("gates", "--ungated", *patterns)
    assert (code, out.splitlines()[0]) == (0, "every view is gated or exempt")


def test_static_files_are_exempt_and_files_elsewhere_are_not():
    by = {gate.what: gate.by for gate in find_views()}
    assert by["/static/<path:path>"] == ("exempt",)
    assert by["/files/<path:path>"] == ()


def test_the_admin_is_left_out_with_what_a_project_registers_there():
    with modify_settings(
        INSTALLED_APPS={"append": ["django.contrib.admin", "django.contrib.messages", "entitlement_gate.usage"]}
    ):
        site = admin.AdminSite(name="back-office")
        urls = ModuleType("urls")
        urls.urlpatterns = [path("own/", own), path("back-office/", site.urls)]
        with override_settings(ROOT_URLCONF=urls):
            assert ungated()[0] == ["/own/"]
            assert "/back-office/" in ungated("--all")[0]


def test_urls_that_only_some_requests_have_are_looked_at(monkeypatch):
    other = ModuleType("urls_of_the_shop")
    other.urlpatterns = [path("shop/", own)]
    monkeypatch.setitem(sys.modules, "urls_of_the_shop", other)
    with override_settings(ENTITLEMENT_GATE={"BASE_URL": "sandbox:", "DEADLINE": 30, "URLCONFS": ["urls_of_the_shop"]}):
        assert ungated()[0][-1] == "/shop/"


PROJECT = {
    "acme_site/__init__.py": "",
    "acme_site/settings.py": (
        "SECRET_KEY = 'x'\nROOT_URLCONF = 'acme_site.urls'\nINSTALLED_APPS = ['entitlement_gate']\nDEBUG = True\n"
        "ENTITLEMENT_GATE = {'BASE_URL': 'sandbox:'}\n"
    ),
    "acme_site/urls.py": (
        "from django.urls import path\nimport acme_shop, other\n"
        "urlpatterns = [path('shop/', acme_shop.view), path('other/', other.view), path('here/', lambda _: None)]\n"
    ),
    "acme_shop/__init__.py": "def view(request): ...\n",
    "other/__init__.py": "def view(request): ...\n",
    "acme-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n",
    "acme-1.0.dist-info/RECORD": "acme_site/__init__.py,,\nacme_shop/__init__.py,,\n",
    "other-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: other\nVersion: 1.0\n",
    "other-1.0.dist-info/RECORD": "other/__init__.py,,\n",
}


def test_a_project_that_is_installed_itself_is_still_the_project(tmp_path):
    folder = tmp_path / "site-packages"
    for name, text in PROJECT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    path_ = os.pathsep.join([str(folder), str(Path.cwd())])
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "acme_site.settings", "PYTHONPATH": path_}
    command = [sys.executable, "-m", "django", "entitlements", "gates", "--ungated", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.stderr == ""
    assert [gate["what"] for gate in json.loads(done.stdout)["gates"]] == ["/shop/", "/here/"]
