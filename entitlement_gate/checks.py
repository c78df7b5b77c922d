"""System checks: what is wrong with the settings, said at start-up. Never here: I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from http import HTTPMethod
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.core import checks
from django.core.checks import CheckMessage, Error, register
from django.core.exceptions import ImproperlyConfigured
from django.urls import URLResolver, get_resolver
from django.utils.module_loading import import_string

from entitlement_gate.conf import SETTING, Settings, get_settings, unknown_keys
from entitlement_gate.decorators import raises_refusals
from entitlement_gate.middleware import EntitlementMiddleware
from entitlement_gate.resolvers import from_user
from entitlement_gate.rules import class_of
from entitlement_gate.zenskar.options import SANDBOX

if TYPE_CHECKING:
    from entitlement_gate.rules import Rule

__all__ = ["check_settings"]

_MIDDLEWARE = "entitlement_gate.middleware.EntitlementMiddleware"
_NO_PATH = re.compile(r"\^[\w<-]")  # anchored, and no slash first
_METHODS = frozenset(HTTPMethod)
_AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"


@register("entitlement_gate")
def check_settings(**_: Any) -> list[CheckMessage]:
    """Return what is wrong with ``ENTITLEMENT_GATE``."""
    raw = getattr(django_settings, SETTING, None)
    messages = [
        _unknown(key, nearest) for key, nearest in unknown_keys(raw if isinstance(raw, Mapping) else {}).items()
    ]
    try:
        settings = get_settings()
    except ImproperlyConfigured as error:
        hint = "Change what the message names; the reference of the settings tells what each key takes."
        return [*messages, Error(str(error), hint=hint, id="entitlement_gate.E001")]
    return [
        *messages,
        *_paths(settings),
        *_surroundings(settings),
        *_rules(settings),
        *_unanswered(),
        *_customer(settings),
        *_ledger(settings),
    ]


def _unknown(key: str, nearest: str | None) -> CheckMessage:
    hint = f"Did you mean {nearest!r}?" if nearest else "The reference of the settings lists every key."
    return Error(f"{SETTING}[{key!r}] is no setting.", hint=hint, id="entitlement_gate.E002")


def _paths(settings: Settings) -> list[CheckMessage]:
    messages: list[CheckMessage] = []
    scenario = settings.client.base_url.removeprefix(SANDBOX) if settings.is_sandbox else ""
    if scenario and not Path(scenario).is_file():
        text = f"{SETTING}['BASE_URL']: there is no scenario {scenario!r}."
        messages.append(Error(text, hint="Name a file, or write 'sandbox:' alone.", id="entitlement_gate.E001"))
    for name in ("customer_resolver", "denied_handler", "webhook_verifier"):
        if getattr(settings, name) is None:
            continue
        try:
            settings.load(name)
        except ImproperlyConfigured as error:
            hint = "Write the dotted path of a callable that can be imported."
            messages.append(Error(str(error), hint=hint, id="entitlement_gate.E003"))
    return messages


def _surroundings(settings: Settings) -> list[CheckMessage]:
    messages: list[CheckMessage] = []
    kinds = [_kind(path) for path in django_settings.MIDDLEWARE]
    if _MIDDLEWARE in kinds and _AUTHENTICATION in kinds[kinds.index(_MIDDLEWARE) :]:
        messages.append(
            checks.Warning(
                "EntitlementMiddleware comes before AuthenticationMiddleware.",
                hint="Move it below: a customer is found through the signed-in user.",
                id="entitlement_gate.W001",
            )
        )
    if settings.is_sandbox and not django_settings.DEBUG:
        messages.append(
            checks.Warning(
                f"{SETTING}['BASE_URL'] is the sandbox, outside DEBUG.",
                hint="Name the billing API; the sandbox answers from a file.",
                id="entitlement_gate.W002",
            )
        )
    return messages


def _kind(path: str) -> str:
    """Return the path of the middleware that this one is, or is a subclass of; Django itself tells of a wrong path."""
    if path in (_MIDDLEWARE, _AUTHENTICATION):
        return path
    try:
        found = import_string(path)
    except ImportError:
        return path
    is_ours = isinstance(found, type) and issubclass(found, EntitlementMiddleware)
    return _MIDDLEWARE if is_ours else path


def _ledger(settings: Settings) -> list[CheckMessage]:
    ledger, is_shared = settings.gate.ledger, settings.gate.ledger not in ("memory", None)
    messages: list[CheckMessage] = []
    for word, is_there, remedy in (
        ("redis", find_spec("redis") is not None, "Install entitlement_gate[redis]."),
        ("database", apps.is_installed("entitlement_gate.usage"), "Add 'entitlement_gate.usage' to INSTALLED_APPS."),
    ):
        if ledger == word and not is_there:
            messages.append(
                Error(f"{SETTING}['LEDGER'] is {word!r}, which is missing.", hint=remedy, id="entitlement_gate.E005")
            )
    if ledger == "memory" and not django_settings.DEBUG:
        messages.append(
            checks.Warning(
                f"{SETTING}['LEDGER'] is 'memory', outside DEBUG: each process counts for itself what is used up.",
                hint="Set it to 'redis' or 'database', or to None where nothing is used up here.",
                id="entitlement_gate.W005",
            )
        )
    if settings.gate.usage and not is_shared:
        messages.append(
            checks.Warning(
                f"{SETTING}['USAGE'] is shipped by a command, which cannot reach the ledger {ledger!r}.",
                hint="Set LEDGER to 'redis' or 'database'.",
                id="entitlement_gate.W006",
            )
        )
    return messages


def _rules(settings: Settings) -> list[CheckMessage]:
    if not settings.rules:
        return []
    messages: list[CheckMessage] = []
    if _MIDDLEWARE not in map(_kind, django_settings.MIDDLEWARE):
        messages.append(
            Error(
                f"{SETTING}['RULES'] are enforced by EntitlementMiddleware, which is not in MIDDLEWARE.",
                hint=f"Add {_MIDDLEWARE!r} below the authentication middleware.",
                id="entitlement_gate.E004",
            )
        )
    known = frozenset(_names(get_resolver(), ()))
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
    if rule.about == "path" and _NO_PATH.match(rule.name):
        return "a request's path begins with a slash", "Write '^/reports/', not '^reports/'."
    if rule.about != "path" and (rule.about, rule.name) not in known:
        hint = "Names are written as for reverse(): 'app:name', or 'app' for a namespace."
        return f"no URL has this {rule.about}", hint
    if rule.methods and rule.methods.isdisjoint(_METHODS):
        return f"no request has the method {', '.join(sorted(rule.methods))}", "Write methods as HTTP does: 'POST'."
    return "", ""


def _unanswered() -> list[CheckMessage]:
    """Warn of gates that raise where no middleware answers: an outage would be a plain 500."""
    if _MIDDLEWARE in map(_kind, django_settings.MIDDLEWARE):
        return []
    raising = sorted({_called(view) for view in _views(get_resolver()) if raises_refusals(view)})
    return [
        checks.Warning(
            f"{name} raises what EntitlementMiddleware would answer, which is not in MIDDLEWARE.",
            hint=f"Add {_MIDDLEWARE!r}, or take on_denied='raise' away: an outage is a 500 otherwise.",
            id="entitlement_gate.W007",
        )
        for name in raising
    ]


def _views(resolver: URLResolver) -> Iterator[Any]:
    for pattern in resolver.url_patterns:
        if isinstance(pattern, URLResolver):
            yield from _views(pattern)
        else:
            yield pattern.callback


def _called(view: Any) -> str:
    named = class_of(view) or view
    return f"{getattr(named, '__module__', '')}.{getattr(named, '__qualname__', view)}"


def _names(resolver: URLResolver, namespaces: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield ("view", name) and ("namespace", name) for all that the URLs define."""
    for pattern in resolver.url_patterns:
        if isinstance(pattern, URLResolver):
            inner = (*namespaces, pattern.namespace) if pattern.namespace else namespaces
            yield "namespace", ":".join(inner)
            yield from _names(pattern, inner)
        else:
            yield "view", ":".join((*namespaces, pattern.name or pattern.lookup_str))


def _customer(settings: Settings) -> list[CheckMessage]:
    """Warn where the default resolver would find no customer for anybody."""
    first = settings.customer_attribute.partition(".")[0]
    if settings.customer_resolver not in (from_user, "entitlement_gate.resolvers.from_user") or not apps.is_installed(
        "django.contrib.auth"
    ):
        return []
    user = get_user_model()
    if hasattr(user, first) or first in {f.name for f in user._meta.get_fields()}:  # noqa: SLF001 - Django's own API
        return []
    return [
        checks.Warning(
            f"{SETTING}['CUSTOMER_ATTRIBUTE']: {user.__name__} has no {first!r}: nobody will have a customer.",
            hint="Name where a user's Zenskar customer id is kept, or set CUSTOMER_RESOLVER.",
            id="entitlement_gate.W004",
        )
    ]
