"""From a wish to what is demanded of a ledger: which entitlements pay, with which rows.

Never here: asking the ledger, or what is told of its answer (``reserving``).
"""

from __future__ import annotations

import dataclasses
import uuid
from decimal import Decimal
from itertools import chain, islice, product
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from entitlement_gate.domain.decisions import Decision, Outcome, Reason, revise, rows_behind
from entitlement_gate.domain.requirements import Requirement, as_requirement
from entitlement_gate.domain.rule import counted_under
from entitlement_gate.ledger.checking import checked_key
from entitlement_gate.ledger.protocol import Demand
from entitlement_gate.ledger.rule import micro_units, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from entitlement_gate.domain.grants import Grant, Snapshot
    from entitlement_gate.ledger.protocol import Charges
    from entitlement_gate.runtime.judging import Judge
    from entitlement_gate.runtime.options import GateOptions
    from entitlement_gate.runtime.views import View

__all__ = ["Bid", "Bidding", "Order", "Part", "order", "reasoned"]

_BY_BALANCE = (Reason.ALLOWED, Reason.OVERAGE, Reason.INSUFFICIENT_QUANTITY, Reason.INSUFFICIENT_CREDITS)
_ONE = Decimal(1)
_OTHERS = 32  # that a key is looked up under: each is a question to the ledger


class Order(NamedTuple):
    """What is to be held, for how many seconds, under which key; without a time it is used up at once.

    ``owner`` tells this order from any other under the same key: what it holds nobody else releases. A key that
    ``is_lone`` was made for this order, and nobody else knows it.
    """

    requirement: Requirement
    key: str
    ttl: float | None
    owner: str = ""
    is_lone: bool = False


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
    if key is None:
        return Order(requirement, uuid.uuid4().hex, ttl, is_lone=True)
    return Order(requirement, checked_key(key), ttl, owner=uuid.uuid4().hex)


class Part(NamedTuple):
    """One entitlement of an order: what was asked, what is true of it, and what is demanded of the ledger.

    ``may_overdraw`` is the policy's word; a demand may also overdraw as a shadow, or where there is no limit.
    """

    leaf: Requirement
    judged: Decision
    demand: Demand
    may_overdraw: bool


class Bid(NamedTuple):
    """What is true by billing and the ledger before anything is held, and the parts that balances would pay for.

    Attributes:
        judged: what is true of the whole.
        parts: what is demanded; none where nothing is to be asked.
        told: what is true of each leaf.
        paid: the same once the balances have paid.
        is_enough: whether by these numbers the whole is let in.
    """

    judged: Decision
    parts: tuple[Part, ...] = ()
    told: Mapping[Requirement, Decision] = MappingProxyType({})
    paid: Mapping[Requirement, Decision] = MappingProxyType({})
    is_enough: bool = False


