from __future__ import annotations

from decimal import Decimal
from uuid import UUID

import pytest

from entitlement_gate import Decision, Reason, Requirement
from entitlement_gate.testing.fakes import canonical_customer
from entitlement_gate.testing.overrides import Layer, decide_leaf, read_values
from tests.customers import FREE, PRO


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (True, True),
        (False, False),
        (5, Decimal(5)),
        (0, Decimal(0)),
        (0.1, Decimal("0.1")),
        ("5.50", Decimal("5.5")),
        (Decimal("1e3"), Decimal(1000)),
        ("unavailable", "unavailable"),
        (Reason.UNAVAILABLE, "unavailable"),
    ],
)
def test_values_are_read_exactly(written, read):
    value = read_values({"sso": written})["sso"]
    assert value == read
    assert isinstance(value, bool) is isinstance(read, bool)


@pytest.mark.parametrize("value", [None, "yes", float("nan"), float("inf"), [], {}, object, ""])
def test_a_value_that_cannot_be_is_refused_by_the_name_of_its_entitlement(value):
    with pytest.raises(ValueError, match="'sso': True, False, a quantity, a Decision or"):
        read_values({"sso": value})


@pytest.mark.parametrize("values", [None, ["sso"], "sso", {1: True}, {"": True}])
def test_what_is_no_mapping_of_names_is_refused(values):
    with pytest.raises(TypeError, match="a dict such as"):
        read_values(values)


def test_a_customer_is_a_uuid_or_its_text_in_any_case():
    upper = "ABCDEF00-0000-4000-8000-000000000001"
    assert canonical_customer(upper) == canonical_customer(UUID(upper)) == upper.lower()


@pytest.mark.parametrize("customer", ["anna", "", None, 7, "10000000000040008000000000000001"])
def test_what_is_no_customer_id_is_refused(customer):
    with pytest.raises(ValueError, match="a customer is a UUID"):
        canonical_customer(customer)


def test_a_decision_keeps_what_it_says_and_gets_what_it_leaves_open():
    written = Decision.of(Reason.EXPIRED, "whatever", remaining=Decimal(3))
    decision = decide_leaf(written, Requirement("sso", 2), FREE)
    assert (decision.entitlement, decision.customer_id, decision.requested, decision.remaining) == (
        "sso",
        FREE,
        2,
        3,
    )
    own = Decision.of(Reason.EXPIRED, "sso", customer_id=PRO, requested=Decimal(1))
    assert decide_leaf(own, Requirement("sso", 2), FREE) == own


def test_layers_are_compared_by_identity():
    assert Layer(values={}) != Layer(values={})
