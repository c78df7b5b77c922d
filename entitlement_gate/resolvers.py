"""From a request to the customer it is made for.

A resolver takes a request and returns a ``uuid.UUID``, its text, or None for "nobody"; it may be async. A customer is
remembered on the request for as long as ``request.user`` stays the same object; "nobody" is not, because a user may
appear later: Django REST framework authenticates inside the view, and a view may log somebody in.
"""

from __future__ import annotations

import logging
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ObjectDoesNotExist, SynchronousOnlyOperation
from django.http import HttpRequest
from django.utils.functional import LazyObject, empty

from entitlement_gate.conf import get_settings
from entitlement_gate.resilience.effects import run_async, run_sync
from entitlement_gate.waiting import Invocation

if TYPE_CHECKING:
    from entitlement_gate.resilience.effects import Effects

__all__ = [
    "afrom_user",
    "find_request",
    "from_user",
    "is_marked_private",
    "mark_private",
    "resolving",
    "restore_page_cache",
]

_logger = logging.getLogger("entitlement_gate")
_NOTES = "_entitlement_notes"
_DEEPEST = 8  # wrappers around wrappers; a mock has one more for ever
_MISSING = object()
_SESSION_USER = "django.contrib.auth.middleware"
_PRIVATE = "_entitlement_private"  # holds the value that _UPDATE_CACHE had before
_UPDATE_CACHE = "_cache_update_cache"  # whether Django's page caches may store the response


def mark_private(request: HttpRequest) -> None:
    """Note that the response depends on the customer, where the caller cannot see the response.

    Django's caches between here and who sees it, ``cache_page`` or a middleware, will not keep it.
    """
    if not hasattr(request, _PRIVATE):
        setattr(request, _PRIVATE, getattr(request, _UPDATE_CACHE, False))
    if get_settings().private_responses:
        setattr(request, _UPDATE_CACHE, False)


def is_marked_private(request: HttpRequest) -> bool:
    """Whether that was noted."""
    return hasattr(request, _PRIVATE)


def restore_page_cache(request: HttpRequest) -> None:
    """Let page caches go by the headers of the response again."""
    if hasattr(request, _PRIVATE):
        setattr(request, _UPDATE_CACHE, vars(request)[_PRIVATE])


class _Notes:
    """What is remembered of one request: its customer, and what a framework wrapped around it.

    Copies of the request, pickled or not, do not get it: a project may copy a request to ask for another customer.
    """

    __slots__ = ("is_warned", "request", "resolution", "wrapper")

    def __init__(self, request: HttpRequest) -> None:
        self.request = weakref.ref(request)
        self.resolution: tuple[object, object, object, Any] | None = None  # user, auser, settings, customer
        self.wrapper: object = None
        self.is_warned = False

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()


def find_request(value: object) -> HttpRequest | None:
    """Return Django's request in whatever is passed for one; None where there is none.

    That is Django's own, lazy or not, and what a framework wraps around it in ``_request``, as Django REST framework
    does. Such a wrapper is noted on the request: it may know who asks before Django's request does.
    """
    if isinstance(value, HttpRequest) and not isinstance(value, LazyObject):  # as a rule, and at each check
        return value
    wrapper = None
    for _ in range(_DEEPEST):
        if isinstance(value, LazyObject):
            value = _unwrap_lazy(value)
        if isinstance(value, HttpRequest):
            if wrapper is not None:
                _note_wrapper(value, wrapper)
            return value
        wrapper = wrapper or value
        try:
            value = getattr(value, "_request", None)
        except Exception:  # noqa: BLE001 - an undefined of Jinja2, a proxy out of its context: no request
            return None
    return None


def from_user(request: HttpRequest) -> Any:
    """Return the customer of the signed-in user: what ``CUSTOMER_ATTRIBUTE`` leads to; None for anybody else."""
    return run_sync(_finding_by_user(request))


async def afrom_user(request: HttpRequest) -> Any:
    """Return the same in an event loop."""
    return await run_async(_finding_by_user(request))


