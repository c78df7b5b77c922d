"""Ask a gate about one customer, and report the answer. Widths, colours and streams are in ``terminal``."""

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
from entitlement_gate.operators.billing import fetch_all_grants
from entitlement_gate.operators.explanation import (
    Explanation,
    Facts,
    describe_reason,
    explain,
    format_day,
    format_number,
)
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
    "ExplainedDecision",
    "FailureCapture",
    "Holdings",
    "ask",
    "capture_failures",
    "format_window",
    "get_holdings",
    "make_balance_cell",
    "parse_customer",
    "report_check",
    "report_explanation",
    "report_holdings",
]

_ANY = "*"
_UUID_DIGITS = 32


class FailureCapture(logging.Filter):
    """Keeps warnings and errors from the log while a command runs, which reports the last one in its own line."""

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
def capture_failures() -> Iterator[FailureCapture]:
    """Capture why fetches fail, while a command runs."""
    logger = logging.getLogger("entitlement_gate")
    capture = FailureCapture()
    logger.addFilter(capture)
    try:
        yield capture
    finally:
        logger.removeFilter(capture)


@dataclass(frozen=True, slots=True)
class Holdings:
    """All that a customer holds, or why that cannot be said.

    Attributes:
        customer_id: canonical.
        basis: a decision with the age and source of the data, or the reason why there is none.
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
class ExplainedDecision:
    """A decision about one entitlement of a customer, explained."""

    customer_id: str
    explanation: Explanation
    names: tuple[str, ...] = field(default=())

    @property
    def decision(self) -> Decision:
        """What the gate says."""
        return self.explanation.decision


def parse_customer(text: str) -> str:
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


def get_holdings(gate: EntitlementGate, customer: str) -> Holdings:
    """Return all that the customer holds.

    Raises:
        OperatingError: ``customer`` is no customer id.
    """
    customer_id = parse_customer(customer)
    entitlements = gate.inspect(customer_id)
    basis = entitlements.check(_ANY)
    return Holdings(customer_id, basis, () if basis.outcome is Outcome.UNKNOWN else tuple(entitlements.values()))


def ask(gate: EntitlementGate, customer: str, name: str, quantity: object = None) -> ExplainedDecision:
    """Ask about one entitlement, and explain the answer.

    No signal is sent: an operator looks, and no customer is refused.

    Args:
        gate: whom to ask.
        customer: a customer id.
        name: an entitlement's name, alias or id.
        quantity: how much, or None.

    Raises:
        OperatingError: ``customer`` is no customer id, or ``quantity`` no quantity.
    """
    customer_id = parse_customer(customer)
    requirement = _parse_requirement(name, quantity)
    decision = gate.inspect(customer_id).check(requirement)
    entitlements = gate.inspect(customer_id)  # once more: the check may have fetched, before a denial by old data
    is_known = Outcome.UNKNOWN not in (decision.outcome, entitlements.check(requirement).outcome)
    grants = tuple(grant for entitlement in entitlements.values() for grant in entitlement.grants) if is_known else ()
    facts = Facts(decision, grants, _fetch_overlooked(gate, decision, grants))
    explanation = explain(facts, requirement, datetime.now(UTC), gate.options.terms)
    return ExplainedDecision(customer_id, explanation, tuple(sorted({grant.name for grant in grants})))


def _parse_requirement(name: str, quantity: object) -> Requirement:
    try:
        return as_requirement(name, quantity)
    except ValueError as error:
        raise OperatingError(str(error)) from None


def _fetch_overlooked(gate: EntitlementGate, decision: Decision, grants: tuple[Grant, ...]) -> tuple[Grant, ...]:
    """Return the rows that ``STATUS_FILTER`` kept from a denial; none where billing does not answer."""
    if decision.outcome is not Outcome.DENIED or decision.reason is Reason.CUSTOMER_NOT_FOUND:
        return ()
    ids = {grant.id for grant in grants}
    try:
        return tuple(row for row in fetch_all_grants(gate.source, str(decision.customer_id)) if row.id not in ids)
    except SourceError:
        return ()


_TONES: dict[Outcome, Tone] = {Outcome.ALLOWED: "good", Outcome.DENIED: "bad", Outcome.UNKNOWN: "warning"}
_FIELDS = ("allowed", "reason", "type", "units", "limit", "used", "remaining", "unlimited", "active_from", "expires_at")
_PARTS = {"counted": "yes", "closest": "decided", "none": "no"}
_PART_TONES: dict[str, Tone] = {"counted": "good", "closest": "bad", "none": "faint"}


def report_holdings(holdings: Holdings, why: str = "", *, with_rows: bool = False) -> Report:
    """Report all that a customer holds."""
    data: dict[str, Any] = {"customer_id": holdings.customer_id}
    if not holdings.is_found:
        return _report_unfound(holdings, why, data)
    basis = holdings.basis
    data |= {"source": basis.source, "age": basis.age}
    data["entitlements"] = [_entitlement_to_dict(entitlement) for entitlement in holdings.entitlements]
    heading = Line(f"{holdings.customer_id} ({_format_source(basis)})", "heading")
    if not holdings.entitlements:
        return Report(data=data, parts=(heading, Line("holds no entitlement")))
    headers = ("NAME", "ANSWER", "TYPE", "LEFT", "USED", "WINDOW", "ROWS")
    table = Table(headers, tuple(_make_entitlement_row(entitlement) for entitlement in holdings.entitlements))
    rows = (Line(""), _make_grants_table(holdings)) if with_rows else ()
    return Report(data=data, parts=(heading, table, *rows))


def report_check(explained: ExplainedDecision, why: str = "") -> Report:
    """Report a decision in one line, with what is left and what may have been meant."""
    decision, data = explained.decision, explained.decision.as_dict()
    if decision.outcome is Outcome.UNKNOWN:
        return Report(exit_code=UNKNOWN, data=data, error=_format_unknown(explained.customer_id, decision, why))
    hint = f". {explained.explanation.hint}" if explained.explanation.hint else ""
    line = Line(_format_decision(decision) + hint, _choose_tone(decision), is_whole=True)
    return Report(
        exit_code=_choose_exit_code(decision), data={**data, "near": list(explained.explanation.near)}, parts=(line,)
    )


def report_explanation(explained: ExplainedDecision, why: str = "") -> Report:
    """Report a decision with every row's part in it and what would have to change."""
    decision, explanation = explained.decision, explained.explanation
    data = {
        "decision": decision.as_dict(),
        "rows": [
            {**_grant_to_dict(row.grant), "part": row.part, "standing": row.standing, "why": row.why}
            for row in explanation.rows
        ],
        "change": explanation.change,
        "near": list(explanation.near),
    }
    if decision.outcome is Outcome.UNKNOWN:
        return Report(exit_code=UNKNOWN, data=data, error=_format_unknown(explained.customer_id, decision, why))
    parts: list[Line | Table] = [
        Line(_format_decision(decision), _choose_tone(decision)),
        Line(f"customer {explained.customer_id}, {_format_source(decision)}", indent=2),
    ]
    if local_use := _find_local_use(explanation.rows, decision):
        text = (
            f"{format_number(local_use, decision.units)} of it held or used up here, and not yet in billing's numbers"
        )
        parts.append(Line(text, indent=2))
    if explanation.rows:
        rows = tuple(line for row in explanation.rows for line in _make_standing_rows(row))
        parts += [Line(""), Table(("COUNTED", "WHY"), rows)]
    elif explained.names:
        parts.append(Line(f"billing gives this customer: {', '.join(explained.names)}", indent=2))
    change = " ".join(filter(None, (explanation.hint, explanation.change)))
    parts += [Line(""), Line("What would have to change", "heading"), Line(change, indent=2)]
    return Report(exit_code=_choose_exit_code(decision), data=data, parts=tuple(parts))


