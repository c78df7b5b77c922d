"""The contract against the sources of the package, and against sources that break a promise each."""

from __future__ import annotations

import inspect
import uuid
from contextlib import suppress
from dataclasses import replace

import pytest

from entitlement_gate import EntitlementGate, Snapshot, ZenskarClient
from entitlement_gate.sandbox import Sandbox, SandboxTransport, Scenario
from entitlement_gate.testing import FakeSource, SourceContract
from entitlement_gate.testing.source_contract import ANNA, BERT, GIVEN

KEY, ORGANISATION = "key", "00000000-0000-4000-8000-000000000001"


class TestZenskarClient(SourceContract):
    def make_source(self):
        self.sandbox = Sandbox(Scenario(KEY, ORGANISATION))
        names = {"used": "quantity_used", "expires_at": "expiry_at"}
        for customer, given in GIVEN.items():
            for fields in given:
                self.sandbox.grant(customer, **{names.get(name, name): value for name, value in fields.items()})
        transport = SandboxTransport(self.sandbox)
        return ZenskarClient(KEY, ORGANISATION, base_url="sandbox:", transport=transport, deadline=30, max_attempts=1)

    def give(self, source, customer_id, name):
        self.sandbox.grant(customer_id, name)

    def fail(self, source):
        self.sandbox.fail("status", status=503)

    def recover(self, source):
        self.sandbox.recover()


class OfFakeSource(SourceContract):
    kind = FakeSource

    def make_source(self):
        source = self.kind()
        for customer, given in GIVEN.items():
            for fields in given:
                source.grant(customer, **fields)
        return source

    def give(self, source, customer_id, name):
        source.grant(customer_id, name)

    def fail(self, source):
        source.fail()

    def recover(self, source):
        source.recover()


class TestFakeSource(OfFakeSource):
    """The cases of the contract."""


class Mended(FakeSource):
    """Gives something else than was fetched."""

    def fetch(self, customer_id):
        return self.mend(super().fetch(customer_id))


class WithFloats(Mended):
    def mend(self, snapshot):
        rows = (replace(row, quantity=row.quantity and float(row.quantity)) for row in snapshot.grants)
        return replace(snapshot, grants=tuple(rows))


class OfAnotherCustomer(Mended):
    def mend(self, snapshot):
        return replace(snapshot, customer_id=BERT)


class WithIdsThatChange(Mended):
    def mend(self, snapshot):
        return replace(snapshot, grants=tuple(replace(row, id=str(uuid.uuid4())) for row in snapshot.grants))


class WithoutEntitlementIds(Mended):
    def mend(self, snapshot):
        return replace(snapshot, grants=tuple(replace(row, entitlement_id=None) for row in snapshot.grants))


class WithoutDates(Mended):
    def mend(self, snapshot):
        return Snapshot(snapshot.customer_id, snapshot.grants, 0.0)


class Forgetful(FakeSource):
    def fetch(self, customer_id):
        with suppress(Exception):
            return super().fetch(customer_id)
        return Snapshot(customer_id, (), 0.0)


class Frozen(FakeSource):
    def fetch(self, customer_id):
        kept = self.__dict__.setdefault("kept", {})
        if customer_id not in kept:
            kept[customer_id] = super().fetch(customer_id)
        return kept[customer_id]


class Talkative(FakeSource):
    def __repr__(self):
        return f"<{self.fetched}>"


class Quoting(FakeSource):
    def fetch(self, customer_id):
        if self._failure is not None:
            self.fail(type(self._failure)(f"cannot fetch {customer_id}"))
        return super().fetch(customer_id)


def broken_promises(contract):
    """Return the cases that a source does not pass."""
    broken = set()
    for name, case in inspect.getmembers(contract, inspect.ismethod):
        if name.startswith("test_"):
            source = contract.make_source()
            with EntitlementGate(source, deadline=30) as gate:
                given = {"source": source, "gate": gate}
                try:
                    case(**{name: given[name] for name in inspect.signature(case).parameters})
                except (Exception, pytest.fail.Exception):  # noqa: BLE001 - whatever a case raises, it did not pass
                    broken.add(name)
    return broken


@pytest.mark.parametrize(
    ("kind", "promise"),
    [
        (WithFloats, "test_a_snapshot_holds_the_promised_types"),
        (OfAnotherCustomer, "test_a_snapshot_is_the_customers_and_says_when_it_was_taken"),
        (WithIdsThatChange, "test_rows_are_known_by_ids_that_stay"),
        (WithoutEntitlementIds, "test_rows_are_known_by_ids_that_stay"),
        (WithoutDates, "test_a_snapshot_is_the_customers_and_says_when_it_was_taken"),
        (Forgetful, "test_a_failure_is_a_source_error_that_names_nobody"),
        (Frozen, "test_a_change_is_there_at_the_next_fetch"),
        (Talkative, "test_its_repr_names_nobody"),
        (Quoting, "test_a_failure_is_a_source_error_that_names_nobody"),
    ],
)
def test_a_source_that_breaks_a_promise_is_found_out(kind, promise):
    contract = OfFakeSource()
    contract.kind = kind
    assert promise in broken_promises(contract)


def test_a_source_that_keeps_them_is_not():
    assert broken_promises(OfFakeSource()) == set()
    assert ANNA in GIVEN
