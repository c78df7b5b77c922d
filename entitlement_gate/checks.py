"""System checks: what is wrong with settings, rules and gates. They do no I/O."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Mapping
from functools import partial
from http import HTTPMethod
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urlsplit

from django.apps import apps
from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.core.checks import CheckMessage, register
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router
from django.http import HttpRequest
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

from entitlement_gate.check_messages import Check
from entitlement_gate.conf import SETTING, Settings, get_settings, unknown_keys, urlconfs_in_settings
from entitlement_gate.decorators import (
    find_ungated_methods,
    marks_of,
    marks_of_permissions,
    requirements_of,
    targets_of,
)
from entitlement_gate.resolvers import from_user
from entitlement_gate.responses import upgrade_address
from entitlement_gate.url_rules import class_of, namespaces_of, rules_about
from entitlement_gate.waiting import takes
from entitlement_gate.zenskar.client_options import SANDBOX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from entitlement_gate.url_rules import Rule

__all__ = ["check_settings"]

_AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"
_OURS = "entitlement_gate.middleware.EntitlementMiddleware"
_PAGE_CACHE = "django.middleware.cache.UpdateCacheMiddleware"  # CacheMiddleware is one too
_FLAT_PAGES = "django.contrib.flatpages.middleware.FlatpageFallbackMiddleware"
_WHITENOISE = "whitenoise.middleware.WhiteNoiseMiddleware"
_SETS_NO_URLS = ("django.", "entitlement_gate.")  # middleware of others may set `request.urlconf`
_NO_PATH = re.compile(r"\^[\w<-][^|]*")  # anchored, and no slash first
_PLACE = re.compile(r"\^(/[\w/-]*)")  # what a pattern begins with that is no pattern
_LITERAL = re.compile(r"\^((?:[\w/-](?![?*{]))*)")  # as above, less a character that may be left out
_NEAR = 0.65  # as "GTE" is to "GET"; other methods than HTTP's own may be meant
_CALLED_WITH = {
    "api_key": (),
    "organisation": (),
    "source": (),
    "customer_resolver": ("request",),
    "denied_handler": ("request", "decision"),
    "upgrade_url": ("request", "decision"),
    "webhook_verifier": ("request",),
}
_CALLED_BY_RULES = {"key": ("request",), "customer": ("request",), "on_denied": ("request", "decision")}
_BY_PATH = ("source", "customer_resolver", "denied_handler", "webhook_verifier")


@register("entitlement_gate")
def check_settings(**_: Any) -> list[CheckMessage]:
    """Return what is wrong with ``ENTITLEMENT_GATE``."""
    messages = list(_check_keys())
    try:
        settings = get_settings()
    except ImproperlyConfigured as error:
        return [*messages, Check.E001.message(str(error))]
    urlconf_messages = list(_check_urlconfs(settings))
    for check in (*_OF_SETTINGS, *(() if urlconf_messages else _OF_URLS)):
        messages += check(settings)
    return messages + urlconf_messages


def _check_keys() -> Iterator[CheckMessage]:
    raw = getattr(django_settings, SETTING, None)
    for key, nearest in unknown_keys(raw if isinstance(raw, Mapping) else {}).items():
        hint = f"Did you mean {nearest!r}?" if nearest else "The reference of the settings lists every key."
        yield Check.E002.message(f"{SETTING}[{key!r}] is no setting.", hint)


def _check_scenario(settings: Settings) -> Iterator[CheckMessage]:
    scenario = settings.client.base_url.removeprefix(SANDBOX) if settings.is_sandbox else ""
    if scenario and not Path(scenario).is_file():
        text = f"{SETTING}['BASE_URL']: there is no scenario {scenario!r}."
        yield Check.E001.message(text, "Name a file, or write 'sandbox:' alone.")
    elif scenario:
        from entitlement_gate.sandbox import Scenario, ScenarioError  # noqa: PLC0415 - no project in production needs it

        try:
            Scenario.load(scenario)
        except ScenarioError as error:
            text = f"{SETTING}['BASE_URL']: the scenario {scenario!r} cannot be read: {error}."
            yield Check.E001.message(text, "Correct the scenario.")


def _check_calls(settings: Settings) -> Iterator[CheckMessage]:
    """Report dotted paths that lead nowhere, and of callables that do not take what they are called with."""
    for name, args in _CALLED_WITH.items():
        value = getattr(settings, name)
        if callable(value) or (name in _BY_PATH and value is not None):
            yield from _check_call(f"{SETTING}[{name.upper()!r}]", partial(settings.load, name), args)
    for rule in settings.rules:
        for name, args in _CALLED_BY_RULES.items():
            place = f"{SETTING}['RULES']: {rule}: {name}"
            yield from _check_call(place, partial(settings.load_of_rule, rule, name), args)


def _check_call(place: str, load: Callable[[], Any], args: tuple[str, ...]) -> Iterator[CheckMessage]:
    try:
        call = load()
    except ImproperlyConfigured as error:
        hint = "Write the dotted path of a callable that can be imported."
        yield Check.E003.message(str(error), hint)
    else:
        if call is not None and not takes(call, len(args)):
            arguments = ", ".join(args)
            yield Check.E003.message(f"{place} cannot be called with ({arguments}).", f"Let it take ({arguments}).")


def _check_surroundings(settings: Settings) -> Iterator[CheckMessage]:
    if _AUTHENTICATION in itertools.dropwhile(lambda path: not _is_ours(path), django_settings.MIDDLEWARE):
        yield Check.W001.message("EntitlementMiddleware comes before AuthenticationMiddleware.")
    if settings.is_sandbox and not django_settings.DEBUG:
        yield Check.W002.message(f"{SETTING}['BASE_URL'] is the sandbox, outside DEBUG.")


def _check_customer(settings: Settings) -> Iterator[CheckMessage]:
    """Warn where the default resolver would find no customer for anybody."""
    first = settings.customer_attribute.partition(".")[0]
    is_default = settings.customer_resolver in (from_user, "entitlement_gate.resolvers.from_user")
    if not (is_default and apps.is_installed("django.contrib.auth")):
        return
    user = get_user_model()
    if not (hasattr(user, first) or first in {f.name for f in user._meta.get_fields()}):  # noqa: SLF001 - Django's own API
        yield Check.W004.message(
            f"{SETTING}['CUSTOMER_ATTRIBUTE']: {user.__name__} has no {first!r}: nobody will have a customer."
        )


def _check_ledger(settings: Settings) -> Iterator[CheckMessage]:
    ledger = settings.gate.ledger
    if settings.gate.redis_url is not None and find_spec("redis") is None:
        text = f"{SETTING}['REDIS_URL'] needs the package redis, which is missing."
        yield Check.E005.message(text, "Install entitlement_gate[redis].")
    if ledger == "database":
        yield from _check_database()
    if ledger == "memory" and not django_settings.DEBUG:
        yield Check.W005.message(
            f"{SETTING}['LEDGER'] is 'memory', outside DEBUG: each process counts for itself what is used up."
        )
    if settings.gate.usage and ledger in ("memory", None):
        yield Check.W006.message(
            f"{SETTING}['USAGE'] is shipped by a command, which cannot reach the ledger {ledger!r}."
        )


def _check_database() -> Iterator[CheckMessage]:
    """Report why there is no ledger in the database: it is made as the gate makes it, which queries nothing."""
    if not apps.is_installed("entitlement_gate.usage"):
        text = f"{SETTING}['LEDGER'] is 'database', which is missing."
        yield Check.E005.message(text, "Add 'entitlement_gate.usage' to INSTALLED_APPS.")
        return
    try:
        import_string("entitlement_gate.usage.ledger.DatabaseLedger")()
    except (ValueError, ConnectionDoesNotExist, ImproperlyConfigured) as error:
        text = f"{SETTING}['LEDGER'] is 'database', which cannot be had: {error}".rstrip(".")
        hint = "Route entitlement_gate.usage to a PostgreSQL or SQLite database, or take another ledger."
        yield Check.E005.message(f"{text}.", hint)
        return
    alias = router.db_for_write(import_string("entitlement_gate.usage.models.Charge"))
    database = connections.settings[alias]
    # Where each request keeps the only place to write, the ledger waits for it in vain.
    if database["ENGINE"].endswith("sqlite3") and database["ATOMIC_REQUESTS"]:
        yield Check.W008.message(
            f"DATABASES[{alias!r}] is SQLite with ATOMIC_REQUESTS: a view that uses something up waits for itself."
        )


def _check_rules(settings: Settings) -> Iterator[CheckMessage]:
    """Report what is wrong with ``RULES``: no middleware to enforce them, or nothing that they match."""
    if not settings.rules:
        return
    if not _has_middleware():
        yield Check.E004.message(
            f"{SETTING}['RULES'] are enforced by EntitlementMiddleware, which is not in MIDDLEWARE."
        )
    names = frozenset(name for _, patterns in _list_urls() for name in _list_names(patterns))
    paths = _list_paths()
    is_all = bool(settings.urlconfs) or all(path.startswith(_SETS_NO_URLS) for path in django_settings.MIDDLEWARE)
    for rule in settings.rules:
        why, hint = _explain_idle(rule, names, is_all=is_all)
        if not why and not _may_lead_somewhere(rule, paths):
            why, hint = "no URL begins like this: this rule gates nothing", "Compare it with the URLs of the project."
        if why:
            yield Check.W003.message(f"{SETTING}['RULES']: {rule.name!r}: {why}.", hint)


def _check_middleware_above(settings: Settings) -> Iterator[CheckMessage]:
    """Warn of middleware above ours that answers by itself what rules about paths are about."""
    patterns = [rule for rule in settings.rules if rule.pattern is not None]
    static = urlsplit(django_settings.STATIC_URL or "").path
    places = [place[1] for rule in patterns if (place := _PLACE.match(rule.name))]
    is_about_files = bool(static) and any(place.startswith(static) for place in places)
    kinds = ((_FLAT_PAGES, "flat pages", bool(patterns)), (_WHITENOISE, "files", is_about_files))
    for path in itertools.takewhile(lambda path: not _is_ours(path), django_settings.MIDDLEWARE):
        for kind, what, is_meant in kinds:
            if is_meant and kind in _list_kinds(path):
                yield Check.W010.message(
                    f"{path} stands above EntitlementMiddleware and answers by itself: RULES do not reach its {what}."
                )


def _explain_idle(rule: Rule, names: frozenset[tuple[str, str]], *, is_all: bool) -> tuple[str, str]:
    """Return why a rule can match no request, and what to do; two empty texts where it can.

    ``names`` are those of views and namespaces; ``is_all`` says whether there are no others.
    """
    if rule.about == "path" and _NO_PATH.fullmatch(rule.name):
        text = "a request's path begins with a slash: this rule gates nothing"
        return text, "Write '^/reports/', not '^reports/'."
    if rule.about != "path" and (rule.about, rule.name) not in names:
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


def _list_paths() -> list[tuple[str, bool]]:
    """Return how the path of each URL begins, and whether that is all of the path.

    Nothing where more than URLs may answer: a middleware that is neither Django's nor ours, or that for flat pages.
    """
    if any(
        path == _FLAT_PAGES or not (path.startswith(_SETS_NO_URLS) or _is_ours(path))
        for path in django_settings.MIDDLEWARE
    ):
        return []
    return [path for _, patterns in _list_urls() for path in _spell_paths(patterns)]


def _spell_paths(patterns: list[Any], before: str = "/") -> Iterator[tuple[str, bool]]:
    for pattern in patterns:
        begins, is_all = _spell_part(pattern.pattern, ends=("",) if isinstance(pattern, URLResolver) else ("$", r"\Z"))
        if is_all and isinstance(pattern, URLResolver):
            yield from _spell_paths(pattern.url_patterns, before + begins)
        else:
            yield (before + begins).casefold(), is_all


def _spell_part(part: Any, ends: tuple[str, ...]) -> tuple[str, bool]:
    """Return how a part of a URL begins, and whether that is all of it; nothing of one that a language decides on."""
    route, regex = getattr(part, "_route", None), getattr(part, "_regex", None)
    if isinstance(route, str):
        begins, converter, _ = route.partition("<")
        return begins, not converter
    literal = _LITERAL.match(f"^{regex.removeprefix('^')}") if route is None and isinstance(regex, str) else None
    if literal is None or "|" in literal.string:
        return "", False
    return literal[1], literal.string[literal.end() :] in ends


def _may_lead_somewhere(rule: Rule, paths: list[tuple[str, bool]]) -> bool:
    """Whether a rule may be about a path that some URL takes; of a pattern that is not anchored nobody can tell."""
    literal = None if "|" in rule.name else _LITERAL.match(rule.name)
    if rule.about != "path" or literal is None or not paths:
        return True
    place = literal[1].casefold()
    return any(path.startswith(place) or (not is_all and place.startswith(path)) for path, is_all in paths)


def _check_methods(_: Settings) -> Iterator[CheckMessage]:
    """Report gates on methods that take ``self`` for the request: each request would be a 500."""
    for name in sorted(
        {f"{_format_name(view)}.{name}" for view, _ in _list_views() for name in find_ungated_methods(view)}
    ):
        yield Check.E007.message(
            f"{name} is a method, and @requires_entitlement on it takes its instance for the request."
        )


def _check_raising(_: Settings) -> Iterator[CheckMessage]:
    """Warn of gates that raise where no middleware answers: an outage would be a plain 500."""
    if _has_middleware():
        return
    views = (view for view, _ in _list_views() if any(mark.on_denied == "raise" for mark in marks_of(view)))
    for name in sorted({*map(_format_name, views)}):
        yield Check.W007.message(f"{name} raises what EntitlementMiddleware would answer, which is not in MIDDLEWARE.")


def _check_use(settings: Settings) -> Iterator[CheckMessage]:
    """Report gates that use something up where no ledger counts it: each request would fail."""
    if settings.gate.ledger is not None:
        return
    names = {
        _format_name(view)
        for view, _ in _list_views()
        if any(mark.consume for mark in (*marks_of(view), *marks_of_permissions(view)))
    }
    names |= {f"{SETTING}['RULES']: {rule}" for rule in settings.rules if rule.consume}
    for name in sorted(names):
        yield Check.E006.message(
            f"{name} uses something up (consume=True), and {SETTING}['LEDGER'] is None: each request would fail."
        )


def _check_caches(settings: Settings) -> Iterator[CheckMessage]:
    """Warn of middleware that answers with pages cached for everybody before any gate is checked."""
    if not (_has_middleware() or any(requirements_of(view) or marks_of_permissions(view) for view, _ in _list_views())):
        return
    which = "that say 'public' themselves" if settings.private_responses else "of which none is private"
    for path in django_settings.MIDDLEWARE:
        if _PAGE_CACHE in _list_kinds(path):
            text = f"{path} stands above gated views and gives what it kept to everybody: answers {which}."
            yield Check.W013.message(text)


def _check_urlconfs(settings: Settings) -> Iterator[CheckMessage]:
    for name in settings.urlconfs:
        try:
            _ = get_resolver(name).url_patterns
        except (ImportError, ImproperlyConfigured, TypeError, ValueError) as error:  # the last two of no name
            hint = "Name modules that define urlpatterns, as ROOT_URLCONF does."
            yield Check.E003.message(f"{SETTING}['URLCONFS']: {error}", hint)


def _check_targets(settings: Settings) -> Iterator[CheckMessage]:
    """Warn of refusals that lead to no URL, or from gate to gate and back."""
    wrong = {(name, *_explain_lost(name, target, urlconfs)) for name, target, urlconfs in _find_targets(settings)}
    for name, why, check in sorted(wrong):
        if why:
            yield Check[check].message(f"{name}: {why}.")


def _find_targets(settings: Settings) -> Iterator[tuple[str, Any, list[Any]]]:
    """Yield who leads people where, and whose URLs it may name."""
    for view, urlconf in _list_views():
        yield from ((f"on_denied of {_format_name(view)}", target, [urlconf]) for target in targets_of(view))
    every = [urlconf for urlconf, _ in _list_urls()]
    yield from ((f"on_denied of the rule {rule}", rule.leads_to, every) for rule in settings.rules if rule.leads_to)
    if settings.upgrade_url is not None and not callable(settings.upgrade_url):
        yield f"{SETTING}['UPGRADE_URL']", settings.upgrade_url, every
    if settings.anonymous == "login":
        yield "LOGIN_URL", django_settings.LOGIN_URL, every


def _explain_lost(name: str, target: Any, urlconfs: list[Any]) -> tuple[str, str]:
    """Return why people who are led there get lost, and the check for that; empty where they do not."""
    addresses, errors = [], []
    for urlconf in urlconfs:
        try:
            addresses.append(_resolve_address(name, target, urlconf))
        except (NoReverseMatch, ValueError) as error:
            errors.append(str(error).rstrip("."))
    if errors and not addresses:
        return errors[0], Check.W011.name
    if name.startswith("on_denied") and any(map(_is_circle, addresses, urlconfs)):
        return f"{target!r} is behind gates that lead back to it", Check.W012.name
    return "", ""


def _resolve_address(name: str, target: Any, urlconf: Any) -> str:
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
        targets = _find_targets_at(urlsplit(url), urlconf)
        further = [_resolve_address("on_denied", target, urlconf) for target in targets]
    except (Resolver404, NoReverseMatch):
        return False
    return any(_is_circle(next_url, urlconf, (*seen, url)) for next_url in further)


def _find_targets_at(address: SplitResult, urlconf: Any) -> list[str]:
    """Return where the gates of a page of this project lead. Raises ``Resolver404`` where it is none."""
    if address.netloc or not address.path.startswith("/"):
        raise Resolver404
    path = "/" + unquote(address.path).removeprefix(get_script_prefix())
    if not (path.endswith("/") or is_valid_path(path, urlconf)) and django_settings.APPEND_SLASH:
        path += "/"
    match, request = resolve(path, urlconf), HttpRequest()
    request.method, request.path, request.path_info = "GET", path, path
    rules = rules_about(get_settings().rules, request, match)
    return [*(rule.leads_to for rule in rules if rule.leads_to), *targets_of(match.func, ("get", "head"))]


def _list_urls() -> list[tuple[Any, list[Any]]]:
    """Return the project's URLconfs with their URLs; a worker or a script may have none."""
    return [(urlconf, get_resolver(urlconf).url_patterns) for urlconf in urlconfs_in_settings()]


