"""What a gated view says of itself, for audits and checks. Never here: the gate that stands there (``decorators``)."""

from __future__ import annotations

from functools import partial
from types import CellType, FunctionType
from typing import TYPE_CHECKING, Any

from django.views import View

from entitlement_gate.url_rules import class_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from entitlement_gate.domain.requirements import Requirement

__all__ = [
    "function_of",
    "mark_use",
    "marked",
    "marked_function",
    "methods_without_self",
    "operations_of",
    "raises_refusals",
    "requirements_of",
    "requirements_of_operation",
    "requirements_used_up",
    "targets_of",
]

# One attribute for each gate: `method_decorator` merges the attributes of several gates into one dict, where
# `entitlement_requirements` of one overwrites that of the other.
_MARK = "_requires "
_RAISES = "_entitlement_raises"
_USES_UP = "_uses up "
_LEADS_TO = "_refused leads to "
_ITSELF = "_entitlement_gated_function"  # wrappers copy it, and it is not they that it names


def marked(gated: Any, view: Any, requirement: Requirement, *, on_denied: object, consume: bool = False) -> Any:
    """Write on a gated view what it requires beside what the view in it does, in the order that is enforced."""
    gated.entitlement_requirements = (requirement, *getattr(view, "entitlement_requirements", ()))
    setattr(gated, f"{_MARK}{requirement!r}", requirement)
    if consume:
        mark_use(gated, requirement)
    if on_denied == "raise":
        setattr(gated, _RAISES, True)
    elif isinstance(on_denied, str):
        setattr(gated, f"{_LEADS_TO}{on_denied}", on_denied)
    return gated


def mark_use(gated: Any, requirement: Requirement | None) -> None:
    """Write on a gated view that it uses up what it requires; None where only the request tells what that is."""
    setattr(gated, f"{_USES_UP}{requirement!r}", requirement)


def marked_function(gated: Any) -> Any:
    """Write on a gated function that it takes a request first: it is no method."""
    setattr(gated, _ITSELF, gated)
    return gated


def methods_without_self(view: Any) -> tuple[str, ...]:
    """Return the methods of a view's class that a gate takes for functions: it would look for a request in ``self``."""
    view_class = class_of(view)
    if not isinstance(view_class, type) or function_of(view_class) is not None:
        return ()
    defined = {name: method for base in reversed(view_class.__mro__) for name, method in vars(base).items()}
    return tuple(name for name in dict.fromkeys(_names(view)) if _is_gated_function(defined.get(name)))


def _is_gated_function(method: Any) -> bool:
    while isinstance(method, FunctionType):
        if getattr(method, _ITSELF, None) is method:
            return True
        method = getattr(method, "__wrapped__", None)
    return False


def requirements_of(view: Any, methods: Sequence[str] = View.http_method_names) -> tuple[Requirement, ...]:
    """Return what all gates on a view require, in answer to these methods: those of its class and its methods too.

    ``view.entitlement_requirements`` knows what the outermost decorated thing knew of itself; where several
    ``method_decorator`` gate one method, or a subclass overrides ``dispatch``, only this tells all.
    """
    return _required(view, _parts(view, methods))


def requirements_of_operation(view: Any, operation: Any) -> tuple[Requirement, ...]:
    """Return what one of the operations behind a view requires: by its own gates, and by those around the view."""
    while isinstance(view, partial):
        view = view.func
    return _required(view, (view, *_gated_in(operation)))


def _required(view: Any, parts: Iterable[Any]) -> tuple[Requirement, ...]:
    marked = {key: value for part in parts for key, value in _marks(part, _MARK)}
    listed = getattr(view, "entitlement_requirements", ())
    return tuple(dict.fromkeys((*listed, *marked.values())))


