"""The reference names all there is, and nothing else."""

import ast
import inspect
import re
import tomllib
from dataclasses import fields

import pytest
from django.core.management import load_command_class
from django.test import RequestFactory

import entitlement_gate
from entitlement_gate import Decision, Outcome, Reason
from entitlement_gate.conf import Settings, known_keys
from entitlement_gate.domain import errors
from entitlement_gate.engine.options import GateOptions
from entitlement_gate.responses import denied
from entitlement_gate.sandbox.scenario import KINDS
from entitlement_gate.zenskar.client_options import ClientOptions
from tests.docs.pages import DOCS, PAGES, ROOT, in_code, name_of, rows_of

REFERENCE = DOCS / "reference"
TELEMETRY = (ROOT / "entitlement_gate" / "contrib" / "opentelemetry.py").read_text()
SETTINGS = {in_code(row[0])[0]: row for row in rows_of(REFERENCE / "settings.md") if in_code(row[0])}
REASONS = {in_code(row[0])[0]: row for row in rows_of(REFERENCE / "reasons.md") if in_code(row[0])}
DEFAULTS = {f.name.upper(): f for cls in (Settings, ClientOptions, GateOptions) for f in fields(cls)}


def test_every_settings_key_is_documented_and_no_other():
    assert set(SETTINGS) == known_keys()


@pytest.mark.parametrize("key", sorted(SETTINGS))
def test_the_documented_default_is_the_default(key):
    field = DEFAULTS[key]
    default = field.default_factory() if callable(field.default_factory) else field.default
    documented = ast.literal_eval(in_code(SETTINGS[key][1])[0])
    assert documented == (list(default) if isinstance(documented, list) else default)


def test_no_page_names_a_settings_key_that_does_not_exist():
    own = known_keys() | {"ENTITLEMENT_GATE"}
    others = {"INSTALLED_APPS", "MIDDLEWARE", "DEBUG", "DIRS", "DEMO", "MATRIX", "BENCH", "TEMPLATES", "CUSTOMER_ID"}
    others |= {"PATH_TO_THE_CHECKOUT", "PRICES", "CUSTOMERS", "FIELDNOTES_CUSTOMERS", "WEBHOOK_SECRET", "SECRET_KEY"}
    others |= {"DEBUG_TOOLBAR_PANELS", "PANELS_DEFAULTS"}
    others |= {"ATOMIC_REQUESTS", "LOGIN_URL", "ROOT_URLCONF", "STATIC_URL"}
    others |= {"REST_FRAMEWORK", "EXCEPTION_HANDLER", "DEFAULT_SCHEMA_CLASS", "DEFAULT_PERMISSION_CLASSES"}
    others |= {"WAFFLE_FLAG_DEFAULT", "GATES_IN_SHADOW", "SHARED_APPS"}
    others |= {"STRIPE_API_KEY", "STRIPE_WEBHOOK_SECRET"}
    for page in PAGES:
        its_own = set(re.findall(r"^([A-Z_]+) = ", page.read_text(), re.MULTILINE))
        said = {word for code in in_code(page.read_text()) for word in re.findall(r"\b[A-Z][A-Z_]{2,}\b", code)}
        said = {word for word in said if "_" in word and not word.startswith("ZENSKAR_")}
        assert said <= own | others | its_own, name_of(page)


def test_every_reason_is_documented_and_no_other():
    assert list(REASONS)[:3] == ["allowed", "overage", "override"]
    assert set(REASONS) == {str(reason) for reason in Reason}


def test_denials_are_documented_in_the_order_of_closeness():
    denials = [str(reason) for reason in Reason if reason.outcome is Outcome.DENIED]
    assert [reason for reason in REASONS if reason in denials] == denials


@pytest.mark.parametrize("reason", sorted(Reason))
def test_the_documented_outcome_and_status_are_those_of_the_reason(reason):
    _, outcome, status, _ = REASONS[reason]
    assert outcome == reason.outcome
    if reason.outcome is not Outcome.ALLOWED:
        answer = denied(RequestFactory().get("/"), Decision.of(reason, "reports"))
        assert int(status) == answer.status_code


def test_every_check_is_documented_and_no_other():
    source = "".join(path.read_text() for path in (ROOT / "entitlement_gate").rglob("*.py"))
    defined = set(re.findall(r"entitlement_gate\.[EW]\d{3}\b", source))
    assert {in_code(row[0])[0] for row in rows_of(REFERENCE / "checks.md") if in_code(row[0])} == defined
    for page in PAGES:
        assert set(re.findall(r"entitlement_gate\.[EW]\d{3}\b", page.read_text())) <= defined, name_of(page)


