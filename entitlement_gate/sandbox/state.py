"""What a running sandbox holds: customers, the rows granted to them, and the usage events received.

Readers take no lock: every change puts new tuples in the place of old ones. A usage event moves no balance: billing
moves balances at an invoice.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from hashlib import sha256
from typing import Any
from uuid import UUID

from entitlement_gate.resilience.clock import Clock
from entitlement_gate.resilience.fork_safety import Locked
from entitlement_gate.sandbox import facts
from entitlement_gate.sandbox.messages import RefusedRequest, Reply, invalid, read_json
from entitlement_gate.sandbox.scenario import (
    Customer,
    Scenario,
    ScenarioError,
    ScenarioGrant,
    derive_id,
    read_identifier,
    read_number,
)

__all__ = ["Billing", "BillingRow", "ReceivedUsage", "UsageBook", "render_row", "sort_key_of"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Two numbers of at most 500 digits either side of the point add up within this, exactly.
_EXACT = Context(prec=1_100)
_NUMBERS = ("quantity", "quantity_used", "quantity_remaining")
_DATES = ("active_from", "expiry_at", "created_at")


@dataclass(frozen=True, slots=True)
class BillingRow:
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


def _make_row(grant: ScenarioGrant, customer_id: str, ordinal: int, now: datetime) -> BillingRow:
    """Make the row of a grant; what the grant leaves open is derived, the same in every run."""
    values = {name: _resolve_date(value, now) for name, value in grant.values.items()}
    name = values["name"]
    defaults = {
        "id": derive_id("row", customer_id, ordinal, name),
        "entitlement": derive_id("entitlement", name),
        "type": "Quantity" if any(values.get(field) is not None for field in _NUMBERS) else "Feature",
        "source_type": "Grant",
        "event": "manual",
        "status": "active",
        "created_at": values.get("active_from") or _format_date(now),
        "contract_id": derive_id("contract", values["contract"]) if values.get("contract") else None,
        "invoice_id": derive_id("invoice", values["invoice"]) if values.get("invoice") else None,
    }
    fields = {**dict.fromkeys(facts.row_fields()), **defaults, **values, "customer": customer_id}
    details = {kind: _details(kind, fields) for kind in ("contract", "product", "invoice")}
    if "quantity_remaining" not in values and values.get("quantity") is not None:
        fields["quantity_remaining"] = _EXACT.subtract(values["quantity"], values.get("quantity_used") or 0)
    fields |= {"contract": None, "product": None, "invoice": None, **grant.echoed}
    return BillingRow(fields, details)


def _resolve_date(value: Any, now: datetime) -> Any:
    if isinstance(value, timedelta):
        value = now + value
    return _format_date(value) if isinstance(value, datetime) else value


def _format_date(when: datetime) -> str:
    return when.isoformat().replace("+00:00", "Z")


def _details(kind: str, fields: Mapping[str, Any]) -> dict[str, Any] | None:
    name = fields[kind]
    own = fields.get(f"{kind}_id") or (derive_id(kind, name) if name else None)
    return {"id": own, "name": name, "email": None} if own else None


def render_row(row: BillingRow, populate: frozenset[str], customer: Customer) -> Mapping[str, Any]:
    """Give a row's JSON object, with the objects that ``populate`` asks for."""
    if not populate:
        return row.fields
    details = {kind: own for kind, own in row.details.items() if kind in populate}
    if "customer" in populate:
        details["customer"] = {"id": row.fields["customer"], "name": customer.name, "email": customer.email}
    return {**row.fields, **details}


def sort_key_of(row: BillingRow, key: str) -> tuple[int, Any]:
    """Give the sorting key of a field: numbers, then dates, then text without case."""
    value = row.fields[key]
    if isinstance(value, int | Decimal):
        return (0, value)
    if key in _DATES and (when := _parse_date(value)):
        return (1, when)
    return (2, str(value).casefold())


def _parse_date(value: Any) -> datetime | None:
    try:
        when = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _has_usable_balance(row: BillingRow, now: datetime) -> bool:
    start, end = _parse_date(row.fields["active_from"]), _parse_date(row.fields["expiry_at"])
    in_time = (start is None or start <= now) and (end is None or now < end)
    has_balance = isinstance(row.fields["quantity_remaining"], int | Decimal)
    return in_time and row.status in {None, "active"} and has_balance


