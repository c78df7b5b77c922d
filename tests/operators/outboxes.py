"""A ledger that is shared as far as a command can see, and events in it."""

from __future__ import annotations

from entitlement_gate.ledger.balances import MOST, Row
from entitlement_gate.ledger.memory import MemoryLedger
from entitlement_gate.ledger.protocol import LedgerUnavailable, UsageTarget
from entitlement_gate.testing.ledger_contract import demand
from tests.operators.world import ONE

TARGET = UsageTarget("calls", "count")
USAGE = {"API Calls": {"slug": "calls", "field": "count"}}
REFUSED = UsageTarget("no-such-meter", "count")


class Elsewhere:
    """A ledger in memory that passes for one of another process; it may be told to be out of reach."""

    is_local = False

    def __init__(self, clock=None):
        self.inner = MemoryLedger(clock=clock) if clock else MemoryLedger()
        self.outages = 0
        self.report = {}

    def __getattr__(self, name):
        return self._gone if self.outages and name in ("take", "pending", "dead_letters") else getattr(self.inner, name)

    def _gone(self, *_, **__):
        self.outages -= 1
        raise LedgerUnavailable("Redis: ConnectionError: gone")

    def health(self):
        return {**self.inner.health(), "store": "redis", **self.report}


def use(ledger, *keys, target=TARGET, quantity=2_500_000):
    for key in keys:
        ledger.inner.consume(ONE, [demand(quantity, Row("row", MOST), target=target)], key=key)
