"""What needs a package says which extra brings it, and nothing else needs one."""

import json
import subprocess
import sys
import tomllib

import pytest

from tests.docs.pages import ROOT

CONTRIB = ROOT / "entitlement_gate" / "contrib"
PACKAGES = {  # of the integrations: the package, and the extra that brings it
    "celery": ("celery", "celery"),
    "debug_toolbar": ("debug_toolbar", "debug-toolbar"),
    "jinja2": ("jinja2", "jinja2"),
    "ninja": ("ninja", "ninja"),
    "openfeature": ("openfeature", "openfeature"),
    "opentelemetry": ("opentelemetry", "opentelemetry"),
    "rest_framework": ("rest_framework", "rest-framework"),
    "starlette": ("starlette", "starlette"),
}
OTHERS = ["adrf", "channels", "drf_spectacular", "fastapi", "psycopg", "redis", "yaml"]
OPTIONAL = [*(package for package, _ in PACKAGES.values()), *OTHERS]

WITHOUT = f"""
import json, sys
from importlib import import_module
sys.modules.update(dict.fromkeys({OPTIONAL}))  # each import of one fails
said = {{}}
for name in {list(PACKAGES)}:
    try:
        import_module("entitlement_gate.contrib." + name)
    except ImportError as error:
        said[name] = str(error)
"""
A_GATED_VIEW = """
import django, sys
from django.conf import settings
from django.core.management import call_command
from django.http import HttpResponse
from django.test import Client
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["*"],
    ENTITLEMENT_GATE={"BASE_URL": "sandbox:", "CUSTOMER_RESOLVER": lambda _: "20000000-0000-4000-8000-000000000002"},
    INSTALLED_APPS=["entitlement_gate"],
    MIDDLEWARE=["entitlement_gate.middleware.EntitlementMiddleware"],
    ROOT_URLCONF=__name__,
)
django.setup()
from entitlement_gate import requires_entitlement
gate = requires_entitlement("reports")
urlpatterns = [path("", gate(lambda request: HttpResponse("let in")))]
call_command("check")
call_command("entitlements", "gates", stdout=sys.stderr)
text = Client().get("/").content.decode()
"""


def run(code):
    """Run code in a new interpreter and return what it printed, as JSON has it."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_integration_is_listed_with_an_extra_that_exists():
    modules = {path.stem for path in CONTRIB.glob("[!_]*.py")}
    assert set(PACKAGES) == modules - {"static_source"}  # which needs one for YAML alone, and says so when it meets it
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {extra for _, extra in PACKAGES.values()} <= set(extras)


@pytest.fixture(scope="module")
def without():
    return run(WITHOUT + A_GATED_VIEW + "print(json.dumps([said, text]))")


def test_without_its_package_each_integration_names_its_extra(without):
    said, _ = without
    assert list(said) == list(PACKAGES)
    for name, (_, extra) in PACKAGES.items():
        assert f"install entitlement_gate[{extra}]: " in said[name]


def test_without_any_of_them_a_view_is_gated(without):
    assert without[1] == "let in"


def test_where_all_of_them_are_there_none_is_loaded():
    others = [name for name in OPTIONAL if name != "jinja2"]  # which the forms of Django load
    loaded = f"[name for name in {others} if name in sys.modules]"
    assert run(A_GATED_VIEW + f"import json; print(json.dumps([text, {loaded}]))") == ["let in", []]
