"""What a request's customer may do: ``request.entitlements``.

Never here: what becomes of a refusal (``guard``), or how a gate answers.
"""

from __future__ import annotations

import asyncio
import copyreg
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from django.http import HttpRequest

from entitlement_gate.api import default_gate
from entitlement_gate.domain.decisions import Decision, Outcome
from entitlement_gate.domain.requirements import Requirement, as_requirement
from entitlement_gate.engine.entitlements import CustomerEntitlements, Entitlement, required
from entitlement_gate.resilience.effects import Effects, run_async, run_sync
from entitlement_gate.resolvers import find_request, resolving, set_gated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from entitlement_gate.project_gate import RequestGate

__all__ = ["RequestEntitlements", "entitlements_of"]


class _Counted(NamedTuple):
    """What the ledger said of a snapshot, and how often the customer had used something up by then."""

    of: CustomerEntitlements
    known: CustomerEntitlements
    uses: int


class RequestEntitlements:
    """``request.entitlements``: lazy, and answered from one snapshot for as long as the request is one customer's.

    Nothing is resolved, read or fetched until something is asked. A look-up by name reads like a mapping and
    blocks; in async code await ``aall`` once, or use the twins. It lives as long as its request.

    A check asks the ledger, wherever it is; what is read as a mapping, or shown on a page, asks it once, and again
    after this process used something of the customer's up.

    A copy of the request, pickled or not, has its own, which ask for whom the copy is. Those that are copied or pickled
    without their request are nobody's.
    """

    __slots__ = ("_all", "_counted", "_customer", "_gate", "_is_tallied", "_request")

    def __init__(self, request: HttpRequest) -> None:
        # The request holds this: held in turn, each request would be left to the garbage collector (2 µs of 5).
        self._request: Callable[[], HttpRequest | None] = weakref.ref(request)
        self._all: CustomerEntitlements | None = None
        self._counted: _Counted | None = None
        self._customer: object = None  # as the resolver gave it
        self._gate: RequestGate | None = None
        self._is_tallied = False
        kind = type(request)
        if kind not in copyreg.dispatch_table:
            copyreg.pickle(kind, _reduce_request)

    def check(self, entitlement: str | Requirement, quantity: object = None) -> Decision:
        """Return the decision."""
        return run_sync(self.checking(as_requirement(entitlement, quantity)))

    async def acheck(self, entitlement: str | Requirement, quantity: object = None) -> Decision:
        """Return the decision."""
        return await run_async(self.checking(as_requirement(entitlement, quantity)))

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
        known = run_sync(self._getting_counted(is_reading=True))
        return known.concluded_by(lambda asked, decision: run_sync(self._concluding(asked, decision, known)))

    async def aall(self) -> CustomerEntitlements:
        """Return all of them as a mapping, whose reading costs no I/O."""
        known = await run_async(self._getting_counted())
        return known.concluded_by(lambda _, decision: run_sync(default_gate().telling(decision)))

    def show(self, entitlement: str | Requirement, quantity: object = None) -> Decision:
        """Return the decision for a page that shows several: as ``check``, by what the ledger said once."""
        return run_sync(self._showing(as_requirement(entitlement, quantity)))

    def __getitem__(self, name: str) -> Entitlement:
        return self.all()[name]

    def __contains__(self, name: object) -> bool:
        return name in self.all()

    def __iter__(self) -> Iterator[str]:
        return iter(self.all())

    def __len__(self) -> int:
        return len(self.all())

    def __reduce__(self) -> tuple[Any, ...]:
        return _of_nobody, ()

    def __repr__(self) -> str:
        return (
            "<RequestEntitlements: nothing asked yet>" if self._all is None else f"<RequestEntitlements: {self._all}>"
        )

    def checking(self, requirement: Requirement) -> Effects[Decision]:
        """Answer from the request's snapshot; before a denial, from a newer one where that is too old to deny."""
        gate = default_gate()
        return (yield from self._deciding(gate, requirement, (yield from self._getting(gate))))

    def checking_of(self, customer: object, requirement: Requirement) -> Effects[Decision]:
        """Answer the same, given whom the resolver has just found."""
        gate = default_gate()
        return (yield from self._deciding(gate, requirement, (yield from self._getting_of(customer, gate))))

    def allows_at_once(self, requirement: Requirement, customer: object) -> bool:
        """Return whether what is at hand of whom the resolver has just found allows; where not, a check knows."""
        gate = default_gate()
        known = self._at_hand(gate, customer)
        is_allowed = known is not None and _is_silent(gate, known, requirement) and gate.allows(known, requirement)
        if is_allowed:
            self._tally(gate)
        return is_allowed

    def is_of(self, request: HttpRequest) -> bool:
        """Whether they are this request's own, and not those that a copy of another came with."""
        return self._request() is request

    def _asked_by(self) -> HttpRequest:
        request = self._request()
        if request is None:
            raise RuntimeError("the request of these entitlements is gone: keep the request, or ask before it ends")
        return request

    def _deciding(
        self, gate: RequestGate, requirement: Requirement, got: tuple[CustomerEntitlements, float]
    ) -> Effects[Decision]:
        known, due = got
        decision = known.check(requirement) if _is_silent(gate, known, requirement) else None
        if decision is not None and decision.outcome is Outcome.ALLOWED:
            self._tally(gate)
            gate.tell_observers(decision, due)
            return decision
        decision, self._all = yield from gate.deciding(requirement, known, due, decision)
        self._tally(gate, is_done=self._all is not known)
        return decision

    def _getting(self, gate: RequestGate) -> Effects[tuple[CustomerEntitlements, float]]:
        """Return the request's snapshot, and when what is asked of it is to have an answer."""
        if self._request is _no_request:
            return (yield from self._getting_of(None, gate))
        if self._request() is None and self._all is not None and self._gate is gate:
            return self._all, gate.due()
        request = self._asked_by()
        set_gated(request)  # what is answered may be for its customer alone
        return (yield from self._getting_of((yield from resolving(request)), gate))

    def _getting_of(self, customer: object, gate: RequestGate) -> Effects[tuple[CustomerEntitlements, float]]:
        due = gate.due()
        known = self._at_hand(gate, customer)
        if known is None:
            known = yield from gate.getting(customer, due)
            self._keep(known, gate, customer)
        return known, due

    def _concluding(
        self, requirement: Requirement, decision: Decision, known: CustomerEntitlements
    ) -> Effects[Decision]:
        """Have the last word in a check of what was known; what is newer serves the request if still its customer's."""
        decision, newer = yield from default_gate().concluding(requirement, decision, known)
        if newer is not known and self._all is not None and self._all.customer_id == known.customer_id:
            self._all = newer
        return decision

    def _getting_counted(self, *, is_reading: bool = False) -> Effects[CustomerEntitlements]:
        """Return the request's snapshot with what is used up; reading it in a loop waits for no newer numbers."""
        gate = default_gate()
        known, due = yield from self._getting(gate)
        self._tally(gate)
        uses = gate.uses_of(known)  # counted before the ledger is asked: what is used up meanwhile is not missed
        kept = self._counted
        if kept is not None and kept.of is known and (kept.uses == uses or (is_reading and _is_in_loop())):
            return kept.known
        counted = yield from gate.counted(known, due)
        self._counted = _Counted(known, counted, uses)
        return counted

    def _showing(self, requirement: Requirement) -> Effects[Decision]:
        known = yield from self._getting_counted(is_reading=True)
        decision = known.check(requirement)
        if decision.outcome is Outcome.DENIED:  # which is no older than it may be on a page either
            return (yield from self.checking(requirement))
        return (yield from default_gate().telling(decision))

    def _at_hand(self, gate: RequestGate, customer: object) -> CustomerEntitlements | None:
        """Return the request's snapshot where there is one or it takes no fetch."""
        # Else nothing was asked yet, the request has got another customer, or a test another gate.
        if self._gate is not gate or not (self._customer is customer or self._customer == customer):
            at_hand = gate.at_hand(customer)
            if at_hand is None:
                return None
            self._keep(at_hand, gate, customer)
        return self._all

    def _keep(self, known: CustomerEntitlements, gate: RequestGate, customer: object) -> None:
        self._all, self._gate, self._customer, self._is_tallied = known, gate, customer, False

    def _tally(self, gate: RequestGate, *, is_done: bool = False) -> None:
        """Count the request's snapshot once, by the first question that it answers; not where that got a newer one."""
        if not (is_done or self._is_tallied or self._all is None):
            gate.tally(self._all)
        self._is_tallied = True


