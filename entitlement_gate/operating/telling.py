"""Answers about a customer as reports, for people and for programs. Never here: asking, widths, colours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from entitlement_gate.domain.decisions import Decision, Outcome
from entitlement_gate.domain.numbers import difference, total
from entitlement_gate.operating.explaining import day, meaning, number
from entitlement_gate.operating.reports import DENIED, FINE, UNKNOWN, Bar, Cell, Line, Report, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from decimal import Decimal

    from entitlement_gate.domain.grants import Grant
    from entitlement_gate.operating.asking import Asked, Holding
    from entitlement_gate.operating.explaining import RowStanding
    from entitlement_gate.operating.reports import Tone
    from entitlement_gate.runtime.entitlements import Entitlement

__all__ = ["left_of", "tell_check", "tell_explanation", "tell_holding", "window_of"]

_TONES: dict[Outcome, Tone] = {Outcome.ALLOWED: "good", Outcome.DENIED: "bad", Outcome.UNKNOWN: "warning"}
_SHOWN = ("allowed", "reason", "type", "units", "limit", "used", "remaining", "unlimited", "active_from", "expires_at")
_PARTS = {"counted": "yes", "closest": "decided", "none": "no"}
_PART_TONES: dict[str, Tone] = {"counted": "good", "closest": "bad", "none": "faint"}


def tell_holding(holding: Holding, why: str = "", *, with_rows: bool = False) -> Report:
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
    listed = [_standing_data(row) for row in explanation.rows]
    data = {
        "decision": decision.as_dict(),
        "rows": listed,
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


def _standing_data(row: RowStanding) -> dict[str, Any]:
    return {**grant_data(row.grant), "part": row.part, "standing": row.standing, "why": row.why}


def _no_holding(holding: Holding, why: str, data: dict[str, Any]) -> Report:
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


def _rows_table(holding: Holding) -> Table:
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