def make_balance_cell(decision: Decision) -> Cell:
    """Return what is left, with a bar where a whole is known."""
    remaining, limit = decision.remaining, decision.limit
    if decision.unlimited:
        return Cell("unlimited")
    if remaining is None:
        return Cell("")
    if limit is None:
        return Cell(format_number(remaining, decision.units))
    return Cell(f"{remaining:f} of {format_number(limit, decision.units)}", bar=Bar(remaining, limit))


def format_window(thing: Decision | Grant) -> str:
    """Return from when to when, to the day; nothing for always."""
    since, until = format_day(thing.active_from), format_day(thing.expires_at)
    if since and until:
        return f"{since} to {until}"
    return f"from {since}" if since else f"until {until}" if until else ""


def _grant_to_dict(grant: Grant) -> dict[str, Any]:
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
        "limit": format_number(grant.quantity) or None,
        "used": format_number(grant.used) or None,
        "remaining": format_number(grant.remaining) or None,
    }


def _find_local_use(rows: Iterable[RowStanding], decision: Decision) -> Decimal | None:
    """Return how much is used up here and not yet in billing's numbers; None where nothing is."""
    balances = [row.grant.remaining for row in rows if row.part != "none" and row.grant.remaining is not None]
    if decision.remaining is None or not balances:
        return None
    return difference(total(balances), decision.remaining) or None


