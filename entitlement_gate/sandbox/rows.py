"""Rows of the list: made from grants, ordered, judged by date, and their balances moved.

Never here: which rows a customer has, or HTTP.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from typing import Any

from entitlement_gate.sandbox import facts
from entitlement_gate.sandbox.scenario import Customer, Grant, derived_id

__all__ = ["Row", "ended", "instant", "is_usable", "make", "order", "rendered", "used"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Two numbers of at most 500 digits either side of the point add up within this, exactly.
_EXACT = Context(prec=1_100)
_NUMBERS = ("quantity", "quantity_used", "quantity_remaining")
_DATES = ("active_from", "expiry_at", "created_at")


@dataclass(frozen=True, slots=True)
class Row:
    """One row, ready to send.

    Attributes:
        fields: The documented fields and what was echoed, as JSON has them.
        details: What ``populate`` puts in the place of contract, product and invoice.
    """

    fields: Mapping[str, Any]
    details: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The entitlement's name."""
        return str(self.fields["name"])

    @property
    def status(self) -> str | None:
        """The status, lower case; ``None`` where it is null."""
        status = self.fields["status"]
        return None if status is None else str(status).lower()


def instant(seconds: float) -> datetime:
    """Turn the clock's reading into an aware datetime."""
    return _EPOCH + timedelta(seconds=seconds)


def make(grant: Grant, customer_id: str, ordinal: int, now: datetime) -> Row:
    """Make the row of a grant; what the grant leaves open is derived, the same in every run."""
    given = {name: _settled(value, now) for name, value in grant.values.items()}
    name = given["name"]
    defaults = {
        "id": derived_id("row", customer_id, ordinal, name),
        "entitlement": derived_id("entitlement", name),
        "type": "Quantity" if any(given.get(field) is not None for field in _NUMBERS) else "Feature",
        "source_type": "Grant",
        "event": "manual",
        "status": "active",
        "created_at": given.get("active_from") or _text(now),
        "contract_id": derived_id("contract", given["contract"]) if given.get("contract") else None,
        "invoice_id": derived_id("invoice", given["invoice"]) if given.get("invoice") else None,
    }
    fields = {**dict.fromkeys(facts.row_fields()), **defaults, **given, "customer": customer_id}
    details = {kind: _details(kind, fields) for kind in ("contract", "product", "invoice")}
    fields |= {"contract": None, "product": None, "invoice": None, **_remaining(given), **grant.echoed}
    return Row(fields, details)


def _settled(value: Any, now: datetime) -> Any:
    if isinstance(value, timedelta):
        return _text(now + value)
    return _text(value) if isinstance(value, datetime) else value


def _text(when: datetime) -> str:
    return when.isoformat().replace("+00:00", "Z")


def _remaining(given: Mapping[str, Any]) -> dict[str, Any]:
    if "quantity_remaining" in given or given.get("quantity") is None:
        return {}
    return {"quantity_remaining": _EXACT.subtract(given["quantity"], given.get("quantity_used") or 0)}


def _details(kind: str, fields: Mapping[str, Any]) -> dict[str, Any] | None:
    name = fields[kind]
    own = fields.get(f"{kind}_id") or (derived_id(kind, name) if name else None)
    return {"id": own, "name": name, "email": None} if own else None


def rendered(row: Row, populate: frozenset[str], customer: Customer) -> Mapping[str, Any]:
    """Give a row's JSON object, with the objects that ``populate`` asks for."""
    if not populate:
        return row.fields
    shown = {kind: details for kind, details in row.details.items() if kind in populate}
    if "customer" in populate:
        shown["customer"] = {"id": row.fields["customer"], "name": customer.name, "email": customer.email}
    return {**row.fields, **shown}


def order(row: Row, key: str) -> tuple[int, Any]:
    """Give the sorting key of a field: numbers, then dates, then text without case."""
    value = row.fields[key]
    if isinstance(value, int | Decimal):
        return (0, value)
    if key in _DATES and (when := _moment(value)):
        return (1, when)
    return (2, str(value).casefold())


def _moment(value: Any) -> datetime | None:
    try:
        when = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def is_usable(row: Row, now: datetime) -> bool:
    """Whether the balance of a row can be drawn on: it has one, and it is live."""
    start, end = _moment(row.fields["active_from"]), _moment(row.fields["expiry_at"])
    in_time = (start is None or start <= now) and (end is None or now < end)
    return in_time and row.status in {None, "active"} and isinstance(_left(row), int | Decimal)


def _left(row: Row) -> Any:
    return row.fields["quantity_remaining"]


def used(row: Row, wanted: Decimal, *, overdraw: bool) -> tuple[Row, Decimal]:
    """Move a row's balance, down to nothing or below it, and give what it could not cover."""
    left = Decimal(_left(row))
    taken = wanted if overdraw else min(wanted, max(left, Decimal(0)))
    moved = {
        "quantity_used": _EXACT.add(row.fields["quantity_used"] or 0, taken),
        "quantity_remaining": _EXACT.subtract(left, taken),
    }
    return replace(row, fields={**row.fields, **moved}), _EXACT.subtract(wanted, taken)


def ended(row: Row, now: datetime) -> Row:
    """End a row a second ago; its status stays, as billing leaves it until it gets round to it."""
    return replace(row, fields={**row.fields, "expiry_at": _text(now - timedelta(seconds=1))})
