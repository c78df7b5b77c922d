"""The versions matrix: every Python and Django that is supported, where the interpreter exists.

``make test-matrix`` runs it; ``make test`` covers the first combination by itself.
"""

from __future__ import annotations

import os
from pathlib import Path

import nox

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False

# Interpreters that a version manager keeps beside the path; its shims answer for versions that are not active.
_KEPT = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser().glob("versions/3.1[1-9]*/bin")
os.environ["PATH"] = os.pathsep.join([*map(str, sorted(_KEPT)), os.environ["PATH"]])

# Django 6 needs Python 3.12.
MATRIX = [
    (python, django)
    for python in ("3.11", "3.12", "3.13")
    for django in ("5.2", "6.0", "6.1")
    if (python, django) != ("3.11", "6.0") and (python, django) != ("3.11", "6.1")
]


@nox.session
@nox.parametrize(("python", "django"), MATRIX)
def tests(session: nox.Session, django: str) -> None:
    """Run the tests that a Python or a Django could break; load and faults are the same everywhere."""
    constraints = Path(session.create_tmp()) / "constraints.txt"
    pinned = Path("constraints.txt").read_text(encoding="utf-8").splitlines()
    constraints.write_text(
        "\n".join(line for line in pinned if not line.lower().startswith("django==")), encoding="utf-8"
    )
    session.install("--constraint", str(constraints), "--upgrade", "pip", silent=True)
    session.install(
        "--constraint", str(constraints), "--editable", ".", "--group", "test", "--group", "demo", f"django~={django}.0"
    )
    session.run(
        "python",
        "-m",
        "pytest",
        "--quiet",
        "--numprocesses=2",
        "--ignore=tests/lab",
        "--ignore=tests/benchmarks",
        *session.posargs,
    )
