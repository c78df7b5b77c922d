from __future__ import annotations

import threading
from decimal import Decimal
from types import ModuleType, SimpleNamespace
from uuid import UUID

import pytest
from django.http import HttpResponse
from django.template import engines
from django.test import Client, RequestFactory, override_settings
from django.urls import path

import entitlement_gate as eg
from entitlement_gate import Decision, Outcome, Reason, Requirement
from entitlement_gate.api import _Default, default_gate, make_gate
from entitlement_gate.engine.gate import EntitlementGate
from entitlement_gate.request_entitlements import entitlements_of
from entitlement_gate.signals import entitlement_denied
from entitlement_gate.testing import FakeSource, override_entitlements, overrides
from tests.customers import FREE, PRO, SETTINGS, STRANGER
from tests.testing.conftest import SSO_ID


def settings_with(**more):
    return override_settings(ENTITLEMENT_GATE={**SETTINGS, **more})


def request_of(customer=FREE):
    return RequestFactory().get("/", headers={"X-Customer": customer} if customer else {})


def check(*asked):
    return eg.check_entitlement(FREE, *asked)


def test_a_check_outside_asks_billing():
    assert check("sso").source == "live"


def test_true_allows_whatever_quantity_is_asked_for():
    with override_entitlements({"sso": True}):
        assert check("sso") == Decision.of(Reason.OVERRIDE, "sso", customer_id=FREE, source="override")
        assert check("sso", 1_000).reason is Reason.OVERRIDE


def test_false_and_a_name_that_nobody_mentions_are_not_entitled():
    with override_entitlements({"sso": False}):
        for name in ("sso", "reports"):
            told = Decision.of(Reason.NOT_ENTITLED, name, customer_id=FREE, source="override")
            assert check(name) == told


def test_using_up_is_granted_and_refused_as_the_override_says_and_takes_nothing_away():
    with override_entitlements({"seats": 5}):
        for _ in range(2):
            told = eg.consume_entitlement(FREE, "seats", 5)
            assert (told.reason, told.source, told.remaining) == ("override", "override", 5)
        with pytest.raises(eg.EntitlementDenied, match="insufficient_quantity"):
            eg.consume_entitlement(FREE, "seats", 6)
        with pytest.raises(eg.EntitlementDenied):
            eg.reserve_entitlement(FREE, "sso")


def test_a_reservation_under_an_override_is_used_as_any_other():
    with override_entitlements({"seats": 5}):
        with eg.reserve_entitlement(FREE, "seats", 5, key="order 7") as held:
            held.extend(60)
            held.commit(4)
        assert (held.key, held.decision.source, held.quantity) == ("order 7", "override", None)
        held.release()


async def test_using_up_awaited_is_overridden_too():
    with override_entitlements({"seats": 5}):
        async with await eg.areserve_entitlement(FREE, "seats", 5) as held:
            await held.acommit()
        assert (await eg.aconsume_entitlement(FREE, "seats")).source == "override"
    with override_entitlements({"seats": "unavailable"}), pytest.raises(eg.EntitlementUnavailable):
        await eg.aconsume_entitlement(FREE, "seats")


@pytest.mark.parametrize("method", ["get", "post"])
def test_a_gate_that_uses_up_is_overridden(method):
    @eg.requires_entitlement("seats", 3, consume=True)
    def view(request):
        return HttpResponse()

    request = getattr(RequestFactory(), method)("/", headers={"X-Customer": FREE})
    with override_entitlements({"seats": 3}):
        assert [view(request).status_code for _ in range(2)] == [200, 200]
    with override_entitlements({"seats": 2}):
        assert view(request).status_code == 402


@pytest.mark.parametrize(
    ("quantity", "reason"), [(None, "override"), (5, "override"), ("5.000001", "insufficient_quantity")]
)
def test_a_number_is_a_balance_compared_exactly(quantity, reason):
    with override_entitlements({"seats": 5}):
        told = check("seats", quantity)
    assert (told.reason, told.allowed) == (reason, reason == "override")
    assert (told.type, told.limit, told.used, told.remaining) == ("Quantity", 5, 0, 5)
    assert told.requested == (quantity and Decimal(quantity))


def test_nothing_left_denies_without_a_quantity_too():
    with override_entitlements({"seats": 0}):
        assert check("seats").reason is Reason.INSUFFICIENT_QUANTITY