def _is_silent(gate: RequestGate, known: CustomerEntitlements, requirement: Requirement) -> bool:
    """Whether an answer from what is known needs no step, for I/O or for telling of it."""
    return not (gate.sends_checks or known.needs_ledger(requirement))


def _is_in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _no_request() -> None:
    """Stand where others refer to their request."""


def _of_nobody() -> RequestEntitlements:
    entitlements = RequestEntitlements(HttpRequest())
    entitlements._request = _no_request  # noqa: SLF001 - of this module
    return entitlements


def _reduce_request(request: HttpRequest) -> str | tuple[Any, ...]:
    """Return what ``copy`` and ``pickle`` make a request anew of: as without this, but with entitlements of its own.

    What a copy has in its attributes is the original's, and cannot tell which of the two it is asked through: the
    original's customer would answer for a copy that was made to ask for somebody else.
    """
    reduced = request.__reduce_ex__(4)
    state: object = (*reduced, None)[2]  # none where a class of requests says itself what to make of one
    if not (isinstance(state, dict) and isinstance(state.get("entitlements"), RequestEntitlements)):
        return reduced
    own = {name: value for name, value in state.items() if name != "entitlements"}
    return _make_request, reduced[:2], own, *reduced[3:]


def _make_request(make: Callable[..., HttpRequest], args: tuple[Any, ...]) -> HttpRequest:
    """Return a request without its state, but with its entitlements."""
    request = make(*args)
    request.entitlements = RequestEntitlements(request)  # type: ignore[attr-defined]  # what the middleware sets too
    return request


def entitlements_of(given: HttpRequest) -> RequestEntitlements:
    """Return the request's entitlements, those that the middleware set or new ones."""
    request = find_request(given) or given
    known = getattr(request, "entitlements", None)
    if not (isinstance(known, RequestEntitlements) and known.is_of(request)):
        known = RequestEntitlements(request)
        request.entitlements = known  # type: ignore[attr-defined]  # what the middleware sets too
    return known
