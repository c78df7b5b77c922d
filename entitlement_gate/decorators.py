"""``@requires_entitlement``: a gate in front of a view. Never here: what it asks or answers (``access``).

The wrapper takes the colour of the view when it decorates, keeps its name, attributes and signature, and lists its
requirement on ``view.entitlement_requirements``.
"""

from __future__ import annotations

from functools import partial, wraps
from typing import TYPE_CHECKING, Any, TypeVar, overload

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.views import View

from entitlement_gate.access import Guard
from entitlement_gate.domain.numbers import valid_quantity
from entitlement_gate.domain.requirements import Requirement, as_requirement
from entitlement_gate.runtime.steps import drive, drive_async

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["requires_entitlement"]

ViewT = TypeVar("ViewT", bound="Callable[..., Any]")


def requires_entitlement(
    entitlement: str | Requirement,
    quantity: Any = None,
    *,
    customer: Callable[..., Any] | None = None,
    on_unavailable: str | None = None,
    on_denied: Callable[..., Any] | str | None = None,
) -> Callable[[ViewT], ViewT]:
    """Let only those in whose customer has the entitlement.

    Works on sync and async function views, on view classes, on ``as_view()``, and through ``method_decorator``.
    A gate enforces where it stands: a ``login_required`` above it goes first.

    Args:
        entitlement: a name, an alias, an entitlement id, or a ``Requirement``.
        quantity: how much is needed; a number, or ``(request) -> number``.
        customer: ``(request) -> id`` in place of the resolver; sync or async.
        on_unavailable: ``"deny"`` or ``"allow"`` in place of ``ON_UNAVAILABLE``.
        on_denied: ``(request, decision) -> response``, ``"raise"``, or a URL or URL name to redirect to, in place
            of ``DENIED_HANDLER``.

    Raises:
        ValueError: an argument cannot work; at import, not at the first request.
    """
    if on_unavailable not in (None, "deny", "allow"):
        raise ValueError(f'on_unavailable: "deny", "allow" or None, not {on_unavailable!r}')
    fixed = None if callable(quantity) or quantity is None else valid_quantity(quantity)
    guard = Guard(
        requirement=as_requirement(entitlement, fixed),
        quantity=quantity if callable(quantity) else None,
        customer=customer,
        on_unavailable=on_unavailable,
        on_denied=on_denied,
    )
    return partial(_guarded, guard)


@overload
def _guarded(guard: Guard, view: type[View]) -> type[View]: ...
@overload
def _guarded(guard: Guard, view: ViewT) -> ViewT: ...
def _guarded(guard: Guard, view: Any) -> Any:
    if isinstance(view, type):
        if not issubclass(view, View):
            raise TypeError(f"@requires_entitlement gates views; {view.__name__} is a class that is none")
        view.dispatch = _guarded_method(guard, view.dispatch)  # type: ignore[method-assign]  # gating it is the point
        _list(guard, view, view)
        return view
    wrapper = _guarded_async(guard, view) if _is_async(view) else _guarded_sync(guard, view)
    _list(guard, view, wrapper)
    return wrapper


def _guarded_sync(guard: Guard, view: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(view)
    def gated(*args: Any, **kwargs: Any) -> Any:
        refused = drive(guard.passing(_request(view, args)))
        return view(*args, **kwargs) if refused is None else refused

    return gated


def _guarded_async(guard: Guard, view: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(view)
    async def gated(*args: Any, **kwargs: Any) -> Any:
        refused = await drive_async(guard.passing(_request(view, args)))
        return await view(*args, **kwargs) if refused is None else refused

    return gated


def _guarded_method(guard: Guard, dispatch: Callable[..., Any]) -> Callable[..., Any]:
    """Gate ``View.dispatch``, which looks sync on an async class but returns a coroutine."""
    sync, asynchronous = _guarded_sync, _guarded_async

    @wraps(dispatch)
    def gated(self: View, *args: Any, **kwargs: Any) -> Any:
        colour = asynchronous if self.view_is_async else sync
        return colour(guard, partial(dispatch, self))(*args, **kwargs)

    return gated


def _is_async(view: Callable[..., Any]) -> bool:
    """Whether calling the view gives a coroutine.

    ``method_decorator(…, name="dispatch")`` hands over ``dispatch`` bound to a view in a ``partial``, perhaps under
    other decorators: on an async class it looks sync and is not.
    """
    if iscoroutinefunction(view):
        return True
    inner: Any = view
    while inner is not None:
        bound_to = getattr(getattr(inner, "func", None), "__self__", None)
        if isinstance(bound_to, View):
            return bool(bound_to.view_is_async) and inner.func.__name__ == "dispatch"
        inner = getattr(inner, "__wrapped__", None)
    return False


def _request(view: Callable[..., Any], args: tuple[Any, ...]) -> HttpRequest:
    request = args[0] if args else None
    if isinstance(request, HttpRequest):
        return request
    if isinstance(getattr(request, "_request", None), HttpRequest):
        return request._request  # type: ignore[union-attr]  # noqa: SLF001 - a framework's request around Django's
    raise TypeError(
        f"@requires_entitlement on {getattr(view, '__qualname__', view)!r}: the first argument is no request; "
        "on a method use method_decorator(requires_entitlement(…))"
    )


def _list(guard: Guard, view: Any, on: Any) -> None:
    on.entitlement_requirements = (*getattr(view, "entitlement_requirements", ()), guard.requirement)
