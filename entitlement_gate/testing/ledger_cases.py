"""What the cases of ``LedgerContract`` share: a ledger, its time, and the shortest way to a demand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import pytest

from entitlement_gate.ledger.balances import Row, available
from entitlement_gate.ledger.protocol import Demand, UsageTarget

__all__ = ["ANNA", "BERT", "CALLS", "METER", "SEATS", "LedgerCases", "demand"]

ANNA = "10000000-0000-4000-8000-00000000000a"
BERT = "20000000-0000-4000-8000-00000000000b"
CALLS = "30000000-0000-4000-8000-00000000000c"
SEATS = "40000000-0000-4000-8000-00000000000d"
METER = UsageTarget("api_calls", "count")


def demand(quantity: int, *rows: Row, entitlement_id: str = CALLS, ticket: float = 1.0, **more: Any) -> Demand:
    """Return a demand on one row of ten, where no rows are given."""
    paying = rows or (Row("row", 10),)
    return Demand(entitlement_id=entitlement_id, quantity=quantity, rows=paying, ticket=ticket, **more)


class LedgerCases(ABC):
    """How a ledger is made, and how its time passes."""

    @abstractmethod
    def make_ledger(self) -> Any:
        """Return an empty ledger that is its own outbox."""

    @abstractmethod
    def pass_time(self, ledger: Any, seconds: float) -> None:
        """Let the ledger's clock, whosever it is, go forward."""

    @pytest.fixture
    def ledger(self) -> Any:
        """An empty ledger, closed after the test."""
        ledger = self.make_ledger()
        yield ledger
        ledger.close()

    def left(self, ledger: Any, *rows: Row, entitlement_id: str = CALLS) -> int:
        """Return what is available to Anna."""
        tallies = ledger.charges(ANNA).get(entitlement_id, {})
        return available(rows or (Row("row", 10),), tallies)
