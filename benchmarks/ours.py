"""The gate itself as a contestant, through each of its doors, and the practical limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from django.conf import settings
from django.core.signals import setting_changed

from benchmarks.contestants import Contestant
from benchmarks.limit import practical_limit
from benchmarks.world import ASKED, NAMES, Source
from entitlement_gate import EntitlementGate, has_entitlement
from entitlement_gate.api import default_gate
from entitlement_gate.conf import SETTING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.rounds import Batch
    from benchmarks.world import World

__all__ = ["GATE_CHECK", "GATE_HAS", "LIMIT", "THROUGH_SETTINGS", "asking", "ours", "settle"]

LIMIT = "practical limit"
GATE_HAS = "`gate.has`"
GATE_CHECK = "`gate.check`"
THROUGH_SETTINGS = "`has_entitlement`"


def ours(world: World) -> list[Contestant]:
    """Return the limit and the three doors, with room for every customer and an hour of freshness."""
    gate = EntitlementGate(settle(world), ttl=3600, max_customers=2 * len(world.customers) + 1)
    does = "snapshot of dated grants, kept fresh"
    has = Contestant(GATE_HAS, asking(gate.has), gate.has, does=does, close=gate.close)
    through = Contestant(
        THROUGH_SETTINGS, asking(has_entitlement), has_entitlement, does="the same by Django settings", close=_forget
    )
    return [_limit(world), has, _check(gate), through]


def asking(may: Callable[[Any, Any], bool], name: object = ASKED) -> Batch:
    """Return the loop for a callable that takes a customer and a name."""

    def batch(customers: Sequence[Any]) -> Any:
        for customer in customers:
            if not may(customer, name):
                return customer
        return None

    return batch


def _limit(world: World) -> Contestant:
    may = practical_limit(world.customers, NAMES)
    return Contestant(LIMIT, asking(may), may, does="a dictionary and two clocks, nothing else")


def _check(gate: EntitlementGate) -> Contestant:
    check = gate.check

    def batch(customers: Sequence[str]) -> str | None:
        for customer in customers:
            if not check(customer, ASKED).allowed:
                return customer
        return None

    def ask(customer: str, name: str) -> bool:
        return check(customer, name).allowed

    return Contestant(GATE_CHECK, batch, ask, does="the same, with the reason, the balance and the age")


def settle(world: World) -> Source:
    """Have the settings' gate made now, over this world: its own client would need ten thousand HTTP requests."""
    _forget()
    source = Source(world)
    with patch("entitlement_gate.zenskar.client.ZenskarClient", lambda *_, **__: source):
        default_gate()
    return source


def _forget() -> None:
    """Have the settings' gate made anew when it is next asked for."""
    setting_changed.send(sender=None, setting=SETTING, value=settings.ENTITLEMENT_GATE, enter=True)
