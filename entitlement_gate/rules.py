"""``RULES``: gates by path, view name or namespace, without touching a view. Never here: enforcing them.

A rule names what it is about in exactly one way and what it requires; every rule that matches a request must hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from types import MethodType
from typing import TYPE_CHECKING, Any, TypeVar

from asgiref.sync import iscoroutinefunction, markcoroutinefunction

from entitlement_gate.domain.requirements import Requirement, as_requirement
from entitlement_gate.zenskar.options import is_texts

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.urls import ResolverMatch

__all__ = ["Rule", "class_of", "entitlement_exempt", "is_exempt", "read_rules"]

ViewT = TypeVar("ViewT", bound="Callable[..., Any] | type")
_ABOUT = ("path", "view", "namespace")
_KEYS = frozenset({*_ABOUT, "requires", "quantity", "methods"})
# Views that must stay reachable whatever the rules say: the way in, files, and the package's own.
_LEFT_ALONE = ("django.views.static", "django.contrib.staticfiles.views", "entitlement_gate.views")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One entry of ``RULES``.

    Attributes:
        about: ``path``, ``view`` or ``namespace``.
        name: the regular expression, view name (``app:name``) or namespace it is about.
        requirement: what it requires.
        methods: HTTP methods it is for, HEAD wherever GET is; empty for all.
    """

    about: str
    name: str
    requirement: Requirement
    methods: frozenset[str] = frozenset()
    pattern: re.Pattern[str] | None = field(default=None, repr=False)

    def matches(self, request: HttpRequest, match: ResolverMatch) -> bool:
        """Return whether the rule is about this request."""
        if self.methods and request.method not in self.methods:
            return False
        if self.pattern is not None:
            return self.pattern.search(request.path_info) is not None
        if self.about == "view":
            return match.view_name == self.name
        return f"{match.namespace}:".startswith(f"{self.name}:")


def read_rules(raw: Any) -> tuple[Rule, ...]:
    """Return the rules of a setting.

    Raises:
        ValueError: an entry cannot work; the message says which and why.
    """
    if isinstance(raw, (str, Mapping)) or not isinstance(raw, Iterable):
        raise ValueError(f"rules: a list of dicts, not {raw!r}")
    return tuple(_read(number, entry) for number, entry in enumerate(raw))


def entitlement_exempt(view: ViewT) -> ViewT:
    """Let no rule apply to this view: a function, a class, a bound method, or what ``as_view()`` returned."""
    exempt: Any = view
    if isinstance(view, MethodType):  # takes no attributes

        @wraps(view)
        def exempt(*args: Any, **kwargs: Any) -> Any:
            return view(*args, **kwargs)

        if iscoroutinefunction(view):
            markcoroutinefunction(exempt)

    exempt.entitlement_exempt = True
    return exempt  # type: ignore[no-any-return]  # the view, or what calls it


def is_exempt(view: Any, match: ResolverMatch) -> bool:
    """Return whether rules leave this view alone."""
    if any(getattr(part, "entitlement_exempt", False) for part in (view, class_of(view))):
        return True
    is_admin_login = match.app_name == "admin" and match.url_name == "login"
    return is_admin_login or getattr(view, "__module__", "") in _LEFT_ALONE


def class_of(view: Any) -> Any:
    """Return the class behind what ``as_view()`` returned, Django's or Django REST framework's; None for a function."""
    return getattr(view, "view_class", None) or getattr(view, "cls", None)


def _read(number: int, entry: Any) -> Rule:
    place = f"rules: entry {number}"
    if not isinstance(entry, Mapping) or not entry.keys() <= _KEYS:
        raise ValueError(f"{place} is a dict of {', '.join(sorted(_KEYS))}, not {entry!r}")
    about = [key for key in _ABOUT if key in entry]
    if len(about) != 1 or "requires" not in entry:
        raise ValueError(f'{place} needs one of "path", "view", "namespace", and "requires"')
    name = entry[about[0]]
    if not isinstance(name, str) or not name:
        raise ValueError(f"{place}: {about[0]!r} is text, not {name!r}")
    methods = entry.get("methods", ())
    if not is_texts(methods):
        raise ValueError(f"{place}: methods is a list such as ['POST'], not {methods!r}")
    try:
        pattern = re.compile(name) if about[0] == "path" else None
        requirement = as_requirement(entry["requires"], entry.get("quantity"))
    except (re.error, TypeError, ValueError) as error:
        raise ValueError(f"{place}: {error}") from None
    upper = {method.upper() for method in methods}
    if "GET" in upper:
        upper.add("HEAD")  # which runs the view as GET does
    return Rule(about=about[0], name=name, requirement=requirement, methods=frozenset(upper), pattern=pattern)
