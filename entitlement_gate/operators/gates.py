"""Find every gate of a project: views through nested includes, rules, template tags, permissions; and ungated views.

Imports the URLs, as Django does to answer its first request, and no other framework: the views of those are known by
their attributes.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property, partial
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.http import HttpRequest
from django.urls import ResolverMatch, URLResolver, get_resolver
from django.urls.resolvers import RoutePattern
from django.views import View

from entitlement_gate.conf import rules_in_settings, urlconfs_in_settings
from entitlement_gate.decorators import (
    find_operations,
    is_dispatch_reached,
    marks_of,
    marks_of_permission,
    marks_of_permissions,
    requirements_of,
)
from entitlement_gate.domain.requirements import Requirement, as_requirement
from entitlement_gate.mixins import EntitlementRequiredMixin
from entitlement_gate.operators.project import find_template_uses, locate
from entitlement_gate.operators.terminal import DENIED, FINE, Cell, Line, Report, Table
from entitlement_gate.url_rules import class_of, is_exempt, is_logout, is_static, rules_about

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from django.urls import URLPattern

    from entitlement_gate.decorators import Mark


__all__ = ["Gate", "find_gates", "find_views", "format_requirement", "format_route", "make_sample_path", "report_gates"]

_CONVERTER = re.compile(r"<(?:([^>\s:]+):)?[^>\s]+>")
_SAMPLES = {"int": "1", "uuid": "00000000-0000-4000-8000-000000000000"}
_GROUP = re.compile(r"\((?:\?P<[^>]+>|\?:)?[^()]*\)[*+?]?")
_SET = re.compile(r"(?:\[[^\]]*\]|\\[dw])[*+?]?")


def format_route(patterns: Iterable[Any]) -> str:
    """Return the route as it is written, includes joined."""
    parts = ((str(pattern), isinstance(pattern, RoutePattern)) for pattern in patterns)
    return "/" + "".join(text if is_route else text.removeprefix("^") for text, is_route in parts).removeprefix("/")


def make_sample_path(patterns: Iterable[Any]) -> str:
    """Return a path that the route matches, as far as can be known without solving regular expressions."""
    return "/" + "".join(_make_sample(pattern) for pattern in patterns).removeprefix("/")


def _make_sample(pattern: Any) -> str:
    text = str(pattern)
    if isinstance(pattern, RoutePattern):
        return _CONVERTER.sub(lambda match: _SAMPLES.get(match[1] or "", "x"), text)
    text = _GROUP.sub("1", text.removeprefix("^").removesuffix("$").removesuffix("\\Z"))
    return _SET.sub("1", text).replace("\\", "")


_INSTALLED = frozenset({"site-packages", "dist-packages"})
# Views of other packages that show what the project gives them.
_GENERIC = ("django.views.generic.", "django.views.static", "django.contrib.flatpages.", "rest_framework.generics")
_SIGNING_IN = "django.contrib.auth.views"


class _Origins:
    """Finds out whether a view is the project's own. A project that is installed is known by its URLs and settings."""

    def is_own(self, view: Any, app_names: list[str]) -> bool:
        """Return whether a view is the project's: its code, a wrapper around it, or what it was given to show."""
        if "admin" in app_names:
            return False
        modules = list(_list_modules(view))
        if any(not self._is_packaged(module) or module.startswith(_GENERIC) for module in modules):
            return True
        is_given = bool(getattr(view, "view_initkwargs", None)) and not hasattr(view, "cls")
        return is_given and _SIGNING_IN not in modules

    def _is_packaged(self, module: str) -> bool:
        package = module.partition(".")[0]
        if package in ("django", "entitlement_gate"):  # also from a checkout; this library's views are few, and exempt
            return package == "django"
        file = getattr(sys.modules.get(module), "__file__", None)
        return file is not None and not _INSTALLED.isdisjoint(Path(file).parts) and package not in self._own_packages

    @cached_property
    def _own_packages(self) -> frozenset[str]:
        """The packages of the project, and what is installed together with them."""
        roots = {name for name in (*urlconfs_in_settings(), settings.SETTINGS_MODULE) if isinstance(name, str)}
        packages = {root.partition(".")[0] for root in roots}
        holders = packages_distributions()
        own = {distribution for package in packages for distribution in holders.get(package, ())}
        return frozenset(packages | {package for package, by in holders.items() if not own.isdisjoint(by)})