_FROM_USER = from_user  # itself, whatever a test has put in its place


def resolving(request: HttpRequest) -> Effects[Any]:
    """Return the customer of a request: who was found before, unless its user or the settings have changed since."""
    notes = _notes_of(request)
    if notes.resolution is not None:
        user, auser, settings, customer = notes.resolution
        is_same = user is getattr(request, "user", None) and auser is getattr(request, "auser", None)
        if is_same and settings is get_settings():
            return customer
    if notes.wrapper is not None:
        yield Invocation(_authenticate, notes.wrapper)
    user, auser, settings = getattr(request, "user", None), getattr(request, "auser", None), get_settings()
    resolver = settings.load("customer_resolver")
    if resolver is _FROM_USER:
        customer = yield from _finding_by_user(request)
    else:
        customer = yield Invocation(resolver, request)
    if customer is not None and user is getattr(request, "user", None):
        notes.resolution = user, auser, settings, customer
    return customer


def _finding_by_user(request: HttpRequest) -> Effects[Any]:
    """Return the customer of who was put on the request, or else of who the session says: from both doors the same.

    In an event loop ``auser()`` reads the session without a thread; it does not know who was put on the request since.
    """
    user, auser = getattr(request, "user", _MISSING), getattr(request, "auser", None)
    is_sessions = isinstance(user, LazyObject) and _is_from_session(vars(user).get("_setupfunc"))
    if auser is not None and (user is _MISSING or (is_sessions and not _is_from_session(getattr(auser, "func", None)))):
        user = yield Invocation(auser)  # who was put there alone
    elif isinstance(user, LazyObject) and user._wrapped is empty:  # noqa: SLF001 - else reading it may cost I/O unseen
        loaded = yield Invocation(partial(_load_user, user), twin=auser if is_sessions else None)
        user = user if loaded is None else loaded
    try:
        return _read_customer(user, request)
    except SynchronousOnlyOperation:  # the path crosses a relation that is not loaded
        return (yield Invocation(_read_customer, user, request))


def _read_customer(user: Any, request: HttpRequest) -> Any:
    if not getattr(user, "is_authenticated", False):
        return None
    value = user
    for name in get_settings().customer_attribute.split("."):
        try:
            value = getattr(value, name)
        except ObjectDoesNotExist:
            return None
        except AttributeError:
            _warn(request, type(value).__name__, name)
            return None
        if value is None or value == "":  # a text field of somebody who is not billed
            return None
    return value


def _warn(request: HttpRequest, holder: str, name: str) -> None:
    """Log one line for each request, however often it is checked."""
    notes = _notes_of(request)
    if not notes.is_warned:
        notes.is_warned = True
        _logger.warning("CUSTOMER_ATTRIBUTE: a %s has no %r; nobody to check", holder, name)


def _load_user(user: Any) -> None:
    """Read a lazy user."""
    getattr(user, "is_authenticated", False)


def _is_from_session(function: object) -> bool:
    """Whether a function is of the middleware that puts the session's user on a request."""
    return getattr(function, "__module__", None) == _SESSION_USER


def _authenticate(wrapper: object) -> None:
    """Read the framework's user, which authenticates and sets Django's ``request.user``."""
    getattr(wrapper, "user", None)


def _notes_of(request: HttpRequest) -> _Notes:
    notes: _Notes | None = getattr(request, _NOTES, None)
    if notes is None or notes.request() is not request:
        notes = _Notes(request)
        setattr(request, _NOTES, notes)
    return notes


def _note_wrapper(request: HttpRequest, wrapper: object) -> None:
    notes = _notes_of(request)
    if notes.wrapper is not wrapper:
        notes.wrapper, notes.resolution = wrapper, None


def _unwrap_lazy(value: Any) -> object:
    if value._wrapped is empty:  # noqa: SLF001 - as of the user above
        value._setup()  # noqa: SLF001 - what a look at any attribute does
    return value._wrapped  # noqa: SLF001 - by identity: what is remembered is compared so
