from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from entitlement_gate.domain.decisions import Decision, Reason
from entitlement_gate.domain.grants import EntitlementType, Grant, Snapshot
from entitlement_gate.domain.requirements import Requirement
from entitlement_gate.domain.rule import Terms, decide
from entitlement_gate.operators.explanation import (
    Facts,
    ask_did_you_mean,
    describe_reason,
    explain,
    find_nearest,
    format_day,
    format_number,
)

NOW = datetime(2026, 1, 15, tzinfo=UTC)
PAST, FUTURE = datetime(2025, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)


def explain_grants(*grants, quantity=None, overlooked=(), name="x", terms=None):
    asked, terms = Requirement(name, quantity), terms or Terms()
    decision = decide(Snapshot("", grants, 0.0), asked, NOW, terms)
    return explain(Facts(decision, grants, overlooked), asked, NOW, terms)


def row(identifier="1", name="x", **fields):
    if fields.get("type") in tuple(EntitlementType):
        fields["type"] = EntitlementType(fields["type"])
    return Grant(id=identifier, name=name, **fields)


def metered(left, identifier="1", **fields):
    return row(identifier, type="Quantity", quantity=Decimal(left), entitlement_id=fields.pop("of", "e"), **fields)


def test_a_row_is_explained_by_the_policy_of_its_name_in_billing():
    identifier = "30000000-0000-4000-8000-000000000001"
    terms = Terms(aliases={"calls": identifier}, null_quantity={"x": "unlimited"})
    explanation = explain_grants(row(type="Quantity", entitlement_id=identifier), name="calls", terms=terms)
    assert [(each.part, each.standing) for each in explanation.rows] == [("counted", "allowed")]


@pytest.mark.parametrize(
    ("grant", "reason", "why", "change"),
    [
        (row(type="Feature"), "allowed", "live", "Nothing: it is allowed."),
        (
            row(type="Feature", expires_at=FUTURE),
            "allowed",
            "live",
            "Nothing: it is allowed until 2027-01-01 00:00 UTC.",
        ),
        (metered(5), "allowed", "live, 5 left", "Nothing: it is allowed while more than 0 is left (now 5)."),
        (metered(0, units="c"), "insufficient_quantity", "live, 0 c left", "Grant more than 0 c more"),
        (metered(-2), "insufficient_quantity", "live, -2 left", "Grant more than 2 more"),
        (row(type="Quantity"), "quantity_unknown", "billing gives no number", "NULL_QUANTITY"),
        (
            row(type="Feature", is_disabled=True),
            "feature_disabled",
            "its option switches it off",
            "feature_option_value",
        ),
        (row(type="gizmo"), "type_unknown", "of the unknown type 'gizmo'", "Feature, Quantity or Credits"),
        (row(), "type_unknown", "has neither a type nor a number", "Feature, Quantity or Credits"),
        (row(active_from=FUTURE), "not_started", "starts 2027-01-01 00:00 UTC", "Wait until 2027-01-01 00:00 UTC"),
        (row(expires_at=PAST), "expired", "ended 2025-01-01 00:00 UTC", "Renew it"),
        (row(status="expired"), "expired", "it has ended", "Renew it"),
        (row(status="draft"), "draft", "it is a draft", "Confirm the draft"),
        (row(status="voided"), "voided", "it was voided", "Grant it anew"),
        (row(status="paused"), "inactive", "has the unknown status 'paused'", "status to active"),
        (row(is_malformed=True), "malformed", "its row could not be read", "Correct the row"),
    ],
)
def test_each_row_says_why_and_what_would_have_to_change(grant, reason, why, change):
    explanation = explain_grants(grant)
    (standing,) = explanation.rows
    assert explanation.decision.reason == reason
    assert standing.why == why
    assert change in explanation.change


def test_rows_that_count_are_told_from_the_one_that_came_closest():
    allowed = explain_grants(metered(5), metered(3, "2"), row("3", status="draft"))
    assert [standing.part for standing in allowed.rows] == ["counted", "counted", "none"]
    denied = explain_grants(row("1", expires_at=PAST), row("2", status="voided"))
    assert [standing.part for standing in denied.rows] == ["closest", "none"]


def test_another_entitlement_id_is_never_added():
    explanation = explain_grants(metered(3), metered(2, "2", of="other"), quantity=5)
    assert [standing.part for standing in explanation.rows] == ["counted", "none"]
    assert (
        explanation.rows[1].why == "live, 2 left; rows of another entitlement id came closer, and ids are never added"
    )
    assert "Grant at least 2 more" in explanation.change


def test_a_feature_has_no_quantity_beside_rows_that_have():
    explanation = explain_grants(metered(5), row("2", type="Feature"), quantity=2)
    assert [standing.standing for standing in explanation.rows] == ["allowed", "type_mismatch"]
    assert explain_grants(row(type="Feature"), quantity=2).change.startswith("Ask without a quantity")


def test_what_no_row_gives_asks_about_the_name():
    other = row(name="seats")
    explanation = explain_grants(other, name="seets")
    assert (explanation.near, explanation.hint) == (("seats",), "Did you mean 'seats'?")
    assert explanation.change == "Grant it to the customer in billing, or correct the name."
    assert explain_grants(name="seets").hint == ""


def test_a_row_that_the_filter_leaves_out_is_told_and_decides_what_would_have_to_change():
    explanation = explain_grants(overlooked=(row(status="draft"),))
    assert explanation.rows[0].why == "it is a draft; STATUS_FILTER does not ask for it"
    assert explanation.rows[0].part == "none"
    assert explanation.change == "Confirm the draft in billing."


def test_aliases_ids_and_settings_by_name_hold_for_each_row_too():
    terms = Terms({"code": "x"}, {"code": "allow"}, {"code": "unlimited"})
    assert explain_grants(metered(0), name="code", terms=terms).rows[0].standing == "overage"
    assert explain_grants(row(type="Quantity"), name="code", terms=terms).rows[0].why == "live"
    by_id = explain_grants(
        metered(5, of="a0000000-0000-4000-8000-000000000001"), name="A0000000-0000-4000-8000-000000000001"
    )
    assert by_id.rows[0].part == "counted"


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_meaning_and_a_change(reason):
    assert describe_reason(reason)
    decision = Decision.of(reason, "x")
    assert explain(Facts(decision), Requirement("x"), NOW, Terms()).change


def test_numbers_and_days_may_be_missing():
    assert (format_number(None), format_number(Decimal("1E+3"), "c"), format_day(None), format_day(NOW)) == (
        "",
        "1000 c",
        "",
        "2026-01-15",
    )


def test_a_typo_finds_what_was_meant():
    assert find_nearest("seets", ["seats", "sso"]) == ("seats",)
    assert find_nearest("api-calls", ["API Calls", "sso"]) == ("API Calls",)
    assert find_nearest("xyz", ["seats"]) == ()


def test_a_name_is_not_near_to_itself():
    assert find_nearest("seats", ["seats"]) == ()
    assert find_nearest("seats", ["seats", "Seats", "SEATS", "se ats", "s-eats"]) == ("SEATS", "Seats", "s-eats")


def test_the_question_names_what_is_near():
    assert ask_did_you_mean(()) == ""
    assert ask_did_you_mean(("a", "b")) == "Did you mean 'a' or 'b'?"
