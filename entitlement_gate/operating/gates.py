"""Every gate of a project: views through nested includes, rules, template tags and permissions; and what has none.

Imports the URLs, as Django does to answer its first request, and nothing else. Never here: enforcing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from django.http import HttpRequest
from django.urls import ResolverMatch, URLResolver, get_resolver

from entitlement_gate.conf import rules_in_settings, urlconfs_in_settings
from entitlement_gate.domain.requirements import Requirement, as_requirement
from entitlement_gate.marks import requirements_of
from entitlement_gate.operating.frameworks import operations_of, permissions_of, permitted
from entitlement_gate.operating.origins import Origins
from entitlement_gate.operating.places import place_of
from entitlement_gate.operating.routes import sample_of, shown_route
from entitlement_gate.operating.tags import template_uses
from entitlement_gate.rules import class_of, is_exempt, is_static, rules_about

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.urls import URLPattern

    from entitlement_gate.rules import Rule

__all__ = ["Gate", "all_gates", "gated_views", "rules", "shown"]

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
        names: the entitlements in it, as far as they are literal.
        is_own: a view is the project's own, and not the admin's or another package's.
    """

    kind: str
    what: str
    name: str = ""
    requires: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    where: str = ""
    names: tuple[str, ...] = field(default=(), compare=False)
    is_own: bool = field(default=True, compare=False)

    @property
    def is_ungated(self) -> bool:
        """Whether it is a view that nothing asks anything of, and that nobody exempted."""
        return self.kind == "view" and not self.by


@dataclass(frozen=True, slots=True)
class _Found:
    """One requirement of a view and what states it."""

    by: str
    requirement: Requirement | str | None


def all_gates() -> Iterator[Gate]:
    """Yield views in URL order, then rules, then template tags."""
    yield from gated_views()
    yield from rules()
    for use in template_uses():
        yield Gate("template", use.by, "", (use.asked,), (use.by,), use.where, (use.name,) if use.name else ())


def gated_views() -> Iterator[Gate]:
    """Yield every view that a URL leads to, gated or not; once where it has several names at one route."""
    known: dict[tuple[str, str], Gate] = {}
    origins = Origins()
    for urlconf in urlconfs_in_settings():
        for pattern, path in _views(get_resolver(urlconf), _Path()):
            for gate in _view(pattern, path, origins):
                known.setdefault((gate.what, gate.where), gate)
    yield from known.values()


def rules() -> Iterator[Gate]:
    """Yield every rule of the settings."""
    for position, rule in enumerate(rules_in_settings()):
        methods = f" [{', '.join(sorted(rule.methods))}]" if rule.methods else ""
        names = tuple(leaf.entitlement for leaf in rule.requirement.leaves())
        where = f"ENTITLEMENT_GATE['RULES'][{position}]"
        yield Gate(
            "rule", f"{rule.about} {rule.name}{methods}", "", (shown(rule.requirement),), ("rule",), where, names
        )


def shown(requirement: Requirement | str) -> str:
    """Return a requirement for people: ``seats 3 & ~trial``."""
    if isinstance(requirement, str):
        return requirement
    if requirement.operator == "~":
        return f"~{_inner(requirement.parts[0])}"
    if requirement.operator:
        return f" {requirement.operator} ".join(_inner(part) for part in requirement.parts)
    requested = requirement.requested
    return requirement.entitlement if requested is None else f"{requirement.entitlement} {requested:f}"


def _inner(part: Requirement) -> str:
    return f"({shown(part)})" if part.operator in ("&", "|") else shown(part)


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


def _views(resolver: URLResolver, path: _Path) -> Iterator[tuple[URLPattern, _Path]]:
    for pattern in resolver.url_patterns:
        if isinstance(pattern, URLResolver):
            yield from _views(pattern, path.into(pattern))
        else:
            yield pattern, path


