"""Asks a gate about one customer, and tells a person or a program of it. Never here: widths, colours, streams."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from entitlement_gate.domain.decisions import Decision, Outcome, Reason
from entitlement_gate.domain.errors import SourceError
from entitlement_gate.domain.numbers import difference, total
from entitlement_gate.domain.requirements import as_requirement
from entitlement_gate.domain.rule import canonical_uuid
from entitlement_gate.engine.entitlements import Entitlement
from entitlement_gate.operators.billing import every_grant
from entitlement_gate.operators.explanation import Explanation, Facts, day, explained, meaning, number
from entitlement_gate.operators.terminal import DENIED, FINE, UNKNOWN, Bar, Cell, Line, OperatingError, Report, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from decimal import Decimal

    from entitlement_gate.domain.grants import Grant
    from entitlement_gate.domain.requirements import Requirement
    from entitlement_gate.engine.gate import EntitlementGate
    from entitlement_gate.operators.explanation import RowStanding
    from entitlement_gate.operators.terminal import Tone

__all__ = [
    "Asked",
    "Heard",
    "Holdings",
    "ask",
    "customer_named",
    "failures",
    "holding",
    "left_of",
    "tell_check",
    "tell_explanation",
    "tell_holding",
    "window_of",
]

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
class Holdings:
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


def holding(gate: EntitlementGate, customer: str) -> Holdings:
    """Return all that the customer holds.

    Raises:
        OperatingError: ``customer`` is no customer id.
    """
    customer_id = customer_named(customer)
    known = gate.inspect(customer_id)
    basis = known.check(_ANY)
    listed = () if basis.outcome is Outcome.UNKNOWN else tuple(known[name] for name in known)
    return Holdings(customer_id, basis, listed)


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


_TONES: dict[Outcome, Tone] = {Outcome.ALLOWED: "good", Outcome.DENIED: "bad", Outcome.UNKNOWN: "warning"}
_SHOWN = ("allowed", "reason", "type", "units", "limit", "used", "remaining", "unlimited", "active_from", "expires_at")
_PARTS = {"counted": "yes", "closest": "decided", "none": "no"}
_PART_TONES: dict[str, Tone] = {"counted": "good", "closest": "bad", "none": "faint"}


def tell_holding(holding: Holdings, why: str = "", *, with_rows: bool = False) -> Report:
    """Report all that a customer holds."""
    data: dict[str, Any] = {"customer_id": holding.customer_id}
    if not holding.is_found:
        return _no_holding(holding, why, data)
    basis = holding.basis
    data |= {"source": basis.source, "age": basis.age}
    data["entitlements"] = [_entitlement_data(entitlement) for entitlement in holding.entitlements]
    heading = Line(f"{holding.customer_id} ({_provenance(basis)})", "heading")
    if not holding.entitlements:
        return Report(data=data, parts=(heading, Line("holds no entitlement")))
    headers = ("NAME", "ANSWER", "TYPE", "LEFT", "USED", "WINDOW", "ROWS")
    table = Table(headers, tuple(_entitlement_row(entitlement) for entitlement in holding.entitlements))
    rows = (Line(""), _rows_table(holding)) if with_rows else ()
    return Report(data=data, parts=(heading, table, *rows))


def tell_check(asked: Asked, why: str = "") -> Report:
    """Report a decision in one line, with what is left and what may have been meant."""
    decision, data = asked.decision, asked.decision.as_dict()
    if decision.outcome is Outcome.UNKNOWN:
        return Report(exit_code=UNKNOWN, data=data, error=_unknown(asked.customer_id, decision, why))
    hint = f". {asked.explanation.hint}" if asked.explanation.hint else ""
    line = Line(_verdict(decision) + hint, _tone(decision), is_whole=True)
    return Report(exit_code=_exit_code(decision), data={**data, "near": list(asked.explanation.near)}, parts=(line,))


def tell_explanation(asked: Asked, why: str = "") -> Report:
    """Report a decision with every row's part in it and what would have to change."""
    decision, explanation = asked.decision, asked.explanation
    data = {
        "decision": decision.as_dict(),
        "rows": [
            {**grant_data(row.grant), "part": row.part, "standing": row.standing, "why": row.why}
            for row in explanation.rows
        ],
        "change": explanation.change,
        "near": list(explanation.near),
    }
    if decision.outcome is Outcome.UNKNOWN:
        return Report(exit_code=UNKNOWN, data=data, error=_unknown(asked.customer_id, decision, why))
    parts: list[Line | Table] = [
        Line(_verdict(decision), _tone(decision)),
        Line(f"customer {asked.customer_id}, {_provenance(decision)}", indent=2),
    ]
    if used_here := _used_here(explanation.rows, decision):
        text = f"{number(used_here, decision.units)} of it held or used up here, and not yet in billing's numbers"
        parts.append(Line(text, indent=2))
    if explanation.rows:
        rows = tuple(line for row in explanation.rows for line in _standing_rows(row))
        parts += [Line(""), Table(("COUNTED", "WHY"), rows)]
    elif asked.names:
        parts.append(Line(f"billing gives this customer: {', '.join(asked.names)}", indent=2))
    change = " ".join(filter(None, (explanation.hint, explanation.change)))
    parts += [Line(""), Line("What would have to change", "heading"), Line(change, indent=2)]
    return Report(exit_code=_exit_code(decision), data=data, parts=tuple(parts))


