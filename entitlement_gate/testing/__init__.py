"""Kit for the tests of a project that uses the gate: overrides, a billing of one's own, assertions, a fake source.

Nothing else in the package imports it. Every name is imported on first use; ``plugin`` is what pytest loads, and it
too imports nothing before a test uses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from entitlement_gate.exports import export

if TYPE_CHECKING:
    from entitlement_gate.testing.assertions import aassert_gated, aassert_not_gated, assert_gated, assert_not_gated
    from entitlement_gate.testing.fake_billing import FakeBilling
    from entitlement_gate.testing.fakes import FakeSource
    from entitlement_gate.testing.ledger_contract import LedgerContract
    from entitlement_gate.testing.overrides import override_entitlements, wait_for_signals
    from entitlement_gate.testing.source_contract import SourceContract

__all__ = [
    "FakeBilling",
    "FakeSource",
    "LedgerContract",
    "SourceContract",
    "aassert_gated",
    "aassert_not_gated",
    "assert_gated",
    "assert_not_gated",
    "override_entitlements",
    "wait_for_signals",
]

_HOMES = {
    "FakeBilling": "fake_billing",
    "FakeSource": "fakes",
    "LedgerContract": "ledger_contract",
    "SourceContract": "source_contract",
    "aassert_gated": "assertions",
    "aassert_not_gated": "assertions",
    "assert_gated": "assertions",
    "assert_not_gated": "assertions",
    "override_entitlements": "overrides",
    "wait_for_signals": "overrides",
}
__getattr__, __dir__ = export(__name__, _HOMES)
