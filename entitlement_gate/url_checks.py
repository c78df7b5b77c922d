"""What is wrong about gates on URLs: rules that match nothing, and gates that raise where nobody answers.

Never here: I/O, or settings that concern no URL (``checks``).
"""

from __future__ import annotations

import difflib
import re
from http import HTTPMethod
from typing import TYPE_CHECKING, Any

from django.conf import settings as django_settings
from django.core import checks
from django.core.checks import CheckMessage, Error
from django.urls import URLResolver, get_resolver
from django.utils.module_loading import import_string

from entitlement_gate.conf import SETTING, Settings
from entitlement_gate.marks import raises_refusals
from entitlement_gate.middleware import EntitlementMiddleware
from entitlement_gate.rules import class_of, namespaces_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from entitlement_gate.rules import Rule

__all__ = ["AUTHENTICATION", "MIDDLEWARE", "kind_of", "raising_messages", "rule_messages"]

MIDDLEWARE = "entitlement_gate.middleware.EntitlementMiddleware"
_NO_PATH = re.compile(r"\^[\w<-][^|]*")  # anchored, and no slash first
_NEAR = 0.65  # as "GTE" is to "GET"; other methods than HTTP's own may be meant
AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"


def rule_messages(settings: Settings) -> list[CheckMessage]:
    """Return what is wrong with ``RULES``: nobody to enforce them, or nothing that they match."""
    if not settings.rules:
        return []
    messages: list[CheckMessage] = []
    if MIDDLEWARE not in map(kind_of, django_settings.MIDDLEWARE):
        messages.append(
            Error(
                f"{SETTING}['RULES'] are enforced by EntitlementMiddleware, which is not in MIDDLEWARE.",
                hint=f"Add {MIDDLEWARE!r} below the authentication middleware.",
                id="entitlement_gate.E004",
            )
        )
    known = frozenset(_names(_urls()))
    idle = [(rule, *_why_idle(rule, known)) for rule in settings.rules]
    return messages + [
        checks.Warning(
            f"{SETTING}['RULES']: {rule.name!r}: {why}: this rule gates nothing.",
            hint=hint,
            id="entitlement_gate.W003",
        )
        for rule, why, hint in idle
        if why
    ]


def _why_idle(rule: Rule, known: frozenset[tuple[str, str]]) -> tuple[str, str]:
    """Return why a rule can match no request, and what to do; two empty texts where it can."""
    if rule.about == "path" and _NO_PATH.fullmatch(rule.name):
        return "a request's path begins with a slash", "Write '^/reports/', not '^reports/'."
    if rule.about != "path" and (rule.about, rule.name) not in known:
        hint = "Names are written as for reverse(): 'app:name', or 'app' for a namespace."
        return f"no URL has this {rule.about}", hint
    meant = [difflib.get_close_matches(method, HTTPMethod, n=1, cutoff=_NEAR) for method in sorted(rule.methods)]
    if meant and all(meant) and rule.methods.isdisjoint(HTTPMethod):
        hint = f"Did you mean {', '.join(str(near[0]) for near in meant)}?"
        return f"no request has the method {', '.join(sorted(rule.methods))}", hint
    return "", ""


def raising_messages() -> list[CheckMessage]:
    """Return warnings of gates that raise where no middleware answers: an outage would be a plain 500."""
    if MIDDLEWARE in map(kind_of, django_settings.MIDDLEWARE):
        return []
    raising = sorted({_called(view) for view in _views(_urls()) if raises_refusals(view)})
    return [
        checks.Warning(
            f"{name} raises what EntitlementMiddleware would answer, which is not in MIDDLEWARE.",
            hint=f"Add {MIDDLEWARE!r}, or take on_denied='raise' away: an outage is a 500 otherwise.",
            id="entitlement_gate.W007",
        )
        for name in raising
    ]


def _urls() -> list[Any]:
    """Return the project's URLs; a worker or a script may have none."""
    patterns: list[Any] = get_resolver().url_patterns if getattr(django_settings, "ROOT_URLCONF", None) else []
    return patterns


def _views(patterns: list[Any]) -> Iterator[Any]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from _views(pattern.url_patterns)
        else:
            yield pattern.callback


def _called(view: Any) -> str:
    named = class_of(view) or view
    return f"{getattr(named, '__module__', '')}.{getattr(named, '__qualname__', view)}"


def _names(patterns: list[Any], spaces: tuple[str, ...] = (), apps: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Yield ("view", name) and ("namespace", name) for all that the URLs define, by instance and by application."""
    around = namespaces_of(spaces, apps)
    yield from (("namespace", name) for name in around)
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            inner = (*spaces, *filter(None, [pattern.namespace]))
            yield from _names(pattern.url_patterns, inner, (*apps, *filter(None, [pattern.app_name])))
        else:
            view = pattern.name or pattern.lookup_str
            yield from (("view", f"{name}:{view}" if name else view) for name in around)


def kind_of(path: str) -> str:
    """Return the path of the middleware that this one is, or is a subclass of; Django itself tells of a wrong path."""
    if path in (MIDDLEWARE, AUTHENTICATION):
        return path
    try:
        found = import_string(path)
    except ImportError:
        return path
    is_ours = isinstance(found, type) and issubclass(found, EntitlementMiddleware)
    return MIDDLEWARE if is_ours else path
