"""Where code is: ``file:line``, as short as it can be. Never here: importing what is not imported."""

from __future__ import annotations

import functools
import inspect
from pathlib import Path
from typing import Any

from entitlement_gate.marks import function_of
from entitlement_gate.url_rules import class_of

__all__ = [
    "place_of",
    "short",
]


def place_of(thing: Any) -> str:
    """Return where a view function or class is written; its module where that cannot be told."""
    thing = _innermost(thing)
    code = getattr(thing, "__code__", None)
    if code is not None:
        return f"{short(code.co_filename)}:{code.co_firstlineno}"
    try:
        source, line = inspect.getsourcefile(thing), inspect.getsourcelines(thing)[1]
    except (TypeError, OSError):
        return str(getattr(thing, "__module__", None) or type(thing).__module__)
    return f"{short(source or '')}:{line}"


def short(path: str | Path) -> str:
    """Return the path from here, where it is beneath; otherwise as it is."""
    try:
        return str(Path(path).resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _innermost(thing: Any) -> Any:
    """Return what a person would look for: the class behind ``as_view()``, the function behind decorators."""
    view_class = class_of(thing)
    if isinstance(view_class, type) and function_of(view_class) is None:
        return view_class
    thing = function_of(view_class) or thing
    while isinstance(thing, functools.partial):
        thing = thing.func
    thing = inspect.unwrap(thing)
    return getattr(thing, "__func__", thing)
