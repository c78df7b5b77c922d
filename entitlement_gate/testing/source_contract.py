"""The suite that every source of snapshots must pass.

What a fetch brings, in which types, for whom; what an unknown customer, a change and a failure look like; and what a
gate makes of it.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from entitlement_gate.domain.errors import CustomerNotFound, SourceError
from entitlement_gate.domain.grants import EntitlementType, Grant
from entitlement_gate.engine.gate import EntitlementGate
from entitlement_gate.engine.validation import vetted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from entitlement_gate.domain.grants import Snapshot

__all__ = ["ANNA", "BERT", "CARA", "GIVEN", "SourceContract"]

ANNA = "10000000-0000-4000-8000-00000000000a"
BERT = "20000000-0000-4000-8000-00000000000b"
CARA = "30000000-0000-4000-8000-00000000000c"
"""Has grants; has one; is unknown."""

GIVEN: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    ANNA: (
        {"name": "sso"},
        {"name": "seats", "quantity": Decimal(5), "used": Decimal(2), "units": "seats"},
        {
            "name": "tokens",
            "type": EntitlementType.CREDITS,
            "quantity": Decimal("9007199254740993.1"),
            "active_from": datetime(2020, 1, 1, tzinfo=UTC),
            "expires_at": datetime(2126, 1, 1, tzinfo=UTC),
        },
    ),
    BERT: ({"name": "seats", "quantity": Decimal(1)},),
}
"""What a source is made with: fields of a ``Grant``; a Feature where there is no number, else a Quantity.

