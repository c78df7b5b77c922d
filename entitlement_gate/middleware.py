"""``EntitlementMiddleware``: lazy ``request.entitlements``, and answers to denials that views raise.

It does no I/O before something is asked. One class for both modes, without ``MiddlewareMixin``, which costs
140 to 180 µs a request under ASGI.
"""

from __future__ import annotations

from functools import wraps
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.template.response import SimpleTemplateResponse
from django.urls import Resolver404, resolve

from entitlement_gate.conf import get_settings
from entitlement_gate.domain.errors import EntitlementDenied, EntitlementUnavailable
from entitlement_gate.guard import Guard, refusal
from entitlement_gate.holds import abandoning, has_holds, releasing, settling_response
from entitlement_gate.request_entitlements import RequestEntitlements
from entitlement_gate.resilience.effects import Effects, run_async, run_sync
from entitlement_gate.resolvers import is_marked_private, mark_private, resolving
from entitlement_gate.responses import is_way_in, keep_private, leads_within
from entitlement_gate.url_rules import has_failed, is_open, note_failure, rules_about
from entitlement_gate.waiting import Invocation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from django.http import HttpRequest, HttpResponseBase
    from django.urls import ResolverMatch

    from entitlement_gate.url_rules import Rule

__all__ = ["EntitlementMiddleware"]

_FIRST_ERROR = 400
_REDIRECTS = range(300, 400)
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_REACHED = "_entitlement_view_reached"


class EntitlementMiddleware:
    """Put it after the authentication middleware."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]) -> None:
        self.get_response = get_response
        self._respond: Callable[[HttpRequest], Any] = self._respond_sync
        if iscoroutinefunction(get_response):
            self._respond = self._respond_async
            markcoroutinefunction(self)
            # Django runs a plain `process_view` of an async chain in a thread, at 100 us a request. A subclass's own,
            # or a test's, whatever its colour, is left to Django.
            if type(self).process_view is _PROCESS_VIEW:
                self.process_view = self._process_view_async  # type: ignore[method-assign]  # the other colour of it
        self.process_view = _note_reached(self.process_view)  # type: ignore[method-assign]  # a subclass's own too

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Give the request its entitlements, and settle what a replaced response held; a coroutine in async mode."""
        request.entitlements = RequestEntitlements(request)  # type: ignore[attr-defined]  # what this is for
        answer: HttpResponseBase | Awaitable[HttpResponseBase] = self._respond(request)
        return answer

    def _respond_sync(self, request: HttpRequest) -> Any:
        try:
            response: Any = run_sync(self._responding(request)) if get_settings().rules else self.get_response(request)
        except BaseException as error:
            run_sync(abandoning(request, error))
            raise
        if has_holds(request):
            run_sync(settling_response(request, response, is_in_thread=True))
        return keep_private(request, response) if is_marked_private(request) else response

    async def _respond_async(self, request: HttpRequest) -> Any:
        try:
            answer: Any = run_async(self._responding(request)) if get_settings().rules else self.get_response(request)
            response = await answer
        except BaseException as error:
            await run_async(abandoning(request, error))
            raise
        if has_holds(request):
            await run_async(settling_response(request, response))
        return keep_private(request, response) if is_marked_private(request) else response

    def process_view(self, request: HttpRequest, *_: Any) -> Any:
        """Enforce ``RULES``: every rule that is about this request must hold."""
        return run_sync(_enforcing_rules(request, request.resolver_match)) if get_settings().rules else None

    async def _process_view_async(self, request: HttpRequest, *_: Any) -> Any:
        return await run_async(_enforcing_rules(request, request.resolver_match)) if get_settings().rules else None

    def _responding(self, request: HttpRequest) -> Effects[Any]:
        """Enforce ``RULES`` also where no view answers but a middleware: a flat page, a page out of a cache.

        Whether one does is known only afterwards: what may change something is refused before, where no URL leads to a
        view.
        """
        is_unsafe = _is_unsafe_without_view(request)
        refused = (yield from _refusing_by_rules(request, None)) if is_unsafe else None
        if refused is not None:
            return refused
        response: Any = yield Invocation(self.get_response, request)
        if is_unsafe or _is_preflight(request, response) or _is_views_own(request, response):
            return response
        refused = yield from _refusing_by_rules(request, _match_of_response(request))
        if refused is None:
            return response
        # Nobody else closes the files of what is not sent; its own close() would end the request.
        refused._resource_closers += response._resource_closers  # noqa: SLF001 - there is no other way
        return refused

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponseBase | None:
        """Answer a denial that a view raised, or its template while it was rendered; what rules held is given back."""
        run_sync(releasing(request))
        if not isinstance(exception, (EntitlementDenied, EntitlementUnavailable)):
            note_failure(request)
            return None
        response: Any = run_sync(refusal(request, exception.decision))
        # Django renders what is answered to a view's exception, and not what is answered to a template's.
        is_left_unrendered = not getattr(response, "is_rendered", True) and _is_raised_in_rendering(exception)
        return response.render() if is_left_unrendered else response  # type: ignore[no-any-return]  # a response


