"""``@requires_entitlement``: a gate in front of a view. Never here: what it asks or answers (``guarding``).

The wrapper takes the colour of the view when it decorates, keeps its name, attributes and signature, and lists its
requirement on ``view.entitlement_requirements``.
"""

from __future__ import annotations

from functools import partial, wraps
from inspect import CO_VARARGS, isasyncgenfunction, isgeneratorfunction
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar

from asgiref.sync import iscoroutinefunction
from django.views import View

from entitlement_gate.domain.requirements import Requirement, as_requirement
from entitlement_gate.guard import Guard
from entitlement_gate.marks import marked, marked_function, requirements_of
from entitlement_gate.ninja_operations import followed
from entitlement_gate.resolvers import find_request
from entitlement_gate.url_rules import class_of
from entitlement_gate.waiting import is_async_class, takes

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest

__all__ = ["requirements_of", "requires_entitlement"]

# Of Django's views, and of Django REST framework's view sets.
_HANDLERS = frozenset(("dispatch", *View.http_method_names))
_HANDLERS |= {"list", "create", "retrieve", "update", "partial_update", "destroy"}
_OF_TASKS = ("apply_async", "delay", "enqueue")  # how queues name the way to hand a task over

ViewT = TypeVar("ViewT", bound="Callable[..., Any]")


def requires_entitlement(
    entitlement: str | Requirement,
    quantity: Any = None,
    *,
    consume: bool = False,
    key: Callable[..., Any] | None = None,
    customer: Callable[..., Any] | None = None,
    on_unavailable: str | None = None,
    on_denied: Callable[..., Any] | str | None = None,
) -> Callable[[ViewT], ViewT]:
    """Let only those in whose customer has the entitlement.

    Works on sync and async function views, on view classes, on ``as_view()``, and through ``method_decorator``.
    A gate enforces where it stands: a ``login_required`` above it goes first.

    Args:
        entitlement: a name, an alias, an entitlement id, or a ``Requirement``.
        quantity: how much is needed; a number, or ``(request) -> number``, sync or async.
        consume: use up the quantity, by default 1: held before the view, committed when the response is below 400 (a
            streaming one: when its body was sent), given back otherwise. What is no response counts where the view
            gives it back without raising, in Django Ninja by the response made of it. ``OPTIONS`` is checked and uses
            nothing up.
        key: ``(request) -> text``, sync or async: names what is used up, so that a retry of the same is counted once.
            From the application's data, never from a client's header.
        customer: ``(request) -> id`` in place of the resolver; sync or async.
        on_unavailable: ``"deny"`` or ``"allow"`` in place of ``ON_UNAVAILABLE``.
        on_denied: ``(request, decision) -> response``, sync or async; ``"raise"``; or a URL or URL name to redirect
            to: in place of ``DENIED_HANDLER``. Nobody is redirected for an outage.

    Raises:
        ValueError: an argument cannot work; at import, not at the first request.
        TypeError: an argument, or what is decorated, is of the wrong kind; as above.
    """
    requirement = as_requirement(entitlement, None if callable(quantity) else quantity)
    if callable(quantity):
        as_requirement(requirement, 1)  # refuses a quantity beside one that the requirement states
        _check_takes_request("quantity", quantity, "number")
    for name, value, gives in (("customer", customer, "id"), ("key", key, "text")):
        if value is not None:
            _check_takes_request(name, value, gives)
    if key is not None and not consume:
        raise ValueError("key: names what is used up; say consume=True too")
    if on_unavailable not in (None, "deny", "allow"):
        raise ValueError(f'on_unavailable: "deny", "allow" or None, not {on_unavailable!r}')
    _check_on_denied(on_denied)
    guard = Guard(
        requirement=requirement,
        quantity=quantity if callable(quantity) else None,
        customer=customer,
        on_unavailable=on_unavailable,
        on_denied=on_denied,
        consume=consume,
        key=key,
    )

    def gate(view: ViewT) -> ViewT:
        guarded: ViewT = _guarded(guard, view)
        return guarded

    return gate


def _check_takes_request(name: str, value: Any, gives: str) -> None:
    if not callable(value) or not takes(value, 1):
        raise TypeError(f"{name}: a callable (request) -> {gives}, not {value!r}")


def _check_on_denied(on_denied: object) -> None:
    if on_denied is None or (callable(on_denied) and takes(on_denied, len(("request", "decision")))):
        return
    if not isinstance(on_denied, str):
        raise TypeError(f'on_denied: a callable (request, decision) -> response, "raise", or a URL, not {on_denied!r}')
    if not on_denied.strip():
        raise ValueError("on_denied: the URL to redirect to is empty")


def _guarded(guard: Guard, view: Any) -> Any:
    if isinstance(view, type):
        return _guarded_class(guard, view)
    why = _why_no_view(view)
    if why:
        raise TypeError(f"@requires_entitlement gates views, not {getattr(view, '__qualname__', repr(view))}: {why}")
    gated = _guarded_async(guard, view) if _is_async(view) else _guarded_sync(guard, view)
    return _marked(guard, view, followed(marked_function(gated)))


