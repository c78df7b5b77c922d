"""The behaviour that every ledger must show, as tests to inherit: ours and third parties'."""

from __future__ import annotations

from entitlement_gate.testing.ledger_holding import HoldingCases
from entitlement_gate.testing.ledger_outbox import OutboxCases
from entitlement_gate.testing.ledger_owning import OwningCases
from entitlement_gate.testing.ledger_reconciling import ReconcilingCases
from entitlement_gate.testing.ledger_refusing import RefusingCases

__all__ = ["LedgerContract"]


class LedgerContract(HoldingCases, OwningCases, RefusingCases, ReconcilingCases, OutboxCases):
    """Inherit, name the class ``Test…``, and say how a ledger is made and how its time passes.

    >>> class TestMyLedger(LedgerContract):
    ...     def make_ledger(self): return MyLedger()
    ...     def pass_time(self, ledger, seconds): ledger.clock.forward(seconds)
    """
