"""From a bid to a reservation: what the ledger says, and what is told to who gets nothing.

Never here: what is asked of it (``bidding``), whether a grant is live (``domain.rule``), how a ledger counts
(``ledger``).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

from entitlement_gate.domain.decisions import Decision, Outcome, Reason
from entitlement_gate.domain.errors import ReservationConflict, ReservationError
from entitlement_gate.domain.grants import EntitlementType
from entitlement_gate.ledger.protocol import Receipt, Refusal
from entitlement_gate.ledger.rule import available, quantity_of
from entitlement_gate.runtime.bidding import Bid, Bidding, Order, Part, reasoned
from entitlement_gate.runtime.counting import NOTHING
from entitlement_gate.runtime.reservation import Holding, Reservation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from entitlement_gate.domain.requirements import Requirement
    from entitlement_gate.ledger.protocol import Charges, Demand
    from entitlement_gate.runtime.counting import Counting
    from entitlement_gate.runtime.fetching import Fetching
    from entitlement_gate.runtime.judging import Judge
    from entitlement_gate.runtime.options import GateOptions
    from entitlement_gate.runtime.steps import Steps
    from entitlement_gate.runtime.views import View

__all__ = ["Reserving"]

_ATTEMPTS = 4  # to be admitted where others use up, between the look and the try, what was there


class Trial(NamedTuple):
    """What is true of the whole and of its leaves; the receipt where the ledger admitted it, and of what."""

    judged: Decision
    told: Mapping[Requirement, Decision]
    receipt: Receipt | None = None
    demands: tuple[Demand, ...] = ()

    def true_of(self, leaf: Requirement) -> Decision:
        """Return what is true of a leaf; without data of the customer that is what is true of the whole."""
        return self.told.get(leaf, self.judged)


class Reserving:
    """Reserves by the options of one gate."""

    def __init__(self, options: GateOptions, judge: Judge, fetching: Fetching, counting: Counting) -> None:
        self._bidding = Bidding(options, judge)
        self._judge = judge
        self._fetching = fetching
        self._counting = counting

    def holding(self, order: Order, customer_id: str) -> Steps[tuple[Decision, Reservation | None]]:
        """Return the decision, and what was reserved where it allows."""
        if self._counting.ledger is None:
            raise ReservationError('nothing is counted here: set LEDGER to "memory", "redis" or "database"')
        due = self._counting.due()  # all that follows shares one deadline
        view = yield from self._fetching.view(customer_id, due)
        trial = yield from self._trying(order, view, due)
        if trial.receipt is None and trial.judged.outcome is Outcome.DENIED:
            before, view = view, (yield from self._fetching.for_denial(view, due))
            if view.entry is not before.entry:
                trial = yield from self._trying(order, view, due)
        settled = self._judge.settle(order.requirement, trial.judged, trial.true_of)
        decision = self._judge.served(settled, view)
        if not decision.allowed:
            return decision, None
        holding = Holding(self._counting, trial.demands, order.owner)
        return decision, Reservation(decision, order.key, holding if trial.receipt else None, trial.receipt)

    def _trying(self, order: Order, view: View, due: float) -> Steps[Trial]:
        bid = self._bidding.bid(order.requirement, view, NOTHING)
        trial = Trial(bid.judged, bid.told)
        for _ in range(_ATTEMPTS if bid.parts else 0):
            bid, outcome = yield from self._asking(order, view, bid, due=due)
            if isinstance(outcome, Receipt):
                return (yield from self._admitted(order, bid, outcome, view, due=due))
            if outcome is None:
                unknown = _out_of_reach(bid)
                return Trial(unknown, {**bid.told, **dict.fromkeys((part.leaf for part in bid.parts), unknown)})
            part, refused = _refused(bid, outcome)
            trial = Trial(refused, {**bid.told, part.leaf: refused})
            # By what is used up here another entitlement of that name may do, or another side of an `|`.
            charges = yield from self._counting.learning(view.customer_id, due)
            bid = self._bidding.bid(order.requirement, view, charges)
            if not (bid.parts and bid.is_enough):
                return Trial(bid.judged, bid.told)
        return trial

    def _asking(self, order: Order, view: View, bid: Bid, *, due: float) -> Steps[tuple[Bid, Receipt | Refusal | None]]:
        """Return what the ledger says, and of what: where its key stands for what paid before, of that."""
        outcome = yield from self._demanding(order, view, tuple(part.demand for part in bid.parts), due=due)
        if not isinstance(outcome, ReservationConflict):
            return bid, outcome
        for other in self._bidding.others(order.requirement, bid, view):
            nothing = tuple(_of_nothing(part.demand) for part in other.parts)
            told = yield from self._demanding(order, view, nothing, due=due)
            if told is None or isinstance(told, Receipt):
                return other, told
        raise outcome

    def _demanding(
        self, order: Order, view: View, demands: tuple[Demand, ...], *, due: float
    ) -> Steps[Receipt | Refusal | ReservationConflict | None]:
        outcome: Receipt | Refusal | ReservationConflict | None
        try:
            outcome = yield from self._counting.demanding(order, view.customer_id, demands, due=due)
        except ReservationConflict as conflict:
            return conflict
        return outcome

    def _admitted(self, order: Order, bid: Bid, receipt: Receipt, view: View, *, due: float) -> Steps[Trial]:
        """Return what is true of what was admitted: of a part of it, with what is left beside the reservation."""
        left: list[int | None]
        if not receipt.available:  # nothing was newly admitted: it was held or committed before
            charges = yield from self._counting.learning(view.customer_id, due)
            left = [_left(part, charges) for part in bid.parts]
        else:
            left = [before - part.demand.quantity for before, part in zip(receipt.available, bid.parts, strict=True)]
        rest, part = min(zip(left, bid.parts, strict=True), key=lambda pair: pair[0] or 0)  # the scarcest is told
        is_beyond = receipt.is_overage and not part.judged.unlimited
        reason = _beyond(part) if is_beyond else Reason.ALLOWED
        remaining = None if rest is None or part.judged.unlimited else quantity_of(rest)
        decision = reasoned(part.judged, reason, remaining)
        told = {**bid.paid, part.leaf: decision}
        judged = order.requirement.judge(told.__getitem__)  # denied where a shadow was let in
        true = decision if judged.outcome is Outcome.ALLOWED else judged
        return Trial(true, told, receipt, tuple(part.demand for part in bid.parts))


def _of_nothing(demand: Demand) -> Demand:
    """Return a demand that is never admitted anew, because there is nothing left; a key that is known replays."""
    return dataclasses.replace(demand, rows=tuple(dataclasses.replace(row, remaining=0) for row in demand.rows))


def _beyond(part: Part) -> Reason:
    """Return why more than was available is let in: by policy, or as a shadow of a denial."""
    return Reason.OVERAGE if part.may_overdraw else _insufficient(part.judged)


def _left(part: Part, charges: Charges | None) -> int | None:
    if charges is None:
        return None
    return available(part.demand.rows, charges.get(part.demand.entitlement_id, {}))


def _refused(bid: Bid, refusal: Refusal) -> tuple[Part, Decision]:
    part = next(part for part in bid.parts if part.demand.entitlement_id == refusal.entitlement_id)
    return part, reasoned(part.judged, _insufficient(part.judged), quantity_of(refusal.available))


def _out_of_reach(bid: Bid) -> Decision:
    judged = bid.parts[0].judged
    of = {"customer_id": judged.customer_id, "requested": judged.requested}
    return Decision.of(Reason.UNAVAILABLE, judged.entitlement, **of)


def _insufficient(judged: Decision) -> Reason:
    is_credits = judged.type is EntitlementType.CREDITS
    return Reason.INSUFFICIENT_CREDITS if is_credits else Reason.INSUFFICIENT_QUANTITY
