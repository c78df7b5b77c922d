"""Who may keep the answer of a gated view: its customer's browser, and no cache that others share.

Never here: what refused requests are told (``responses``), or data of billing that is kept (``runtime``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.http import HttpResponseBase
from django.utils.cache import patch_cache_control, patch_vary_headers

from entitlement_gate.conf import get_settings

if TYPE_CHECKING:
    from django.http import HttpRequest

__all__ = ["is_gated", "kept_private", "set_gated"]

_GATED = "_entitlement_gated"
_TO_BE_KEPT = "_cache_update_cache"  # what Django's page caches ask the request when they have its answer
_FOR_ALL = frozenset({"public", "s-maxage"})
_SAID = _FOR_ALL | {"private", "no-store"}
_FOUND_BY = ("Cookie", "Authorization")  # what customers are found by; another header only the resolver knows


def kept_private(request: HttpRequest, answer: Any) -> Any:
    """Return the answer of a gated view, made such that no shared cache gives it to another customer.

    A view that says itself who may keep it has the last word. What is no response yet, because a framework makes one
    of it, is left to who sees that: the operation of Django Ninja, or the middleware.
    """
    if not isinstance(answer, HttpResponseBase):
        set_gated(request)
    elif get_settings().private_responses:
        header = answer.headers.get("Cache-Control", "")
        said = {directive.partition("=")[0].strip().lower() for directive in header.split(",")}
        if said.isdisjoint(_SAID):
            patch_cache_control(answer, private=True)
        if said.isdisjoint(_FOR_ALL):
            patch_vary_headers(answer, _FOUND_BY)
        if is_gated(request):  # from here on the answer says it itself
            setattr(request, _TO_BE_KEPT, vars(request)[_GATED])
    return answer


def set_gated(request: HttpRequest) -> None:
    """Note that a gate let the request in and could not see its answer.

    A cache of Django's between the gate and who will see it, ``cache_page`` or a middleware, is told not to keep it.
    """
    if not is_gated(request):
        setattr(request, _GATED, getattr(request, _TO_BE_KEPT, False))
    if get_settings().private_responses:
        setattr(request, _TO_BE_KEPT, False)


def is_gated(request: HttpRequest) -> bool:
    """Whether that was noted."""
    return hasattr(request, _GATED)
