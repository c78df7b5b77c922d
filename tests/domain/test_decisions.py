import copy
import dataclasses
import json
import pickle
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from entitlement_gate.domain.decisions import Decision, Outcome, Reason, decide_by, rows_behind
from entitlement_gate.domain.grants import EntitlementType, Grant

FULL = {
    "customer_id": "11111111-1111-4111-8111-111111111111",
    "type": EntitlementType.QUANTITY,
    "units": "people",
    "requested": Decimal(3),
    "limit": Decimal("1e3"),
    "used": Decimal("0.10"),
    "remaining": Decimal("999.90"),
    "active_from": datetime(2026, 1, 1, tzinfo=UTC),
    "grants": ("1", "2"),
}
OUTCOMES = {
    Outcome.ALLOWED: "allowed overage override",
    Outcome.DENIED: "no_customer invalid_customer customer_not_found not_entitled not_started expired draft "
    "voided inactive insufficient_quantity insufficient_credits "
    "quantity_unknown type_unknown type_mismatch feature_disabled malformed",
    Outcome.UNKNOWN: "unavailable rejected malformed_response",
}


@pytest.mark.parametrize(("outcome", "reasons"), OUTCOMES.items())
def test_every_reason_has_the_outcome_of_the_table(outcome, reasons):
    assert {str(reason) for reason in Reason if reason.outcome is outcome} == set(reasons.split())


@pytest.mark.parametrize("reason", Reason)
def test_only_an_allowing_reason_makes_a_truthy_decision(reason):
    decision = Decision.of(reason, "seats")

    assert decision.allowed is bool(decision) is (reason.outcome is Outcome.ALLOWED)
    assert decision.outcome is reason.outcome
    assert decision.reason == reason.value


def test_a_decision_is_immutable_and_slotted():
    decision = Decision.of(Reason.ALLOWED, "seats", **FULL)
    before = decision.as_dict()

    for field in dataclasses.fields(decision):
        with pytest.raises(dataclasses.FrozenInstanceError, match=r"dataclasses\.replace\(\)"):
            setattr(decision, field.name, None)
        with pytest.raises(dataclasses.FrozenInstanceError):
            delattr(decision, field.name)
    with pytest.raises(AttributeError):
        decision.note = "one more"
    assert decision.as_dict() == before
    assert not hasattr(decision, "__dict__")


def test_a_served_decision_differs_in_source_and_age_alone():
    decision = Decision.of(Reason.ALLOWED, "seats", **FULL)
    served = decision.served("stale", 12.5)

    assert served == dataclasses.replace(decision, source="stale", age=12.5)
    assert hash(served) == hash(dataclasses.replace(decision, source="stale", age=12.5))
    assert repr(served) == repr(dataclasses.replace(decision, source="stale", age=12.5))
    assert (decision.source, decision.age) == ("live", None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        served.limit = None


def test_a_served_decision_can_be_served_again_replaced_copied_and_pickled():
    decision = Decision.of(Reason.ALLOWED, "seats", **FULL)
    served = decision.served("cache", 1.0).served("stale", 2.0)

    assert served == dataclasses.replace(decision, source="stale", age=2.0)
    assert dataclasses.replace(served, shadow=True).units == "people"
    assert copy.deepcopy(served) == served
    assert copy.copy(served) == served
    assert pickle.loads(pickle.dumps(served)) == served


@pytest.mark.parametrize(
    "decision", [Decision.of(Reason.ALLOWED, "a"), Decision.of(Reason.ALLOWED, "a").served("live", 0.0)]
)
def test_what_is_no_field_is_an_attribute_error(decision):
    with pytest.raises(AttributeError, match="'Decision' object has no attribute 'quota'"):
        _ = decision.quota


def test_a_decision_is_the_same_however_it_is_made():
    made = Decision(allowed=True, outcome=Outcome.ALLOWED, reason=Reason.ALLOWED, entitlement="seats", **FULL)

    assert made == Decision.of(Reason.ALLOWED, "seats", **FULL)
    assert made.served("cache", 1.0) == Decision.of(Reason.ALLOWED, "seats", **FULL).served("cache", 1.0)
    assert Decision.of(Reason.EXPIRED, "a") == dataclasses.replace(Decision.of(Reason.EXPIRED, "a"))
    with pytest.raises(TypeError, match="unexpected keyword argument 'quota'"):
        Decision.of(Reason.ALLOWED, "seats", quota=1)
    with pytest.raises(TypeError, match="multiple values for keyword argument"):
        Decision.of(Reason.EXPIRED, "seats", allowed=True, outcome=Outcome.ALLOWED)


def test_a_decision_equals_no_other_thing():
    assert Decision.of(Reason.ALLOWED, "seats") != "seats"


def test_the_fields_of_a_decision_are_those_of_a_dataclass():
    names = [field.name for field in dataclasses.fields(Decision)]

    assert list(Decision.of(Reason.ALLOWED, "seats").as_dict()) == names
    assert dataclasses.asdict(Decision.of(Reason.ALLOWED, "seats", **FULL)).keys() == set(names)


def test_what_rows_say_is_what_may_be_stated():
    grants = (
        Grant(
            id="b", name="seats", type=EntitlementType.QUANTITY, units="people", quantity=Decimal(5), used=Decimal(2)
        ),
        Grant(
            id="a",
            name="seats",
            type=EntitlementType.QUANTITY,
            quantity=Decimal(3),
            expires_at=datetime(2026, 2, 1, tzinfo=UTC),
        ),
    )
    fields = {"customer_id": "c", "remaining": Decimal(6)}
    by_rows = decide_by(Reason.ALLOWED, "seats", rows=grants, **fields)
    stated = {"type": EntitlementType.QUANTITY, "units": "people", "limit": Decimal(8), "used": Decimal(2)}

    assert by_rows == Decision.of(Reason.ALLOWED, "seats", grants=("a", "b"), **stated, **fields)
    assert hash(by_rows) == hash(pickle.loads(pickle.dumps(by_rows)))
    assert rows_behind(by_rows) == grants
    assert rows_behind(pickle.loads(pickle.dumps(by_rows))) == ()


def test_as_dict_holds_plain_json_types_and_exact_numbers():
    told = Decision.of(Reason.ALLOWED, "seats", **FULL).served("cache", 1.5).as_dict()

    assert json.loads(json.dumps(told)) == {
        "allowed": True,
        "outcome": "allowed",
        "reason": "allowed",
        "entitlement": "seats",
        "customer_id": FULL["customer_id"],
        "type": "Quantity",
        "units": "people",
        "requested": "3",
        "limit": "1000",
        "used": "0.10",
        "remaining": "999.90",
        "unlimited": False,
        "active_from": "2026-01-01T00:00:00+00:00",
        "expires_at": None,
        "grants": ["1", "2"],
        "source": "cache",
        "age": 1.5,
        "shadow": False,
    }
    assert all(type(value) in {bool, str, float, list, type(None)} for value in told.values())
