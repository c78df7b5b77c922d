from datetime import timedelta

import pytest

from entitlement_gate.domain.decisions import Reason
from entitlement_gate.domain.grants import EntitlementType, Snapshot
from entitlement_gate.domain.requirements import Requirement
from entitlement_gate.domain.rule import Terms, canonical_uuid, decide, rows_named
from tests.domain.conftest import CUSTOMER, ENTITLEMENT, NOW, a_feature, a_grant, judged

OTHER = "aaaaaaaa-0000-4000-8000-000000000102"
SECOND = timedelta(seconds=1)


def test_a_live_grant_allows():
    decision = judged([a_grant(quantity=20, reported_remaining=10, used=10, units="people")], quantity=10)

    assert decision
    assert decision.reason is Reason.ALLOWED
    assert (decision.limit, decision.used, decision.remaining) == (20, 10, 10)
    assert (decision.requested, decision.units, decision.grants) == (10, "people", ("1",))
    assert (decision.customer_id, decision.entitlement) == (CUSTOMER, "seats")


def test_an_expired_grant_denies():
    assert judged([a_grant(expires_at=NOW - SECOND)]).reason is Reason.EXPIRED


def test_a_grant_ends_at_its_expiry():
    assert judged([a_grant(expires_at=NOW)]).reason is Reason.EXPIRED
    assert judged([a_grant(expires_at=NOW + timedelta(microseconds=1))])


def test_a_grant_starts_at_its_start():
    assert judged([a_grant(active_from=NOW)])
    assert judged([a_grant(active_from=NOW + timedelta(microseconds=1))]).reason is Reason.NOT_STARTED


def test_rows_are_judged_again_at_every_instant():
    grants = [a_grant(active_from=NOW, expires_at=NOW + SECOND)]

    assert [str(judged(grants, now=NOW + i * SECOND).reason) for i in (-1, 0, 1)] == [
        "not_started",
        "allowed",
        "expired",
    ]


@pytest.mark.parametrize(
    ("status", "reason"),
    [("draft", "draft"), ("voided", "voided"), ("expired", "expired"), ("paused", "inactive"), ("", "inactive")],
)
def test_only_an_active_status_is_live(status, reason):
    assert judged([a_grant(status=status)]).reason == reason


def test_without_a_status_the_dates_speak():
    assert judged([a_grant(status=None)])
    assert judged([a_grant(status=None, expires_at=NOW)]).reason is Reason.EXPIRED


def test_a_customer_that_billing_does_not_know_is_told_so():
    decision = decide(Snapshot(CUSTOMER, (), 0.0, is_found=False), Requirement("seats", 2), NOW, Terms())

    assert (decision.reason, decision.requested) == (Reason.CUSTOMER_NOT_FOUND, 2)


def test_no_row_of_the_name_is_not_entitled():
    assert judged([a_grant(name="Seats")]).reason is Reason.NOT_ENTITLED
    assert judged([]).reason is Reason.NOT_ENTITLED


def test_aliases_stand_for_names_and_ids():
    assert judged([a_grant(name="Team Seats")], aliases={"seats": "Team Seats"}).entitlement == "seats"
    assert judged([a_grant(name="Team Seats")], aliases={"seats": ENTITLEMENT.upper()})
    assert judged([a_grant()], aliases={"seats": "Team Seats"}).reason is Reason.NOT_ENTITLED


def test_an_id_is_found_without_case_and_before_a_name():
    by_id, by_name = a_grant("1"), a_grant("2", name=ENTITLEMENT, entitlement_id=OTHER)

    assert rows_named(Snapshot(CUSTOMER, (by_id, by_name), 0.0), ENTITLEMENT.upper(), Terms()) == [by_id]
    assert rows_named(Snapshot(CUSTOMER, (by_name,), 0.0), ENTITLEMENT, Terms()) == [by_name]


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        (OTHER, OTHER),
        (OTHER.upper(), OTHER),
        (OTHER.replace("-", ""), None),
        (f"{{{OTHER}}}", None),
        (f" {OTHER}", None),
        (f"{OTHER}\n", None),
        (OTHER.replace("a", "g"), None),
        (OTHER.replace("1", "\u0661"), None),
        ("", None),
    ],
)
def test_only_hyphenated_text_is_a_uuid(text, canonical):
    assert canonical_uuid(text) == canonical


