"""What views of other frameworks carry: permissions of Django REST framework, operations of Django Ninja.

Known by their attributes: no framework is imported. Never here: views that are Django's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from entitlement_gate.marks import operations_of
from entitlement_gate.rules import class_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from entitlement_gate.domain.requirements import Requirement

__all__ = ["operations_of", "permissions_of", "permitted"]


def permissions_of(callback: Any) -> tuple[Any, ...]:
    """Return the permission classes of a view of Django REST framework: as_view()'s or an action's own go first."""
    given = getattr(callback, "initkwargs", None) or getattr(callback, "view_initkwargs", None) or {}
    listed = given.get("permission_classes", getattr(class_of(callback), "permission_classes", None))
    return tuple(listed or ())


def permitted(permission: Any) -> Iterator[Requirement]:
    """Yield what a permission lists as ``entitlement_requirements``, through ``&``, ``|`` and ``~`` of permissions."""
    yield from getattr(permission, "entitlement_requirements", ())
    for operand in ("op1_class", "op2_class"):
        if hasattr(permission, operand):
            yield from permitted(getattr(permission, operand))
