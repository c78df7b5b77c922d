"""What a gate around a view does where no view shape of another test leads."""

import pytest
from django.test import RequestFactory

from entitlement_gate import EntitlementDenied, Requirement, check_entitlement
from entitlement_gate.guard import Guard
from tests.customers import PRO, SETTINGS

EXPORTS = Guard(requirement=Requirement("exports", 2), consume=True, on_denied="raise")


@pytest.fixture
def request_of_pro(settings, entitlements):
    settings.ENTITLEMENT_GATE = SETTINGS
    entitlements.grant(PRO, "exports", 5)
    return RequestFactory().get("/", headers={"X-Customer": PRO})


def test_what_is_held_for_a_rule_is_held_once_until_it_is_settled(request_of_pro):
    hold = EXPORTS.hold(request_of_pro, "a rule")
    assert EXPORTS.hold(request_of_pro, "a rule") is None
    assert check_entitlement(PRO, "exports").remaining == 3
    hold.conclude(has_failed=True)
    assert check_entitlement(PRO, "exports").remaining == 5


def test_who_is_let_in_by_a_policy_alone_holds_nothing(request_of_pro, entitlements):
    entitlements.fail()
    lenient = Guard(requirement=Requirement("seats"), consume=True, on_unavailable="allow", on_denied="raise")
    stranger = RequestFactory().get("/", headers={"X-Customer": PRO.replace("2", "9")})
    assert lenient.hold(stranger, "a rule") is None


def test_who_has_not_so_much_left_is_refused_and_holds_nothing(request_of_pro):
    EXPORTS.hold(request_of_pro, "a rule")
    EXPORTS.hold(request_of_pro, "another rule")
    with pytest.raises(EntitlementDenied):
        EXPORTS.hold(request_of_pro, "a third")
    assert check_entitlement(PRO, "exports").remaining == 1
