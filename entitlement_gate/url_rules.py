"""``RULES``: gates by path, view name or namespace, without touching a view. The middleware enforces them.

A rule names what it is about in exactly one way and what it requires; every rule that matches a request must hold.
A rule about every path, such as ``^/``, leaves alone what a whole site needs: its static files, and the way out.
"""

from __future__ import annotations

import itertools
import posixpath
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest
from django.urls.converters import StringConverter, get_converters

from entitlement_gate.domain.requirements import Requirement, as_requirement
from entitlement_gate.engine.options import POLICIES
from entitlement_gate.waiting import is_awaitable
from entitlement_gate.zenskar.client_options import is_texts

if TYPE_CHECKING:
    from django.urls import ResolverMatch

__all__ = [
    "Rule",
    "class_of",
    "entitlement_exempt",
    "go_on_to_next_dispatch",
    "has_failed",
    "is_exempt",
    "is_logout",
    "is_open",
    "is_static",
    "methods_of",
    "namespaces_of",
    "note_failure",
    "read_rules",
    "rules_about",
]

ViewT = TypeVar("ViewT", bound="Callable[..., Any] | type")
_ABOUT = ("path", "view", "namespace")
_OPTIONS = ("consume", "key", "customer", "on_unavailable", "on_denied")
_KEYS = frozenset({*_ABOUT, *_OPTIONS, "requires", "quantity", "methods"})
_STATIC = ("django.views.static", "django.contrib.staticfiles.views")
_FAILED = "_entitlement_view_failed"
_AN_ERROR = 400
_LOGOUT = "django.contrib.auth.views.LogoutView"
_EVERY_PATH = re.compile(r"(?:\^|\\A)?/?(?:\.(?:[*+]\$?)?)?")  # a pattern that leaves nothing out
_IGNORING_CASE = re.compile(r"\(\?[a-zA-Z]*i")  # in a route: the flag
_DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)+")
_SET = re.compile(r"\[\^?\]?[^\]]*\]")  # in a route: a set of characters
_CONVERTED = re.compile(r"<([^>:\s]+):")  # in a route: the name of a converter
_PADDING = re.compile(r"(?<!\d)0+(?=\d)")  # zeros before a number
_FOREIGN_DIGIT = re.compile(r"(?![0-9])\d")  # of Arabic or Devanagari, say
_HEX_DIGITS = 32  # of a UUID
_PARTS = re.compile(
    r"""
    \\.                              # an escape
    | \[ \^? \]? (?: \\. | [^\]\\] )* \]   # a set of characters
    | \$
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One entry of ``RULES``.

    Attributes:
        about: ``path``, ``view`` or ``namespace``.
        name: the regular expression, view name (``app:name``) or namespace it is about.
        requirement: what it requires.
        methods: HTTP methods it is for, HEAD wherever GET is; empty for all.
        consume: use up what it requires.
        key: ``(request) -> text``, or the dotted path of that: names what is used up.
        customer: ``(request) -> id``, or the dotted path of that: of whom, in place of the resolver.
        on_unavailable: ``deny`` or ``allow``, in place of the setting.
        on_denied: ``(request, decision) -> response``, the dotted path of that, or where to redirect, in place of the
            setting.
    """

    about: str
    name: str
    requirement: Requirement
    methods: frozenset[str] = frozenset()
    consume: bool = False
    key: Callable[..., Any] | str | None = None
    customer: Callable[..., Any] | str | None = None
    on_unavailable: str | None = None
    on_denied: Callable[..., Any] | str | None = None
    pattern: re.Pattern[str] | None = field(default=None, repr=False)

    def __str__(self) -> str:
        methods = f" [{', '.join(sorted(self.methods))}]" if self.methods else ""
        return f"{self.about} {self.name}{methods}"

    @property
    def leads_to(self) -> str | None:
        """Where it leads whom it refuses."""
        on_denied = self.on_denied
        return on_denied if isinstance(on_denied, str) and _DOTTED.fullmatch(on_denied) is None else None

    @property
    def is_about_every_path(self) -> bool:
        """Whether it singles out no path, view or namespace, and leaves none out.

        It is judged by how it is written: ``^/(premium/.*)?$`` matches the first page too, and is about others.
        """
        return self.about == "path" and _EVERY_PATH.fullmatch(self.name) is not None

    def matches(self, request: HttpRequest, match: ResolverMatch | None) -> bool:
        """Return whether the rule is about this request; ``match`` is None where no URL leads to what answers it."""
        if self.methods and request.method not in self.methods:
            return False
        if self.pattern is not None:
            return any(
                pattern.search(path) for pattern in _spellings(self.pattern, match) for path in _paths(request, match)
            )
        return match is not None and self.names(match)

    def names(self, match: ResolverMatch) -> bool:
        """Return whether it names this view or a namespace around it, by instance or by application.

        A view is named as ``reverse()`` names it; a namespace wherever it stands: ``shop`` is about ``eu:shop`` too.
        """
        view = match.view_name.removeprefix(f"{match.namespace}:")
        for namespace in namespaces_of(match.namespaces, match.app_names):
            if self.about == "view" and self.name == (f"{namespace}:{view}" if namespace else view):
                return True
            if self.about == "namespace" and f":{self.name}:" in f":{namespace}:":
                return True
        return False


def read_rules(raw: Any) -> tuple[Rule, ...]:
    """Return the rules of a setting.

    Raises:
        ValueError: an entry cannot work; the message says which and why.
    """
    if isinstance(raw, (str, Mapping)) or not isinstance(raw, Collection):  # an iterator is read but once
        raise ValueError(f"rules: a list of dicts, not {raw!r}")
    return tuple(_read(number, entry) for number, entry in enumerate(raw))


def rules_about(rules: Iterable[Rule], request: HttpRequest, match: ResolverMatch | None) -> Iterator[Rule]:
    """Yield the rules that have to hold for a request; ``match`` is None where no URL leads to what answers it."""
    if match is not None and is_exempt(match.func, match):
        return
    is_needed_everywhere = is_static(request, match) or (match is not None and is_logout(match))
    for rule in rules:
        if rule.matches(request, match) and not (is_needed_everywhere and rule.is_about_every_path):
            yield rule


def entitlement_exempt(view: ViewT) -> ViewT:
    """Let no rule apply to this view: a function, a class, a bound method, or what ``as_view()`` returned.

    That is about what the view answers. Where it fails, as with a 404, and a middleware then answers, rules apply.
    """
    exempt: Any = view
    if not isinstance(view, type):
        exempt = _note_failures(view)
    elif hasattr(view, "dispatch"):
        exempt.dispatch = _note_failures(vars(view).get("dispatch") or go_on_to_next_dispatch(view))
    exempt.entitlement_exempt = True
    return exempt  # type: ignore[no-any-return]  # the view, or what calls it


def note_failure(request: HttpRequest) -> None:
    """Note that the view failed: an answer below 400 is then another's, such as a middleware's."""
    setattr(request, _FAILED, True)


def has_failed(request: HttpRequest) -> bool:
    """Return whether that was noted."""
    return getattr(request, _FAILED, False)


def _note_failures(view: Callable[..., Any]) -> Callable[..., Any]:
    """Return the same view, or ``dispatch``, which notes on the request where it fails; of the same colour."""

    @wraps(view)
    def noting(*args: Any, **kwargs: Any) -> Any:
        request = next((arg for arg in args if isinstance(arg, HttpRequest)), None)
        if request is None:
            return view(*args, **kwargs)
        try:
            answer = view(*args, **kwargs)
        except Exception:
            note_failure(request)
            raise
        return _note_later(request, answer) if is_awaitable(answer) else _note_response(request, answer)

    return markcoroutinefunction(noting) if iscoroutinefunction(view) else noting


async def _note_later(request: HttpRequest, answer: Any) -> Any:
    try:
        response = await answer
    except Exception:
        note_failure(request)
        raise
    return _note_response(request, response)


def _note_response(request: HttpRequest, response: Any) -> Any:
    has_failed = getattr(response, "status_code", 0) >= _AN_ERROR
    setattr(request, _FAILED, has_failed)  # also of a view that made up for one that it called
    return response


def go_on_to_next_dispatch(view: Any) -> Callable[..., Any]:
    """Return a ``dispatch`` that goes on to the next class: a captured one would skip what siblings do."""

    @wraps(view.dispatch)
    def dispatch(self: Any, *args: Any, **kwargs: Any) -> Any:
        return super(view, self).dispatch(*args, **kwargs)

    return markcoroutinefunction(dispatch) if iscoroutinefunction(view.dispatch) else dispatch


def is_exempt(view: Any, match: ResolverMatch) -> bool:
    """Return whether rules leave this view alone: it is marked so, or it is the admin's way in."""
    if any(getattr(part, "entitlement_exempt", False) for part in (view, class_of(view))):
        return True
    return match.app_names[-1:] == ["admin"] and match.url_name == "login"


def is_static(request: HttpRequest, match: ResolverMatch | None) -> bool:
    """Return whether a request is for a static file under ``STATIC_URL``: what Django's view or a middleware gives out.

    Files elsewhere may be paid for, and so may whatever a site has whose ``STATIC_URL`` is all of it. A view is
    known by the module of its code: ``__module__`` is copied by ``@wraps`` into a project's own view around it.
    Decorators of Django's own, such as ``never_cache``, change nothing.
    """
    place = settings.STATIC_URL or "/"
    if place == "/" or not _normalise(request.path).startswith(place):
        return False
    if match is None:
        return True
    view = match.func
    while _module_of(view).startswith("django.") and hasattr(view, "__wrapped__"):
        view = view.__wrapped__
    return _module_of(view) in _STATIC


def is_logout(match: ResolverMatch) -> bool:
    """Return whether a view is the way out, which whoever is signed in needs: Django's ``LogoutView``, the admin's."""
    if match.app_names[-1:] == ["admin"] and match.url_name == "logout":
        return True
    # By name: to import it takes the app, which a project may do without.
    bases = getattr(class_of(match.func), "__mro__", ())
    return any(f"{base.__module__}.{base.__qualname__}" == _LOGOUT for base in bases)


def is_open(view: Any) -> bool:
    """Return whether a view's author lets in who is not signed in: Django's ``login_not_required``.

    Django REST framework says so of each of its views, whose permissions then decide: it means nothing there.
    """
    return getattr(view, "login_required", True) is False and not hasattr(view, "cls")


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
        pattern = _compile(name) if about[0] == "path" else None
        requirement = as_requirement(entry["requires"], entry.get("quantity"))
    except (re.error, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{place}: {error}") from None
    return Rule(
        about=about[0],
        name=name,
        requirement=requirement,
        methods=methods_of(methods),
        pattern=pattern,
        **_read_use(place, entry),
    )


def methods_of(names: Iterable[str]) -> frozenset[str]:
    """Return the HTTP methods of these names; HEAD wherever GET is, because it runs the view as GET does."""
    upper = {name.upper() for name in names}
    return frozenset(upper | {"HEAD"} if "GET" in upper else upper)


def _read_use(place: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a rule says of using up, of whom, of outages, and of whom it refuses."""
    options = {name: entry[name] for name in _OPTIONS if name in entry}
    if not isinstance(options.get("consume", False), bool):
        raise ValueError(f"{place}: consume is True or False, not {options['consume']!r}")
    for name in ("key", "customer"):
        value = options.get(name)
        if not (value is None or callable(value) or (isinstance(value, str) and _DOTTED.fullmatch(value))):
            raise ValueError(f"{place}: {name} is a function of the request or the dotted path of one, not {value!r}")
    if options.get("key") is not None and not options.get("consume"):
        raise ValueError(f'{place}: key names what is used up; say "consume": True too')
    if options.get("on_unavailable") not in (None, *POLICIES):
        raise ValueError(f'{place}: on_unavailable is "deny" or "allow", not {options["on_unavailable"]!r}')
    on_denied = options.get("on_denied")
    if on_denied == "raise":
        raise ValueError(f'{place}: on_denied: "raise" is for views; before a view nobody catches what is raised')
    if not (on_denied is None or callable(on_denied) or (isinstance(on_denied, str) and on_denied.strip())):
        raise ValueError(f"{place}: on_denied is a function, the dotted path of one, or a URL, not {on_denied!r}")
    return options


def _compile(pattern: str) -> re.Pattern[str]:
    """Compile a pattern in which ``.`` matches every character and ``$`` the end alone.

    A path may hold a line feed, which ``.`` does not match and before which ``$`` matches.
    """
    re.compile(pattern)  # an error is about the pattern as it was written
    return re.compile(_PARTS.sub(lambda part: r"\Z" if part[0] == "$" else part[0], pattern), re.DOTALL)


def _spellings(pattern: re.Pattern[str], match: ResolverMatch | None) -> Iterator[re.Pattern[str]]:
    """Yield the pattern, and one that ignores case where the URL does, which leads there by every spelling."""
    yield pattern
    if match is not None and _may_ignore_case(match.route or ""):
        yield re.compile(pattern.pattern, pattern.flags | re.IGNORECASE)


def _may_ignore_case(route: str) -> bool:
    """Return whether a URL ignores case in any part: by a flag, a set such as ``[Pp]``, or a converter.

    A project's own converter is taken to ignore it: its ``to_python`` may make one value of two spellings.
    """
    if _IGNORING_CASE.search(route) or any(map(_has_both_cases, _SET.findall(route))):
        return True
    converters = get_converters()
    kinds = (type(converters[name]) for name in _CONVERTED.findall(route) if name in converters)
    return any(kind.__module__ != StringConverter.__module__ for kind in kinds)


def _has_both_cases(characters: str) -> bool:
    return any(character.isalpha() for character in {*characters} & {*characters.swapcase()})


def namespaces_of(namespaces: Sequence[str], app_names: Sequence[str]) -> frozenset[str]:
    """Return every name for a namespace, as ``reverse()`` takes it: at each level the instance or the application."""
    if len(namespaces) != len(app_names):  # a hand-made include: one of the two has a level without a name
        return frozenset({":".join(namespaces), ":".join(app_names or namespaces)})
    return frozenset(map(":".join, itertools.product(*zip(namespaces, app_names, strict=True))))


def _paths(request: HttpRequest, match: ResolverMatch | None) -> Iterator[str]:
    """Yield the path as it came, and what a view may take it for.

    ``static.serve`` opens ``a/../b`` as ``b``, and what is found under 7 is found under 007, +7, and a 7 of other
    digits than ASCII's.
    """
    path = request.path_info
    yield path
    if "//" in path or "/." in path:
        plain = _normalise(path)
        yield f"{plain.rstrip('/')}/" if path.endswith(("/", "/.", "/..")) else plain
    parts = () if match is None else (*match.args, *match.kwargs.values())
    for part in parts:
        if isinstance(part, str) and "/" in part:
            yield path.replace(part, _normalise(part).removeprefix("/"), 1)
    numbers = [part for part in parts if isinstance(part, int) or (isinstance(part, str) and part.isdecimal())]
    if numbers:
        yield _PADDING.sub("", _FOREIGN_DIGIT.sub(lambda digit: str(unicodedata.decimal(digit[0])), path))
    yield from _rewrite(path, (part for part in parts if isinstance(part, str) and part not in numbers), int)
    yield from _rewrite(path, (part for part in parts if isinstance(part, str) and len(part) >= _HEX_DIGITS), UUID)


def _rewrite(path: str, parts: Iterable[str], read: Callable[[str], object]) -> Iterator[str]:
    """Yield the path with the ids in it as they are usually written, where ``read`` knows other ways to write them."""
    plain = path
    for part in parts:
        with suppress(ValueError):
            plain = plain.replace(part, str(read(part)))
    if plain != path:
        yield plain


def _normalise(path: str) -> str:
    return posixpath.normpath(f"/{path.lstrip('/')}")


def _module_of(view: Any) -> str:
    return str(getattr(view, "__globals__", {}).get("__name__", ""))
