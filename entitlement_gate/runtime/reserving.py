"""From a wish to a reservation: which grants pay, what the ledger says, and what is told to who gets nothing.

Never here: whether a grant is live (``domain.rule``), or how a ledger counts (``ledger``).
"""

from __future__ import annotations

import dataclasses
import uuid
from decimal import Decimal
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from entitlement_gate.domain.decisions import Decision, Outcome, Reason
from entitlement_gate.domain.errors import ReservationError
from entitlement_gate.domain.grants import EntitlementType
from entitlement_gate.domain.requirements import Requirement, as_requirement
from entitlement_gate.domain.rule import counted_under
from entitlement_gate.ledger.checking import checked_key
from entitlement_gate.ledger.protocol import Demand, Receipt, Refusal
from entitlement_gate.ledger.rule import available, micro_units, quantity_of, rows_of
from entitlement_gate.runtime.counting import NOTHING
from entitlement_gate.runtime.reservation import Reservation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from entitlement_gate.domain.grants import Snapshot
    from entitlement_gate.ledger.protocol import Charges, Ledger
    from entitlement_gate.runtime.counting import Counting
    from entitlement_gate.runtime.fetching import Fetching
    from entitlement_gate.runtime.judging import Judge
    from entitlement_gate.runtime.options import GateOptions
    from entitlement_gate.runtime.steps import Steps
    from entitlement_gate.runtime.views import View

__all__ = ["Order", "Reserving", "order"]

_BY_BALANCE = (Reason.ALLOWED, Reason.OVERAGE, Reason.INSUFFICIENT_QUANTITY, Reason.INSUFFICIENT_CREDITS)
_ATTEMPTS = 4  # to be admitted where others use up, between the look and the try, what was there
_ONE = Decimal(1)


class Order(NamedTuple):
    """What is to be held, for how many seconds, under which key; without a time it is used up at once."""

    requirement: Requirement
    key: str
    ttl: float | None


def order(entitlement: str | Requirement, quantity: object, key: str | None, ttl: float | None) -> Order:
    """Return what is asked for.

    A combined requirement, or one with a quantity of its own, ignores a quantity of 1; its leaves without one ask for
    1 where they are counted.

    Raises:
        ValueError: what is no quantity or key; more digits than a ledger counts.
    """
    says_itself = isinstance(entitlement, Requirement) and bool(entitlement.operator or entitlement.quantity)
    is_unsaid = says_itself and quantity == 1 and not isinstance(quantity, bool)
    requirement = as_requirement(entitlement, None if is_unsaid else quantity)
    for leaf in requirement.leaves():
        micro_units(leaf.requested or _ONE)
    key = uuid.uuid4().hex if key is None else checked_key(key)
    return Order(requirement, key, ttl)


class _Part(NamedTuple):
    """One entitlement of an order: what was asked, what is true of it, and what is demanded of the ledger.

    ``may_overdraw`` is the policy's word; a demand may also overdraw as a shadow, or where there is no limit.
    """

    leaf: Requirement
    judged: Decision
    demand: Demand
    may_overdraw: bool


class _Bid(NamedTuple):
    """What is true by billing and the ledger before anything is held, and the parts that balances would pay for."""

    judged: Decision
    parts: tuple[_Part, ...] = ()


