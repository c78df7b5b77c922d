"""The versions matrix: every Python and Django that is supported, where the interpreter exists.

``make test-matrix`` runs all tests on each; CI runs the tests of the Django surface on each (``make test-surface``),
after ``make test`` has run all of them on the first.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["tests"]

# Interpreters that a version manager keeps beside the path; its shims answer for versions that are not active.
_KEPT = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser().glob("versions/3.1[1-9]*/bin")
os.environ["PATH"] = os.pathsep.join([*map(str, sorted(_KEPT)), os.environ["PATH"]])

# Django 6 needs Python 3.12.
DJANGOS = {"3.11": ("5.2",), "3.12": ("5.2", "6.0", "6.1"), "3.13": ("5.2", "6.0", "6.1")}
# Each Python and each Django at least once; all pairs take half an hour (`make test-matrix`).
SURFACE_DJANGOS = {"3.11": ("5.2",), "3.12": ("6.0",), "3.13": ("6.1",)}
MATRIX = [(python, django) for python, djangos in DJANGOS.items() for django in djangos]
# What meets Django: its views, requests, templates, settings, signals. Browsers, servers and commands take longer, and
# so does what strikes at every await; texts are the same everywhere.
_SLOW = (
    "admin_browser",
    "browser",
    "canary",
    "cli",
    "commands",
    "exports",
    "front_end",
    "refused_page_browser",
    "shown",
    "using_up_cancelled",
    "wheel",
)
SURFACE = ("tests/views", *sorted(str(path) for path in Path("tests").glob("test_*.py") if path.stem[5:] not in _SLOW))
_PYTEST = ("python", "-m", "pytest", "--quiet", "--numprocesses=2")


@nox.session
@nox.parametrize(("python", "django"), MATRIX)
def tests(session: nox.Session, django: str) -> None:
    """Run the tests that a Python or a Django could break; load and faults are the same everywhere."""
    _install(session, "--editable", ".", "--group", "test", "--group", "demo", f"django~={django}.0")
    ignored = (
        "--ignore=tests/lab",
        "--ignore=tests/benchmarks",
        "--ignore=tests/docs/test_site.py",
        "--ignore=tests/docs/test_snippet_types.py",
    )
    session.run(*_PYTEST, *ignored, *session.posargs)


@nox.session(python=list(DJANGOS))
def surface(session: nox.Session) -> None:
    """Run the tests of the Django surface on the Djangos chosen for this Python, one after the other in one place."""
    _install(session, "--editable", ".", "--group", "test")
    for django in SURFACE_DJANGOS[str(session.python)]:
        _install(session, f"django~={django}.0")
        session.log(f"Python {session.python}, Django {django}")
        session.run(*_PYTEST, *SURFACE, *session.posargs)


@nox.session
def oldest(session: nox.Session) -> None:
    """Run the tests of the integrations and of the network on the oldest release that each of their packages may be."""
    extras = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    oldest = [requirement.replace(">=", "~=") + ".0" for extra in extras.values() for requirement in extra]
    oldest += ["httpx==0.27.0", "httpcore==1.0.0"]
    session.install("--quiet", "--upgrade", "pip", silent=True)  # one that knows dependency groups
    session.install("--quiet", "--editable", ".", "--group", "test", "django~=5.2.0", *oldest, silent=True)
    # Django Ninja 1.4 is written for an older pydantic.
    ignored = ("-W", "ignore:Support for class-based:DeprecationWarning")
    network = (f"tests/zenskar/test_{name}.py" for name in ("client", "connections", "network"))
    session.run(*_PYTEST, *ignored, "tests/contrib", *network, *session.posargs)


def _install(session: nox.Session, *what: str) -> None:
    """Install with the pinned versions of everything but Django; with a pip that knows dependency groups."""
    pinned = Path("constraints.txt").read_text(encoding="utf-8").splitlines()
    constraints = Path(session.create_tmp()) / "constraints.txt"
    others = (line for line in pinned if not line.lower().startswith("django=="))
    constraints.write_text("\n".join(others), encoding="utf-8")
    for each in (("--upgrade", "pip"), what):
        session.install("--quiet", "--disable-pip-version-check", "--constraint", str(constraints), *each, silent=True)