def test_a_decision_is_answered_as_it_is_but_for_its_source():
    with override_entitlements({"sso": Decision.of(Reason.EXPIRED, "x", units="seats")}):
        assert check("sso") == Decision.of(Reason.EXPIRED, "sso", customer_id=FREE, units="seats", source="override")


@pytest.mark.parametrize(("policy", "allowed"), [("deny", False), ("allow", True), ({"sso": "allow"}, True)])
@pytest.mark.parametrize("said", ["unavailable", Decision.of(Reason.REJECTED, "sso")])
def test_an_outage_goes_by_the_failure_policy(policy, allowed, said):
    with settings_with(ON_UNAVAILABLE=policy), override_entitlements({"sso": said}):
        told = check("sso")
        assert (told.allowed, told.outcome, told.source) == (allowed, Outcome.UNKNOWN, "override")
        assert eg.has_entitlement(FREE, "sso") is allowed


def test_a_decision_that_allows_what_is_unknown_stands():
    told = Decision(allowed=True, outcome=Outcome.UNKNOWN, reason=Reason.UNAVAILABLE, entitlement="sso")
    with override_entitlements({"sso": told}):
        assert check("sso").allowed


def test_the_innermost_that_names_an_entitlement_answers():
    with override_entitlements({"sso": True, "seats": 1}):
        with override_entitlements({"sso": False}):
            assert (bool(check("sso")), bool(check("seats"))) == (False, True)
        assert check("sso")


def test_the_innermost_counts_whether_it_is_for_a_customer_or_for_all():
    with override_entitlements({"sso": False}, customer=UUID(FREE)), override_entitlements({"sso": True}):
        assert check("sso")
    with override_entitlements({"sso": True}), override_entitlements({"sso": False}, customer=FREE.upper()):
        assert not check("sso")
        assert eg.has_entitlement(PRO, "sso")


def test_an_override_for_one_customer_leaves_the_others_with_nothing():
    with override_entitlements({"sso": True}, customer=FREE):
        assert eg.check_entitlement(PRO, "sso").reason is Reason.NOT_ENTITLED


@pytest.mark.parametrize(
    ("named", "asked"),
    [
        ("api_calls", "API Calls"),
        ("API Calls", "api_calls"),
        ("api_calls", "api_calls"),
        ("sso_id", SSO_ID),
        (SSO_ID.lower(), "sso_id"),
        (SSO_ID, SSO_ID.lower()),
    ],
)
def test_aliases_and_entitlement_ids_are_resolved_on_both_sides(named, asked):
    with override_entitlements({named: True}):
        assert check(asked).entitlement == asked
        assert check(asked)


@pytest.mark.parametrize(
    ("requirement", "reason"),
    [
        (Requirement("sso") & Requirement("seats", 5), "override"),
        (Requirement("sso") & Requirement("seats", 6), "insufficient_quantity"),
        (Requirement("sso") | Requirement("nothing"), "override"),
        (Requirement("sso") & ~Requirement("nothing"), "override"),
        (~Requirement("sso"), "not_entitled"),
        (Requirement("down") | Requirement("nothing"), "unavailable"),
        (Requirement("down") | Requirement("sso"), "override"),
    ],
)
def test_combined_requirements_are_judged_leaf_by_leaf(requirement, reason):
    with override_entitlements({"sso": True, "seats": 5, "down": "unavailable"}):
        told = check(requirement)
    assert (told.source, told.reason) == ("override", reason)


@pytest.mark.parametrize(("customer", "reason"), [(None, "no_customer"), ("anna", "invalid_customer")])
def test_customers_are_still_resolved(customer, reason):
    with override_entitlements({"sso": True}):
        assert eg.check_entitlement(request_of(customer), "sso").reason == reason
        assert eg.get_entitlements(request_of(customer)).check("sso").reason == reason
        assert entitlements_of(request_of(customer)).check("sso").reason == reason


def test_a_quantity_that_cannot_be_is_refused_as_ever():
    with override_entitlements({"seats": 5}), pytest.raises(ValueError, match="a quantity is"):
        check("seats", 0)


def test_shadow_mode_applies():
    with settings_with(SHADOW={"sso"}), override_entitlements({}):
        told = check("sso")
        assert (told.allowed, told.shadow, told.reason, told.source) == (True, True, "not_entitled", "override")