def _use_row(row: BillingRow, quantity: Decimal, *, overdraw: bool) -> tuple[BillingRow, Decimal]:
    """Reduce a row's balance, below zero only where ``overdraw``; return the row and what it could not cover."""
    remaining = Decimal(row.fields["quantity_remaining"])
    used = quantity if overdraw else min(quantity, max(remaining, Decimal(0)))
    balance = {
        "quantity_used": _EXACT.add(row.fields["quantity_used"] or 0, used),
        "quantity_remaining": _EXACT.subtract(remaining, used),
    }
    return replace(row, fields={**row.fields, **balance}), _EXACT.subtract(quantity, used)


class Billing(Locked):
    """Which customer has which rows now."""

    def __init__(self, scenario: Scenario, clock: Clock) -> None:
        super().__init__()
        self.scenario = scenario
        self._clock = clock
        self._customers = {customer.id: customer for customer in scenario.customers}
        self._row_counts: dict[str, int] = {}  # of all that were ever granted
        self._rows: dict[str, tuple[BillingRow, ...]] = {}
        now = self._now()
        for customer in scenario.customers:
            for grant in customer.grants:
                self._add(customer.id, grant, now)

    def _now(self) -> datetime:
        return _EPOCH + timedelta(seconds=self._clock.time())

    def _add(self, customer_id: str, grant: ScenarioGrant, now: datetime) -> BillingRow:
        ordinal = self._row_counts.get(customer_id, 0)
        row = _make_row(grant, customer_id, ordinal, now)
        self._row_counts[customer_id] = ordinal + 1
        self._rows[customer_id] = (*self.rows_of(customer_id), row)
        return row

    @property
    def customers(self) -> tuple[Customer, ...]:
        """Every customer; those that a grant created come last."""
        return tuple(self._customers.values())

    def rows_of(self, customer_id: str) -> tuple[BillingRow, ...]:
        """Return a customer's rows in the order they were granted."""
        return self._rows.get(customer_id, ())

    def rows_of_others(self, customer_id: str) -> tuple[BillingRow, ...]:
        """Return the rows of every other customer; where there is no other, the customer's own under another id."""
        others = tuple(row for owner, rows in list(self._rows.items()) if owner != customer_id for row in rows)
        stranger = {"customer": "ffffffff-0000-4000-8000-000000000000"}
        return others or tuple(replace(row, fields={**row.fields, **stranger}) for row in self.rows_of(customer_id))

    def grant(
        self,
        customer: UUID | str,
        name: str,
        quantity: Any = None,
        *,
        type: str | None = None,  # noqa: A002 - the field's own name
        **fields: Any,
    ) -> str:
        """Give a customer one more row, creating the customer where needed; return the row's id.

        Without a quantity the row is a Feature. The other fields are those of a grant in a scenario; dates
        may be relative to now.

        Raises:
            ScenarioError: A field is unknown or cannot be.
        """
        options = {"quantity": quantity, "type": type}
        values = {field: value for field, value in options.items() if value is not None}
        customer_id = read_identifier(customer, "customer")
        grant = ScenarioGrant.parse({"name": name, **values, **fields}, "grant")
        with self._lock:
            self._customers.setdefault(customer_id, Customer(customer_id, f"Customer {customer_id[:8]}"))
            return str(self._add(customer_id, grant, self._now()).fields["id"])

    def revoke(self, customer: UUID | str, name: str) -> int:
        """Take every row of a name away; return how many there were."""
        return self._change(customer, name, lambda _: None)

    def expire(self, customer: UUID | str, name: str) -> None:
        """End every row of a name a second ago, leaving its status.

        Raises:
            LookupError: The customer has no such row.
        """
        end = _format_date(self._now() - timedelta(seconds=1))
        self._set(customer, name, {"expiry_at": end})

    def void(self, customer: UUID | str, name: str) -> None:
        """Set every row of a name to voided, as billing does when what granted it is taken back.

        Raises:
            LookupError: The customer has no such row.
        """
        self._set(customer, name, {"status": "voided"})

    def _set(self, customer: UUID | str, name: str, fields: Mapping[str, Any]) -> None:
        if not self._change(customer, name, lambda row: replace(row, fields={**row.fields, **fields})):
            raise LookupError(f"customer {customer} has no row named {name!r}")

    def _change(self, customer: UUID | str, name: str, change: Callable[[BillingRow], BillingRow | None]) -> int:
        customer_id = read_identifier(customer, "customer")
        with self._lock:
            before = self.rows_of(customer_id)
            after = [change(row) if row.name == name else row for row in before]
            self._rows[customer_id] = tuple(row for row in after if row is not None)
        return sum(row.name == name for row in before)

    def use(self, customer: UUID | str, name: str, quantity: Any = 1) -> None:
        """Reduce balances as an invoice does: of the live rows of a name, oldest first; the last may go below zero.

        Raises:
            LookupError: No live row of the name has a balance.
            ScenarioError: The quantity is no number above zero.
        """
        customer_id = read_identifier(customer, "customer")
        rest, now = Decimal(read_number(quantity, "quantity")), self._now()
        if rest <= 0:
            raise ScenarioError(f"quantity: expected a number above zero, not {quantity}")
        with self._lock:
            rows = list(self.rows_of(customer_id))
            usable = [at for at, row in enumerate(rows) if row.name == name and _has_usable_balance(row, now)]
            if not usable:
                raise LookupError(f"customer {customer} has no live balance named {name!r}")
            for at in usable:
                rows[at], rest = _use_row(rows[at], rest, overdraw=at == usable[-1])
            self._rows[customer_id] = tuple(rows)