def _list_modules(view: Any) -> Iterator[str]:
    """Yield the modules that a view's code stands in, from its outermost wrapper on; of a class, that of the class."""
    view_class = class_of(view)
    if view_class is not None:
        yield view_class.__module__
    while view is not None:
        while isinstance(view, partial):
            view = view.func
        code = getattr(view, "__func__", view)
        module = getattr(code, "__globals__", {}).get("__name__") or type(code).__module__
        if view_class is None or module != View.__module__:  # where `as_view()` makes functions for every class
            yield module
        view = getattr(view, "__wrapped__", None)


_MIXIN = "EntitlementRequiredMixin"


@dataclass(frozen=True, slots=True)
class Gate:
    """One thing that is gated, or a view that is not.

    Attributes:
        kind: ``view``, ``rule`` or ``template``.
        what: the route, what the rule is about, or the tag.
        name: the view's name for ``reverse()``, if it has one.
        requires: what is asked for, as text; empty where nothing is.
        by: what asks: the view itself, a permission, a rule; ``exempt`` for what is left alone on purpose.
        where: ``file:line``.
        consumes: which of these are used up.
        names: the entitlements in it, as far as they are literal.
        is_own: a view is the project's own, and not the admin's or another package's.
    """

    kind: str
    what: str
    name: str = ""
    requires: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    where: str = ""
    consumes: tuple[str, ...] = ()
    names: tuple[str, ...] = field(default=(), compare=False)
    is_own: bool = field(default=True, compare=False)

    @property
    def is_ungated(self) -> bool:
        """Whether it is a view without a gate that is not exempt."""
        return self.kind == "view" and not self.by


@dataclass(frozen=True, slots=True)
class _Statement:
    """One requirement of a view, what states it, and whether that uses it up."""

    by: str
    requirement: Requirement | str | None
    consume: bool = False


def find_gates() -> Iterator[Gate]:
    """Yield views in URL order, then rules, then template tags."""
    yield from find_views()
    yield from find_rules()
    for use in find_template_uses():
        names = (use.name,) if use.name else ()
        yield Gate("template", use.by, "", (use.arguments,), (use.by,), use.where, names=names)


def find_views() -> Iterator[Gate]:
    """Yield every view that a URL leads to, gated or not; once where it has several names at one route."""
    gates: dict[tuple[str, str], Gate] = {}
    origins = _Origins()
    for urlconf in urlconfs_in_settings():
        for pattern, path in _walk(get_resolver(urlconf), _Path()):
            for gate in _make_gates(pattern, path, origins):
                gates.setdefault((gate.what, gate.where), gate)
    yield from gates.values()


def find_rules() -> Iterator[Gate]:
    """Yield every rule of the settings."""
    for position, rule in enumerate(rules_in_settings()):
        names = tuple(leaf.entitlement for leaf in rule.requirement.leaves())
        where = f"ENTITLEMENT_GATE['RULES'][{position}]"
        requires = (format_requirement(rule.requirement),)
        yield Gate("rule", str(rule), "", requires, ("rule",), where, requires if rule.consume else (), names)


def format_requirement(requirement: Requirement | str) -> str:
    """Return a requirement for people: ``seats 3 & ~trial``."""
    if isinstance(requirement, str):
        return requirement
    if requirement.operator == "~":
        return f"~{_format_part(requirement.parts[0])}"
    if requirement.operator:
        return f" {requirement.operator} ".join(_format_part(part) for part in requirement.parts)
    requested = requirement.requested
    return requirement.entitlement if requested is None else f"{requirement.entitlement} {requested:f}"


def _format_part(part: Requirement) -> str:
    return f"({format_requirement(part)})" if part.operator in ("&", "|") else format_requirement(part)


@dataclass(frozen=True, slots=True)
class _Path:
    """The way through the includes to a pattern."""

    patterns: tuple[Any, ...] = ()
    app_names: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()

    def into(self, resolver: URLResolver) -> _Path:
        return _Path(
            (*self.patterns, resolver.pattern),
            (*self.app_names, *filter(None, [resolver.app_name])),
            (*self.namespaces, *filter(None, [resolver.namespace])),
        )