def test_every_function_answers():
    with override_entitlements({"sso": True, "seats": 5}):
        assert eg.has_entitlement(FREE, "seats", 5, refresh=True)
        assert eg.require_entitlement(FREE, "sso").source == "override"
        with pytest.raises(eg.EntitlementDenied):
            eg.require_entitlement(FREE, "reports")
        eg.invalidate_entitlements(FREE)


async def test_every_async_function_answers():
    with override_entitlements({"sso": True, "seats": 5}):
        assert await eg.ahas_entitlement(FREE, "seats", 5)
        assert (await eg.acheck_entitlement(FREE, "seats", 6)).reason is Reason.INSUFFICIENT_QUANTITY
        assert await eg.arequire_entitlement(FREE, "sso")
        assert list(await eg.aget_entitlements(FREE)) == ["seats", "sso"]
        await eg.ainvalidate_entitlements(FREE)


def test_the_mapping_shows_what_is_there():
    said = {"api_calls": 5, "sso_id": True, "old": Decision.of(Reason.EXPIRED, "old"), "gone": False, "other": True}
    with override_entitlements(said), override_entitlements({"other": False}, customer=PRO):
        known = eg.get_entitlements(FREE)
        assert (list(known), len(known)) == (["API Calls", "old", "other", "sso_id"], 4)
        assert (known["api_calls"].remaining, bool(known["old"]), known["sso_id"].grants) == (5, False, ())
        assert "gone" not in known
        assert (known.customer_id, repr(known)) == (FREE, f"<CustomerEntitlements of {FREE}>")
        assert (known.has("other"), known.require("sso_id").allowed) == (True, True)
        assert "other" not in eg.get_entitlements(PRO)


def test_reading_an_outage_from_the_mapping_raises():
    with override_entitlements({"sso": "unavailable"}):
        known = eg.get_entitlements(FREE)
        assert list(known) == ["sso"]
        with pytest.raises(eg.EntitlementUnavailable):
            known["sso"]


def test_a_mapping_kept_beyond_its_override_says_what_it_said():
    with override_entitlements({"sso": True}):
        known = eg.get_entitlements(FREE)
        with override_entitlements({"sso": False}):
            assert not known.has("sso")
    assert known.has("sso")
    assert list(known) == ["sso"]


def test_a_request_that_asked_before_is_answered_by_the_override():
    request = request_of()
    entitlements = entitlements_of(request)
    assert not entitlements.has("sso")
    with override_entitlements({"sso": True}):
        assert entitlements.has("sso")


def test_an_override_of_the_settings_inside_works_and_leaves_nothing():
    with override_entitlements({"calls": 5}):
        with settings_with(ALIASES={"API Calls": "calls"}):
            assert check("API Calls")
        assert not check("API Calls")
    assert check("sso").source != "override"


def test_the_gate_from_before_is_put_back_with_what_it_knows():
    before = default_gate()
    with override_entitlements({"sso": True}):
        assert default_gate() is not before
    assert default_gate() is before


def test_a_gate_whose_settings_changed_meanwhile_is_not_put_back():
    before = default_gate()
    with override_entitlements({"sso": True}), settings_with(TTL=5):
        assert check("sso")
    assert default_gate() is not before
    assert _Default.make is make_gate


def test_settings_that_change_around_and_across_an_override_leave_nothing():
    changed = settings_with(TTL=5)
    with override_entitlements({"sso": True}):
        changed.enable()
        assert check("sso")
    try:
        assert check("sso").source == "live"
    finally:
        changed.disable()


def test_whatever_happens_inside_the_override_ends():
    with pytest.raises(LookupError), override_entitlements({"sso": True}):
        raise LookupError
    assert check("sso").source != "override"


def test_overrides_that_end_in_another_order_end():
    first, second = override_entitlements({"sso": True}), override_entitlements({"seats": 5})
    with first:
        second.__enter__()
    assert (bool(check("sso")), bool(check("seats"))) == (False, True)
    second.__exit__()
    assert check("seats").source != "override"


def test_one_override_may_be_entered_twice():
    override = override_entitlements({"sso": True})
    with override, override:
        assert check("sso")
    assert check("sso").source != "override"


def test_what_was_written_is_copied():
    values = {"sso": True}
    with override_entitlements(values):
        values["sso"] = False
        assert check("sso")


def test_other_threads_are_reached():
    answers = []
    with override_entitlements({"sso": True}):
        thread = threading.Thread(target=lambda: answers.append(eg.has_entitlement(FREE, "sso")))
        thread.start()
        thread.join()
    assert answers == [True]


