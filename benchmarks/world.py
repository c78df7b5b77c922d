"""The same customers, plan and pages for everybody who is measured."""

from __future__ import annotations

import json
from functools import cached_property
from random import Random
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from entitlement_gate.domain.grants import Snapshot
from entitlement_gate.sandbox import Request, Sandbox, Scenario
from entitlement_gate.zenskar.parsing import read_grants, read_page

__all__ = [
    "ASKED",
    "KEY",
    "MODEL",
    "NAMES",
    "REFUSED",
    "STRANGER",
    "Source",
    "World",
    "grants",
    "sandbox_with",
    "snapshot_from",
]

FEATURES = (
    "dashboards", "audit log", "custom domains", "data export", "priority support", "scheduled reports",
    "webhooks", "reports", "sso", "api access", "branding", "roles",
)  # fmt: skip
QUANTITIES = ("seats", "projects", "storage", "API Calls", "environments", "workspaces")
CREDITS = ("ai_credits", "sms_credits")
NAMES = (*FEATURES, *QUANTITIES, *CREDITS)
"""What the plan gives: 20 names, a row each."""

ASKED = "reports"
REFUSED = "no such right"
STRANGER = "ffffffff-ffff-4fff-8fff-ffffffffffff"
"""A customer without any plan."""

KEY = "key"
MODEL = "10000000-0000-4000-8000-000000000001"
"""The organisation, and the one customer of a world that has one."""


def grants(rows: int) -> list[dict[str, Any]]:
    """Return the plan as a scenario writes it, over and over until there are so many rows."""
    return [_grant(*divmod(number, len(NAMES))) for number in range(rows)]


def sandbox_with(*customers: str) -> Sandbox:
    """Return a sandbox in which each of the customers has the plan."""
    members = [{"id": customer, "name": customer, "grants": grants(len(NAMES))} for customer in customers]
    return Sandbox(Scenario.parse({"api_key": KEY, "organisation": MODEL, "customers": members}))


def _grant(turn: int, place: int) -> dict[str, Any]:
    name = NAMES[place]
    dates = {"active_from": "2026-01-01T00:00:00Z", "expiry_at": "2126-01-01T00:00:00Z", "contract": "Pro"}
    row: dict[str, Any] = {"name": f"{name} {turn}" if turn else name, **dates}
    if name in FEATURES:
        return {**row, "type": "Feature"}
    kind, units = ("Credits", "credits") if name in CREDITS else ("Quantity", "units")
    return {**row, "type": kind, "units": units, "quantity": 1000, "quantity_used": 12}


class World:
    """So many customers on one plan of 20 rows, and one stranger."""

    def __init__(self, customers: int) -> None:
        chance = Random(20)  # noqa: S311 - ids of nobody
        self.customers = [str(UUID(int=chance.getrandbits(128), version=4)) for _ in range(customers)]
        self.members = frozenset(self.customers)

    def plan_of(self, customer: str) -> str:
        """Return what an application would tell a rule engine about a customer."""
        return "pro" if customer in self.members else "free"

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        headers = {"x-api-key": KEY, "organisation": MODEL}
        target = f"/entitlements/customer/{MODEL}?{urlencode({'limit': 100})}"
        reply = sandbox_with(MODEL).respond(Request("GET", target, headers))
        rows: list[dict[str, Any]] = json.loads(reply.body)["results"]
        return rows

    def page(self, customer: str) -> bytes:
        """Return the customer's rows as billing sends them, every documented field there; balances differ."""
        if customer not in self.members:
            return b'{"next": null, "previous": null, "results": []}'
        used = int(customer[:4], 16) / 100
        rows = []
        for number, row in enumerate(self._rows):
            own = {**row, "id": f"{customer[:24]}{number:012}", "customer": customer}
            if row["quantity"] is not None:
                own |= {"quantity_used": used + number, "quantity_remaining": 1000 - used - number}
            rows.append(own)
        return json.dumps({"next": None, "previous": None, "results": rows}).encode()


class Source:
    """A billing API in this process: pages of the world, decoded as the real client decodes them, kept."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._snapshots: dict[str, Snapshot] = {}

    def fetch(self, customer_id: str) -> Snapshot:
        """Return the customer's snapshot."""
        if customer_id not in self._snapshots:
            self._snapshots[customer_id] = snapshot_from(self._world.page(customer_id), customer_id)
        return self._snapshots[customer_id]


def snapshot_from(body: bytes, customer_id: str) -> Snapshot:
    """Return what the client makes of one page."""
    return Snapshot(customer_id, read_grants(read_page(body).rows, customer_id), 0.0)