def left_of(decision: Decision) -> Cell:
    """Return what is left, with a bar where a whole is known."""
    remaining, limit = decision.remaining, decision.limit
    if decision.unlimited:
        return Cell("unlimited")
    if remaining is None:
        return Cell("")
    if limit is None:
        return Cell(number(remaining, decision.units))
    return Cell(f"{remaining:f} of {number(limit, decision.units)}", bar=Bar(remaining, limit))


def window_of(thing: Decision | Grant) -> str:
    """Return from when to when, to the day; nothing for always."""
    since, until = day(thing.active_from), day(thing.expires_at)
    if since and until:
        return f"{since} to {until}"
    return f"from {since}" if since else f"until {until}" if until else ""


def grant_data(grant: Grant) -> dict[str, Any]:
    """Return a row in plain JSON types, numbers as exact text."""
    return {
        "id": grant.id,
        "name": grant.name,
        "entitlement_id": grant.entitlement_id,
        "type": grant.type,
        "status": grant.status,
        "units": grant.units,
        "active_from": grant.active_from and grant.active_from.isoformat(),
        "expires_at": grant.expires_at and grant.expires_at.isoformat(),
        "limit": number(grant.quantity) or None,
        "used": number(grant.used) or None,
        "remaining": number(grant.remaining) or None,
    }


def _used_here(rows: Iterable[RowStanding], decision: Decision) -> Decimal | None:
    """Return by how much less is left than the rows that decided say; None where it is nothing."""
    decided = [row.grant.remaining for row in rows if row.part != "none" and row.grant.remaining is not None]
    if decision.remaining is None or not decided:
        return None
    return difference(total(decided), decision.remaining) or None


def _no_holding(holding: Holdings, why: str, data: dict[str, Any]) -> Report:
    if holding.is_known:
        error = f"billing does not know the customer {holding.customer_id}"
        return Report(exit_code=DENIED, data={**data, "error": error}, error=error)
    error = _unknown(holding.customer_id, holding.basis, why)
    return Report(exit_code=UNKNOWN, data={**data, "error": error}, error=error)


def _entitlement_data(entitlement: Entitlement) -> dict[str, Any]:
    plain = entitlement.decision.as_dict()
    rows = [grant_data(grant) for grant in entitlement.grants]
    return {"name": entitlement.name, **{name: plain[name] for name in _SHOWN}, "rows": rows}


def _entitlement_row(entitlement: Entitlement) -> tuple[Cell | str, ...]:
    decision = entitlement.decision
    return (
        entitlement.name,
        Cell(decision.reason, _tone(decision)),
        decision.type or "",
        left_of(decision),
        number(decision.used),
        window_of(decision),
        str(len(entitlement.grants)),
    )


def _rows_table(holding: Holdings) -> Table:
    grants = [grant for entitlement in holding.entitlements for grant in entitlement.grants]
    headers = ("NAME", "STATUS", "TYPE", "LIMIT", "USED", "LEFT", "WINDOW", "ROW")
    return Table(headers, tuple(_grant_row(grant) for grant in grants))


def _grant_row(grant: Grant) -> tuple[Cell | str, ...]:
    numbers = (number(grant.quantity), number(grant.used), number(grant.remaining))
    return (grant.name, _status_of(grant), grant.type or "", *numbers, window_of(grant), grant.id)


def _standing_rows(row: RowStanding) -> Iterator[tuple[Cell | str, ...]]:
    grant = row.grant
    yield Cell(_PARTS[row.part], _PART_TONES[row.part]), row.why
    details = (grant.type, _status_of(grant), window_of(grant), f"row {grant.id or 'without an id'}")
    yield "", Cell(", ".join(filter(None, details)), "faint")


def _status_of(grant: Grant) -> str:
    return "unreadable" if grant.is_malformed else grant.status or ""


def _verdict(decision: Decision) -> str:
    asked = f" {decision.requested:f} of" if decision.requested is not None else ""
    said = "allowed" if decision.allowed else "denied"
    shadow = " (in shadow mode; else denied)" if decision.shadow else ""
    left = left_of(decision).text
    numbers = f" ({left} left)" if left else ""
    return f"{said}{shadow}:{asked} {decision.entitlement}: {decision.reason}: {meaning(decision.reason)}{numbers}"


def _provenance(decision: Decision) -> str:
    age = "" if decision.age is None else f", {decision.age:.0f} s old"
    return f"data: {decision.source}{age}"


def _unknown(customer_id: str, decision: Decision, why: str) -> str:
    policy = "; the failure policy allows meanwhile" if decision.allowed else ""
    return f"unknown: {decision.reason} (customer {customer_id}): {why or meaning(decision.reason)}{policy}"


def _tone(decision: Decision) -> Tone:
    return "warning" if decision.shadow else _TONES[decision.outcome]


def _exit_code(decision: Decision) -> int:
    return FINE if decision.allowed else DENIED