def _why_no_view(view: Any) -> str:
    """Return why a gate in front of this would let everybody in, or break it; an empty text for a view."""
    if not callable(view):
        return "it cannot be called"
    if any(made(part) for made in (isgeneratorfunction, isasyncgenfunction) for part in (view, type(view).__call__)):
        return "a generator is no answer that a gate could give or count; return a StreamingHttpResponse"
    if any(callable(getattr(view, name, None)) for name in _OF_TASKS):
        return "it is a task, which no request reaches; ask has_entitlement() in it"
    if hasattr(view, "_ninja_operation"):
        return "Django Ninja has it already and would go on calling it past the gate; put the gate below the operation"
    return "it is a method; use @method_decorator(requires_entitlement(…))" if _is_method(view) else ""


def _is_method(view: Any) -> bool:
    """Whether this is a function that waits for ``self``, perhaps under other decorators.

    What ``method_decorator`` hands over is bound to a view, in a ``partial``, and none; nor is what ``as_view()`` made,
    which carries what decorators wrote on ``dispatch``.
    """
    if class_of(view) is not None:
        return False
    while isinstance(view, FunctionType) and hasattr(view, "__wrapped__"):
        view = view.__wrapped__
    if not isinstance(view, FunctionType):
        return False
    code = view.__code__
    first, second, *_ = (*code.co_varnames[: code.co_argcount], "", "")
    takes_two = bool(second or code.co_flags & CO_VARARGS)  # itself, and the request
    return first == "self" or second == "request" or (takes_two and first != "request" and _is_handler(view))


def _is_handler(function: FunctionType) -> bool:
    """Whether this stands in the body of a class, under a name by which views answer requests."""
    *_, place, name = ("", *function.__qualname__.split("."))
    return place not in ("", "<locals>") and name in _HANDLERS


def _guarded_sync(guard: Guard, view: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(view)
    def gated(*args: Any, **kwargs: Any) -> Any:
        return guard.run(_request(view, args), partial(view, *args, **kwargs))

    return gated


def _guarded_async(guard: Guard, view: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(view)
    async def gated(*args: Any, **kwargs: Any) -> Any:
        return await guard.arun(_request(view, args), partial(view, *args, **kwargs))

    return gated


def _guarded_class(guard: Guard, view: type) -> type:
    """Gate ``dispatch`` of this class, neither its parents' nor past its siblings in multiple inheritance."""
    if not issubclass(view, View):
        raise TypeError(f"@requires_entitlement gates views; {view.__name__} is a class that is none")
    dispatch = vars(view).get("dispatch") or _inherited(view)
    gated = _guarded_dispatch(guard, dispatch, is_async=bool(view.view_is_async))
    view.dispatch = _marked(guard, view.dispatch, gated)  # type: ignore[method-assign]  # gating it is the point
    return _marked(guard, view, view)  # type: ignore[no-any-return]  # the class itself


def _inherited(view: type[View]) -> Callable[..., Any]:
    """Return a ``dispatch`` that goes on to the next class: a captured one would skip what siblings check."""

    @wraps(view.dispatch)
    def dispatch(self: View, *args: Any, **kwargs: Any) -> Any:
        return super(view, self).dispatch(*args, **kwargs)  # type: ignore[misc]  # self is an instance of view

    return dispatch


def _guarded_dispatch(guard: Guard, dispatch: Callable[..., Any], *, is_async: bool) -> Callable[..., Any]:
    """Gate ``View.dispatch``, which looks sync on an async class but returns a coroutine.

    The gated one looks what it is, so that a ``login_required`` put above it by ``method_decorator`` works. A class
    without handlers leaves the colour to its subclasses.
    """

    @wraps(dispatch)
    def gated(self: View, *args: Any, **kwargs: Any) -> Any:
        run = guard.arun if is_async_class(type(self)) else guard.run
        return run(_request(dispatch, args), partial(dispatch, self, *args, **kwargs))

    @wraps(dispatch)
    async def gated_async(self: View, *args: Any, **kwargs: Any) -> Any:
        return await guard.arun(_request(dispatch, args), partial(dispatch, self, *args, **kwargs))

    return gated_async if is_async else gated


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
            return is_async_class(type(bound_to)) and inner.func.__name__ == "dispatch"
        inner = getattr(inner, "__wrapped__", None)
    return False


def _request(view: Callable[..., Any], args: tuple[Any, ...]) -> HttpRequest:
    request = find_request(args[0]) if args else None
    if request is not None:
        return request
    raise TypeError(
        f"@requires_entitlement on {getattr(view, '__qualname__', view)!r}: the first argument is no request; "
        "on a method use method_decorator(requires_entitlement(…))"
    )


def _marked(guard: Guard, view: Any, gated: Any) -> Any:
    return marked(gated, view, guard.requirement, on_denied=guard.on_denied, consume=guard.consume)
