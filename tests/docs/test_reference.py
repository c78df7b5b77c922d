"""The reference names all there is, and nothing else."""

import ast
import inspect
import re
import tomllib
from dataclasses import fields

import pytest

import entitlement_gate
from docs.site.reference import renew
from entitlement_gate import Reason
from entitlement_gate.check_messages import Check
from entitlement_gate.conf import known_keys
from entitlement_gate.domain import errors
from entitlement_gate.domain.decisions import RequestFault
from entitlement_gate.sandbox.scenario import KINDS
from tests.docs.pages import DOCS, PAGES, ROOT, in_code, name_of, rows_of

REFERENCE = DOCS / "reference"
TELEMETRY = (ROOT / "entitlement_gate" / "contrib" / "opentelemetry.py").read_text()


@pytest.mark.parametrize("page", [page for page in PAGES if "<!-- of the code: " in page.read_text()], ids=name_of)
def test_what_a_page_says_of_the_code_is_what_the_code_says_now(page):
    assert page.read_text() == renew(page.read_text()), "make docs renews it"


def test_what_a_page_says_of_the_code_follows_the_code():
    """A block that is emptied, or says something else, is written anew; what stands around it is left."""
    text = (REFERENCE / "reasons.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| `expired` |"))
    assert row == "| `expired` | denied | 403 | The grant has ended |"
    assert renew(text.replace(row, row.replace("403", "500"))) == text
    assert renew(text.replace("# Outcomes and reasons", "# Others")).startswith("# Others\n")


def test_every_settings_key_is_documented_once_and_no_other():
    keys = [in_code(row[0])[0] for row in rows_of(REFERENCE / "settings.md") if in_code(row[0])]
    assert sorted(keys) == sorted(known_keys())


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


def test_denials_are_documented_in_the_order_of_closeness():
    reasons = [in_code(row[0])[0] for row in rows_of(REFERENCE / "reasons.md") if in_code(row[0])]
    assert reasons == [*Reason, *RequestFault]


def test_every_check_is_reported_and_every_one_that_a_page_names_is_there():
    reported = set(re.findall(r"\bCheck\.([EW]\d{3})\b", (ROOT / "entitlement_gate" / "checks.py").read_text()))
    assert reported == {check.name for check in Check}
    for page in PAGES:
        assert set(re.findall(r"entitlement_gate\.[EW]\d{3}\b", page.read_text())) <= {check.id for check in Check}


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


def test_the_documented_signature_of_the_decorator_is_its_signature():
    (shown,) = re.findall(r"`requires_entitlement\(([^`]*)\)`", (REFERENCE / "api.md").read_text())
    parameters = inspect.signature(entitlement_gate.requires_entitlement).parameters
    assert re.findall(r"(?:^|, )(\w+)", shown) == list(parameters)


def test_every_field_of_a_decision_and_of_a_grant_is_documented():
    """The blocks of fields are made of docstrings, which may miss one."""
    said = {in_code(row[0])[0] for row in rows_of(REFERENCE / "api.md") if in_code(row[0])}
    named = (entitlement_gate.Decision, entitlement_gate.Grant, entitlement_gate.Snapshot)
    assert {f.name for cls in named for f in fields(cls)} - said == set()


def test_every_error_stands_in_the_tree():
    tree = (REFERENCE / "errors.md").read_text().split("```")[1]
    named = {name for name in errors.__all__ if inspect.isclass(getattr(errors, name))}
    assert set(re.findall(r"[A-Z]\w+", tree)) & named == named


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
