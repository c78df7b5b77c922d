"""A user's project: its own settings, pytest.ini and tests, run by a pytest of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from textwrap import dedent
from typing import NamedTuple

CUSTOMER = "10000000-0000-4000-8000-000000000001"

FILES = {
    "pytest.ini": """
        [pytest]
        DJANGO_SETTINGS_MODULE = settings
        pythonpath = .
        asyncio_mode = auto
        asyncio_default_fixture_loop_scope = function
        addopts = --strict-markers
        filterwarnings = error
        """,
    "settings.py": """
        SECRET_KEY = "test"
        USE_TZ = True
        STATIC_URL, MEDIA_URL = "/static/", "/media/"
        ALLOWED_HOSTS = ["*"]
        ROOT_URLCONF = "urls"
        INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "entitlement_gate"]
        MIDDLEWARE = ["entitlement_gate.middleware.EntitlementMiddleware"]
        DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
        TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
        ENTITLEMENT_GATE = {
            "API_KEY": "test", "ORGANISATION": "test", "CUSTOMER_RESOLVER": "urls.customer",
            "RULES": [{"path": "^/ruled/", "requires": "ruled"}],
        }
        """,
    "urls.py": """
        from django.http import HttpResponse
        from django.urls import path
        from entitlement_gate import requires_entitlement

        def customer(request):
            return request.headers.get("X-Customer")

        @requires_entitlement("sso")
        def reports(request):
            return HttpResponse("reports")

        urlpatterns = [path("reports/", reports), path("ruled/", lambda request: HttpResponse("ruled"))]
        """,
    "customers.py": f"""
        ANNA = "{CUSTOMER}"
        BERT = "20000000-0000-4000-8000-000000000002"
        """,
}
# The plugins of this suite that a user's project need not have, and that take seconds to import.
_QUIET = ("-p", "no:cacheprovider", "-p", "no:schemathesis", "-p", "no:hypothesispytest")
_NOT_INHERITED = re.compile(r"PYTEST|DJANGO_SETTINGS_MODULE")


class Outcome(NamedTuple):
    """What a run said, and how many tests ended how."""

    said: str
    summary: str
    code: int

    def __getitem__(self, how):
        """Give the number of tests that ended so: ``passed``, ``failed``, ``error``."""
        found = re.findall(rf"(\d+) {how}s?\b", self.summary)
        return int(found[0]) if found else 0


class Project:
    """A project in a directory of its own."""

    def __init__(self, path):
        self.path = path
        for name, text in FILES.items():
            self.write(name, text)

    def write(self, name, text):
        (self.path / name).write_text(dedent(text).lstrip(), encoding="utf-8")

    def python(self, *arguments):
        env = {name: value for name, value in os.environ.items() if not _NOT_INHERITED.match(name)}
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.path,
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        summary = (done.stdout.splitlines() or [""])[-1]
        return Outcome(done.stdout + done.stderr, summary, done.returncode)

    def pytest(self, *arguments):
        return self.python("-m", "pytest", *_QUIET, *arguments)
