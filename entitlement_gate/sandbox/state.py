"""The customers and rows of a running sandbox, and the changes a test makes to them.

Never here: HTTP. Readers take no lock: every change puts new tuples in the place of old ones.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from threading import Lock
from typing import Any
from uuid import UUID

from entitlement_gate.sandbox import rows
from entitlement_gate.sandbox.reading import ScenarioError, identifier, number
from entitlement_gate.sandbox.rows import Row
from entitlement_gate.sandbox.scenario import Customer, Grant, Scenario

__all__ = ["State"]


class State:
    """Who has which rows now; relative dates were settled at ``now``, once."""

    def __init__(self, scenario: Scenario, now: datetime) -> None:
        self._lock = Lock()
        self._customers = {customer.id: customer for customer in scenario.customers}
        self._made: dict[str, int] = {}
        self._rows: dict[str, tuple[Row, ...]] = {}
        for customer in scenario.customers:
            for grant in customer.grants:
                self._add(customer.id, grant, now)

    def _add(self, customer_id: str, grant: Grant, now: datetime) -> Row:
        ordinal = self._made.get(customer_id, 0)
        row = rows.make(grant, customer_id, ordinal, now)
        self._made[customer_id] = ordinal + 1
        self._rows[customer_id] = (*self.rows(customer_id), row)
        return row

    @property
    def customers(self) -> tuple[Customer, ...]:
        """Every customer, those that a grant created last."""
        return tuple(self._customers.values())

    def customer(self, customer_id: str) -> Customer | None:
        """Find a customer by the lower-case text of the id."""
        return self._customers.get(customer_id)

    def rows(self, customer_id: str) -> tuple[Row, ...]:
        """Give a customer's rows in the order they were granted."""
        return self._rows.get(customer_id, ())

    def foreign_rows(self, customer_id: str) -> tuple[Row, ...]:
        """Give the rows of every other customer; with no other, the customer's own under another's id."""
        others = tuple(row for owner, found in list(self._rows.items()) if owner != customer_id for row in found)
        stranger = {"customer": "ffffffff-0000-4000-8000-000000000000"}
        own = self.rows(customer_id)
        return others or tuple(replace(row, fields={**row.fields, **stranger}) for row in own)

    def grant(self, customer: UUID | str, values: dict[str, Any], now: datetime) -> str:
        """Give a customer one more row, creating the customer where needed; the answer is the row's id."""
        customer_id = identifier(customer, "customer")
        grant = Grant.parse(values, "grant")
        with self._lock:
            if customer_id not in self._customers:
                made = Customer(customer_id, f"Customer {customer_id[:8]}")
                self._customers[customer_id] = made
            return str(self._add(customer_id, grant, now).fields["id"])

    def revoke(self, customer: UUID | str, name: str) -> int:
        """Take every row of a name away; the answer is how many there were."""
        return self._change(customer, name, lambda _: None)

    def expire(self, customer: UUID | str, name: str, now: datetime) -> None:
        """End every row of a name a second ago.

        Raises:
            LookupError: The customer has no such row.
        """
        if not self._change(customer, name, lambda row: rows.ended(row, now)):
            raise LookupError(f"customer {customer} has no row named {name!r}")

    def _change(self, customer: UUID | str, name: str, change: Callable[[Row], Row | None]) -> int:
        customer_id = identifier(customer, "customer")
        with self._lock:
            before = self.rows(customer_id)
            after = [change(row) if row.name == name else row for row in before]
            self._rows[customer_id] = tuple(row for row in after if row is not None)
        return sum(row.name == name for row in before)

    def use(self, customer: UUID | str, name: str, quantity: Any, now: datetime) -> None:
        """Draw a quantity from the live rows of a name, oldest first; the last one may go below nothing.

        Raises:
            LookupError: No live row of the name has a balance.
            ScenarioError: The quantity is no number above zero.
        """
        customer_id = identifier(customer, "customer")
        wanted = Decimal(number(quantity, "quantity"))
        if wanted <= 0:
            raise ScenarioError(f"quantity: expected a number above zero, not {quantity}")
        with self._lock:
            after = list(self.rows(customer_id))
            drawn = [at for at, row in enumerate(after) if row.name == name and rows.is_usable(row, now)]
            if not drawn:
                raise LookupError(f"customer {customer} has no live balance named {name!r}")
            for at in drawn:
                after[at], wanted = rows.used(after[at], wanted, overdraw=at == drawn[-1])
            self._rows[customer_id] = tuple(after)
