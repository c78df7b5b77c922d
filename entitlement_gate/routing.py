"""Gates over URLs: one path, or a whole ``include()`` at any depth.

::

    urlpatterns = [
        entitled_path("export/", views.export, requires="exports", name="export"),
        path("reports/", entitled_include("reports.urls", requires="reports")),
    ]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.urls import URLPattern, URLResolver, include, path

from entitlement_gate.decorators import requires_entitlement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from entitlement_gate.domain.requirements import Requirement

__all__ = ["entitled_include", "entitled_path"]

_Patterns = list[URLPattern | URLResolver]


def entitled_path(
    route: str, view: Any, kwargs: dict[str, Any] | None = None, *, requires: str | Requirement, **options: Any
) -> URLPattern | URLResolver:
    """Return ``path(route, view, …)`` behind a gate; ``view`` may be an ``include()``.

    ``name`` goes to ``path``; every other option goes to ``requires_entitlement``.
    """
    name = options.pop("name", None)
    is_include = isinstance(view, (tuple, list))
    gated = entitled_include(view, requires=requires, **options) if is_include else _make_gate(requires, options)(view)
    pattern: URLPattern | URLResolver = path(route, gated, kwargs, name)
    return pattern


def entitled_include(
    arg: Any, namespace: str | None = None, *, requires: str | Requirement, **options: Any
) -> tuple[_Patterns, str | None, str | None]:
    """Return ``include(arg, namespace)`` with every view in it behind a gate; names and namespaces stay.

    ``arg`` is what ``include`` takes, or what it returned.
    """
    is_included = isinstance(arg, tuple) and len(arg) == 3  # noqa: PLR2004 - what include() returns
    urlconf, app_name, instance_name = arg if is_included else include(arg, namespace)
    gate = _make_gate(requires, options)
    patterns = getattr(urlconf, "urlpatterns", urlconf)
    return _gate_patterns(patterns, gate), app_name, instance_name


def _make_gate(requires: str | Requirement, options: dict[str, Any]) -> Callable[[Any], Any]:
    return requires_entitlement(requires, **options)


def _gate_patterns(patterns: Iterable[URLPattern | URLResolver], gate: Callable[[Any], Any]) -> _Patterns:
    return [_gate_resolver(p, gate) if isinstance(p, URLResolver) else _gate_pattern(p, gate) for p in patterns]


def _gate_pattern(pattern: URLPattern, gate: Callable[[Any], Any]) -> URLPattern:
    return URLPattern(pattern.pattern, gate(pattern.callback), pattern.default_args, pattern.name)


def _gate_resolver(resolver: URLResolver, gate: Callable[[Any], Any]) -> URLResolver:
    return URLResolver(
        resolver.pattern,
        _gate_patterns(resolver.url_patterns, gate),
        resolver.default_kwargs,
        resolver.app_name,
        resolver.namespace,
    )
