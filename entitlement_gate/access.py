"""What a request may do: its entitlements, and the guard that decorator, mixin and middleware share.

Never here: how a refusal looks (``responses``), or how a gate answers.
"""

from __future__ import annotations

import dataclasses
import logging
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import resolve_url

from entitlement_gate.api import default_gate
from entitlement_gate.conf import get_settings
from entitlement_gate.domain.decisions import Decision, Outcome
from entitlement_gate.domain.requirements import Requirement, as_requirement
from entitlement_gate.resolvers import aresolved, resolved, resolving
from entitlement_gate.responses import redirection
from entitlement_gate.runtime.bidding import order
from entitlement_gate.runtime.entitlements import CustomerEntitlements, Entitlement, required
from entitlement_gate.runtime.steps import Steps, drive, drive_async
from entitlement_gate.waiting import Called

if TYPE_CHECKING:
    from collections.abc import Iterator

    from entitlement_gate.api import RequestGate
    from entitlement_gate.runtime.reservation import Reservation

_logger = logging.getLogger("entitlement_gate")

__all__ = ["Guard", "RequestEntitlements", "entitlements_of", "refusal"]

_TTL = 60.0  # seconds in which a view answers; one that takes longer is counted late
_NOTED = "_entitlement_refusal"


class RequestEntitlements:
    """``request.entitlements``: lazy, and answered from one snapshot for the whole request.

    Nothing is resolved, read or fetched until something is asked. A look-up by name reads like a mapping and
    blocks; in async code await ``aall`` once, or use the twins. It lives as long as its request.
    """

    __slots__ = ("_all", "_gate", "_request")

    def __init__(self, request: HttpRequest) -> None:
        # The request holds this: held in turn, each request would be left to the garbage collector (2 µs of 5).
        self._request = weakref.ref(request)
        self._all: CustomerEntitlements | None = None
        self._gate: RequestGate | None = None

    def check(self, entitlement: str | Requirement, quantity: object = None) -> Decision:
        """Return the decision."""
        return drive(self.checking(as_requirement(entitlement, quantity)))

    async def acheck(self, entitlement: str | Requirement, quantity: object = None) -> Decision:
        """Return the decision."""
        return await drive_async(self.checking(as_requirement(entitlement, quantity)))

    def has(self, entitlement: str | Requirement, quantity: object = None) -> bool:
        """Return whether the customer may."""
        return self.check(entitlement, quantity).allowed

    async def ahas(self, entitlement: str | Requirement, quantity: object = None) -> bool:
        """Return whether the customer may."""
        return (await self.acheck(entitlement, quantity)).allowed

    def require(self, entitlement: str | Requirement, quantity: object = None) -> Decision:
        """Return the decision, or raise ``EntitlementDenied`` or ``EntitlementUnavailable``."""
        return required(self.check(entitlement, quantity))

    async def arequire(self, entitlement: str | Requirement, quantity: object = None) -> Decision:
        """Return the decision, or raise ``EntitlementDenied`` or ``EntitlementUnavailable``."""
        return required(await self.acheck(entitlement, quantity))

    def all(self) -> CustomerEntitlements:
        """Return all of them as a mapping, whose checks look once more before they deny by old data."""
        return drive(self._getting_counted()).renewed_by(lambda requirement: drive(self.checking(requirement)))

    async def aall(self) -> CustomerEntitlements:
        """Return all of them as a mapping, whose reading costs no I/O."""
        return await drive_async(self._getting_counted())

    def __getitem__(self, name: str) -> Entitlement:
        return self.all()[name]

    def __contains__(self, name: object) -> bool:
        return name in self.all()

    def __iter__(self) -> Iterator[str]:
        return iter(self.all())

    def __len__(self) -> int:
        return len(self.all())

    def __reduce__(self) -> tuple[Any, ...]:
        return _of_nobody, ()  # a request is pickled without what was asked for it

    def __repr__(self) -> str:
        return (
            "<RequestEntitlements: nothing asked yet>" if self._all is None else f"<RequestEntitlements: {self._all}>"
        )

    def checking(self, requirement: Requirement) -> Steps[Decision]:
        """Answer from the request's snapshot; before a denial, from a newer one where that is too old to deny."""
        gate = default_gate()
        known = yield from self._getting()
        if _is_silent(gate, known, requirement):
            decision = known.check(requirement)
            if decision.outcome is Outcome.ALLOWED:
                return decision
        decision, self._all = yield from gate.deciding(requirement, known)
        return decision

    def allows_at_once(self, requirement: Requirement) -> bool:
        """Return whether what is at hand allows, under the failure policy; where it does not, ``check`` knows."""
        return self._allows_at_once(requirement, resolved(self._asked_by()))

    async def aallows_at_once(self, requirement: Requirement) -> bool:
        """Return the same, with the resolver waited for as the event loop needs it."""
        return self._allows_at_once(requirement, await aresolved(self._asked_by()))

    def is_of(self, request: HttpRequest) -> bool:
        """Whether they are this request's own, and not those that a copy of another came with."""
        return self._request() is request

    def _asked_by(self) -> HttpRequest:
        request = self._request()
        if request is None:
            raise RuntimeError("the request of these entitlements is gone: keep the request, or ask before it ends")
        return request

    def _allows_at_once(self, requirement: Requirement, customer: object) -> bool:
        gate = default_gate()
        known = self._at_hand(gate, customer)
        return known is not None and _is_silent(gate, known, requirement) and known.has(requirement)

    def _getting(self) -> Steps[CustomerEntitlements]:
        gate = default_gate()
        if self._all is not None and self._gate is gate:
            return self._all
        customer = yield from resolving(self._asked_by())
        known = self._at_hand(gate, customer)
        if known is None:
            known = self._all = yield from gate.getting(customer)
            self._gate = gate
        return known

    def _getting_counted(self) -> Steps[CustomerEntitlements]:
        known = yield from self._getting()
        return (yield from default_gate().counted(known))

    def _at_hand(self, gate: RequestGate, customer: object) -> CustomerEntitlements | None:
        """Return the request's snapshot where there is one or it takes no fetch."""
        if self._gate is not gate:  # nothing asked yet, or a test put another gate in place meanwhile
            at_hand = gate.at_hand(customer)
            if at_hand is None:
                return None
            self._all, self._gate = at_hand, gate
        return self._all


