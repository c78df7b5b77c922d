"""System checks: what is wrong with the settings, said at start-up. Never here: I/O."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.core import checks
from django.core.checks import CheckMessage, Error, register
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router
from django.utils.connection import ConnectionDoesNotExist
from django.utils.module_loading import import_string

from entitlement_gate.conf import SETTING, Settings, get_settings, unknown_keys
from entitlement_gate.resolvers import from_user
from entitlement_gate.url_checks import (
    AUTHENTICATION,
    MIDDLEWARE,
    cache_messages,
    kind_of,
    raising_messages,
    rule_messages,
    target_messages,
    urlconf_messages,
)
from entitlement_gate.zenskar.options import SANDBOX

__all__ = ["check_settings"]


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
    lost = urlconf_messages(settings)
    return [
        *messages,
        *_paths(settings),
        *_surroundings(settings),
        *(
            lost
            or [
                *rule_messages(settings),
                *raising_messages(),
                *target_messages(settings),
                *cache_messages(settings),
            ]
        ),
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
    kinds = [kind_of(path) for path in django_settings.MIDDLEWARE]
    if MIDDLEWARE in kinds and AUTHENTICATION in kinds[kinds.index(MIDDLEWARE) :]:
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


def _ledger(settings: Settings) -> list[CheckMessage]:
    ledger, is_shared = settings.gate.ledger, settings.gate.ledger not in ("memory", None)
    messages: list[CheckMessage] = []
    if settings.gate.redis_url is not None and find_spec("redis") is None:
        messages.append(
            Error(
                f"{SETTING}['REDIS_URL'] needs the package redis, which is missing.",
                hint="Install entitlement_gate[redis].",
                id="entitlement_gate.E005",
            )
        )
    if ledger == "database":
        messages += _database()
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


def _no_ledger(why: str, hint: str) -> CheckMessage:
    return Error(f"{SETTING}['LEDGER'] is 'database', {why}.", hint=hint, id="entitlement_gate.E005")


def _database() -> list[CheckMessage]:
    """Return why there is no ledger in the database: it is made here as the gate makes it, which asks no database."""
    if not apps.is_installed("entitlement_gate.usage"):
        return [_no_ledger("which is missing", "Add 'entitlement_gate.usage' to INSTALLED_APPS.")]
    try:
        import_string("entitlement_gate.usage.ledger.DatabaseLedger")()
    except (ValueError, ConnectionDoesNotExist, ImproperlyConfigured) as error:
        hint = "Route entitlement_gate.usage to a PostgreSQL or SQLite database, or take another ledger."
        return [_no_ledger(f"which cannot be had: {error}".rstrip("."), hint)]
    return _one_writer()


def _one_writer() -> list[CheckMessage]:
    """Warn where each request keeps the only place to write, for which the ledger waits in vain."""
    alias = router.db_for_write(import_string("entitlement_gate.usage.models.Charge"))
    database = connections.settings[alias]
    if not (database["ENGINE"].endswith("sqlite3") and database["ATOMIC_REQUESTS"]):
        return []
    return [
        checks.Warning(
            f"DATABASES[{alias!r}] is SQLite with ATOMIC_REQUESTS: a view that uses something up waits for itself.",
            hint="SQLite has one writer. Take PostgreSQL, LEDGER 'redis', or ATOMIC_REQUESTS away.",
            id="entitlement_gate.W008",
        )
    ]


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