def _view(pattern: URLPattern, path: _Path, origins: Origins) -> Iterator[Gate]:
    patterns = (*path.patterns, pattern.pattern)
    route, callback = shown_route(patterns), pattern.callback
    match = ResolverMatch(
        callback, (), {}, pattern.name, list(path.app_names), list(path.namespaces), route.removeprefix("/")
    )
    sample = _request(sample_of(patterns))
    for operation in operations_of(callback):
        found = [*_of_operation(operation), *_ruled(match, sample, frozenset(operation.methods))]
        what = f"{route} [{', '.join(operation.methods)}]"
        gate = _gate(match, found, what, place_of(operation.view_func))
        yield replace(gate, is_own=origins.is_own(operation.view_func, match.app_names))
    if not operations_of(callback):
        found = [*_own(callback), *_ruled(match, sample)]
        if not found and _is_left_alone(match, sample):
            found = [_Found("exempt", None)]
        gate = _gate(match, found, route, place_of(callback))
        yield replace(gate, is_own=origins.is_own(callback, match.app_names))


def _request(path: str) -> HttpRequest:
    request = HttpRequest()
    request.path = request.path_info = path
    return request


def _is_left_alone(match: ResolverMatch, sample: HttpRequest) -> bool:
    """Whether a view is exempt, or one of static files where those are kept; files elsewhere may be paid for."""
    if is_exempt(match.func, match):
        return True
    return is_static(sample, None) and is_static(sample, match)


def _gate(match: ResolverMatch, found: list[_Found], what: str, where: str) -> Gate:
    asked = [each.requirement for each in found if isinstance(each.requirement, Requirement)]
    names = tuple(leaf.entitlement for requirement in asked for leaf in requirement.leaves())
    by = tuple(dict.fromkeys(each.by for each in found))
    requires = tuple(dict.fromkeys(shown(each.requirement) for each in found if each.requirement is not None))
    return Gate("view", what, match.view_name if match.url_name else "", requires, by, where, names)


def _ruled(match: ResolverMatch, sample: HttpRequest, methods: frozenset[str] = frozenset()) -> Iterator[_Found]:
    """Yield the rules that hold for a view; for a rule about paths, a path made up from the route is tried."""
    for rule in rules_in_settings():
        sample.method = min((rule.methods & methods) or methods or rule.methods, default="GET")
        for _ in rules_about([rule], sample, match):
            yield _Found(_rule_text(rule), rule.requirement)


def _rule_text(rule: Rule) -> str:
    return f"rule {rule.about} {rule.name}"


def _own(callback: Any) -> Iterator[_Found]:
    """Yield what the view itself asks for: decorators, mixins, permissions and operations of other frameworks."""
    mixed = _mixed_in(callback, class_of(callback))
    for requirement in requirements_of(callback):
        yield _Found(_MIXIN if requirement in mixed else "@requires_entitlement", requirement)
    if None in mixed:
        yield _Found(_MIXIN, "(by the request)")
    for permission in permissions_of(callback):
        yield from _permitted(permission)


def _of_operation(operation: Any) -> Iterator[_Found]:
    for requirement in requirements_of(operation.view_func):
        yield _Found("@requires_entitlement", requirement)
    for permission in operation.auth_callbacks:
        yield from _permitted(permission)


def _mixed_in(callback: Any, view_class: Any) -> tuple[Requirement | None, ...]:
    """Return what ``EntitlementRequiredMixin`` asks for; None stands for what only a request can tell."""
    if not hasattr(view_class, "get_entitlement_requirement"):
        return ()
    given = {name: getattr(view_class, name) for name in ("entitlement_required", "entitlement_quantity")}
    given |= getattr(callback, "view_initkwargs", {})
    required, quantity = given["entitlement_required"], given["entitlement_quantity"]
    return (None if required is None else as_requirement(required, None if callable(quantity) else quantity),)


def _permitted(permission: Any) -> Iterator[_Found]:
    for requirement in permitted(permission):
        yield _Found("permission", requirement)
