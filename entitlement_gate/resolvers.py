"""From a request to the customer it is made for. Never here: whether the customer may do anything.

A resolver takes a request and returns a ``uuid.UUID``, its text, or None for "nobody"; it may be async. Its answer
is remembered on the request.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ObjectDoesNotExist, SynchronousOnlyOperation

from entitlement_gate.conf import get_settings
from entitlement_gate.waiting import Called, acalled, called

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest

    from entitlement_gate.runtime.steps import Steps

__all__ = ["afrom_user", "aresolved", "from_user", "resolved", "resolving"]

_logger = logging.getLogger("entitlement_gate")
_REMEMBERED = "_entitlement_customer"
_MISSING = object()


def from_user(request: HttpRequest) -> Any:
    """Return the customer of the signed-in user: what ``CUSTOMER_ATTRIBUTE`` leads to; None for anybody else."""
    return _of_user(getattr(request, "user", None))


async def afrom_user(request: HttpRequest) -> Any:
    """Return the same in an event loop, by ``request.auser()``."""
    auser = getattr(request, "auser", None)
    user = getattr(request, "user", None) if auser is None else await auser()
    try:
        return _of_user(user)
    except SynchronousOnlyOperation:  # the path crosses a relation that is not loaded
        return await Called(_of_user, user).wait_async()


def resolved(request: HttpRequest) -> Any:
    """Return the customer of a request, asked of the resolver once per request."""
    known = getattr(request, _REMEMBERED, _MISSING)
    if known is _MISSING:
        known = called(_resolver(), request)
        setattr(request, _REMEMBERED, known)
    return known


async def aresolved(request: HttpRequest) -> Any:
    """Return the customer of a request, asked of the resolver, or of its twin for event loops, once per request."""
    known = getattr(request, _REMEMBERED, _MISSING)
    if known is _MISSING:
        resolver = _resolver()
        known = await acalled(afrom_user if resolver is from_user else resolver, request)
        setattr(request, _REMEMBERED, known)
    return known


def resolving(request: HttpRequest) -> Steps[Any]:
    """Return the customer of a request as a part of other steps."""
    known = getattr(request, _REMEMBERED, _MISSING)
    return (yield Called(resolved, request, twin=aresolved)) if known is _MISSING else known


def _resolver() -> Callable[..., Any]:
    return get_settings().load("customer_resolver")


def _of_user(user: Any) -> Any:
    if not getattr(user, "is_authenticated", False):
        return None
    found = user
    for name in get_settings().customer_attribute.split("."):
        try:
            found = getattr(found, name)
        except ObjectDoesNotExist:
            return None
        except AttributeError:
            _logger.warning("CUSTOMER_ATTRIBUTE: a %s has no %r; nobody to check", type(found).__name__, name)
            return None
        if found is None or found == "":  # a text field of somebody who is not billed
            return None
    return found
