"""``EntitlementRequiredMixin``: the gate as a base class of views; what it does at a request is in ``guard``.

Django's own access mixins fail on async classes, where ``dispatch`` must return an awaitable; this one does.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.decorators import classonlymethod
from django.views import View

from entitlement_gate.conf import get_settings
from entitlement_gate.decorators import Mark, is_dispatch_reached, mark_view
from entitlement_gate.domain.requirements import Requirement, as_requirement
from entitlement_gate.engine.options import POLICIES
from entitlement_gate.guard import Guard
from entitlement_gate.waiting import Invocation, await_result, is_async_class

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from django.http import HttpRequest, HttpResponseBase

    from entitlement_gate.domain.decisions import Decision

__all__ = ["EntitlementRequiredMixin"]

# The same few requirements for every request; `typed` keeps the quantity True, which is none, apart from 1.
_as_requirement = lru_cache(maxsize=512, typed=True)(as_requirement)


class EntitlementRequiredMixin(View):
    """A view that only customers with the entitlement reach.

    It is a ``View``, so that its place among the bases never lets ``View.dispatch`` answer before it.

    Attributes:
        entitlement_required: a name, an alias, an entitlement id, or a ``Requirement``.
        entitlement_quantity: how much is needed; a number, or a method ``(request) -> number``, sync or async.
        entitlement_consume: use that up, by default 1: see ``requires_entitlement``.
        entitlement_on_unavailable: ``"deny"`` or ``"allow"`` in place of ``ON_UNAVAILABLE``.
    """

    entitlement_required: str | Requirement | None = None
    entitlement_quantity: Any = None
    entitlement_consume: bool = False
    entitlement_on_unavailable: str | None = None

    @classonlymethod
    def as_view(cls, *args: Any, **initkwargs: Any) -> Callable[..., Any]:  # noqa: N805 - a class method, by another name
        """Return the view, which lists what it requires where that is the same for every request."""
        view: Any = super().as_view(*args, **initkwargs)
        quantity = initkwargs.get("entitlement_quantity", cls.entitlement_quantity)
        required = initkwargs.get("entitlement_required", cls.entitlement_required)
        cls._check_options(initkwargs)
        if not is_dispatch_reached(cls, EntitlementRequiredMixin):
            return view  # type: ignore[no-any-return]  # Any, so that it can be marked
        own = None if required is None else cls._read_requirement(required, None if callable(quantity) else quantity)
        mark_view(view, Mark(own, initkwargs.get("entitlement_consume", cls.entitlement_consume)))
        if own is not None:
            view.entitlement_requirements = (*getattr(view, "entitlement_requirements", ()), own)
        gated: Callable[..., Any] = view
        return gated

    def get_entitlement_requirement(self) -> Requirement:
        """Return what this request needs; on an async view it may be ``async def``.

        Raises:
            ImproperlyConfigured: ``entitlement_required`` is missing or cannot work; the message names the class.
        """
        quantity = None if callable(self.entitlement_quantity) else self.entitlement_quantity
        return self._read_requirement(self.entitlement_required, quantity)

    def get_entitlement_key(self) -> Any:
        """Return the text that names what this request uses up, or None; may be ``async def``.

        A retry under the same key is counted once. Take it from the application's data, never from a client's header.
        """
        return None

    def get_entitlement_customer(self) -> Any:
        """Return the customer: an id, or a request, whose customer the resolver finds; may be ``async def``."""
        return self.request

    def handle_entitlement_denied(self, decision: Decision) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Return the answer to a refused request, by default that of ``DENIED_HANDLER``; may be ``async def``.

        Raise ``EntitlementDenied(decision)`` to leave it to the middleware.
        """
        answer = Invocation(get_settings().load("denied_handler"), self.request, decision)
        response: HttpResponseBase | Awaitable[HttpResponseBase]
        response = answer.wait_async() if is_async_class(type(self)) else answer.wait()
        return response

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Let the request pass, or answer it; an awaitable on an async view."""
        view = partial(super().dispatch, request, *args, **kwargs)
        if is_async_class(type(self)):
            return self._adispatch(request, view)
        return self._make_guard(self.get_entitlement_requirement()).run(request, view)

    async def _adispatch(self, request: HttpRequest, view: Callable[[], Any]) -> Any:
        requirement = await await_result(self.get_entitlement_requirement())
        return await self._make_guard(requirement).arun(request, view)

    def _make_guard(self, requirement: str | Requirement) -> Guard:
        return Guard(
            requirement=self._read_requirement(requirement, None),
            quantity=self.entitlement_quantity if callable(self.entitlement_quantity) else None,
            customer=self._find_override("get_entitlement_customer"),
            on_unavailable=self.entitlement_on_unavailable,
            on_denied=lambda _, decision: self.handle_entitlement_denied(decision),
            consume=self.entitlement_consume,
            key=self._find_override("get_entitlement_key"),
        )

    def _find_override(self, name: str) -> Callable[..., Any] | None:
        """Return a method as a function of the request; None for this class's own: to ask it would cost a thread."""
        if getattr(type(self), name) is getattr(EntitlementRequiredMixin, name):
            return None
        return lambda _: getattr(self, name)()

    @classmethod
    def _check_options(cls, initkwargs: dict[str, Any]) -> None:
        for name, values in (("entitlement_consume", (True, False)), ("entitlement_on_unavailable", (None, *POLICIES))):
            value = initkwargs.get(name, getattr(cls, name))
            if value not in values:
                choices = ", ".join(map(repr, values))
                raise ImproperlyConfigured(f"{cls.__qualname__}.{name}: one of {choices}, not {value!r}")

    @classmethod
    def _read_requirement(cls, required: str | Requirement | None, quantity: Any) -> Requirement:
        if required is None:
            raise ImproperlyConfigured(
                f"{cls.__qualname__} requires nothing: define {cls.__qualname__}.entitlement_required "
                "or override get_entitlement_requirement()"
            )
        try:
            return _as_requirement(required, quantity)
        except (TypeError, ValueError) as error:
            raise ImproperlyConfigured(f"{cls.__qualname__}.entitlement_required: {error}") from error
