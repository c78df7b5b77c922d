"""Asks a gate about one customer, and gathers what a person wants to know. Never here: how it looks."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from entitlement_gate.domain.decisions import Decision, Outcome, Reason
from entitlement_gate.domain.errors import SourceError
from entitlement_gate.domain.requirements import as_requirement
from entitlement_gate.domain.rule import canonical_uuid
from entitlement_gate.operating.billing import every_grant
from entitlement_gate.operating.explaining import Explanation, Facts, explained
from entitlement_gate.operating.reports import OperatingError
from entitlement_gate.runtime.entitlements import Entitlement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from entitlement_gate.domain.grants import Grant
    from entitlement_gate.domain.requirements import Requirement
    from entitlement_gate.runtime.gate import EntitlementGate

__all__ = ["Asked", "Heard", "Holding", "ask", "customer_named", "failures", "holding"]

_ANY = "*"
_UUID_DIGITS = 32


class Heard(logging.Filter):
    """Keeps what the library logs of failed fetches to itself: a command tells it in its own one line."""

    def __init__(self) -> None:
        super().__init__()
        self.why = ""

    def filter(self, record: logging.LogRecord) -> bool:
        """Remember a warning or error, and keep it from the log."""
        if record.levelno < logging.WARNING:
            return True
        self.why = record.getMessage()
        return False


@contextmanager
def failures() -> Iterator[Heard]:
    """Hear why fetches fail, while a command runs."""
    logger = logging.getLogger("entitlement_gate")
    heard = Heard()
    logger.addFilter(heard)
    try:
        yield heard
    finally:
        logger.removeFilter(heard)


@dataclass(frozen=True, slots=True)
class Holding:
    """All that a customer holds, or why that cannot be said.

    Attributes:
        customer_id: canonical.
        basis: a decision that says how old the data is and where it came from, or why there is none.
        entitlements: in the order of their names.
    """

    customer_id: str
    basis: Decision
    entitlements: tuple[Entitlement, ...] = ()

    @property
    def is_known(self) -> bool:
        """Whether billing answered at all."""
        return self.basis.outcome is not Outcome.UNKNOWN

    @property
    def is_found(self) -> bool:
        """Whether billing answered and knows the customer."""
        return self.is_known and self.basis.reason is not Reason.CUSTOMER_NOT_FOUND


@dataclass(frozen=True, slots=True)
class Asked:
    """A decision about one entitlement of a customer, explained."""

    customer_id: str
    explanation: Explanation
    names: tuple[str, ...] = field(default=())

    @property
    def decision(self) -> Decision:
        """What the gate says."""
        return self.explanation.decision


def customer_named(text: str) -> str:
    """Return the canonical customer id.

    Raises:
        OperatingError: the text is none; says what may have been meant.
    """
    customer_id = canonical_uuid(text)
    if customer_id is not None:
        return customer_id
    try:
        meant = f"did you mean {UUID(text)}?"
    except ValueError:
        digits = sum(sign in "0123456789abcdefABCDEF" for sign in text)
        meant = f"it has {digits} hexadecimal digits in place of {_UUID_DIGITS}" if digits != _UUID_DIGITS else ""
    hint = f"; {meant}" if meant else ""
    raise OperatingError(f"{text[:60]!r} is no customer id: a hyphenated UUID{hint}")


def holding(gate: EntitlementGate, customer: str) -> Holding:
    """Return all that the customer holds.

    Raises:
        OperatingError: ``customer`` is no customer id.
    """
    customer_id = customer_named(customer)
    known = gate.inspect(customer_id)
    basis = known.check(_ANY)
    listed = () if basis.outcome is Outcome.UNKNOWN else tuple(known[name] for name in known)
    return Holding(customer_id, basis, listed)


def ask(gate: EntitlementGate, customer: str, name: str, quantity: object = None, *, in_full: bool = True) -> Asked:
    """Ask about one entitlement, and explain the answer.

    Tells no receiver of signals: an operator who looks is no customer who was refused.

    Args:
        gate: whom to ask.
        customer: a customer id.
        name: an entitlement's name, alias or id.
        quantity: how much, or None.
        in_full: look too at rows that ``STATUS_FILTER`` leaves out, where the answer is a denial.

    Raises:
        OperatingError: ``customer`` is no customer id, or ``quantity`` no quantity.
    """
    customer_id = customer_named(customer)
    requirement = _requirement(name, quantity)
    decision = gate.inspect(customer_id).check(requirement)
    known = gate.inspect(customer_id)  # once more: the check may have fetched, before a denial by old data
    is_known = Outcome.UNKNOWN not in (decision.outcome, known.check(requirement).outcome)
    grants = tuple(grant for each in known for grant in known[each].grants) if is_known else ()
    overlooked = _overlooked(gate, decision, grants) if in_full else ()
    facts = Facts(decision, grants, overlooked)
    explanation = explained(facts, requirement, datetime.now(UTC), gate.options.terms)
    return Asked(customer_id, explanation, tuple(sorted({grant.name for grant in grants})))


def _requirement(name: str, quantity: object) -> Requirement:
    try:
        return as_requirement(name, quantity)
    except ValueError as error:
        raise OperatingError(str(error)) from None


def _overlooked(gate: EntitlementGate, decision: Decision, grants: tuple[Grant, ...]) -> tuple[Grant, ...]:
    """Return rows that a denial was made without; none where billing will not say."""
    if decision.outcome is not Outcome.DENIED or decision.reason is Reason.CUSTOMER_NOT_FOUND:
        return ()
    seen = {grant.id for grant in grants}
    try:
        return tuple(row for row in every_grant(gate.source, str(decision.customer_id)) if row.id not in seen)
    except SourceError:
        return ()
