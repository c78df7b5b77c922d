"""Names that code asks for in plain calls, ``has_entitlement(customer, "sso")``: read from source, never imported."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from entitlement_gate.operators.doctor import NameInCode
from entitlement_gate.operators.places import short

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = [
    "calls_in",
]


_FUNCTIONS = re.compile(r"a?(?:has|check|require|reserve|consume)_entitlement|Requirement|requires_entitlement")
_FIRST = frozenset({"Requirement", "requires_entitlement"})  # take the name first, the others a customer before it
_TRACE = re.compile(rb"_entitlement\b|\bRequirement\b")
_SKIPPED = frozenset({"node_modules", "site-packages", "__pycache__"})


def calls_in(folders: Iterable[Path]) -> Iterator[NameInCode]:
    """Yield every literal name in a call of ours, in the Python files of the folders."""
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            if not _SKIPPED.intersection(path.relative_to(folder).parts):
                yield from _calls(path)


def _calls(path: Path) -> Iterator[NameInCode]:
    content = path.read_bytes()
    if not _TRACE.search(content):
        return
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):  # not for this Python; nobody imports it either
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (name := _asked(node)):
            yield NameInCode(name, f"{short(path)}:{node.lineno}")


def _asked(call: ast.Call) -> str | None:
    """Return the literal that a call of ours has for the entitlement."""
    function = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if not _FUNCTIONS.fullmatch(function):
        return None
    place = 0 if function in _FIRST else 1
    given = [call.args[place]] if len(call.args) > place else []
    given += [keyword.value for keyword in call.keywords if keyword.arg == "entitlement"]
    value = given[0].value if given and isinstance(given[0], ast.Constant) else None
    return value if isinstance(value, str) else None
