"""What a request's customer may do: ``request.entitlements``."""

from __future__ import annotations

import asyncio
import copyreg
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from django.http import HttpRequest

from entitlement_gate.api import default_gate
from entitlement_gate.domain.requirements import Requirement, as_requirement
from entitlement_gate.engine.cache import key_of
from entitlement_gate.engine.entitlements import CustomerEntitlements, Entitlement, required
from entitlement_gate.engine.evaluation import remembered_as
from entitlement_gate.resilience.effects import Effects, run_async, run_sync
from entitlement_gate.resolvers import mark_private, resolving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from entitlement_gate.domain.decisions import Decision
    from entitlement_gate.engine.cache import Entry
    from entitlement_gate.project_gate import RequestGate

__all__ = ["RequestEntitlements", "entitlements_of"]


class _Counted(NamedTuple):
    """A request's entitlements, the same with the ledger's charges, and the customer's number of uses by then."""

    entitlements: CustomerEntitlements
    with_charges: CustomerEntitlements
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

    __slots__ = ("_all", "_counted", "_customer", "_entry", "_gate", "_is_tallied", "_request")

    def __init__(self, request: HttpRequest) -> None:
        # Weak, as the request holds this: a cycle would leave each to the garbage collector (2 µs of 5).
        self._request: Callable[[], HttpRequest | None] = weakref.ref(request)
        self._entry: Entry | None = None  # the request's snapshot, where there is one
        self._all: CustomerEntitlements | None = None  # the same with its questions, once somebody needs them
        self._counted: _Counted | None = None
        self._customer: object = None  # as the resolver gave it
        self._gate: RequestGate | None = None
        self._is_tallied = False
        kind = type(request)
        if kind not in copyreg.dispatch_table:
            copyreg.pickle(kind, _reduce_request)

    def check(self, entitlement: str | Requirement, quantity: object = None) -> Decision:
        """Return the decision."""
        return run_sync(self._checking(as_requirement(entitlement, quantity)))

    async def acheck(self, entitlement: str | Requirement, quantity: object = None) -> Decision:
        """Return the decision."""
        return await run_async(self._checking(as_requirement(entitlement, quantity)))

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
        entitlements = run_sync(self._getting_counted(is_reading=True))

        def conclude(requirement: Requirement, decision: Decision) -> Decision:
            return run_sync(self._concluding(requirement, decision, entitlements))

        return entitlements.concluded_by(conclude)

    async def aall(self) -> CustomerEntitlements:
        """Return all of them as a mapping, whose reading costs no I/O."""
        entitlements = await run_async(self._getting_counted())
        return entitlements.concluded_by(lambda _, decision: run_sync(default_gate().telling(decision)))

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
        state = "nothing asked yet" if self._gate is None else self._get_entitlements(self._gate)
        return f"<RequestEntitlements: {state}>"

    def allow_at_once(self, requirement: Requirement, customer: object) -> bool:
        """Return whether a cached answer allows the request's customer, as just resolved.

        The request's snapshot is then the one that the answer rests on. That takes no steps, nor a decision.
        """
        gate = default_gate()
        answer = gate.find_answer(key_of(customer, remembered_as(requirement), None))
        return answer is not None and answer.allowed and self._rests_on(answer.entry, gate, customer)

    def checking(self, requirement: Requirement, customer: object) -> Effects[Decision]:
        """Answer for the request's customer, as just resolved, from the request's snapshot.

        Before a denial, from a newer one where that is too old to deny.
        """
        gate = default_gate()
        due = gate.due()
        entitlements = (yield from self._getting_of(gate, customer, due)).kept()
        decision, newest = yield from gate.deciding(requirement, entitlements, due)
        if newest is not entitlements:
            self._keep(newest, gate, customer)
        self._tally(gate, newest)
        if newest.view is not None:
            gate.remember_form(newest.view, requirement, key_of(customer, remembered_as(requirement), None))
        yield from gate.announcing(decision, due)
        return decision

    def is_of(self, request: HttpRequest) -> bool:
        """Whether they are this request's own, and not those that a copy of another came with."""
        return self._request() is request

    def _checking(self, requirement: Requirement) -> Effects[Decision]:
        customer = yield from self._finding_customer(default_gate())
        return (yield from self.checking(requirement, customer))

    def _finding_customer(self, gate: RequestGate) -> Effects[object]:
        """Return whose the request is; of one that is gone, whose it was."""
        request = self._request()
        if request is not None:
            mark_private(request)  # the response may be for its customer alone
            return (yield from resolving(request))
        if self._request is _no_request:
            return None
        if self._gate is gate:
            return self._customer
        raise RuntimeError("the request of these entitlements is gone: keep the request, or ask before it ends")

    def _getting_of(self, gate: RequestGate, customer: object, due: float) -> Effects[CustomerEntitlements]:
        if self._is_about(customer, gate):
            return self._get_entitlements(gate)
        entitlements = yield from gate.knowing(gate.identify(customer), due)
        self._keep(entitlements, gate, customer)
        return entitlements

    def _concluding(
        self, requirement: Requirement, decision: Decision, entitlements: CustomerEntitlements
    ) -> Effects[Decision]:
        """Make the decision final; what is newer then serves the request if that is still the same customer's."""
        decision, newer = yield from default_gate().concluding(requirement, decision, entitlements)
        if newer is not entitlements and self._all is not None and self._all.customer_id == entitlements.customer_id:
            self._all, self._entry = newer, newer.view and newer.view.entry
        return decision

    def _getting_counted(self, *, is_reading: bool = False) -> Effects[CustomerEntitlements]:
        """Return the request's snapshot with what is used up; reading it in a loop waits for no newer numbers."""
        gate = default_gate()
        customer = yield from self._finding_customer(gate)
        due = gate.due()
        entitlements = yield from self._getting_of(gate, customer, due)
        self._tally(gate, entitlements)
        uses = gate.uses_of(entitlements)  # read before the ledger is asked: what is used up meanwhile is not missed
        cached = self._counted
        if (
            cached is not None
            and cached.entitlements is entitlements
            and (cached.uses == uses or (is_reading and _is_in_loop()))
        ):
            return cached.with_charges
        with_charges = yield from gate.counted(entitlements, due)
        self._counted = _Counted(entitlements, with_charges, uses)
        return with_charges

    def _showing(self, requirement: Requirement) -> Effects[Decision]:
        gate = default_gate()
        entitlements = (yield from self._getting_counted(is_reading=True)).kept()
        due = gate.due()
        decision, newest = yield from gate.deciding(requirement, entitlements, due)
        if newest is not entitlements:  # a denial is no older than it may be on a page either
            self._keep(newest, gate, self._customer)
            self._tally(gate, newest)
        return (yield from gate.telling(decision, due))

    def _is_about(self, customer: object, gate: RequestGate) -> bool:
        """Whether there is a snapshot of this customer and gate: the user or, in a test, the gate may have changed."""
        return self._gate is gate and (self._customer is customer or self._customer == customer)

    def _rests_on(self, entry: Entry, gate: RequestGate, customer: object) -> bool:
        """Return whether this is the request's snapshot, which it is from now on where the request had none."""
        if self._is_about(customer, gate):
            return self._entry is entry
        self._entry, self._all, self._gate, self._customer, self._is_tallied = entry, None, gate, customer, True
        gate.count_hit()
        return True

    def _get_entitlements(self, gate: RequestGate) -> CustomerEntitlements:
        if self._all is None:
            self._all = gate.entitlements_in(self._entry)  # type: ignore[arg-type]  # one of the two is always kept
        return self._all

    def _keep(self, entitlements: CustomerEntitlements, gate: RequestGate, customer: object) -> None:
        self._all, self._gate, self._customer, self._is_tallied = entitlements, gate, customer, False
        self._entry = entitlements.view.entry if entitlements.view else None

    def _tally(self, gate: RequestGate, entitlements: CustomerEntitlements) -> None:
        """Count the request's snapshot once, by the first question that it answers."""
        if not self._is_tallied:
            gate.tally(entitlements)
            self._is_tallied = True


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


def entitlements_of(request: HttpRequest) -> RequestEntitlements:
    """Return the entitlements of Django's request, those that the middleware set or new ones."""
    entitlements = getattr(request, "entitlements", None)
    if isinstance(entitlements, RequestEntitlements) and entitlements.is_of(request):
        return entitlements
    request.entitlements = entitlements = RequestEntitlements(request)  # type: ignore[attr-defined]  # as the middleware
    return entitlements
