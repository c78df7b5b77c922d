"""``EntitlementMiddleware``: lazy ``request.entitlements``, and answers to denials that views raise.

Never here: I/O before something is asked. One class for both modes, without ``MiddlewareMixin``, which costs
140 to 180 µs a request under ASGI.
"""

from __future__ import annotations

from traceback import walk_tb
from typing import TYPE_CHECKING, Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.template.response import SimpleTemplateResponse

from entitlement_gate.access import RequestEntitlements
from entitlement_gate.conf import get_settings
from entitlement_gate.domain.errors import EntitlementDenied, EntitlementUnavailable
from entitlement_gate.guarding import Guard, refusal
from entitlement_gate.responses import is_way_in
from entitlement_gate.rules import is_exempt
from entitlement_gate.runtime.steps import Steps, drive, drive_async

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from django.http import HttpRequest, HttpResponseBase

__all__ = ["EntitlementMiddleware"]


class EntitlementMiddleware:
    """Put it after the authentication middleware."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)
            # Django runs a plain `process_view` of an async chain in a thread, at 100 us a request. A subclass's own,
            # whatever its colour, is left to Django.
            if type(self).process_view is EntitlementMiddleware.process_view:
                self.process_view = self._process_view_async  # type: ignore[method-assign]  # the other colour of it

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Give the request its entitlements; in async mode the next handler's coroutine is passed through."""
        request.entitlements = RequestEntitlements(request)  # type: ignore[attr-defined]  # what this is for
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Any, *_: Any) -> Any:
        """Enforce ``RULES``: every rule that is about this request must hold."""
        return drive(_holding(request, view)) if get_settings().rules else None

    async def _process_view_async(self, request: HttpRequest, view: Any, *_: Any) -> Any:
        return await drive_async(_holding(request, view)) if get_settings().rules else None

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponseBase | None:
        """Answer a denial that a view raised, or its template while it was rendered."""
        if not isinstance(exception, (EntitlementDenied, EntitlementUnavailable)):
            return None
        response: Any = drive(refusal(request, exception.decision))
        # Django renders what is answered to a view's exception, and not what is answered to a template's.
        is_left_unrendered = not getattr(response, "is_rendered", True) and _is_raised_in_rendering(exception)
        return response.render() if is_left_unrendered else response  # type: ignore[no-any-return]  # a response


def _is_raised_in_rendering(exception: Exception) -> bool:
    frames = walk_tb(exception.__traceback__)
    return any(frame.f_code is SimpleTemplateResponse.render.__code__ for frame, _ in frames)


def _holding(request: HttpRequest, view: Any) -> Steps[HttpResponseBase | None]:
    match = request.resolver_match
    if match is None or is_exempt(view, match) or is_way_in(request):
        return None
    for rule in get_settings().rules:
        if rule.matches(request, match):
            refused = yield from Guard(requirement=rule.requirement).passing(request)
            if refused is not None:
                return refused
    return None