def _walk(resolver: URLResolver, path: _Path) -> Iterator[tuple[URLPattern, _Path]]:
    for pattern in resolver.url_patterns:
        if isinstance(pattern, URLResolver):
            yield from _walk(pattern, path.into(pattern))
        else:
            yield pattern, path


def _make_gates(pattern: URLPattern, path: _Path, origins: _Origins) -> Iterator[Gate]:
    patterns = (*path.patterns, pattern.pattern)
    route, callback = format_route(patterns), pattern.callback
    match = ResolverMatch(
        callback, (), {}, pattern.name, list(path.app_names), list(path.namespaces), route.removeprefix("/")
    )
    sample = HttpRequest()
    sample.path = sample.path_info = make_sample_path(patterns)
    for operation in find_operations(callback):
        by_rules = _find_by_rules(match, sample, frozenset(operation.methods))
        statements = [*_find_of_operation(callback, operation), *by_rules]
        gate = _make_gate(match, statements, f"{route} [{', '.join(operation.methods)}]", locate(operation.view_func))
        yield replace(gate, is_own=origins.is_own(operation.view_func, match.app_names))
    if not find_operations(callback):
        for methods, statements in _group_by_methods(match, sample):
            # Static files are left alone; files elsewhere may be paid for.
            is_left_alone = is_exempt(callback, match) or is_logout(match) or is_static(sample, match)
            exemption = [_Statement("exempt", None)] if is_left_alone else []
            what = f"{route} [{', '.join(methods)}]" if methods else route
            gate = _make_gate(match, statements or exemption, what, locate(callback))
            yield replace(gate, is_own=origins.is_own(callback, match.app_names))


def _group_by_methods(match: ResolverMatch, sample: HttpRequest) -> list[tuple[tuple[str, ...], list[_Statement]]]:
    """Return the requirements by methods, where only some methods are gated; else those of the whole view."""
    callback: Any = match.func
    groups: dict[tuple[_Statement, ...], list[str]] = {}
    for method in _list_methods(callback):
        statements = (*_find_own(callback, (method,)), *_find_by_rules(match, sample, frozenset((method.upper(),))))
        groups.setdefault(statements, []).append(method.upper())
    if len(groups) > 1 and () in groups:
        return [(tuple(methods), list(statements)) for statements, methods in groups.items()]
    return [((), [*_find_own(callback), *_find_by_rules(match, sample)])]


def _list_methods(callback: Any) -> tuple[str, ...]:
    """Return the methods that a view class implements; none where that is unknown."""
    actions = getattr(callback, "actions", None)
    if isinstance(actions, dict):
        return tuple(method for method in actions if method != "head" or "get" not in actions)
    view_class = class_of(callback)
    names = getattr(view_class, "http_method_names", ())
    methods = [name for name in names if name != "options" and hasattr(view_class, name)]
    return tuple(name for name in methods if name != "head" or "get" not in methods)


def _make_gate(match: ResolverMatch, statements: list[_Statement], what: str, where: str) -> Gate:
    requirements = [each.requirement for each in statements if isinstance(each.requirement, Requirement)]
    names = tuple(leaf.entitlement for requirement in requirements for leaf in requirement.leaves())
    by = tuple(dict.fromkeys(each.by for each in statements))
    requires = tuple(
        dict.fromkeys(format_requirement(each.requirement) for each in statements if each.requirement is not None)
    )
    consumes = tuple(
        dict.fromkeys(format_requirement(each.requirement) for each in statements if each.requirement and each.consume)
    )
    return Gate("view", what, match.view_name if match.url_name else "", requires, by, where, consumes, names)


def _find_by_rules(
    match: ResolverMatch, sample: HttpRequest, methods: frozenset[str] = frozenset()
) -> Iterator[_Statement]:
    """Yield the rules that hold for a view; for a rule about paths, a path made up from the route is tried."""
    for rule in rules_in_settings():
        sample.method = min((rule.methods & methods) or methods or rule.methods, default="GET")
        for _ in rules_about([rule], sample, match):
            yield _Statement(f"rule {rule}", rule.requirement, rule.consume)


