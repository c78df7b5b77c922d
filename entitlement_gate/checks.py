"""System checks: what is wrong with settings, rules and gates, said at start-up. Never here: I/O."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPMethod
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urlsplit

from django.apps import apps
from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.core import checks
from django.core.checks import CheckMessage, Error, register
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router
from django.shortcuts import resolve_url
from django.urls import (
    NoReverseMatch,
    Resolver404,
    URLResolver,
    get_resolver,
    get_script_prefix,
    get_urlconf,
    is_valid_path,
    resolve,
    set_urlconf,
)
from django.utils.connection import ConnectionDoesNotExist
from django.utils.module_loading import import_string

from entitlement_gate.conf import SETTING, Settings, get_settings, unknown_keys, urlconfs_in_settings
from entitlement_gate.marks import (
    methods_without_self,
    raises_refusals,
    requirements_of,
    requirements_used_up,
    targets_of,
)
from entitlement_gate.resolvers import from_user
from entitlement_gate.responses import upgrade_address
from entitlement_gate.url_rules import class_of, namespaces_of
from entitlement_gate.waiting import takes
from entitlement_gate.zenskar.options import SANDBOX

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from entitlement_gate.url_rules import Rule

__all__ = [
    "AUTHENTICATION",
    "MIDDLEWARE",
    "cache_messages",
    "check_settings",
    "consuming_messages",
    "kind_of",
    "method_messages",
    "raising_messages",
    "rule_messages",
    "target_messages",
    "urlconf_messages",
]


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
        *_rule_calls(settings),
        *_surroundings(settings),
        *(
            lost
            or [
                *rule_messages(settings),
                *method_messages(),
                *raising_messages(),
                *consuming_messages(settings),
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
    for name in _BY_PATH:
        if getattr(settings, name) is None:
            continue
        try:
            settings.load(name)
        except ImproperlyConfigured as error:
            hint = "Write the dotted path of a callable that can be imported."
            messages.append(Error(str(error), hint=hint, id="entitlement_gate.E003"))
    return messages + _calls(settings)


def _rule_calls(settings: Settings) -> Iterator[CheckMessage]:
    """Yield errors of what rules name by dotted path, and of what does not take a request: each one would fail."""
    for rule in settings.rules:
        for name in ("key", "customer"):
            try:
                call = settings.load_of_rule(rule, name)
            except ImproperlyConfigured as error:
                hint = "Write the dotted path of a function of the request that can be imported."
                yield Error(str(error), hint=hint, id="entitlement_gate.E003")
                continue
            if call is not None and not takes(call, 1):
                text = f"{SETTING}['RULES']: {rule}: {name} cannot be called with (request)."
                yield Error(text, hint="Let it take (request).", id="entitlement_gate.E003")


_CALLED_WITH = {
    "api_key": (),
    "organisation": (),
    "source": (),
    "customer_resolver": ("request",),
    "denied_handler": ("request", "decision"),
    "upgrade_url": ("request", "decision"),
    "webhook_verifier": ("request",),
}
_BY_PATH = ("source", "customer_resolver", "denied_handler", "webhook_verifier")


def _calls(settings: Settings) -> list[CheckMessage]:
    """Return errors of callables that do not take what they are called with: each request would fail."""
    messages: list[CheckMessage] = []
    for name, args in _CALLED_WITH.items():
        call = getattr(settings, name)
        if name in _BY_PATH and isinstance(call, str):
            with suppress(ImproperlyConfigured):  # which is told above
                call = settings.load(name)
        if callable(call) and not takes(call, len(args)):
            text = f"{SETTING}[{name.upper()!r}] cannot be called with ({', '.join(args)})."
            hint = f"Let it take ({', '.join(args)})."
            messages.append(Error(text, hint=hint, id="entitlement_gate.E003"))
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


MIDDLEWARE = "entitlement_gate.middleware.EntitlementMiddleware"
_NO_PATH = re.compile(r"\^[\w<-][^|]*")  # anchored, and no slash first
_NEAR = 0.65  # as "GTE" is to "GET"; other methods than HTTP's own may be meant
_PAGE_CACHE = "django.middleware.cache.UpdateCacheMiddleware"  # CacheMiddleware is one too
_FLAT_PAGES = "django.contrib.flatpages.middleware.FlatpageFallbackMiddleware"
_WHITENOISE = "whitenoise.middleware.WhiteNoiseMiddleware"
_SETS_NO_URLS = ("django.", "entitlement_gate.")  # middleware of others may set `request.urlconf`
_PLACE = re.compile(r"\^(/[\w/-]*)")  # what a pattern begins with that is no pattern
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
    known = frozenset(name for _, patterns in _urls() for name in _names(patterns))
    is_all = bool(settings.urlconfs) or all(path.startswith(_SETS_NO_URLS) for path in django_settings.MIDDLEWARE)
    idle = [(rule, *_why_idle(rule, known, is_all=is_all)) for rule in settings.rules]
    messages += [
        checks.Warning(f"{SETTING}['RULES']: {rule.name!r}: {why}.", hint=hint, id="entitlement_gate.W003")
        for rule, why, hint in idle
        if why
    ]
    return messages + _passed_by(settings.rules)


def _passed_by(rules: Sequence[Rule]) -> list[CheckMessage]:
    """Warn of middleware above ours that answers by itself what rules about paths are about."""
    above = list(itertools.takewhile(lambda path: kind_of(path) != MIDDLEWARE, django_settings.MIDDLEWARE))
    patterns = [rule for rule in rules if rule.pattern is not None]
    static = urlsplit(django_settings.STATIC_URL or "").path
    places = [place[1] for rule in patterns if (place := _PLACE.match(rule.name))]
    is_about_files = bool(static) and any(place.startswith(static) for place in places)
    return [
        checks.Warning(
            f"{path} stands above EntitlementMiddleware and answers by itself: RULES do not reach its {what}.",
            hint=f"Move it below {MIDDLEWARE!r}.",
            id="entitlement_gate.W010",
        )
        for path in above
        for kind, what, is_meant in (
            (_FLAT_PAGES, "flat pages", bool(patterns)),
            (_WHITENOISE, "files", is_about_files),
        )
        if is_meant and kind in _kinds(path)
    ]


def _why_idle(rule: Rule, known: frozenset[tuple[str, str]], *, is_all: bool) -> tuple[str, str]:
    """Return why a rule can match no request, and what to do; two empty texts where it can.

    ``is_all`` says whether those known are all names that there are.
    """
    if rule.about == "path" and _NO_PATH.fullmatch(rule.name):
        text = "a request's path begins with a slash: this rule gates nothing"
        return text, "Write '^/reports/', not '^reports/'."
    if rule.about != "path" and (rule.about, rule.name) not in known:
        hint = (
            "Names are written as for reverse(): 'app:name', or 'app' for a namespace. List URLconfs that a middleware "
            "sets as request.urlconf in URLCONFS."
        )
        if is_all:
            return f"no URL has this {rule.about}: this rule gates nothing", hint
        text = "this rule is for requests that a middleware gives another request.urlconf, if any"
        return f"no URL of ROOT_URLCONF has this {rule.about}: {text}", hint
    meant = [difflib.get_close_matches(method, HTTPMethod, n=1, cutoff=_NEAR) for method in sorted(rule.methods)]
    if meant and all(meant) and rule.methods.isdisjoint(HTTPMethod):
        hint = f"Did you mean {', '.join(str(near[0]) for near in meant)}?"
        return f"no request has the method {', '.join(sorted(rule.methods))}: this rule gates nothing", hint
    return "", ""


def raising_messages() -> list[CheckMessage]:
    """Return warnings of gates that raise where no middleware answers: an outage would be a plain 500."""
    if MIDDLEWARE in map(kind_of, django_settings.MIDDLEWARE):
        return []
    raising = sorted({_called(view) for _, patterns in _urls() for view in _views(patterns) if raises_refusals(view)})
    return [
        checks.Warning(
            f"{name} raises what EntitlementMiddleware would answer, which is not in MIDDLEWARE.",
            hint=f"Add {MIDDLEWARE!r}, or take on_denied='raise' away: an outage is a 500 otherwise.",
            id="entitlement_gate.W007",
        )
        for name in raising
    ]


def consuming_messages(settings: Settings) -> list[CheckMessage]:
    """Return errors of gates that use something up where no ledger counts it: each request would fail."""
    if settings.gate.ledger is not None:
        return []
    using = {_called(view) for _, patterns in _urls() for view in _views(patterns) if requirements_used_up(view)}
    using |= {f"{SETTING}['RULES']: {rule}" for rule in settings.rules if rule.consume}
    return [
        Error(
            f"{name} uses something up (consume=True), and {SETTING}['LEDGER'] is None: each request would fail.",
            hint="Set LEDGER to 'redis', 'database' or 'memory', or take consume=True away.",
            id="entitlement_gate.E006",
        )
        for name in sorted(using)
    ]


def method_messages() -> list[CheckMessage]:
    """Return errors of gates on methods that take ``self`` for the request: each request would be a 500."""
    views = (view for _, patterns in _urls() for view in _views(patterns))
    wrong = sorted({f"{_called(view)}.{name}" for view in views for name in methods_without_self(view)})
    return [
        Error(
            f"{name} is a method, and @requires_entitlement on it takes its instance for the request.",
            hint="Write @method_decorator(requires_entitlement(…)), or gate the class.",
            id="entitlement_gate.E007",
        )
        for name in wrong
    ]


def cache_messages(settings: Settings) -> list[CheckMessage]:
    """Return warnings of middleware that keeps pages for everybody and answers with them before any gate is asked."""
    is_gated = MIDDLEWARE in map(kind_of, django_settings.MIDDLEWARE) or any(
        requirements_of(view) for _, patterns in _urls() for view in _views(patterns)
    )
    kept = "that say 'public' themselves" if settings.private_responses else "of which none is private"
    return [
        checks.Warning(
            f"{path} stands above gated views and gives what it kept to everybody: answers {kept}.",
            hint=(
                "Leave PRIVATE_RESPONSES on and let no gated view say 'public' or 's-maxage', nor have a cache_page "
                "below its gate without a key_prefix; then silence this."
            ),
            id="entitlement_gate.W013",
        )
        for path in (django_settings.MIDDLEWARE if is_gated else ())
        if _PAGE_CACHE in _kinds(path)
    ]


def urlconf_messages(settings: Settings) -> list[CheckMessage]:
    """Return errors of ``URLCONFS`` that cannot be imported."""
    messages: list[CheckMessage] = []
    for name in settings.urlconfs:
        try:
            _ = get_resolver(name).url_patterns
        except (ImportError, ImproperlyConfigured) as error:
            hint = "Name modules that define urlpatterns, as ROOT_URLCONF does."
            messages.append(Error(f"{SETTING}['URLCONFS']: {error}", hint=hint, id="entitlement_gate.E003"))
    return messages


def target_messages(settings: Settings) -> list[CheckMessage]:
    """Return warnings of refusals that lead to no URL, or from gate to gate and back."""
    wrong = {(name, *_why_lost(name, target, urlconfs)) for name, target, urlconfs in _targets(settings)}
    return [checks.Warning(f"{name}: {why}.", hint=hint, id=id_) for name, why, hint, id_ in sorted(wrong) if why]


def _targets(settings: Settings) -> Iterator[tuple[str, Any, list[Any]]]:
    """Yield who leads people where, and whose URLs it may name."""
    urls = _urls()
    for urlconf, patterns in urls:
        for view in _views(patterns):
            yield from ((f"on_denied of {_called(view)}", target, [urlconf]) for target in targets_of(view))
    every = [urlconf for urlconf, _ in urls]
    if settings.upgrade_url is not None and not callable(settings.upgrade_url):
        yield f"{SETTING}['UPGRADE_URL']", settings.upgrade_url, every
    if settings.anonymous == "login":
        yield "LOGIN_URL", django_settings.LOGIN_URL, every


def _why_lost(name: str, target: Any, urlconfs: list[Any]) -> tuple[str, str, str]:
    """Return why people who are led there get lost, what to do, and the id for that; empty where they do not."""
    addresses, errors = [], []
    for urlconf in urlconfs:
        try:
            addresses.append(_address(name, target, urlconf))
        except (NoReverseMatch, ValueError) as error:
            errors.append(str(error).rstrip("."))
    if errors and not addresses:
        hint = "Name a URL as for reverse(), one that takes no arguments, or write an address: '/plans/'."
        return errors[0], hint, "entitlement_gate.W011"
    if name.startswith("on_denied") and any(map(_is_circle, addresses, urlconfs)):
        hint = "Lead to a page without such a gate, or leave on_denied away at the gate there."
        return f"{target!r} is behind gates that lead back to it", hint, "entitlement_gate.W012"
    return "", "", ""


def _address(name: str, target: Any, urlconf: Any) -> str:
    """Return the address that a target is, or names. Raises ``NoReverseMatch``, or ``ValueError`` where it is none."""
    before = get_urlconf()
    set_urlconf(urlconf)
    try:
        if name.endswith("['UPGRADE_URL']"):
            return upgrade_address(target) or ""
        if not target:
            raise ValueError("there is no address")
        return str(resolve_url(target))
    finally:
        set_urlconf(before)


def _is_circle(url: str, urlconf: Any, seen: tuple[str, ...] = ()) -> bool:
    """Return whether who is refused at every gate is led from this page back to it."""
    if url in seen:
        return True
    try:
        targets = targets_of(_view_at(urlsplit(url), urlconf), ("get", "head"))
        further = [_address("on_denied", target, urlconf) for target in targets]
    except (Resolver404, NoReverseMatch):
        return False
    return any(_is_circle(next_url, urlconf, (*seen, url)) for next_url in further)


def _view_at(address: SplitResult, urlconf: Any) -> Any:
    """Return the view at an address of this project. Raises ``Resolver404``."""
    if address.netloc or not address.path.startswith("/"):
        raise Resolver404
    path = "/" + unquote(address.path).removeprefix(get_script_prefix())
    slash = "" if path.endswith("/") or is_valid_path(path, urlconf) or not django_settings.APPEND_SLASH else "/"
    return resolve(f"{path}{slash}", urlconf).func


def _urls() -> list[tuple[Any, list[Any]]]:
    """Return the project's URLconfs with their URLs; a worker or a script may have none."""
    return [(urlconf, get_resolver(urlconf).url_patterns) for urlconf in urlconfs_in_settings()]


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
    return MIDDLEWARE if MIDDLEWARE in _kinds(path) else path


def _kinds(path: str) -> set[str]:
    """Return the paths of a middleware and of what it is a subclass of."""
    if path in (MIDDLEWARE, AUTHENTICATION, _FLAT_PAGES, _WHITENOISE):
        return {path}
    try:
        found = import_string(path)
    except ImportError:
        return {path}
    return {path, *(f"{base.__module__}.{base.__qualname__}" for base in getattr(found, "__mro__", ()))}