_PROCESS_VIEW = EntitlementMiddleware.process_view


def _is_raised_in_rendering(exception: Exception) -> bool:
    frames = walk_tb(exception.__traceback__)
    return any(frame.f_code is SimpleTemplateResponse.render.__code__ for frame, _ in frames)


def _note_reached(process_view: Callable[..., Any]) -> Callable[..., Any]:
    """Note on the request that it came as far as this: a ``process_view`` of a middleware above may answer before."""

    @wraps(process_view)
    def reached(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        setattr(request, _REACHED, True)
        return process_view(request, *args, **kwargs)

    return markcoroutinefunction(reached) if iscoroutinefunction(process_view) else reached


def _is_views_own(request: HttpRequest, response: HttpResponseBase) -> bool:
    """Return whether an answer is of the view that the rules were enforced for, or gives nothing away.

    Rules about a page of this project that a middleware above leads to, such as the login page, are enforced there.
    """
    if response.status_code >= _FIRST_ERROR:
        return True
    if getattr(request, _REACHED, False):
        return not has_failed(request)
    if request.resolver_match is None or response.status_code not in _REDIRECTS:
        return False
    return leads_within(request, response.headers.get("Location", ""))


def _is_preflight(request: HttpRequest, response: HttpResponseBase) -> bool:
    """Return whether this is what a browser asks on its own account, without the cookies by which a customer is found.

    A fallback such as that of the flat pages answers every method with the page: only what has no body is let through.
    """
    if request.method != "OPTIONS" or not getattr(response, "is_rendered", True):
        return False
    return not getattr(response, "content", response.streaming)


def _match_of_response(request: HttpRequest) -> ResolverMatch | None:
    """Return the view in whose place a middleware answered; None where the view had its turn and gave no answer."""
    return None if has_failed(request) else request.resolver_match or _match(request)


def _is_unsafe_without_view(request: HttpRequest) -> bool:
    if request.method in _SAFE_METHODS:
        return False
    return any(rules_about(get_settings().rules, request, None)) and _match(request) is None


def _match(request: HttpRequest) -> ResolverMatch | None:
    """Return what the URLs of a request lead to, where Django has not looked yet; None where that is nothing."""
    try:
        return resolve(request.path_info, getattr(request, "urlconf", None))
    except Resolver404:
        return None


def _refusing_by_rules(request: HttpRequest, match: ResolverMatch | None) -> Effects[Any]:
    """Return a refusal, ready to be sent: nobody renders what a middleware answers with."""
    refused: Any = yield from _enforcing_rules(request, match)
    return refused if getattr(refused, "is_rendered", True) else (yield Invocation(refused.render))


def _enforcing_rules(request: HttpRequest, match: ResolverMatch | None) -> Effects[HttpResponseBase | None]:
    if is_way_in(request):
        return None
    for rule in rules_about(get_settings().rules, request, match):
        if (yield from _is_for_nobody(rule, request, match)):
            continue
        refused = yield from _guard_of(rule).admitting(request, rule)
        if refused is not None:
            return refused
        mark_private(request)
    return None


def _guard_of(rule: Rule) -> Guard:
    settings = get_settings()
    return Guard(
        requirement=rule.requirement,
        customer=settings.load_of_rule(rule, "customer"),
        on_unavailable=rule.on_unavailable,
        on_denied=rule.leads_to or settings.load_of_rule(rule, "on_denied"),
        consume=rule.consume,
        key=settings.load_of_rule(rule, "key"),
    )


def _is_for_nobody(rule: Rule, request: HttpRequest, match: ResolverMatch | None) -> Effects[bool]:
    """Return whether a rule about every path meets somebody without a customer at a view that is open to all."""
    is_on_the_way = get_settings().anonymous == "login" and match is not None and is_open(match.func)
    if not (is_on_the_way and rule.is_about_every_path):
        return False
    return (yield from resolving(request)) is None