def _find_own(callback: Any, methods: Sequence[str] = View.http_method_names) -> Iterator[_Statement]:
    """Yield what the view itself asks for: decorators, mixins, permissions and operations of other frameworks."""
    from_mixin, used_up = _find_mixed_in(callback, class_of(callback)), _find_used_up(callback, methods)
    for requirement in requirements_of(callback, methods):
        yield _Statement(
            _MIXIN if requirement in from_mixin else "@requires_entitlement", requirement, requirement in used_up
        )
    if None in from_mixin:
        yield _Statement(_MIXIN, "(by the request)", None in used_up)
    yield from _find_of_permissions(marks_of_permissions(callback, methods))


def _find_used_up(*view: Any, **operation: Any) -> set[Requirement | None]:
    return {mark.requirement for mark in marks_of(*view, **operation) if mark.consume}


def _find_of_operation(callback: Any, operation: Any) -> Iterator[_Statement]:
    used_up = _find_used_up(callback, operation=operation)
    for requirement in requirements_of(callback, operation=operation):
        yield _Statement("@requires_entitlement", requirement, requirement in used_up)
    for permission in operation.auth_callbacks:
        yield from _find_of_permissions(marks_of_permission(permission))


def _find_mixed_in(callback: Any, view_class: Any) -> tuple[Requirement | None, ...]:
    """Return the requirement of ``EntitlementRequiredMixin``; None where it depends on the request."""
    if not (isinstance(view_class, type) and issubclass(view_class, EntitlementRequiredMixin)):
        return ()
    if not is_dispatch_reached(view_class, EntitlementRequiredMixin):
        return ()
    options = {name: getattr(view_class, name) for name in ("entitlement_required", "entitlement_quantity")}
    options |= getattr(callback, "view_initkwargs", {})
    requirement, quantity = options["entitlement_required"], options["entitlement_quantity"]
    return (None if requirement is None else as_requirement(requirement, None if callable(quantity) else quantity),)


def _find_of_permissions(marks: Iterable[Mark]) -> Iterator[_Statement]:
    for mark in marks:
        yield _Statement("permission", mark.requirement, mark.consume)


def report_gates(*, only_ungated: bool, of_packages: bool = False, excluded: Sequence[str] = ()) -> Report:
    """Report every gate, or the views that have none: then there is something to look at.

    Args:
        only_ungated: leave out what is gated.
        of_packages: tell also of ungated views of the admin and of other packages.
        excluded: shell patterns of routes and names of views to leave out.
    """
    every = [gate for gate in find_gates() if not _is_excluded(gate, excluded)]
    own = [gate for gate in every if of_packages or gate.is_own or gate.requires]
    gates = [gate for gate in own if gate.is_ungated or not only_ungated]
    views, ungated = sum(gate.kind == "view" for gate in own), sum(gate.is_ungated for gate in own)
    left_out = len(every) - len(own)
    data = {"gates": [_to_dict(gate) for gate in gates], "views": views, "ungated": ungated, "left_out": left_out}
    nothing = Line("every view is gated or exempt" if only_ungated else "no views, no gates")
    table = Table(("GATED", "REQUIRES", "BY", "WHERE"), tuple(_make_row(gate) for gate in gates))
    parts: tuple[Line | Table, ...] = (table, Line(f"{ungated} of {views} views ungated")) if gates else (nothing,)
    if left_out:
        parts = (*parts, Line(f"{left_out} views of the admin and of other packages left out: --all lists them"))
    return Report(exit_code=DENIED if only_ungated and ungated else FINE, data=data, parts=parts)


def _is_excluded(gate: Gate, patterns: Sequence[str]) -> bool:
    """Whether a view's route or name fits one of the patterns."""
    names = (gate.what.partition(" [")[0], gate.name) if gate.kind == "view" else ()
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _to_dict(gate: Gate) -> dict[str, object]:
    return {
        "kind": gate.kind,
        "what": gate.what,
        "name": gate.name or None,
        "requires": list(gate.requires),
        "consumes": list(gate.consumes),
        "by": list(gate.by),
        "where": gate.where,
        "gated": not gate.is_ungated,
    }


def _make_row(gate: Gate) -> tuple[Cell | str, ...]:
    what = f"{gate.what} ({gate.name})" if gate.name else gate.what
    texts = (f"{text} (used up)" if text in gate.consumes else text for text in gate.requires)
    requires = Cell("nothing", "warning") if gate.is_ungated else Cell(", ".join(texts))
    return what, requires, ", ".join(gate.by), gate.where
