"""Reservations: planned by billing's rows, tried against the ledger, held, and then committed or released.

Its theory of operation. *Plan*: by billing's rows and what the ledger last said, which entitlements pay, with which
rows, for how much (``ReservationPlanner``, pure). *Try*: the ledger is asked for all of it in one atomic step
(``Reserver``). It admits, which is a receipt; refuses one part and says how much is left, by which a new plan is made,
at most ``_ATTEMPTS`` times; finds the key in use for something else, which is a conflict; or cannot be asked, which is
unknown. A key stands for its purpose, the requirement as it was asked: whatever paid for it replays, though billing
may have moved on or list that no longer. *Hold*: who made the hold owns it (``Reservation``). Who replays a key owns
nothing, and never gives back. A commit that finds nothing held counts late.

No lock is held here: between a plan and a try others may use up what was there, and billing may move. The ledger alone
decides. What never may happen is that more is admitted than it has, or that one key counts twice.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
from contextlib import suppress
from decimal import Decimal
from functools import partial
from hashlib import blake2b
from itertools import chain, islice
from secrets import token_hex
from threading import Thread
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from entitlement_gate.domain.decisions import Decision, Outcome, Reason, revise, rows_behind
from entitlement_gate.domain.errors import (
    EntitlementGateError,
    ReservationConflict,
    ReservationError,
    ReservationNotFound,
    text_to_log,
)
from entitlement_gate.domain.grants import EntitlementType
from entitlement_gate.domain.numbers import valid_quantity
from entitlement_gate.domain.requirements import Requirement, as_requirement
from entitlement_gate.domain.rule import counted_under
from entitlement_gate.engine.ledger_client import NOTHING, LedgerClient
from entitlement_gate.ledger.balances import available, micro_units, quantity_of, rows_of
from entitlement_gate.ledger.protocol import Demand, Ledger, Receipt, Refusal, State, checked_key
from entitlement_gate.resilience.effects import Effects, run_async, run_sync
from entitlement_gate.resilience.worker_pool import start_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from entitlement_gate.domain.grants import Grant, Snapshot
    from entitlement_gate.engine.evaluation import Evaluator
    from entitlement_gate.engine.options import GateOptions
    from entitlement_gate.engine.snapshots import SnapshotStore, View
    from entitlement_gate.ledger.protocol import Charges
    from entitlement_gate.resilience.effects import Effects

__all__ = [
    "Holding",
    "Part",
    "Reservation",
    "ReservationPlan",
    "ReservationPlanner",
    "ReservationRequest",
    "Reserver",
    "countable",
    "key_of_use",
    "order",
    "revise_reason",
]

_BY_BALANCE = (Reason.ALLOWED, Reason.OVERAGE, Reason.INSUFFICIENT_QUANTITY, Reason.INSUFFICIENT_CREDITS)
_ONE = Decimal(1)


class ReservationRequest(NamedTuple):
    """What is to be held, for how many seconds, under which key; without a time it is used up at once.

    ``owner`` tells this order from any other under the same key: what it holds nobody else releases. ``purpose`` is
    the requirement's digest, by which a retry is known. A key that ``is_lone`` was made for this order, and nobody else
    knows it.
    """

    requirement: Requirement
    key: str
    ttl: float | None
    owner: str = ""
    purpose: str = ""
    is_lone: bool = False


def countable(entitlement: str | Requirement, quantity: object = 1) -> Requirement:
    """Return what is to be used up, in quantities that a ledger counts.

    A combined requirement, or one with a quantity of its own, ignores a quantity of 1; its leaves without one ask for
    1 where they are counted.

    Raises:
        ValueError: what is no quantity; more digits than a ledger counts.
    """
    says_itself = isinstance(entitlement, Requirement) and bool(entitlement.operator or entitlement.quantity)
    is_unsaid = says_itself and quantity == 1 and not isinstance(quantity, bool)
    requirement = as_requirement(entitlement, None if is_unsaid else quantity)
    for leaf in requirement.leaves():
        micro_units(leaf.requested or _ONE)
    return requirement


def order(requirement: Requirement, key: str | None, ttl: float | None) -> ReservationRequest:
    """Return what is asked for of a ``countable`` requirement. Raises ``ValueError`` for what is no key."""
    if key is None:
        return ReservationRequest(requirement, token_hex(16), ttl, is_lone=True)
    purpose = blake2b(repr(requirement).encode("utf-8", "backslashreplace"), digest_size=16).hexdigest()
    return ReservationRequest(requirement, checked_key(key), ttl, owner=token_hex(16), purpose=purpose)


def key_of_use(name: object) -> str | None:
    """Return the key for what a project's function names, of which a client may have chosen a part.

    Of a text that no ledger keeps as it is, a long one say, it is the digest; an empty one is left to be refused.
    """
    if name is None:
        return None
    text = str(name)
    try:
        return checked_key(text)
    except ValueError:
        return text and blake2b(text.encode("utf-8", "backslashreplace"), digest_size=32).hexdigest()


class Part(NamedTuple):
    """One entitlement of an order: the leaf, the decision about it, and what is demanded of the ledger.

    ``may_overdraw`` is the policy's word; a demand may also overdraw as a shadow, or where there is no limit.
    """

    leaf: Requirement
    decision: Decision
    demand: Demand
    may_overdraw: bool


class ReservationPlan(NamedTuple):
    """What is true by billing and the ledger before anything is held, and the parts that balances would pay for.

    Attributes:
        decision: what is true of the whole.
        parts: what is demanded; none where nothing is to be asked.
        decisions: what is true of each leaf.
        paid: the same once the balances have paid.
    """

    decision: Decision
    parts: tuple[Part, ...] = ()
    decisions: Mapping[Requirement, Decision] = MappingProxyType({})
    paid: Mapping[Requirement, Decision] = MappingProxyType({})


class ReservationPlanner:
    """Plans by the options of one gate."""

    def __init__(self, options: GateOptions, evaluator: Evaluator) -> None:
        self._options = options
        self._evaluator = evaluator

    def plan(self, requirement: Requirement, view: View, charges: Charges | None) -> ReservationPlan:
        """Return what is true by billing and these charges, and what the ledger would be asked for."""
        entry = view.entry
        if entry is None:
            return ReservationPlan(self._evaluator.unknown(requirement, view))
        decisions = {leaf: self._evaluator.judge_leaf(leaf, entry, charges) for leaf in requirement.leaves()}
        decision = requirement.judge(decisions.__getitem__)
        leaves = [leaf for leaf in self._paying(requirement, decisions) if decisions[leaf].reason in _BY_BALANCE]
        # A balance that billing has as used up is still the ledger's to judge: it may be by this very key.
        short = [leaf for leaf in leaves if decisions[leaf].outcome is not Outcome.ALLOWED]
        paid = decisions | {leaf: revise_reason(decisions[leaf], Reason.ALLOWED, None) for leaf in short}
        if decision.outcome is not Outcome.ALLOWED and not self.admits(requirement, paid):
            return ReservationPlan(decision, decisions=decisions)
        parts: dict[str, Part] = {}
        for leaf in leaves:
            part = self._part(leaf, decisions[leaf], entry.snapshot)
            if part is not None:
                other = parts.get(part.demand.entitlement_id)
                parts[part.demand.entitlement_id] = part if other is None else _add_parts(other, part)
        return ReservationPlan(decision, tuple(parts.values()), decisions, paid)

    def admits(self, requirement: Requirement, decisions: Mapping[Requirement, Decision]) -> bool:
        """Whether the whole is let in where this is true of its leaves."""
        enforced = self._options.enforced(requirement)
        return enforced is None or enforced.judge(decisions.__getitem__).outcome is Outcome.ALLOWED

    def _paying(self, requirement: Requirement, decisions: Mapping[Requirement, Decision]) -> tuple[Requirement, ...]:
        """Return the leaves whose quantities are used up: of an ``|`` its first true side, of ``~`` none."""
        if not requirement.operator:
            return (requirement,)
        parts = requirement.parts if requirement.operator == "&" else ()
        if requirement.operator == "|":
            true = (part for part in requirement.parts if part.judge(decisions.__getitem__).outcome is Outcome.ALLOWED)
            shadowed = (part for part in requirement.parts if self.admits(part, decisions))
            parts = tuple(islice(chain(true, shadowed), 1))
        return tuple(leaf for part in parts for leaf in self._paying(part, decisions))

    def _part(self, leaf: Requirement, decision: Decision, snapshot: Snapshot) -> Part | None:
        """Return what a leaf asks of the ledger; None where no balance pays for it."""
        rows = [row for row in rows_behind(decision) if row.is_metered]
        if not rows:
            return None
        may_overdraw = self._evaluator.may_overdraw(leaf.entitlement, rows)
        overdraw = decision.unlimited or may_overdraw or self._options.is_shadowed(leaf.entitlement)
        quantity = micro_units(leaf.requested or _ONE)
        demand = self._demand(leaf, rows, snapshot, quantity, overdraw=overdraw)
        return Part(leaf, decision, demand, may_overdraw)

    def plan_replay(
        self, requirement: Requirement, plan: ReservationPlan, view: View, receipt: Receipt
    ) -> ReservationPlan:
        """Return a plan for what a key was paid with, as far as billing lists that still; else one without parts."""
        paid: dict[str, int] = {}
        for share in receipt.shares:
            paid[share.entitlement_id] = paid.get(share.entitlement_id, 0) + share.amount
        if view.entry is None or paid.keys() == {part.demand.entitlement_id for part in plan.parts}:
            return plan
        snapshot = view.entry.snapshot
        leaves = tuple(requirement.leaves())
        payers = (self._payer(leaves, snapshot, entitlement_id, amount) for entitlement_id, amount in paid.items())
        parts = tuple(part for part in payers if part is not None)
        return plan._replace(parts=parts, paid={**plan.paid, **{part.leaf: part.decision for part in parts}})

    def _payer(
        self, leaves: tuple[Requirement, ...], snapshot: Snapshot, entitlement_id: str, amount: int
    ) -> Part | None:
        """Return the part that an entitlement paid for, live or not; None where billing lists it no longer."""
        for leaf in leaves:
            named = self._evaluator.named(leaf.entitlement, snapshot)
            rows = [row for row in named if row.is_metered and counted_under(row) == entitlement_id]
            if rows and micro_units(leaf.requested or _ONE) <= amount:
                fields = {"customer_id": snapshot.customer_id, "requested": leaf.requested, "units": rows[0].units}
                decision = Decision.of(Reason.ALLOWED, leaf.entitlement, grants=tuple(row.id for row in rows), **fields)
                return Part(leaf, decision, self._demand(leaf, rows, snapshot, amount), may_overdraw=False)
        return None

    def _demand(
        self, leaf: Requirement, rows: list[Grant], snapshot: Snapshot, quantity: int, *, overdraw: bool = False
    ) -> Demand:
        return Demand(
            entitlement_id=counted_under(rows[0]),
            quantity=quantity,
            rows=rows_of(rows),
            ticket=snapshot.fetched_at,
            overdraw=overdraw,
            target=self._options.target_of(leaf.entitlement, rows[0].name),
        )


def revise_reason(decision: Decision, reason: Reason, remaining: Decimal | None) -> Decision:
    """Return a decision about a balance as the ledger has it."""
    outcome = reason.outcome
    allowed = outcome is Outcome.ALLOWED
    return revise(decision, allowed=allowed, outcome=outcome, reason=reason, remaining=remaining)


def _add_parts(one: Part, other: Part) -> Part:
    """Return one part for two leaves that the same balance pays for."""
    quantity = one.demand.quantity + other.demand.quantity
    return one._replace(demand=dataclasses.replace(one.demand, quantity=quantity))


_ATTEMPTS = 4  # to be admitted where others use up, between the look and the try, what was there


class Trial(NamedTuple):
    """What is true of the whole and of its leaves; the receipt where the ledger admitted it, and of what."""

    decision: Decision
    decisions: Mapping[Requirement, Decision]
    receipt: Receipt | None = None
    demands: tuple[Demand, ...] = ()

    def true_of(self, leaf: Requirement) -> Decision:
        """Return what is true of a leaf; without data of the customer that is what is true of the whole."""
        return self.decisions.get(leaf, self.decision)


class Reserver:
    """Reserves by the options of one gate."""

    def __init__(
        self, options: GateOptions, evaluator: Evaluator, snapshots: SnapshotStore, ledger_client: LedgerClient
    ) -> None:
        self._planner = ReservationPlanner(options, evaluator)
        self._evaluator = evaluator
        self._snapshots = snapshots
        self._ledger_client = ledger_client

    def reserving(
        self, order: ReservationRequest, customer_id: str, due: float
    ) -> Effects[tuple[Decision, Reservation | None, View]]:
        """Return the decision, the reservation where it allows, and the view that they rest on."""
        if self._ledger_client.ledger is None:
            raise ReservationError('nothing is counted here: set LEDGER to "memory", "redis" or "database"')
        view = yield from self._snapshots.view(customer_id, due)
        trial = yield from self._trying(order, view, due)
        if trial.receipt is None and trial.decision.outcome is Outcome.DENIED:
            before, view = view, (yield from self._snapshots.for_denial(view, due))
            if view.entry is not before.entry:
                trial = yield from self._trying(order, view, due)
        decision = self._evaluator.settle(order.requirement, trial.decision, trial.true_of)
        decision = self._evaluator.served(decision, view)
        if not decision.allowed:
            return decision, None, view
        holding = Holding(self._ledger_client, trial.demands, order.owner) if trial.receipt else None
        return decision, Reservation(decision, order.key, holding, trial.receipt), view

    def _trying(self, order: ReservationRequest, view: View, due: float) -> Effects[Trial]:
        plan = self._planner.plan(order.requirement, view, NOTHING)
        trial = Trial(plan.decision, plan.decisions)
        for _ in range(_ATTEMPTS if plan.parts else 0):
            demands = tuple([part.demand for part in plan.parts])
            outcome = yield from self._ledger_client.demanding(order, view.customer_id, demands, due=due)
            if isinstance(outcome, Receipt):
                return (yield from self._concluding_receipt(order, plan, outcome, view, due=due))
            if outcome is None:
                unknown = _decide_unreachable(plan)
                return Trial(unknown, {**plan.decisions, **dict.fromkeys((part.leaf for part in plan.parts), unknown)})
            part, denial = _apply_refusal(plan, outcome)
            trial = Trial(denial, {**plan.decisions, part.leaf: denial})
            # By what is used up here another entitlement of that name may do, or another side of an `|`.
            charges = yield from self._ledger_client.learning(view.customer_id, due)
            plan = self._planner.plan(order.requirement, view, charges)
            if not (plan.parts and self._planner.admits(order.requirement, plan.decisions)):
                return Trial(plan.decision, plan.decisions)
        return trial

    def _concluding_receipt(
        self, order: ReservationRequest, plan: ReservationPlan, receipt: Receipt, view: View, *, due: float
    ) -> Effects[Trial]:
        """Return what is true of what was admitted: of the scarcest part, with what remains beside the reservation."""
        first = plan
        if receipt.is_replay:
            plan = self._planner.plan_replay(order.requirement, first, view, receipt)
        if not plan.parts:
            demands = tuple(part.demand for part in first.parts)
            return Trial(_decide_paid(order, first, receipt), first.paid, receipt, demands)
        balances: list[int | None]
        if not receipt.available:  # nothing was newly admitted: it was held or committed before
            charges = yield from self._ledger_client.learning(view.customer_id, due)
            balances = [_available_of(part, charges) for part in plan.parts]
        else:
            pairs = zip(receipt.available, plan.parts, strict=True)
            balances = [before - part.demand.quantity for before, part in pairs]
        balance, part = min(zip(balances, plan.parts, strict=True), key=lambda pair: pair[0] or 0)
        is_beyond = receipt.is_overage and not part.decision.unlimited
        reason = _overdraft_reason(part) if is_beyond else Reason.ALLOWED
        remaining = None if balance is None or part.decision.unlimited else quantity_of(balance)
        decision = revise_reason(part.decision, reason, remaining)
        decisions = {**plan.paid, part.leaf: decision}
        whole = order.requirement.judge(decisions.__getitem__)
        if whole.outcome is not Outcome.ALLOWED:  # a shadow was let in
            decision = whole
        return Trial(decision, decisions, receipt, tuple([part.demand for part in plan.parts]))


def _decide_paid(order: ReservationRequest, plan: ReservationPlan, receipt: Receipt) -> Decision:
    """Return what is true where rows paid that billing lists no longer: what remains of them is not known."""
    decision = order.requirement.judge(plan.paid.__getitem__)
    if decision.outcome is not Outcome.ALLOWED:  # a shadow was let in
        return decision
    reason = _overdraft_reason(plan.parts[0]) if receipt.is_overage else Reason.ALLOWED
    grants = tuple(share.row_id for share in receipt.shares)
    fields = {"customer_id": decision.customer_id, "requested": decision.requested}
    return Decision.of(reason, decision.entitlement, grants=grants, **fields)


def _overdraft_reason(part: Part) -> Reason:
    """Return why more than was available is let in: by policy, or as a shadow of a denial."""
    return Reason.OVERAGE if part.may_overdraw else _insufficient(part.decision)


def _available_of(part: Part, charges: Charges | None) -> int | None:
    if charges is None:
        return None
    return available(part.demand.rows, charges.get(part.demand.entitlement_id, {}))


def _apply_refusal(plan: ReservationPlan, refusal: Refusal) -> tuple[Part, Decision]:
    part = next(part for part in plan.parts if part.demand.entitlement_id == refusal.entitlement_id)
    return part, revise_reason(part.decision, _insufficient(part.decision), quantity_of(refusal.available))


def _decide_unreachable(plan: ReservationPlan) -> Decision:
    decision = plan.parts[0].decision
    fields = {"customer_id": decision.customer_id, "requested": decision.requested}
    return Decision.of(Reason.UNAVAILABLE, decision.entitlement, **fields)


def _insufficient(decision: Decision) -> Reason:
    is_credits = decision.type is EntitlementType.CREDITS
    return Reason.INSUFFICIENT_CREDITS if is_credits else Reason.INSUFFICIENT_QUANTITY


_logger = logging.getLogger("entitlement_gate")
_RECOUNTING = 60.0  # seconds for which a forgotten reservation is held anew, to be committed at once


@dataclasses.dataclass(frozen=True, slots=True)
class Holding:
    """What the ledger is asked of one reservation; every verb blocks.

    Attributes:
        demands: what was asked for, to be counted anew where the ledger knows nothing of it any more.
        owner: tells this reservation from any other under the same key.
    """

    ledger_client: LedgerClient
    demands: tuple[Demand, ...]
    owner: str = ""

    def commit(self, customer_id: str, key: str, actual: int | None) -> Receipt:
        """Commit what is held. What was forgotten, or lost with the store, counts all the same: the work was done."""
        commit = partial(self._ledger.commit, customer_id, key, actual=actual)
        try:
            return commit()
        except ReservationNotFound:
            demands = [dataclasses.replace(demand, overdraw=True) for demand in self.demands]
            self._ledger.reserve(customer_id, demands, key=key, ttl=_RECOUNTING, owner=self.owner)
            return dataclasses.replace(commit(), is_late=True)

    def release(self, customer_id: str, key: str) -> Receipt:
        """Give back what is held here; what another reservation holds under the same key stays."""
        receipt = self._ledger.release(customer_id, key, owner=self.owner)
        is_another_s = receipt.state in (State.HELD, State.COMMITTED)
        return dataclasses.replace(receipt, state=State.RELEASED) if is_another_s else receipt

    def extend(self, customer_id: str, key: str, ttl: float) -> Receipt:
        """Let what is held under the key run out later, whoever holds it."""
        return self._ledger.extend(customer_id, key, ttl)

    @property
    def _ledger(self) -> Ledger:
        return self.ledger_client.ledger  # type: ignore[return-value]  # something is held, so there is one


class Reservation:
    """What was reserved. As a ``with`` or ``async with`` block it commits on success and releases on an error.

    >>> with gate.reserve(customer, "api_calls", 5) as reservation:  # doctest: +SKIP - needs billing
    ...     done = work()
    ...     reservation.commit(done)  # less or more than was reserved; without it the block commits all 5

    Nothing is held where there is nothing to count, or where a policy let in who could not be counted (an outage
    under ``ON_UNAVAILABLE="allow"``, shadow mode): then every verb does nothing.

    Attributes:
        decision: why it was granted; ``remaining`` is what is left beside it.
        key: names it to the ledger; the same key never counts twice.
    """

    def __init__(
        self, decision: Decision, key: str, holding: Holding | None = None, receipt: Receipt | None = None
    ) -> None:
        self.decision = decision
        self.key = key
        self._holding = holding
        self._receipt = receipt

    @property
    def state(self) -> State:
        """``held``, ``committed``, ``released`` or ``expired``: what was done here, or last heard from the ledger."""
        return self._receipt.state if self._receipt else State.RELEASED

    @property
    def quantity(self) -> Decimal | None:
        """What is held, or was committed; None where nothing is counted."""
        return quantity_of(self._receipt.quantity) if self._receipt else None

    @property
    def is_replay(self) -> bool:
        """Whether its key stood for it already, held or committed: nothing more is held."""
        return self._receipt is not None and self._receipt.is_replay

    @property
    def is_late(self) -> bool:
        """Whether nothing was held any more when it was committed: counted all the same, perhaps beyond the balance."""
        return self._receipt is not None and self._receipt.is_late

    def commit(self, actual: object = None) -> None:
        """Count what was held or, of a single entitlement, the ``actual`` quantity. Again with the same is harmless.

        Raises:
            ValueError: ``actual`` is no quantity, or several entitlements are held.
            ReservationConflict: it was released, or committed with another quantity.
            LedgerUnavailable: the ledger did not answer by the deadline; it may count it still. Try again: the key
                never counts twice.
        """
        run_sync(self.committing(actual))

    async def acommit(self, actual: object = None) -> None:
        """Count what was held; see ``commit``."""
        await run_async(self.committing(actual))

    def release(self) -> None:
        """Give back what is held here. Again is harmless. Raises as ``commit`` does.

        What another reservation under the same key holds is its own to give back.
        """
        run_sync(self.releasing())

    async def arelease(self) -> None:
        """Give back what is held; see ``release``."""
        await run_async(self.releasing())

    def extend(self, ttl: float) -> None:
        """Let it run out ``ttl`` seconds from now. Raises ``ReservationExpired`` where it has run out."""
        run_sync(self._extending(ttl))

    async def aextend(self, ttl: float) -> None:
        """Let it run out ``ttl`` seconds from now; see ``extend``."""
        await run_async(self._extending(ttl))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        run_sync(self.ending(has_failed=kind is not None))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        await run_async(self.ending(has_failed=kind is not None))

    def __repr__(self) -> str:
        what = "nothing" if self._receipt is None else f"{self.quantity} of {self.decision.entitlement!r}, {self.state}"
        return f"<Reservation {self.key!r}: {what}>"

    def committing(self, actual: object = None) -> Effects[None]:
        """Commit, as a part of other steps."""
        amount = None if actual is None else micro_units(valid_quantity(actual))
        if self._holding is None or self._receipt is None:
            return
        state = self._receipt.state
        if state is State.RELEASED:
            raise ReservationConflict("it was released: it cannot be committed")
        if state is not State.COMMITTED:
            self._receipt = yield from self._settling(self._holding.commit, amount)
        elif amount not in (None, self._receipt.quantity):
            raise ReservationConflict("it was committed with another quantity")

    def releasing(self) -> Effects[None]:
        """Release, as a part of other steps."""
        if self._holding is None or self.state is State.RELEASED:
            return
        if self.state is State.COMMITTED:
            raise ReservationConflict("it is committed: it cannot be released")
        self._receipt = yield from self._settling(self._holding.release)

    def ending(self, *, has_failed: bool) -> Effects[None]:
        """Commit or release what is still held; what went wrong before is never hidden by a ledger out of reach."""
        if has_failed:
            yield from self.concluding(has_failed=True)
        elif self.state is State.HELD:
            yield from self.committing()

    def concluding(self, *, has_failed: bool) -> Effects[None]:
        """Commit or release what is still held; where the ledger does not do it, log that."""
        if self._receipt is None or self._receipt.state is not State.HELD:
            return
        try:
            yield from self.releasing() if has_failed else self.committing()
        except EntitlementGateError as error:
            why = text_to_log(error, self.decision.customer_id, self.key)
            if not has_failed:
                name = self.decision.entitlement
                _logger.error("usage was not counted: %s of %s: %s", self.quantity, name, why)  # noqa: TRY400 - see `why`
            elif isinstance(error, ReservationError):
                _logger.info("nothing of a reservation was left to release: %s", type(error).__name__)
            else:
                _logger.warning("a reservation was not released and returns when its time is up: %s", why)

    def abandoning(self, error: BaseException) -> Effects[None]:
        """Give back what an error made useless; where waiting is impossible by now, on a thread of its own."""
        if isinstance(error, GeneratorExit):
            self.give_back_elsewhere()
        else:
            yield from self.concluding(has_failed=True)

    def give_back_elsewhere(self) -> None:
        """Give back on a thread of its own: this one may be collecting garbage in the middle of anything."""
        if sys.is_finalizing():  # Python 3.11 would wait for ever for a thread; it returns when its time is up
            return
        with suppress(RuntimeError):  # as above, from Python 3.12 on
            start_thread(
                Thread(target=run_sync, args=(self.concluding(has_failed=True),), name="entitlement_gate-return")
            )

    def _extending(self, ttl: float) -> Effects[None]:
        if self._holding is None:
            return
        if self.state in (State.RELEASED, State.COMMITTED):
            raise ReservationConflict(f"it is {self.state}: it cannot be extended")
        self._receipt = yield from self._settling(self._holding.extend, ttl)

    def _settling(self, verb: Callable[..., Receipt], *args: Any) -> Effects[Receipt]:
        ledger_client: LedgerClient = self._holding.ledger_client  # type: ignore[union-attr]  # something is held
        receipt: Receipt = yield from ledger_client.settling(verb, self.decision.customer_id, self.key, *args)
        return receipt