def test_threads_that_override_at_once_leave_nothing():
    @override_entitlements({"sso": True})
    def ask():
        assert check("sso")

    threads = [threading.Thread(target=lambda: [ask() for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert check("sso").source != "override"


def test_no_call_is_made_upstream():
    sandbox = default_gate().source._transport.sandbox
    with override_entitlements({"sso": True}):
        check("sso"), check("reports"), eg.get_entitlements(PRO)
    assert sandbox.request_count == 0


def test_the_gate_of_an_override_has_no_source_to_ask():
    with override_entitlements({}):
        gate = default_gate()
        assert repr(gate) == "<OverridingGate over override_entitlements>"
        with pytest.raises(AssertionError, match=FREE):
            gate.source.fetch(FREE)


def test_a_gate_of_your_own_is_left_alone():
    source = FakeSource()
    source.grant(FREE, "reports")
    with EntitlementGate(source) as gate, override_entitlements({"sso": True}):
        assert (gate.has(FREE, "sso"), gate.has(FREE, "reports")) == (False, True)


def test_signals_are_sent():
    heard = []

    def hear(decision, **_):
        heard.append(decision)

    entitlement_denied.connect(hear)
    try:
        with override_entitlements({}):
            check("sso")
    finally:
        entitlement_denied.disconnect(hear)
    assert [decision.source for decision in heard] == ["override"]


def test_without_an_override_nothing_is_in_the_way():
    with override_entitlements({"sso": True}):
        pass
    assert (type(default_gate()).__name__, _Default.make) == ("RequestGate", make_gate)


def test_an_override_says_what_it_is():
    assert repr(override_entitlements({"sso": True})) == "override_entitlements({'sso': True})"
    assert f"customer={STRANGER!r}" in repr(override_entitlements({}, STRANGER))


@eg.requires_entitlement("sso")
def decorated(request):
    return HttpResponse("in")


def templated(request):
    text = '{% load entitlements %}{% ifentitled "seats" 5 %}yes{% else %}no{% endifentitled %}'
    return HttpResponse(engines["django"].from_string(text).render(request=request))


def asking(request):
    return HttpResponse(str(request.entitlements["seats"].remaining))


urlconf = ModuleType("urlconf")
urlconf.urlpatterns = [
    path("decorated/", decorated),
    path("ruled/", lambda request: HttpResponse("in")),
    path("templated/", templated),
    path("asking/", asking),
]


@pytest.mark.parametrize(
    ("where", "granted", "refused"),
    [("decorated", "in", 403), ("ruled", "in", 403), ("templated", "yes", "no"), ("asking", "5", None)],
)
def test_views_rules_and_templates_are_reached(where, granted, refused):
    rules = [{"path": "^/ruled/", "requires": "sso"}]
    with settings_with(RULES=rules), override_settings(ROOT_URLCONF=urlconf):
        seen = SimpleNamespace(get=lambda: Client().get(f"/{where}/", headers={"X-Customer": FREE}))
        with override_entitlements({"sso": True, "seats": 5}):
            assert seen.get().content.decode() == granted
        if refused:
            with override_entitlements({"sso": False, "seats": 4}):
                answer = seen.get()
            assert refused in (answer.status_code, answer.content.decode())


class Strike(BaseException):
    pass


def strike(*_):
    raise Strike


@pytest.mark.parametrize("where", ["_remove_layer", "push_layer"])
def test_an_override_that_was_struck_as_it_began_or_ended_is_over(where, monkeypatch):
    original = getattr(overrides, where)

    def struck(layer):
        monkeypatch.undo()
        original(layer)
        raise Strike

    monkeypatch.setattr(overrides, where, struck)
    with pytest.raises(Strike), override_entitlements({"sso": True}):
        pass
    assert check("sso").source != "override"


def test_a_push_that_was_struck_half_way_leaves_the_gate_that_was_there(monkeypatch):
    check("sso")
    before = default_gate()

    class Layers(tuple):
        __slots__ = ()

        def __iter__(self):
            monkeypatch.undo()
            raise Strike

    monkeypatch.setattr(overrides._Swapped, "layers", Layers())
    with pytest.raises(Strike), override_entitlements({"sso": True}):
        pass
    assert default_gate() is before


def test_an_override_that_nobody_can_end_any_more_is_over():
    override = override_entitlements({"sso": True})
    override.__enter__()
    assert check("sso").source == "override"
    del override
    assert check("sso").source != "override"