class Reserving:
    """Reserves by the options of one gate."""

    def __init__(self, options: GateOptions, judge: Judge, fetching: Fetching, counting: Counting) -> None:
        self._options = options
        self._judge = judge
        self._fetching = fetching
        self._counting = counting

    def holding(self, order: Order, customer_id: str) -> Steps[tuple[Decision, Reservation | None]]:
        """Return the decision, and what was reserved where it allows."""
        ledger = self._counting.ledger
        if ledger is None:
            raise ReservationError('nothing is counted here: set LEDGER to "memory", "redis" or "database"')
        view = yield from self._fetching.view(customer_id)
        judged, receipt = yield from self._trying(order, view, ledger)
        if receipt is None and judged.outcome is Outcome.DENIED:
            before, view = view, (yield from self._fetching.for_denial(view))
            if view.entry is not before.entry:
                judged, receipt = yield from self._trying(order, view, ledger)
        settled = self._judge.settle(order.requirement, judged, partial(self._true_of, judged=judged, view=view))
        decision = self._judge.served(settled, view)
        return decision, Reservation(decision, order.key, ledger, receipt) if decision.allowed else None

    def _trying(self, order: Order, view: View, ledger: Ledger) -> Steps[tuple[Decision, Receipt | None]]:
        """Return what is true, and the receipt where the ledger admitted it."""
        bid = self._bid(order.requirement, view, NOTHING)
        judged = bid.judged
        for _ in range(_ATTEMPTS if bid.parts else 0):
            outcome = yield from self._asking(order, view.customer_id, bid, ledger)
            if isinstance(outcome, Receipt):
                return (yield from self._admitted(bid, outcome, view)), outcome
            if outcome is None:
                return _out_of_reach(bid), None
            judged = _refused(bid, outcome)
            # By what is used up here another entitlement of that name may do, or another side of an `|`.
            charges = yield from self._counting.learning(view.customer_id)
            bid = self._bid(order.requirement, view, charges)
            if not bid.parts or bid.judged.outcome is not Outcome.ALLOWED:
                return bid.judged, None
        return judged, None

    def _asking(self, order: Order, customer_id: str, bid: _Bid, ledger: Ledger) -> Steps[Receipt | Refusal | None]:
        demands = tuple(part.demand for part in bid.parts)
        verb = ledger.consume if order.ttl is None else partial(ledger.reserve, ttl=order.ttl)
        outcome: Receipt | Refusal | None
        outcome = yield from self._counting.trying_to(verb, customer_id, demands, key=order.key)
        return outcome

    def _bid(self, requirement: Requirement, view: View, charges: Charges | None) -> _Bid:
        entry = view.entry
        if entry is None:
            return _Bid(self._judge.unknown(requirement, view))
        told: dict[Requirement, Decision] = {}

        def judge_leaf(leaf: Requirement) -> Decision:
            decision = told[leaf] = self._judge.judge_leaf(leaf, entry, charges)
            return decision

        judged = requirement.judge(judge_leaf)
        leaves = _paying(requirement, told)
        # A balance that billing has as used up is still the ledger's to judge: it may be by this very key.
        if judged.reason not in _BY_BALANCE or any(told[leaf].reason not in _BY_BALANCE for leaf in leaves):
            return _Bid(judged)
        parts: dict[str, _Part] = {}
        for leaf in leaves:
            for part in self._parts(leaf, told[leaf], entry.snapshot):
                parts[part.demand.entitlement_id] = _together(parts.get(part.demand.entitlement_id), part)
        return _Bid(judged, tuple(parts.values()))

    def _parts(self, leaf: Requirement, judged: Decision, snapshot: Snapshot) -> Iterator[_Part]:
        """Yield what a leaf asks of the ledger; nothing where no balance pays for it."""
        rows = [row for row in snapshot.grants if row.id in judged.grants and row.is_metered]
        if rows:
            name = leaf.entitlement
            may_overdraw = self._judge.may_overdraw(name, rows)
            demand = Demand(
                entitlement_id=counted_under(rows[0]),
                quantity=micro_units(leaf.requested or _ONE),
                rows=rows_of(rows),
                ticket=snapshot.fetched_at,
                overdraw=judged.unlimited or may_overdraw or self._options.is_shadowed(name),
                target=self._options.target_of(name) or self._options.target_of(rows[0].name),
            )
            yield _Part(leaf, judged, demand, may_overdraw)

    def _true_of(self, leaf: Requirement, *, judged: Decision, view: View) -> Decision:
        """Return what is true of a part, given what was judged of the whole."""
        if view.entry is None or leaf.entitlement == judged.entitlement:
            return judged
        return self._judge.judge_leaf(leaf, view.entry, NOTHING)

    def _admitted(self, bid: _Bid, receipt: Receipt, view: View) -> Steps[Decision]:
        """Return the decision about the part that is told, with what is left beside the reservation."""
        left: list[int | None]
        if not receipt.available:  # nothing was newly admitted: it was held or committed before
            charges = yield from self._counting.learning(view.customer_id)
            left = [_left(part, charges) for part in bid.parts]
        else:
            left = [before - part.demand.quantity for before, part in zip(receipt.available, bid.parts, strict=True)]
        rest, part = min(zip(left, bid.parts, strict=True), key=lambda pair: pair[0] or 0)  # the scarcest is told
        is_beyond = receipt.is_overage and not part.judged.unlimited
        reason = _beyond(part) if is_beyond else Reason.ALLOWED
        remaining = None if rest is None or part.judged.unlimited else quantity_of(rest)
        return _reasoned(part.judged, reason, remaining)


def _beyond(part: _Part) -> Reason:
    """Return why more than was available is let in: by policy, or as a shadow of a denial."""
    return Reason.OVERAGE if part.may_overdraw else _insufficient(part.judged)


def _paying(requirement: Requirement, told: Mapping[Requirement, Decision]) -> tuple[Requirement, ...]:
    """Return the leaves whose quantities are used up: of an ``|`` its first true side, of ``~`` none."""
    if not requirement.operator:
        return (requirement,)
    parts = requirement.parts if requirement.operator == "&" else ()
    if requirement.operator == "|":
        true = (part for part in requirement.parts if part.judge(told.__getitem__).outcome is Outcome.ALLOWED)
        parts = tuple(islice(true, 1))
    return tuple(leaf for part in parts for leaf in _paying(part, told))


def _together(known: _Part | None, part: _Part) -> _Part:
    """Return one part for two leaves that the same balance pays for."""
    if known is None:
        return part
    quantity = known.demand.quantity + part.demand.quantity
    return known._replace(demand=dataclasses.replace(known.demand, quantity=quantity))


def _left(part: _Part, charges: Charges | None) -> int | None:
    if charges is None:
        return None
    return available(part.demand.rows, charges.get(part.demand.entitlement_id, {}))


def _refused(bid: _Bid, refusal: Refusal) -> Decision:
    part = next(part for part in bid.parts if part.demand.entitlement_id == refusal.entitlement_id)
    return _reasoned(part.judged, _insufficient(part.judged), quantity_of(refusal.available))


def _out_of_reach(bid: _Bid) -> Decision:
    judged = bid.parts[0].judged
    of = {"customer_id": judged.customer_id, "requested": judged.requested}
    return Decision.of(Reason.UNAVAILABLE, judged.entitlement, **of)


def _insufficient(judged: Decision) -> Reason:
    is_credits = judged.type is EntitlementType.CREDITS
    return Reason.INSUFFICIENT_CREDITS if is_credits else Reason.INSUFFICIENT_QUANTITY


def _reasoned(judged: Decision, reason: Reason, remaining: Decimal | None) -> Decision:
    outcome = reason.outcome
    allowed = outcome is Outcome.ALLOWED
    return dataclasses.replace(judged, allowed=allowed, outcome=outcome, reason=reason, remaining=remaining)