The quantity of the tokens is one that a float cannot hold."""


class SourceContract(ABC):
    """Inherit, and say how a source is made, changed, broken and mended."""

    @abstractmethod
    def make_source(self) -> Any:
        """Return a source that gives ``GIVEN`` and knows nobody else."""

    @abstractmethod
    def give(self, source: Any, customer_id: str, name: str) -> None:
        """Give a customer one more Feature."""

    @abstractmethod
    def fail(self, source: Any) -> None:
        """Let every fetch fail from now on, in a way that this source can fail."""

    @abstractmethod
    def recover(self, source: Any) -> None:
        """Undo that."""

    @pytest.fixture
    def source(self) -> Any:
        """A source, closed after the test where it can be."""
        source = self.make_source()
        yield source
        if hasattr(source, "close"):
            source.close()
            source.close()  # a gate closes what others may have closed

    @pytest.fixture
    def gate(self, source: Any) -> Any:
        """A gate over the source, that waits as long as a busy machine takes."""
        gate = EntitlementGate(source, deadline=30)
        yield gate
        gate.close()

    def test_every_grant_of_the_customer_comes_exactly_as_given(self, source: Any) -> None:
        for customer_id, rows in GIVEN.items():
            grants = {grant.name: grant for grant in source.fetch(customer_id).grants}
            assert grants.keys() == {fields["name"] for fields in rows}
            for fields in rows:
                grant = grants[fields["name"]]
                assert _describe(grant) == _describe_expected(fields)

    def test_a_snapshot_is_the_customers_and_says_when_it_was_taken(self, source: Any) -> None:
        before = time.time()
        snapshot = source.fetch(ANNA)
        assert (snapshot.customer_id, snapshot.is_found) == (ANNA, True)
        assert before - 1 <= snapshot.fetched_at <= time.time() + 1  # a clock of its own may be coarser

    def test_a_snapshot_holds_the_promised_types(self, source: Any) -> None:
        snapshot = source.fetch(ANNA)
        assert isinstance(snapshot.grants, tuple)
        grants = vetted(snapshot, ANNA, 0.0).grants
        assert all(one is other for one, other in zip(grants, snapshot.grants, strict=True)), "mended by the gate"

    def test_rows_are_known_by_ids_that_stay(self, source: Any) -> None:
        """A ledger counts by them what is used up."""
        first, second = source.fetch(ANNA), source.fetch(ANNA)
        assert _ids(first) == _ids(second)
        row_ids = [row_id for row_id, _ in _ids(first)]
        assert all(row_ids)
        assert len(set(row_ids)) == len(row_ids)
        assert all(grant.entitlement_id for grant in first.grants if grant.is_metered)

    def test_one_entitlement_has_one_id_for_every_customer(self, source: Any) -> None:
        (anna,) = source.fetch(ANNA).rows_of_name("seats")
        (bert,) = source.fetch(BERT).rows_of_name("seats")
        assert anna.entitlement_id == bert.entitlement_id

    def test_a_customer_who_is_not_known_is_no_failure(self, source: Any) -> None:
        try:
            snapshot = source.fetch(CARA)
        except CustomerNotFound:
            return
        assert snapshot.grants == ()

    def test_a_change_is_there_at_the_next_fetch(self, source: Any) -> None:
        before = source.fetch(BERT)
        self.give(source, BERT, "reports")
        assert {grant.name for grant in source.fetch(BERT).grants} == {"seats", "reports"}
        assert {grant.name for grant in before.grants} == {"seats"}, "a snapshot never changes"

    def test_a_failure_is_a_source_error_that_names_nobody(self, source: Any) -> None:
        source.fetch(ANNA)
        self.fail(source)
        with pytest.raises(SourceError) as failure:
            source.fetch(ANNA)
        assert not isinstance(failure.value, CustomerNotFound)
        assert ANNA not in str(failure.value)
        self.recover(source)
        assert source.fetch(ANNA).grants

    def test_threads_get_each_its_own_customer(self, source: Any) -> None:
        customer_ids = [ANNA, BERT] * 20
        with ThreadPoolExecutor(8) as pool:
            snapshots = list(pool.map(source.fetch, customer_ids))
        assert [snapshot.customer_id for snapshot in snapshots] == customer_ids
        assert {len(snapshot.grants) for snapshot in snapshots if snapshot.customer_id == BERT} == {1}

    def test_its_repr_names_nobody(self, source: Any) -> None:
        source.fetch(ANNA)
        assert ANNA not in repr(source)

    def test_a_gate_answers_by_it(self, gate: Any) -> None:
        assert gate.has(ANNA, "sso")
        assert gate.check(ANNA, "seats").remaining == Decimal(3)
        assert gate.check(ANNA, "seats", 4).reason == "insufficient_quantity"
        assert gate.has(ANNA, "tokens", "9007199254740993.1")
        assert gate.check(ANNA, "tokens", "9007199254740993.2").reason == "insufficient_credits"
        assert gate.check(BERT, "sso").reason == "not_entitled"
        assert gate.check(CARA, "sso").outcome == "denied"

    def test_a_gate_uses_up_by_it(self, gate: Any) -> None:
        assert gate.consume(ANNA, "seats", 2).remaining == 1
        assert not gate.has(ANNA, "seats", 2)
        assert gate.has(BERT, "seats", 1)

    def test_a_gate_bridges_its_failure_with_what_is_known(self, source: Any, gate: Any) -> None:
        assert gate.has(ANNA, "sso")
        self.fail(source)
        decision = gate.check(ANNA, "sso", refresh=True)
        assert (decision.allowed, decision.source) == (True, "stale")
        decision = gate.check(BERT, "seats")
        assert (decision.allowed, decision.outcome) == (False, "unknown")
        self.recover(source)
        assert gate.check(ANNA, "sso", refresh=True).source == "live"


def _ids(snapshot: Snapshot) -> list[tuple[str, str | None]]:
    return sorted((grant.id, grant.entitlement_id) for grant in snapshot.grants)


def _describe(grant: Grant) -> tuple[Any, ...]:
    return grant.type, grant.quantity, grant.remaining, grant.units, grant.active_from, grant.expires_at


def _describe_expected(fields: Mapping[str, Any]) -> tuple[Any, ...]:
    quantity = fields.get("quantity")
    kind = fields.get("type", EntitlementType.FEATURE if quantity is None else EntitlementType.QUANTITY)
    remaining = None if quantity is None else quantity - fields.get("used", 0)
    return kind, quantity, remaining, fields.get("units"), fields.get("active_from"), fields.get("expires_at")