def test_any_live_feature_allows_unless_it_is_switched_off():
    assert judged([a_feature()])
    assert judged([a_feature(is_disabled=True)]).reason is Reason.FEATURE_DISABLED
    assert judged([a_feature("1", is_disabled=True), a_feature("2")]).grants == ("2",)


def test_a_feature_has_no_quantity():
    assert judged([a_feature()], quantity=1).reason is Reason.TYPE_MISMATCH
    assert judged([a_feature(status="draft")], quantity=1).reason is Reason.TYPE_MISMATCH


def test_with_a_quantity_only_metered_rows_are_looked_at():
    assert (
        judged([a_feature("1"), a_grant("2", reported_remaining=0)], quantity=1).reason is Reason.INSUFFICIENT_QUANTITY
    )
    assert judged([a_feature("1"), a_grant("2", reported_remaining=0)])


def test_a_broken_metered_row_does_not_count_as_metered():
    assert judged([a_feature("1"), a_grant("2", is_malformed=True)], quantity=1).reason is Reason.TYPE_MISMATCH


@pytest.mark.parametrize("remaining", [-1, 0])
@pytest.mark.parametrize("quantity", [None, 1])
def test_nothing_left_is_insufficient(remaining, quantity):
    assert judged([a_grant(reported_remaining=remaining)], quantity=quantity).reason is Reason.INSUFFICIENT_QUANTITY


def test_credits_run_short_as_credits():
    grants = [a_grant(type=EntitlementType.CREDITS, reported_remaining=1)]

    assert judged(grants, quantity=2).reason is Reason.INSUFFICIENT_CREDITS
    assert judged(grants, quantity=1).type is EntitlementType.CREDITS


def test_live_rows_of_one_id_are_summed_with_their_signs():
    grants = [a_grant("1", reported_remaining=10), a_grant("2", reported_remaining=-4), a_grant("3", expires_at=NOW)]

    assert judged(grants, quantity=6).remaining == 6
    assert judged(grants, quantity=7).reason is Reason.INSUFFICIENT_QUANTITY


def test_rows_of_different_ids_are_never_added():
    grants = [a_grant("1", reported_remaining=3), a_grant("2", entitlement_id=OTHER, reported_remaining=5)]

    assert judged(grants, quantity=5).grants == ("2",)
    decision = judged(grants, quantity=6)
    assert (decision.reason, decision.remaining, decision.grants) == (Reason.INSUFFICIENT_QUANTITY, 5, ("2",))


def test_rows_of_different_ids_are_not_added_for_display_either():
    grants = [a_grant(i, entitlement_id=e, quantity=5, expires_at=NOW) for i, e in (("1", ENTITLEMENT), ("2", OTHER))]

    decision = judged(grants)
    assert (decision.reason, decision.limit, decision.grants) == (Reason.EXPIRED, 5, ("1",))


def test_rows_without_an_entitlement_id_stand_alone():
    grants = [a_grant(str(i), entitlement_id=None, reported_remaining=3) for i in range(3)]

    assert judged(grants, quantity=3)
    assert not judged(grants, quantity=4)


def test_a_balance_that_is_not_known_denies_or_is_unlimited_by_setting():
    grants = [a_grant(quantity=None)]

    assert judged(grants).reason is Reason.QUANTITY_UNKNOWN
    decision = judged(grants, quantity=5, null_quantity="unlimited")
    assert (decision.reason, decision.unlimited, decision.remaining) == (Reason.ALLOWED, True, None)


def test_unlimited_is_the_most_that_can_be_left():
    grants = [a_grant("1", reported_remaining=50), a_grant("2", entitlement_id=OTHER, quantity=None)]

    assert judged(grants, quantity=5, null_quantity="unlimited").unlimited


def test_a_null_type_without_a_number_is_never_unlimited():
    grants = [a_grant(type=None, quantity=None)]

    assert judged(grants, null_quantity="unlimited").reason is Reason.TYPE_UNKNOWN
    assert judged(grants, quantity=1, null_quantity="unlimited").reason is Reason.QUANTITY_UNKNOWN


def test_overage_is_allowed_by_setting():
    decision = judged([a_grant(reported_remaining=1)], quantity=5, on_exhausted="allow")

    assert (bool(decision), decision.reason, decision.remaining) == (True, Reason.OVERAGE, 1)


def test_enough_elsewhere_is_told_before_overage():
    grants = [a_grant("1", reported_remaining=1), a_grant("2", entitlement_id=OTHER)]

    assert judged(grants, quantity=5, on_exhausted="allow").reason is Reason.ALLOWED


