"""The wheel as a user gets it, built by the build backend itself: no network, no isolation."""

import re
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import entitlement_gate

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    code = f"from hatchling.build import build_wheel; build_wheel({str(folder)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as opened:
        yield opened


@pytest.fixture(scope="module")
def names(wheel):
    return set(wheel.namelist())


def test_it_holds_one_top_level_name(wheel, names):
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"entitlement_gate", f"entitlement_gate-{entitlement_gate.__version__}.dist-info"}
    assert f"entitlement_gate-{entitlement_gate.__version__}-py3-none-any.whl" in wheel.filename


def test_it_holds_the_package_whole_and_nothing_else_of_the_repository(names):
    held = {name for name in names if name.startswith("entitlement_gate/")}
    package = ROOT / "entitlement_gate"
    kept = {path.relative_to(ROOT) for path in package.rglob("*") if path.is_file()}
    assert held == {path.as_posix() for path in kept if not any(part.startswith((".", "__py")) for part in path.parts)}
    assert not any("test_" in name or "conftest" in name or "/tests/" in name for name in names)


@pytest.mark.parametrize(
    "name",
    [
        "py.typed",
        "templates/entitlement_gate/denied.html",
        "sandbox/default_scenario.json",
        "sandbox/facts.json",
        "locale/de/LC_MESSAGES/django.mo",
        "templatetags/entitlements.py",
        "static/entitlement_gate/debug_toolbar.css",
        "static/entitlement_gate/entitlements.js",
        "static/entitlement_gate/entitlements.d.ts",
    ],
)
def test_what_is_no_module_is_in_it_too(names, name):
    assert f"entitlement_gate/{name}" in names


def test_its_metadata_names_what_it_needs(wheel, names):
    path = next(name for name in names if name.endswith(".dist-info/METADATA"))
    metadata = Parser().parsestr(wheel.read(path).decode())
    core = {line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line}
    assert {re.match("[a-z]+", line).group() for line in core} == {"cachetools", "django", "httpx", "pydantic"}
    assert metadata["Requires-Python"] == ">=3.11"
    assert "Typing :: Typed" in metadata.get_all("Classifier")


def test_it_carries_the_licence(names):
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