def _report_unfound(holdings: Holdings, why: str, data: dict[str, Any]) -> Report:
    if holdings.is_known:
        error = f"billing does not know the customer {holdings.customer_id}"
        return Report(exit_code=DENIED, data={**data, "error": error}, error=error)
    error = _format_unknown(holdings.customer_id, holdings.basis, why)
    return Report(exit_code=UNKNOWN, data={**data, "error": error}, error=error)


def _entitlement_to_dict(entitlement: Entitlement) -> dict[str, Any]:
    plain = entitlement.decision.as_dict()
    rows = [_grant_to_dict(grant) for grant in entitlement.grants]
    return {"name": entitlement.name, **{name: plain[name] for name in _FIELDS}, "rows": rows}


def _make_entitlement_row(entitlement: Entitlement) -> tuple[Cell | str, ...]:
    decision = entitlement.decision
    return (
        entitlement.name,
        Cell(decision.reason, _choose_tone(decision)),
        decision.type or "",
        make_balance_cell(decision),
        format_number(decision.used),
        format_window(decision),
        str(len(entitlement.grants)),
    )


def _make_grants_table(holdings: Holdings) -> Table:
    grants = [grant for entitlement in holdings.entitlements for grant in entitlement.grants]
    headers = ("NAME", "STATUS", "TYPE", "LIMIT", "USED", "LEFT", "WINDOW", "ROW")
    return Table(headers, tuple(_make_grant_row(grant) for grant in grants))


def _make_grant_row(grant: Grant) -> tuple[Cell | str, ...]:
    numbers = (format_number(grant.quantity), format_number(grant.used), format_number(grant.remaining))
    return (grant.name, _format_status(grant), grant.type or "", *numbers, format_window(grant), grant.id)


def _make_standing_rows(row: RowStanding) -> Iterator[tuple[Cell | str, ...]]:
    grant = row.grant
    yield Cell(_PARTS[row.part], _PART_TONES[row.part]), row.why
    details = (grant.type, _format_status(grant), format_window(grant), f"row {grant.id or 'without an id'}")
    yield "", Cell(", ".join(filter(None, details)), "faint")


def _format_status(grant: Grant) -> str:
    return "unreadable" if grant.is_malformed else grant.status or ""


def _format_decision(decision: Decision) -> str:
    requested = f" {decision.requested:f} of" if decision.requested is not None else ""
    answer = "allowed" if decision.allowed else "denied"
    shadow = " (in shadow mode; else denied)" if decision.shadow else ""
    reason = f"{decision.reason}: {describe_reason(decision.reason)}"
    remaining = make_balance_cell(decision).text
    balance = f" ({remaining} left)" if remaining else ""
    return f"{answer}{shadow}:{requested} {decision.entitlement}: {reason}{balance}"


def _format_source(decision: Decision) -> str:
    age = "" if decision.age is None else f", {decision.age:.0f} s old"
    return f"data: {decision.source}{age}"


def _format_unknown(customer_id: str, decision: Decision, why: str) -> str:
    policy = "; the failure policy allows meanwhile" if decision.allowed else ""
    return f"unknown: {decision.reason} (customer {customer_id}): {why or describe_reason(decision.reason)}{policy}"


def _choose_tone(decision: Decision) -> Tone:
    return "warning" if decision.shadow else _TONES[decision.outcome]


def _choose_exit_code(decision: Decision) -> int:
    return FINE if decision.allowed else DENIED
