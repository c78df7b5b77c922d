import pickle
from decimal import Decimal

import pytest

from entitlement_gate.domain.decisions import Decision, Reason
from entitlement_gate.domain.requirements import Requirement, as_requirement

A, B, C, D = (Requirement(name) for name in "abcd")


def judged(requirement, **reasons):
    return requirement.judge(lambda leaf: Decision.of(Reason(reasons[leaf.entitlement]), leaf.entitlement))


def told(requirement, **reasons):
    decision = judged(requirement, **reasons)
    return decision.entitlement, str(decision.reason)


@pytest.mark.parametrize("entitlement", [None, 5, b"a", ["a"]])
def test_an_entitlement_is_text(entitlement):
    with pytest.raises(TypeError, match="a name, an alias or an id as text"):
        Requirement(entitlement)


def test_an_entitlement_has_a_name():
    with pytest.raises(ValueError, match="the text is empty"):
        Requirement("")


@pytest.mark.parametrize("quantity", [0, -1, True, "many", float("nan")])
def test_what_is_no_quantity_is_refused(quantity):
    with pytest.raises(ValueError, match="a quantity is"):
        Requirement("seats", quantity)


def test_quantities_are_exact_and_equal_by_value():
    assert Requirement("seats", "2.0").requested == Decimal(2)
    assert Requirement("seats", 2) == Requirement("seats", "2.0")
    assert len({Requirement("seats", 2), Requirement("seats", "2.0"), Requirement("seats")}) == 2
    assert Requirement("seats").requested is None


@pytest.mark.parametrize(
    ("requirement", "text"),
    [
        (A, "Requirement('a')"),
        (Requirement("a", 1.5), "Requirement('a', '1.5')"),
        (A & B & C, "Requirement('a') & Requirement('b') & Requirement('c')"),
        ((A | B) & C, "(Requirement('a') | Requirement('b')) & Requirement('c')"),
        (A | (B & C), "Requirement('a') | Requirement('b') & Requirement('c')"),
        (~A, "~Requirement('a')"),
        (~(A & B), "~(Requirement('a') & Requirement('b'))"),
        (~(A | B), "~(Requirement('a') | Requirement('b'))"),
        (~~A & ~B, "~~Requirement('a') & ~Requirement('b')"),
    ],
)
def test_the_repr_is_the_expression_that_made_it(requirement, text):
    assert repr(requirement) == text
    assert eval(text, {"Requirement": Requirement}) == requirement


def test_text_joins_on_either_side():
    assert "a" & B == A & "b" == A & B
    assert "a" | B == A | "b" == A | B


@pytest.mark.parametrize("other", [5, None, object()])
def test_nothing_else_joins(other):
    with pytest.raises(TypeError):
        _ = A & other
    with pytest.raises(TypeError):
        _ = A | other
    with pytest.raises(TypeError):
        _ = other & A
    with pytest.raises(TypeError):
        _ = other | A


def test_alike_joins_are_flat():
    assert (A & (B & C)).parts == ((A & B) & C).parts == (A, B, C)
    assert (A | (B | C)).parts == (A, B, C)
    assert (A & (B | C)).parts == (A, B | C)


def test_leaves_come_in_the_order_written():
    assert list((A & ~(B | C) | D).leaves()) == [A, B, C, D]


def test_requirements_survive_pickling():
    assert pickle.loads(pickle.dumps(A & ~Requirement("b", 2))) == A & ~Requirement("b", 2)


def test_a_requirement_taken_as_one_is_itself():
    assert as_requirement(A) is A
    assert as_requirement("a", 2) == Requirement("a", 2)
    assert as_requirement(A, 2) == Requirement("a", 2)


@pytest.mark.parametrize("requirement", [A & B, ~A, Requirement("a", 1)])
def test_a_quantity_beside_a_requirement_that_states_its_own_is_refused(requirement):
    with pytest.raises(ValueError, match="inside the Requirement"):
        as_requirement(requirement, 2)


@pytest.mark.parametrize(
    ("requirement", "reasons", "answer"),
    [
        (A & B, {"a": "allowed", "b": "expired"}, ("b", "expired")),
        (A & B, {"a": "expired", "b": "draft"}, ("a", "expired")),
        (A & B, {"a": "unavailable", "b": "expired"}, ("b", "expired")),
        (A & B, {"a": "allowed", "b": "rejected"}, ("b", "rejected")),
        (A & B, {"a": "allowed", "b": "allowed"}, ("a", "allowed")),
        (A & B, {"a": "allowed", "b": "overage"}, ("b", "overage")),
        (A | B, {"a": "expired", "b": "allowed"}, ("b", "allowed")),
        (A | B, {"a": "unavailable", "b": "allowed"}, ("b", "allowed")),
        (A | B, {"a": "expired", "b": "unavailable"}, ("b", "unavailable")),
        (A | B, {"a": "not_entitled", "b": "insufficient_quantity"}, ("b", "insufficient_quantity")),
        (A | B, {"a": "expired", "b": "expired"}, ("a", "expired")),
        (~A, {"a": "allowed"}, ("a", "not_entitled")),
        (~A, {"a": "overage"}, ("a", "not_entitled")),
        (~A, {"a": "expired"}, ("a", "allowed")),
        (~A, {"a": "unavailable"}, ("a", "unavailable")),
        (~~A, {"a": "allowed"}, ("a", "allowed")),
        (A & ~B, {"a": "allowed", "b": "allowed"}, ("b", "not_entitled")),
        (~(A | B), {"a": "expired", "b": "draft"}, ("a", "allowed")),
    ],
)
def test_the_leaf_that_decided_is_told(requirement, reasons, answer):
    assert told(requirement, **reasons) == answer


@pytest.mark.parametrize("reason", ["no_customer", "invalid_customer", "customer_not_found"])
def test_not_to_be_entitled_is_no_merit_of_somebody_unknown(reason):
    assert told(~A, a=reason) == ("a", reason)


def test_a_negated_decision_keeps_the_customer():
    decision = (~A).judge(lambda leaf: Decision.of(Reason.EXPIRED, leaf.entitlement, customer_id="c"))

    assert decision == Decision.of(Reason.ALLOWED, "a", customer_id="c")
