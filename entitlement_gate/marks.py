"""What a gated view says of itself, for audits and checks. Never here: the gate that stands there (``decorators``)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from django.views import View

from entitlement_gate.rules import class_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from entitlement_gate.domain.requirements import Requirement

__all__ = ["marked", "raises_refusals", "requirements_of"]

# One attribute for each gate: `method_decorator` merges the attributes of several gates into one dict, where
# `entitlement_requirements` of one overwrites that of the other.
_MARK = "_requires "
_RAISES = "_entitlement_raises"


def marked(gated: Any, view: Any, requirement: Requirement, *, raises: bool) -> Any:
    """Write on a gated view what it requires beside what the view in it does, in the order that is enforced."""
    gated.entitlement_requirements = (requirement, *getattr(view, "entitlement_requirements", ()))
    setattr(gated, f"{_MARK}{requirement!r}", requirement)
    if raises:
        setattr(gated, _RAISES, True)
    return gated


def requirements_of(view: Any) -> tuple[Requirement, ...]:
    """Return what all gates on a view require: those of its class, of its methods and of ``method_decorator`` too.

    ``view.entitlement_requirements`` knows what the outermost decorated thing knew of itself; where several
    ``method_decorator`` gate one method, or a subclass overrides ``dispatch``, only this tells all.
    """
    marked = {key: value for part in _parts(view) for key, value in _marks(part)}
    listed = getattr(view, "entitlement_requirements", ())
    return tuple(dict.fromkeys((*listed, *marked.values())))


def raises_refusals(view: Any) -> bool:
    """Return whether a gate on a view leaves refused requests to whoever catches what it raises."""
    return any(getattr(part, _RAISES, False) for part in _parts(view))


def _parts(view: Any) -> Iterator[Any]:
    """Yield the view, its class and whatever of the class answers requests; of a partial, what it calls."""
    yield view
    if isinstance(view, partial):
        yield from _parts(view.func)
    view_class = view if isinstance(view, type) else class_of(view)
    # Django REST framework's view sets answer by methods of other names, and say which.
    actions = getattr(view, "actions", None)
    names = ("dispatch", *View.http_method_names, *(actions.values() if isinstance(actions, dict) else ()))
    for base in getattr(view_class, "__mro__", ()):
        yield from (vars(base)[name] for name in names if name in vars(base))


def _marks(part: Any) -> Iterator[tuple[str, Requirement]]:
    for key, value in getattr(part, "__dict__", {}).items():
        if key.startswith(_MARK):
            yield key, value
