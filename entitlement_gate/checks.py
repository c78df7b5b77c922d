"""System checks: what is wrong with the settings, said at start-up. Never here: I/O; ``doctor`` reaches the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings as django_settings
from django.core import checks
from django.core.checks import CheckMessage, Error, register
from django.core.exceptions import ImproperlyConfigured

from entitlement_gate.conf import SETTING, Settings, get_settings, unknown_keys

__all__ = ["check_settings"]

_MIDDLEWARE = "entitlement_gate.middleware.EntitlementMiddleware"
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
        return [*messages, Error(str(error), id="entitlement_gate.E001")]
    return [*messages, *_paths(settings), *_surroundings(settings)]


def _unknown(key: str, nearest: str | None) -> CheckMessage:
    hint = f"Did you mean {nearest!r}?" if nearest else "The reference of the settings lists every key."
    return Error(f"{SETTING}[{key!r}] is no setting.", hint=hint, id="entitlement_gate.E002")


def _paths(settings: Settings) -> list[CheckMessage]:
    messages: list[CheckMessage] = []
    for name in ("customer_resolver", "denied_handler"):
        try:
            settings.load(name)
        except ImproperlyConfigured as error:
            messages.append(Error(str(error), id="entitlement_gate.E003"))
    return messages


def _surroundings(settings: Settings) -> list[CheckMessage]:
    messages: list[CheckMessage] = []
    middleware = list(django_settings.MIDDLEWARE)
    if _MIDDLEWARE in middleware and _AUTHENTICATION in middleware[middleware.index(_MIDDLEWARE) :]:
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