_REPLAYED_FOR = 86_400.0  # seconds


@dataclass(frozen=True, slots=True)
class ReceivedUsage:
    """One event that was accepted; ``key`` is the request's ``Idempotency-Key``."""

    slug: str
    customer_id: str
    timestamp: str
    data: Mapping[str, Any]
    key: str | None


class UsageBook(Locked):
    """The events received, and the answers given to each key within 24 hours."""

    def __init__(self, slugs: Collection[str]) -> None:
        self._slugs = frozenset(slugs)
        super().__init__()
        self._events: list[ReceivedUsage] = []
        self._answers: dict[str, tuple[float, bytes, Reply]] = {}

    @property
    def events(self) -> list[ReceivedUsage]:
        """The events accepted so far, in order."""
        with self._lock:
            return list(self._events)

    def post(self, slug: str, body: bytes, key: str | None, now: float) -> Reply:
        """Take one event or a list of them, or replay the answer the key was given before.

        Raises:
            RefusedRequest: The body is malformed, or the key was used for another body.
        """
        digest = sha256(slug.encode() + b"\0" + body).digest()
        with self._lock:
            self._answers = {key: answer for key, answer in self._answers.items() if now < answer[0]}
            if key in self._answers:
                _, first_digest, reply = self._answers[key]
                if first_digest != digest:
                    raise RefusedRequest(Reply.json({"detail": "Idempotency-Key was used with another body"}, 400))
                return reply
            events = [_parse_event(slug, item, at, key) for at, item in _parse_items(body)]
            reply = Reply.json(None)
            if slug in self._slugs:
                self._events.extend(events)
                reply = Reply.json({"status": "accepted", "count": len(events)})
            if key:
                self._answers[key] = (now + _REPLAYED_FOR, digest, reply)
            return reply


def _parse_items(body: bytes) -> list[tuple[list[str | int], Any]]:
    try:
        payload = read_json(body)
    except ValueError:
        raise invalid(["body"], "body is not valid JSON", "value_error.jsondecode") from None
    if not isinstance(payload, list):
        return [(["body"], payload)]
    if not payload:
        raise invalid(["body"], "list has no items", "value_error.list.min_items")
    return [(["body", index], item) for index, item in enumerate(payload)]


def _parse_event(slug: str, item: Any, at: list[str | int], key: str | None) -> ReceivedUsage:
    if not isinstance(item, Mapping):
        raise invalid(at, "value is not a valid object", "type_error.dict")
    for name in ("customer_id", "timestamp", "data"):
        if name not in item:
            raise invalid([*at, name], "field required", "value_error.missing")
        if not (isinstance(item[name], Mapping) if name == "data" else isinstance(item[name], str) and item[name]):
            raise invalid([*at, name], "value is not valid", "type_error")
    if not _parse_date(item["timestamp"]):
        raise invalid([*at, "timestamp"], "value is not valid", "type_error")
    return ReceivedUsage(slug, item["customer_id"], item["timestamp"], item["data"], key)
