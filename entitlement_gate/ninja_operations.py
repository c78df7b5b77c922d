"""Operations of Django Ninja with a gate in them: who sees the response that Ninja makes of what a function gives back.

Ninja is imported only when it asks. What a gate asks for is in ``guard``.
"""

from __future__ import annotations

from functools import wraps
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from asgiref.sync import iscoroutinefunction
from django.utils.module_loading import import_string

from entitlement_gate.holds import expect_response, settling_operation
from entitlement_gate.resilience.effects import run_async, run_sync
from entitlement_gate.resolvers import is_marked_private
from entitlement_gate.responses import keep_private

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest

__all__ = ["follow_operation", "follow_run"]

_CONTRIBUTIONS = "_ninja_contribute_to_operation"  # by which Ninja lets a function act on the operation made of it


def follow_operation(gated: Any) -> Any:
    """Return a gated view whose operation, should Ninja make one of it, lets the gate see the response."""
    others = [each for each in getattr(gated, _CONTRIBUTIONS, ()) if each is not _follow]
    # The first is the innermost: below a `cache_page` of `decorate_view`, which would keep what is not private yet.
    setattr(gated, _CONTRIBUTIONS, [_follow, *others])
    return gated


def _follow(operation: Any) -> None:
    decorate_view = import_string("ninja.decorators.decorate_view")
    # Ninja's own way: a router that is mounted twice clones its operations, and decorates the clones alike.
    decorate_view(follow_run)(SimpleNamespace(_ninja_operation=operation))


def follow_run(run: Callable[..., Any]) -> Callable[..., Any]:
    """Return what runs an operation such that its gates see the response that Ninja makes."""

    @wraps(run)
    def run_and_settle(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        response, before = None, expect_response(request)
        try:
            response = run(request, *args, **kwargs)
        finally:
            expect_response(request, is_expected=before)
            run_sync(settling_operation(request, response))
        return keep_private(request, response) if is_marked_private(request) else response

    @wraps(run)
    async def run_and_settle_async(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        response, before = None, expect_response(request)
        try:
            response = await run(request, *args, **kwargs)
        finally:
            expect_response(request, is_expected=before)
            await run_async(settling_operation(request, response))
        return keep_private(request, response) if is_marked_private(request) else response

    return run_and_settle_async if iscoroutinefunction(run) else run_and_settle