def _is_silent(gate: RequestGate, known: CustomerEntitlements, requirement: Requirement) -> bool:
    """Whether an answer from what is known needs neither I/O nor telling."""
    return not (gate.is_heard or known.needs_ledger(requirement))


def _of_nobody() -> RequestEntitlements:
    return RequestEntitlements(HttpRequest())


def entitlements_of(request: HttpRequest) -> RequestEntitlements:
    """Return the request's entitlements, those that the middleware set or new ones."""
    known = getattr(request, "entitlements", None)
    if not (isinstance(known, RequestEntitlements) and known.is_of(request)):
        known = RequestEntitlements(request)
        request.entitlements = known  # type: ignore[attr-defined]  # what the middleware sets too
    return known


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What a gate asks for, of whom, and what it does with a refusal.

    Attributes:
        requirement: what is needed.
        quantity: how much, where it depends on the request: ``(request) -> quantity``, sync or async.
        customer: of whom, in place of the resolver: ``(request) -> id``, sync or async.
        on_unavailable: ``deny`` or ``allow`` at this gate, in place of the setting.
        on_denied: ``(request, decision) -> response``, ``raise``, or where to redirect, in place of the setting.
        consume: use it up, see ``consuming``.
        key: names what is used up: ``(request) -> text``, sync or async.
    """

    requirement: Requirement
    quantity: Callable[..., Any] | None = None
    customer: Callable[..., Any] | None = None
    on_unavailable: str | None = None
    on_denied: Callable[..., Any] | str | None = None
    consume: bool = False
    key: Callable[..., Any] | None = None

    def enter(self, request: HttpRequest) -> HttpResponseBase | None:
        """Return what ``passing`` does, on this thread; without a step where what is at hand lets the request in.

        Steps for an answer that needs no waiting cost 2 µs of 7 around a warm view.
        """
        if self._is_plain and entitlements_of(request).allows_at_once(self.requirement):
            return None
        return drive(self.passing(request))

    async def aenter(self, request: HttpRequest) -> HttpResponseBase | None:
        """Return what ``passing`` does, in this event loop; see ``enter``."""
        if self._is_plain and await entitlements_of(request).aallows_at_once(self.requirement):
            return None
        return await drive_async(self.passing(request))

    def passing(self, request: HttpRequest) -> Steps[HttpResponseBase | None]:
        """Return None to let the request pass, or what it is answered instead."""
        return (yield from self._answering(request, (yield from self._checking(request))))

    def holding(self, request: HttpRequest) -> Steps[tuple[HttpResponseBase | None, Reservation | None]]:
        """Return the same, having reserved what is to be used up, and what is held of it."""
        requirement = yield from self._required(request)
        key = None if self.key is None else (yield Called(self.key, request))
        customer = request if self.customer is None else (yield Called(self.customer, request))
        asked = order(requirement, 1, key if key is None else str(key), _TTL)
        decision, held = yield from default_gate().holding(customer, asked)
        refused = yield from self._answering(request, decision)
        return refused, held if refused is None else None

    def _answering(self, request: HttpRequest, decision: Decision) -> Steps[HttpResponseBase | None]:
        decision = self._settled(decision)
        if decision.allowed:
            return None
        if self.on_denied == "raise":
            _note(request, decision)
            required(decision)
        if not isinstance(self.on_denied, str):
            return (yield from refusal(request, decision, self.on_denied))
        if decision.outcome is Outcome.UNKNOWN:  # an outage must not look like "not entitled"
            return (yield from refusal(request, decision))
        _note(request, decision)
        return redirection(request, decision, resolve_url(self.on_denied))

    @property
    def _is_plain(self) -> bool:
        """Whether what the settings allow the request's customer is all there is to it."""
        # What the settings' policy lets pass in an outage, a gate of its own policy may refuse: only the outcome tells.
        return self.quantity is None and self.customer is None and self.on_unavailable != "deny"

    def _required(self, request: HttpRequest) -> Steps[Requirement]:
        if self.quantity is None:
            return self.requirement
        return as_requirement(self.requirement, (yield Called(self.quantity, request)))

    def _checking(self, request: HttpRequest) -> Steps[Decision]:
        requirement = yield from self._required(request)
        if self.customer is None:
            return (yield from entitlements_of(request).checking(requirement))
        customer = yield Called(self.customer, request)
        return (yield from default_gate().checking(customer, requirement))

    def _settled(self, decision: Decision) -> Decision:
        """Return the decision under the failure policy of this gate."""
        if self.on_unavailable is None or decision.outcome is not Outcome.UNKNOWN or decision.shadow:
            return decision
        return dataclasses.replace(decision, allowed=self.on_unavailable == "allow")


def refusal(
    request: HttpRequest, decision: Decision, handler: Callable[..., Any] | None = None
) -> Steps[HttpResponseBase]:
    """Return what a refused request is answered: by the handler given, or the one of the settings.

    Raises:
        TypeError: that gave no response; going on without one would let the request in.
    """
    _note(request, decision)
    handler = handler or get_settings().load("denied_handler")
    response = yield Called(handler, request, decision)
    if not isinstance(response, HttpResponseBase):
        name = getattr(handler, "__qualname__", handler)
        raise TypeError(f"a refused request needs an HttpResponse, and {name} gave {response!r}")
    return response


def _note(request: HttpRequest, decision: Decision) -> None:
    """Log one line for each refusal, also where it is raised on the way out; whose it was stays out of the text."""
    if getattr(request, _NOTED, None) is not decision:
        setattr(request, _NOTED, decision)
        _logger.info("refused: %s: %s", decision.entitlement, decision.reason, extra={"decision": decision})