def operations_of(callback: Any) -> tuple[Any, ...]:
    """Return the operations of Django Ninja behind a view: one URL may have one for each method.

    Each has ``methods``, ``view_func`` and ``auth_callbacks``. Ninja's view is a function that closes over them; other
    decorators may stand around it, with ``functools.wraps`` or without.
    """
    for function in _enclosed(callback):
        for value in _values(function):
            operations = getattr(value, "operations", None)
            if isinstance(operations, list) and all(hasattr(each, "view_func") for each in operations):
                return tuple(operations)
    return ()


def _enclosed(view: Any) -> Iterator[Any]:
    """Yield the functions that a view is made of, from its outermost wrapper on."""
    known: set[int] = set()
    waiting = [view]
    while waiting:
        function = waiting.pop(0)
        while isinstance(function, partial):
            function = function.func
        if isinstance(function, FunctionType) and id(function) not in known:
            known.add(id(function))
            yield function
            waiting += _values(function)


def _values(function: FunctionType) -> list[Any]:
    """Return what a function closes over; a cell that is still empty holds nothing."""
    cells = function.__closure__ or ()
    return [cell.cell_contents for cell in cells if cell != CellType()]


def raises_refusals(view: Any) -> bool:
    """Return whether a gate on a view leaves refused requests to whoever catches what it raises."""
    return any(getattr(part, _RAISES, False) for part in _parts(view))


def requirements_used_up(
    view: Any, methods: Sequence[str] = View.http_method_names, operation: Any = None
) -> frozenset[Requirement | None]:
    """Return what the gates on a view, or on one of the operations behind it, use up; None: what the request tells."""
    parts = _parts(view, methods) if operation is None else (view, *_gated_in(operation))
    return frozenset(value for part in parts for _, value in _marks(part, _USES_UP))


def targets_of(view: Any, methods: Sequence[str] = View.http_method_names) -> tuple[str, ...]:
    """Return where the gates of a view lead whom they refuse (``on_denied``), in answer to these methods."""
    return tuple(dict.fromkeys(value for part in _parts(view, methods) for _, value in _marks(part, _LEADS_TO)))


def function_of(view_class: Any) -> Any:
    """Return the function that ``@api_view`` made this class of, Django REST framework's or adrf's; or None.

    Its handler, the same for every method, closes over the function and keeps none of its attributes.
    """
    for name in View.http_method_names:
        handler: Any = vars(view_class).get(name) if isinstance(view_class, type) else None
        if getattr(handler, "__qualname__", "").startswith("api_view."):
            return next(cell.cell_contents for cell in handler.__closure__)
    return None


def _parts(view: Any, methods: Sequence[str] = View.http_method_names) -> Iterator[Any]:
    """Yield the view, its class and whatever of the class answers requests; of a partial, what it calls."""
    yield view
    if isinstance(view, partial):
        yield from _parts(view.func, methods)
    view_class = view if isinstance(view, type) else class_of(view)
    if function_of(view_class) is not None:
        yield function_of(view_class)
    for operation in operations_of(view):
        if not {method.lower() for method in operation.methods}.isdisjoint(methods):
            yield from _gated_in(operation)
    names = _names(view, methods)
    for base in getattr(view_class, "__mro__", ()):
        yield from (vars(base)[name] for name in names if name in vars(base))


def _names(view: Any, methods: Sequence[str] = View.http_method_names) -> tuple[str, ...]:
    """Return the names of what in the class of a view answers requests with these methods."""
    # Django REST framework's view sets answer by methods of other names, and say which.
    actions = getattr(view, "actions", None)
    actions = actions if isinstance(actions, dict) else {}
    return ("dispatch", *methods, *(actions[method] for method in methods if method in actions))


def _gated_in(operation: Any) -> tuple[Any, Any]:
    """Return the function of an operation, and what ``decorate_view`` puts around that."""
    return operation.view_func, operation.run


def _marks(part: Any, kind: str) -> Iterator[tuple[str, Any]]:
    for key, value in getattr(part, "__dict__", {}).items():
        if key.startswith(kind):
            yield key, value
