"""The guard of a gate, which decorator, mixin and middleware share: what it asks for, and what becomes of a refusal.

How a refusal looks is in ``responses``; when a hold counts, in ``holds``.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urljoin, urlsplit

from django.http import HttpResponseBase
from django.utils.http import escape_leading_slashes

from entitlement_gate.api import default_gate
from entitlement_gate.conf import get_settings
from entitlement_gate.domain.decisions import Decision, Outcome, RequestFault
from entitlement_gate.domain.requirements import Requirement, as_requirement
from entitlement_gate.engine.entitlements import required
from entitlement_gate.engine.options import POLICIES
from entitlement_gate.engine.reservations import countable, key_of_use, order
from entitlement_gate.holds import RequestHold, is_held_by, mark_refusal
from entitlement_gate.refusals import log_refusal
from entitlement_gate.request_entitlements import entitlements_of
from entitlement_gate.resilience.effects import Effects, run_async, run_sync
from entitlement_gate.resolvers import resolving
from entitlement_gate.responses import address_of, is_page, keep_private, redirection
from entitlement_gate.waiting import Invocation, await_result, takes

if TYPE_CHECKING:
    from django.http import HttpRequest

    from entitlement_gate.engine.reservations import Reservation

__all__ = ["Guard", "is_answered", "note_refusal", "refusal"]

_logger = logging.getLogger("entitlement_gate")
_TTL = 60.0  # seconds in which a view answers; one that takes longer is counted late
_NOTED = "_entitlement_refusal"
_FAULTS: frozenset[str] = frozenset(RequestFault)
_SHORT = 20  # characters of a text that a log line quotes; an id of a customer has more


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What a gate asks for, of whom, and what it does with a refusal.

    Attributes:
        requirement: what is needed.
        quantity: how much, where it depends on the request: ``(request) -> quantity``, sync or async.
        customer: of whom, in place of the resolver: ``(request) -> id``, sync or async.
        on_unavailable: ``deny`` or ``allow`` at this gate, in place of the setting.
        on_denied: ``(request, decision) -> response``, ``raise``, or where to redirect, in place of the setting.
        consume: use it up, see ``holds``.
        key: names what is used up: ``(request) -> text``, sync or async.
    """

    requirement: Requirement
    quantity: Callable[..., Any] | None = None
    customer: Callable[..., Any] | None = None
    on_unavailable: str | None = None
    on_denied: Callable[..., Any] | str | None = None
    consume: bool = False
    key: Callable[..., Any] | None = None
    countable: Requirement = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Note what is used up, where it is the same for each request."""
        is_known = self.consume and self.quantity is None
        object.__setattr__(self, "countable", countable(self.requirement) if is_known else self.requirement)

    @classmethod
    def of(cls, entitlement: str | Requirement, quantity: Any = None, **options: Any) -> Self:
        """Return the guard that the arguments of a gate ask for; see ``requires_entitlement``, also for its errors.

        ``quantity`` may be a number here, which is then a part of the requirement.
        """
        requirement = as_requirement(entitlement, None if callable(quantity) else quantity)
        guard = cls(requirement=requirement, quantity=quantity if callable(quantity) else None, **options)
        if guard.quantity is not None:
            as_requirement(requirement, 1)  # refuses a quantity beside one that the requirement states
        for name, gives in (("quantity", "number"), ("customer", "id"), ("key", "text")):
            value = getattr(guard, name)
            if value is not None and not (callable(value) and takes(value, 1)):
                raise TypeError(f"{name}: a callable (request) -> {gives}, not {value!r}")
        if guard.key is not None and not guard.consume:
            raise ValueError("key: names what is used up; say consume=True too")
        if guard.on_unavailable not in (None, *POLICIES):
            raise ValueError(f'on_unavailable: "deny", "allow" or None, not {guard.on_unavailable!r}')
        _check_on_denied(guard.on_denied)
        return guard

    def run(self, request: HttpRequest, view: Callable[[], Any]) -> Any:
        """Return what the view returns, or the response to a refused request, on this thread."""
        response, reservation = run_sync(self._admitting(request))
        if reservation is not None:
            response = RequestHold(reservation).run(request, view)
        elif response is None:
            response = view()
        return keep_private(request, response)

    async def arun(self, request: HttpRequest, view: Callable[[], Any]) -> Any:
        """Return the same in an event loop."""
        response, reservation = await run_async(self._admitting(request))
        if reservation is not None:
            response = await RequestHold(reservation).arun(request, view)
        elif response is None:
            response = await await_result(view())
        return keep_private(request, response)

    def refuse(self, request: HttpRequest) -> Decision | None:
        """Return the decision that refuses a request, on this thread; None where it may pass. Nothing is used up."""
        return self._find_refusal(run_sync(self._checking(request)))

    def admitting(self, request: HttpRequest, rule: object) -> Effects[HttpResponseBase | None]:
        """Return None to let the request pass, or what it is answered instead.

        What is to be used up is held for the rule, once, until ``settling_response`` settles it.
        """
        if self.consume and is_held_by(request, rule):
            return None
        response, reservation = yield from self._admitting(request)
        if reservation is not None:
            RequestHold(reservation, rule).wait_for(request)
        return response

    def hold(self, request: HttpRequest, by: object) -> RequestHold | None:
        """Hold what is to be used up for whoever settles it, on this thread; None where nothing is, or it is already.

        A refusal is to be raised by ``on_denied``.
        """
        if is_held_by(request, by):
            return None
        _, reservation = run_sync(self._admitting(request))
        if reservation is None:
            return None
        hold = RequestHold(reservation, by)
        hold.wait_for(request)
        return hold

    def _admitting(self, request: HttpRequest) -> Effects[tuple[HttpResponseBase | None, Reservation | None]]:
        """Return the response to a refused request, or None, and what is held for one that may pass."""
        decision: Decision | None
        reservation = None
        if self.consume and request.method != "OPTIONS":  # which a browser sends on its own account
            decision, reservation = yield from self._reserving(request)
        else:
            decision = yield from self._checking(request)
        refused = self._find_refusal(decision)
        if refused is None:
            return None, reservation
        return (yield from self._refusing(request, refused)), None

    def _checking(self, request: HttpRequest) -> Effects[Decision | None]:
        """Return the decision; None where a cached answer allows."""
        requirement = self.requirement
        if self.quantity is not None:
            answer = yield from self._reading_requirement(request, self.quantity)
            if isinstance(answer, Decision):
                return answer
            requirement = answer
        if self.customer is not None:
            customer = yield Invocation(self.customer, request)
            return (yield from default_gate().checking(customer, requirement))
        customer = yield from resolving(request)
        entitlements = entitlements_of(request)
        # What the settings let pass in an outage, a gate with a policy of its own may refuse.
        if self.on_unavailable != "deny" and entitlements.allow_at_once(requirement, customer):
            return None
        return (yield from entitlements.checking(requirement, customer))

    def _reserving(self, request: HttpRequest) -> Effects[tuple[Decision, Reservation | None]]:
        requirement = self.countable
        if self.quantity is not None:
            answer = yield from self._reading_requirement(request, self.quantity)
            if isinstance(answer, Decision):
                return answer, None
            requirement = answer
        key = None if self.key is None else key_of_use((yield Invocation(self.key, request)))
        customer = request if self.customer is None else (yield Invocation(self.customer, request))
        return (yield from default_gate().admitting(customer, order(requirement, key, _TTL)))

    def _reading_requirement(
        self, request: HttpRequest, read_quantity: Callable[..., Any]
    ) -> Effects[Requirement | Decision]:
        """Return what this request needs; the decision to refuse one from which no quantity was worked out."""
        quantity = yield Invocation(read_quantity, request)
        try:
            requirement = as_requirement(self.requirement, quantity)
            return countable(requirement) if self.consume else requirement  # refuses what is finer than a ledger counts
        except ValueError:
            name = self.requirement.entitlement
            _logger.warning("%s: a gate was to ask for %s, which is no quantity: refused", name, _quote(quantity))
            return (yield from default_gate().refusing(self.requirement, RequestFault.INVALID_QUANTITY))

    def _refusing(self, request: HttpRequest, decision: Decision) -> Effects[HttpResponseBase]:
        """Return the response to a refused request, or raise what the gate is to raise."""
        if self.on_denied == "raise":
            note_refusal(request, decision)
            required(decision)
        if not isinstance(self.on_denied, str):
            return (yield from refusal(request, decision, self.on_denied))
        # Neither an outage nor a mistake in the request must look like "not entitled".
        is_about_plan = decision.outcome is not Outcome.UNKNOWN and decision.reason not in _FAULTS
        url = self._leads_to(request, self.on_denied) if is_about_plan else None
        if url is None:
            return (yield from refusal(request, decision))
        note_refusal(request, decision)
        return mark_refusal(redirection(request, decision, url))

    def _leads_to(self, request: HttpRequest, on_denied: str) -> str | None:
        """Return where to send a refused request; None where that is nowhere, or the page that was asked for."""
        url = address_of(on_denied, "on_denied")
        if url is None or request.method not in ("GET", "HEAD"):  # what is refused to a POST may be shown to a GET
            return url
        there = urljoin(escape_leading_slashes(request.get_full_path()), url)
        is_asked_anew = self.quantity is not None and urlsplit(there).query != request.META.get("QUERY_STRING", "")
        return url if is_asked_anew or not is_page(request, there) else None

    def _find_refusal(self, decision: Decision | None) -> Decision | None:
        """Return the decision where, under the failure policy of this gate, it refuses."""
        if decision is None:
            return None
        is_ours = self.on_unavailable is not None and decision.outcome is Outcome.UNKNOWN and not decision.shadow
        if is_ours:
            decision = dataclasses.replace(decision, allowed=self.on_unavailable == "allow")
        return None if decision.allowed else decision


def _check_on_denied(on_denied: object) -> None:
    if on_denied is None or (callable(on_denied) and takes(on_denied, len(("request", "decision")))):
        return
    if not isinstance(on_denied, str):
        raise TypeError(f'on_denied: a callable (request, decision) -> response, "raise", or a URL, not {on_denied!r}')
    if not on_denied.strip():
        raise ValueError("on_denied: the URL to redirect to is empty")


def refusal(
    request: HttpRequest, decision: Decision, handler: Callable[..., Any] | None = None
) -> Effects[HttpResponseBase]:
    """Return what a refused request is answered: by the handler given, or the one of the settings.

    Raises:
        TypeError: that gave no response; going on without one would let the request in.
    """
    note_refusal(request, decision)
    handler = handler or get_settings().load("denied_handler")
    response = yield Invocation(handler, request, decision)
    if not isinstance(response, HttpResponseBase):
        name = getattr(handler, "__qualname__", handler)
        raise TypeError(f"a refused request needs an HttpResponse, and {name} gave {response!r}")
    return mark_refusal(response)


def is_answered(request: HttpRequest | None) -> bool:
    """Return whether a refusal of the request was answered from here, or noted on its way out."""
    return getattr(request, _NOTED, None) is not None


def note_refusal(request: HttpRequest, decision: Decision) -> None:
    """Log each refusal once, also where it is raised on the way out."""
    if getattr(request, _NOTED, None) is not decision:
        setattr(request, _NOTED, decision)
        log_refusal(decision)


def _quote(quantity: object) -> str:
    """Return what a log may quote of a quantity that a project's function gave: it may come from a client."""
    is_short = isinstance(quantity, (str, float)) and len(str(quantity)) <= _SHORT
    is_small = isinstance(quantity, int) and abs(quantity) < 10**_SHORT
    return repr(quantity) if is_short or is_small else f"a {type(quantity).__name__}"