class Bidding:
    """Bids by the options of one gate."""

    def __init__(self, options: GateOptions, judge: Judge) -> None:
        self._options = options
        self._judge = judge

    def bid(self, requirement: Requirement, view: View, charges: Charges | None) -> Bid:
        """Return what is true by billing and these charges, and what the ledger would be asked for."""
        entry = view.entry
        if entry is None:
            return Bid(self._judge.unknown(requirement, view))
        told: dict[Requirement, Decision] = {}

        def judge_leaf(leaf: Requirement) -> Decision:
            decision = told[leaf] = self._judge.judge_leaf(leaf, entry, charges)
            return decision

        judged = requirement.judge(judge_leaf)
        leaves = [leaf for leaf in self._paying(requirement, told) if told[leaf].reason in _BY_BALANCE]
        # A balance that billing has as used up is still the ledger's to judge: it may be by this very key.
        paid = told | {leaf: reasoned(told[leaf], Reason.ALLOWED, None) for leaf in leaves}
        if not self._lets_in(requirement, paid):
            return Bid(judged, told=told)
        parts: dict[str, Part] = {}
        for leaf in leaves:
            for part in self._parts(leaf, told[leaf], entry.snapshot):
                parts[part.demand.entitlement_id] = _together(parts.get(part.demand.entitlement_id), part)
        return Bid(judged, tuple(parts.values()), told, paid, self._lets_in(requirement, told))

    def _lets_in(self, requirement: Requirement, told: Mapping[Requirement, Decision]) -> bool:
        enforced = self._options.enforced(requirement)
        return enforced is None or enforced.judge(told.__getitem__).outcome is Outcome.ALLOWED

    def _paying(self, requirement: Requirement, told: Mapping[Requirement, Decision]) -> tuple[Requirement, ...]:
        """Return the leaves whose quantities are used up: of an ``|`` its first true side, of ``~`` none."""
        if not requirement.operator:
            return (requirement,)
        parts = requirement.parts if requirement.operator == "&" else ()
        if requirement.operator == "|":
            true = (part for part in requirement.parts if part.judge(told.__getitem__).outcome is Outcome.ALLOWED)
            shadowed = (part for part in requirement.parts if self._lets_in(part, told))
            parts = tuple(islice(chain(true, shadowed), 1))
        return tuple(leaf for part in parts for leaf in self._paying(part, told))

    def _parts(self, leaf: Requirement, judged: Decision, snapshot: Snapshot) -> Iterator[Part]:
        """Yield what a leaf asks of the ledger; nothing where no balance pays for it."""
        rows = [row for row in rows_behind(judged) if row.is_metered]
        if rows:
            name = leaf.entitlement
            may_overdraw = self._judge.may_overdraw(name, rows)
            demand = self._demand(leaf, rows, snapshot)
            overdraw = judged.unlimited or may_overdraw or self._options.is_shadowed(name)
            yield Part(leaf, judged, dataclasses.replace(demand, overdraw=overdraw), may_overdraw)

    def others(self, requirement: Requirement, bid: Bid, view: View) -> Iterator[Bid]:
        """Yield what else the key of a bid may stand for: what paid before billing moved.

        Others that the requirement's names stand for, live or not: for looking a key up, never for admitting anything.
        """
        choices = self._combined(requirement, view.entry.snapshot) if view.entry else ()
        tried = {_wants(bid.parts)}
        for parts in islice(choices, _OTHERS):
            together: dict[str, Part] = {}
            for part in parts:
                together[part.demand.entitlement_id] = _together(together.get(part.demand.entitlement_id), part)
            other = tuple(together.values())
            if other and _wants(other) not in tried:
                tried.add(_wants(other))
                yield bid._replace(parts=other, paid={**bid.paid, **{part.leaf: part.judged for part in parts}})

    def _combined(self, requirement: Requirement, snapshot: Snapshot) -> Iterator[tuple[Part, ...]]:
        """Yield every choice of leaves that pay together, and of an entitlement for each."""
        for leaves in _paying_together(requirement):
            for chosen in product(*(tuple(self._payers(leaf, snapshot)) for leaf in leaves)):
                yield tuple(part for part in chosen if part is not None)

    def _payers(self, leaf: Requirement, snapshot: Snapshot) -> Iterator[Part | None]:
        """Yield a part for each entitlement that a leaf's name stands for; None where nothing may have paid."""
        alike: dict[str, list[Grant]] = {}
        named = self._judge.named(leaf.entitlement, snapshot)
        for row in named:
            if row.is_metered:
                alike.setdefault(counted_under(row), []).append(row)
        for rows in alike.values():
            told = {"customer_id": snapshot.customer_id, "requested": leaf.requested, "units": rows[0].units}
            judged = Decision.of(Reason.ALLOWED, leaf.entitlement, grants=tuple(row.id for row in rows), **told)
            yield Part(leaf, judged, self._demand(leaf, rows, snapshot), may_overdraw=False)
        if not all(row.is_metered for row in named) or not named:
            yield None

    def _demand(self, leaf: Requirement, rows: list[Grant], snapshot: Snapshot) -> Demand:
        return Demand(
            entitlement_id=counted_under(rows[0]),
            quantity=micro_units(leaf.requested or _ONE),
            rows=rows_of(rows),
            ticket=snapshot.fetched_at,
            target=self._options.target_of(leaf.entitlement) or self._options.target_of(rows[0].name),
        )


def reasoned(judged: Decision, reason: Reason, remaining: Decimal | None) -> Decision:
    """Return what was judged of a balance as the ledger has it."""
    outcome = reason.outcome
    allowed = outcome is Outcome.ALLOWED
    return revise(judged, allowed=allowed, outcome=outcome, reason=reason, remaining=remaining)


def _paying_together(requirement: Requirement) -> Iterator[tuple[Requirement, ...]]:
    """Yield each choice of the leaves whose quantities are used up together: of an ``|`` one side, of ``~`` none."""
    if not requirement.operator:
        yield (requirement,)
    elif requirement.operator == "|":
        for part in requirement.parts:
            yield from _paying_together(part)
    else:
        parts = requirement.parts if requirement.operator == "&" else ()
        for chosen in product(*(islice(_paying_together(part), _OTHERS) for part in parts)):
            yield tuple(chain(*chosen))


def _wants(parts: tuple[Part, ...]) -> tuple[tuple[str, int], ...]:
    """Return what the ledger knows a key by."""
    return tuple((part.demand.entitlement_id, part.demand.quantity) for part in parts)


def _together(known: Part | None, part: Part) -> Part:
    """Return one part for two leaves that the same balance pays for."""
    if known is None:
        return part
    quantity = known.demand.quantity + part.demand.quantity
    return known._replace(demand=dataclasses.replace(known.demand, quantity=quantity))
