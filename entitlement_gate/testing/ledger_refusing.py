"""What every ledger must refuse. Never here: what is special about one store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from entitlement_gate.ledger.protocol import Demand
from entitlement_gate.ledger.rule import MOST
from entitlement_gate.testing.ledger_cases import ANNA, CALLS, LedgerCases, demand

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RefusingCases"]


class RefusingCases(LedgerCases):
    """Keys, quantities and times that cannot be."""

    @pytest.mark.parametrize("key", ["", "x" * 201, "a\0b", "\udc00", None])
    def test_a_key_that_cannot_be_changes_nothing(self, ledger: Any, key: Any) -> None:
        verbs: tuple[Callable[[], object], ...] = (
            lambda: ledger.reserve(ANNA, [demand(1)], key=key, ttl=60),
            lambda: ledger.consume(ANNA, [demand(1)], key=key),
            lambda: ledger.commit(ANNA, key),
            lambda: ledger.release(ANNA, key),
            lambda: ledger.extend(ANNA, key, 60),
        )
        for verb in verbs:
            with pytest.raises(ValueError, match="key"):
                verb()
        assert not ledger.charges(ANNA)

    @pytest.mark.parametrize("key", ["x" * 200, "ключ {a}", "a b\n'\"|%s", "0"])
    def test_any_other_text_is_a_key(self, ledger: Any, key: str) -> None:
        ledger.reserve(ANNA, [demand(1)], key=key, ttl=60)
        assert ledger.commit(ANNA, key).key == key

    @pytest.mark.parametrize("quantity", [0, -1, MOST + 1, 1.5, True, "1"])
    def test_a_quantity_that_cannot_be_changes_nothing(self, ledger: Any, quantity: Any) -> None:
        with pytest.raises(ValueError, match="counts"):
            ledger.reserve(ANNA, [demand(quantity)], key="k", ttl=60)
        ledger.reserve(ANNA, [demand(1)], key="k", ttl=60)
        with pytest.raises(ValueError, match="counts"):
            ledger.commit(ANNA, "k", actual=quantity)
        assert self.left(ledger) == 9

    @pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), True, "60"])
    def test_a_time_to_live_that_cannot_be_changes_nothing(self, ledger: Any, ttl: Any) -> None:
        with pytest.raises(ValueError, match="lives"):
            ledger.reserve(ANNA, [demand(1)], key="k", ttl=ttl)
        assert not ledger.charges(ANNA)

    def test_demands_that_cannot_be_change_nothing(self, ledger: Any) -> None:
        no_rows = Demand(entitlement_id=CALLS, quantity=1, rows=(), ticket=1.0)
        for demands in ([], [demand(1), demand(1)], [no_rows]):
            with pytest.raises(ValueError, match=r"entitlement|row"):
                ledger.consume(ANNA, demands, key="k")
        assert not ledger.charges(ANNA)