def test_overage_is_for_balances_alone():
    assert not judged([a_grant(expires_at=NOW)], on_exhausted="allow")
    assert not judged([a_grant(quantity=None)], on_exhausted="allow")


@pytest.mark.parametrize("grant_type", ["access", ""])
def test_an_unknown_type_never_allows(grant_type):
    assert judged([a_grant(type=grant_type)]).reason is Reason.TYPE_UNKNOWN
    assert judged([a_grant(type=grant_type)], quantity=1, on_exhausted="allow").reason is Reason.TYPE_UNKNOWN


def test_the_closest_refusal_is_told_whatever_the_order():
    grants = [
        a_feature("3", is_disabled=True),
        a_feature("4", type="access"),
        a_feature("5", active_from=NOW + SECOND),
        a_feature("6", expires_at=NOW),
        a_feature("7", status="draft"),
        a_feature("8", status="paused"),
        a_feature("9", status="voided"),
        a_feature("10", is_malformed=True),
    ]
    told = [str(judged(grants[i:]).reason) for i in range(len(grants))]

    assert told == [
        *("feature_disabled", "type_unknown", "not_started", "expired", "draft", "inactive", "voided", "malformed")
    ]
    assert [str(judged(grants[i:][::-1]).reason) for i in range(len(grants))] == told


def test_the_decision_names_type_units_and_dates_of_the_rows_that_decided():
    grants = [
        a_grant("b", units="seats", active_from=NOW - SECOND, expires_at=NOW + SECOND),
        a_grant("a", units="people", active_from=NOW - 2 * SECOND, expires_at=NOW + 2 * SECOND),
    ]
    decision = judged(grants)

    assert (decision.type, decision.units, decision.grants) == (EntitlementType.QUANTITY, "people", ("a", "b"))
    assert (decision.active_from, decision.expires_at) == (NOW - 2 * SECOND, NOW + 2 * SECOND)
    assert decision.limit is decision.used is None


def test_one_row_without_a_date_makes_the_date_open():
    decision = judged([a_grant("1", active_from=NOW, expires_at=NOW + SECOND), a_grant("2")])

    assert (decision.active_from, decision.expires_at) == (None, None)


def test_rows_of_two_known_types_have_no_type_in_common():
    grants = [a_grant("1"), a_grant("2", type=EntitlementType.CREDITS)]

    assert judged(grants).type is None
    assert judged(grants, quantity=100).reason is Reason.INSUFFICIENT_QUANTITY


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ("allow", "allow"),
        ({"seats": "allow"}, "allow"),
        ({"Team Seats": "allow"}, "allow"),
        ({"*": "allow"}, "allow"),
        ({"seats": "deny", "*": "allow"}, "deny"),
        ({"other": "allow"}, "deny"),
        ({}, "deny"),
    ],
)
def test_a_setting_is_one_word_or_a_word_by_name(setting, word):
    assert Terms(aliases={"seats": "Team Seats"}).word_for(setting, "seats") == word


@pytest.mark.parametrize("asked", ["seats", "team", ENTITLEMENT])
def test_a_word_for_the_name_in_billing_counts_whichever_way_is_asked(asked):
    aliases = {"team": ENTITLEMENT}
    none_left = [a_grant(reported_remaining=0)]
    unsaid = [a_grant(reported_remaining=None)]
    unsaid_terms = {"aliases": aliases, "null_quantity": {"seats": "unlimited"}}

    told = judged(none_left, asked, 1, aliases=aliases, on_exhausted={"seats": "deny", "*": "allow"})
    assert told.reason is Reason.INSUFFICIENT_QUANTITY
    assert judged(none_left, asked, 1, aliases=aliases, on_exhausted={"seats": "allow"}).reason is Reason.OVERAGE
    assert judged(unsaid, asked, 1, **unsaid_terms).unlimited


def test_the_word_for_what_is_asked_goes_before_the_word_for_the_name_in_billing():
    terms = {"aliases": {"team": "seats"}, "on_exhausted": {"team": "allow", "seats": "deny"}}
    none_left = [a_grant(reported_remaining=0)]

    assert [judged(none_left, asked, 1, **terms).reason for asked in ("team", "seats")] == [
        Reason.OVERAGE,
        Reason.INSUFFICIENT_QUANTITY,
    ]


def test_a_row_that_cannot_be_read_and_has_no_id_is_told_without_one():
    decision = judged([a_grant("", is_malformed=True)])
    assert (decision.reason, decision.grants) == (Reason.MALFORMED, ())