def test_every_public_name_is_documented():
    said = {word for code in in_code((REFERENCE / "api.md").read_text()) for word in re.findall(r"\w+", code)}
    assert set(entitlement_gate.__all__) - said == set()


@pytest.mark.parametrize("path", sorted((ROOT / "entitlement_gate" / "contrib").glob("[!_]*.py")), ids=lambda p: p.stem)
def test_every_name_of_an_integration_is_documented_and_no_other(path):
    row = next(row for row in rows_of(REFERENCE / "api.md") if row[0] == f"`entitlement_gate.contrib.{path.stem}`")
    found = re.search(r"^__all__ = (\[.*?\])", path.read_text(), re.DOTALL | re.MULTILINE)
    assert sorted(in_code(row[1])) == sorted(ast.literal_eval(found.group(1)))


def test_the_readme_names_every_extra():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {extra for row in rows_of(ROOT / "README.md") for extra in in_code(row[1])} == set(extras)
    for page in PAGES:
        assert set(re.findall(r"entitlement_gate\[([\w-]+)\]", page.read_text())) <= set(extras), name_of(page)


def test_the_documented_signatures_are_the_signatures():
    text = (REFERENCE / "api.md").read_text()
    shown = dict(re.findall(r"`([a-z_]+)\(((?:customer|entitlement)[^`]*)\)`", text))
    assert {name for name in shown if name.endswith("entitlement")} >= {"check_entitlement", "requires_entitlement"}
    for name, arguments in shown.items():
        parameters = inspect.signature(getattr(entitlement_gate, name)).parameters
        assert re.findall(r"(?:^|, )(\w+)", arguments) == list(parameters), name


def test_every_field_of_a_decision_and_a_grant_is_documented():
    said = set(in_code((REFERENCE / "api.md").read_text()))
    named = (entitlement_gate.Decision, entitlement_gate.Grant, entitlement_gate.Snapshot)
    assert {f.name for cls in named for f in fields(cls)} - said == set()


def test_every_error_is_documented_as_the_tree_and_in_the_table():
    text = (REFERENCE / "errors.md").read_text()
    rows = rows_of(REFERENCE / "errors.md")
    in_table = {name for row in rows for name in in_code(row[0])}
    named = {name for name in errors.__all__ if inspect.isclass(getattr(errors, name))}
    in_tree = set(re.findall(r"[A-Z]\w+", text.split("```")[1])) & named
    assert in_table == named
    assert in_tree == named


def test_every_command_is_documented_and_no_other():
    parser = load_command_class("entitlement_gate", "entitlements").create_parser("manage.py", "entitlements")
    actions = next(action.choices for action in parser._actions if action.dest == "action")
    rows = rows_of(REFERENCE / "commands.md")
    documented = {in_code(row[0])[0]: row[1] for row in rows if in_code(row[0])}
    assert set(documented) == set(actions)
    for name, arguments in documented.items():
        options = {option for known in actions[name]._actions for option in known.option_strings}
        common = {"--no-color", "--force-color", "--format", "--help", "-h"}
        assert set(re.findall(r"--[a-z-]+", arguments)) == options - common, name


def test_every_fault_of_the_sandbox_is_documented_and_no_other():
    rows = rows_of(DOCS / "how-to" / "use-the-sandbox.md")
    start = next(at for at, row in enumerate(rows) if row[0] == "kind")
    assert {kind for row in rows[start + 1 :] for kind in in_code(row[0])} == set(KINDS)


def test_every_dotted_path_in_the_pages_leads_somewhere():
    for page in PAGES:
        for path in sorted(set(re.findall(r"\bentitlement_gate(?:\.\w+)+", page.read_text()))):
            is_recorded = f'"{path}"' in TELEMETRY  # a metric, or an attribute
            if not (is_recorded or re.search(r"\.[EW]\d{3}$", path)):
                assert _exists(path), f"{name_of(page)}: {path}"


def _exists(path):
    from pkgutil import resolve_name

    if path == "entitlement_gate.contrib.jinja2.EntitlementsExtension":
        pytest.importorskip("jinja2")
    try:
        resolve_name(path)
    except (ImportError, AttributeError):
        return False
    return True