def _list_views() -> Iterator[tuple[Any, Any]]:
    """Yield every view that a URL leads to, and the URLconf of that."""
    queue = [(pattern, urlconf) for urlconf, patterns in _list_urls() for pattern in patterns]
    for pattern, urlconf in queue:
        if isinstance(pattern, URLResolver):
            queue += [(inner, urlconf) for inner in pattern.url_patterns]
        else:
            yield pattern.callback, urlconf


def _format_name(view: Any) -> str:
    target = class_of(view) or view
    return f"{getattr(target, '__module__', '')}.{getattr(target, '__qualname__', view)}"


def _list_names(
    patterns: list[Any], spaces: tuple[str, ...] = (), apps: tuple[str, ...] = ()
) -> Iterator[tuple[str, str]]:
    """Yield ("view", name) and ("namespace", name) for all that the URLs define, by instance and by application.

    A namespace within another is named by itself too.
    """
    around = namespaces_of(spaces, apps)
    levels = (name.split(":") for name in around)
    yield from (("namespace", ":".join(parts[start:])) for parts in levels for start in range(len(parts)))
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            inner = (*spaces, *filter(None, [pattern.namespace]))
            yield from _list_names(pattern.url_patterns, inner, (*apps, *filter(None, [pattern.app_name])))
        else:
            view = pattern.name or pattern.lookup_str
            yield from (("view", f"{name}:{view}" if name else view) for name in around)


def _has_middleware() -> bool:
    return any(map(_is_ours, django_settings.MIDDLEWARE))


def _is_ours(path: str) -> bool:
    """Return whether a middleware is ours, or a subclass of it; Django itself tells of a wrong path."""
    return _OURS in _list_kinds(path)


def _list_kinds(path: str) -> set[str]:
    """Return the paths of a middleware and of what it is a subclass of."""
    if path in (_OURS, _AUTHENTICATION, _FLAT_PAGES, _WHITENOISE):
        return {path}
    try:
        middleware = import_string(path)
    except ImportError:
        return {path}
    return {path, *(f"{base.__module__}.{base.__qualname__}" for base in getattr(middleware, "__mro__", ()))}


_OF_SETTINGS = (_check_scenario, _check_calls, _check_surroundings, _check_customer, _check_ledger)
_OF_URLS = (
    _check_rules,
    _check_middleware_above,
    _check_methods,
    _check_raising,
    _check_use,
    _check_targets,
    _check_caches,
)
