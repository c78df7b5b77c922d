"""How a project tests its gates: what customers may is said, or given to them, and no billing is needed.

`python -m pytest example_project`
"""

import pytest
from django.test import TestCase

from entitlement_gate.testing import assert_gated, assert_not_gated, override_entitlements
from fieldnotes import jobs, prices
from fieldnotes.customers import CUSTOMERS, seed
from fieldnotes.models import Export, Profile

PRO = CUSTOMERS[1].id


@pytest.fixture
def user(db):
    seed()
    return Profile.objects.get(zenskar_customer_id=PRO).user


@pytest.fixture
def visitor(client, user):
    client.force_login(user)
    return client


# Say what customers may.


@pytest.mark.entitlements(reports=True)
def test_who_has_reports_sees_them(visitor):
    assert visitor.get("/reports/").status_code == 200


@pytest.mark.entitlements(reports=False)
def test_who_has_not_is_led_to_the_plans(visitor):
    page = visitor.get("/reports/")
    assert page.status_code == 403
    assert 'href="/plans/"' in page.text


@pytest.mark.parametrize(("value", "status"), [(100, 200), (99, 402), ("unavailable", 503)])
def test_an_export_needs_a_hundred_calls(visitor, value, status):
    with override_entitlements({"api_calls": value}):
        assert visitor.get("/export/").status_code == status


class DashboardTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        seed()

    def setUp(self):
        self.client.force_login(Profile.objects.get(zenskar_customer_id=PRO).user)

    @override_entitlements({"dashboards": True, "sso": True, "seats": 3})
    def test_it_shows_what_else_the_plan_includes(self):
        page = self.client.get("/dashboard/")
        self.assertContains(page, "Set it up")
        self.assertContains(page, "3 of 3 seats left")

    @override_entitlements({"dashboards": True})
    def test_it_leads_to_the_plans_for_the_rest(self):
        self.assertContains(self.client.get("/dashboard/"), "Not in your plan")


# Prove that a URL is gated, and by what.


@pytest.mark.parametrize(
    ("url", "requirement"),
    [("dashboard", prices.DASHBOARD), ("reports", prices.REPORTS), ("summary", prices.SUMMARY), ("sso", "sso")],
)
def test_pages_are_gated(visitor, url, requirement):
    assert_gated(visitor, url, requirement)


def test_the_plans_are_for_everybody(client, db):
    assert_not_gated(client, "plans", "reports")


# Go through the real gate, with a billing in the process.


def test_the_same_translation_is_counted_once(visitor, entitlements):
    entitlements.grant(PRO, "reports")
    entitlements.grant(PRO, "ai_credits", 12, type="Credits")
    pages = [visitor.post(f"/reports/{number}/translate/") for number in (99, 0, 0, 1, 2)]
    assert [page.status_code for page in pages] == [404, 200, 200, 200, 402]
    assert "7 credits left" in pages[2].text


def test_a_job_uses_up_what_it_needs_and_is_counted_once(user, entitlements):
    entitlements.grant(PRO, "API Calls", 150)
    export = Export.objects.create(user=user)
    jobs.write_export(export.pk)
    jobs.write_export(export.pk)  # as a queue may deliver it twice
    other = Export.objects.create(user=user)
    jobs.write_export(other.pk)
    export.refresh_from_db()
    other.refresh_from_db()
    assert (export.state, other.state) == ("done", "refused")
    assert other.outcome == "insufficient_quantity"


def test_a_job_waits_for_billing(user, entitlements):
    entitlements.fail()
    export = Export.objects.create(user=user)
    jobs.write_export(export.pk)
    export.refresh_from_db()
    assert export.state == "postponed"


def test_the_api_says_who_are_you_then_whether_you_may(client, user, entitlements):
    def search(**headers):
        return client.post("/api/search/", {"question": "barn"}, "application/json", headers=headers)

    token = f"Token {user.auth_token.key}"
    assert search().status_code == 401
    assert search(authorization=token).json()["code"] == "customer_not_found"
    entitlements.grant(PRO, "API Calls", 1)
    assert search(authorization=token).json() == {"notes": ["Barn 3: roof to be checked"]}
    refusal = search(authorization=token)
    assert (refusal.status_code, refusal.json()["code"]) == (402, "insufficient_quantity")
    entitlements.advance(7200)
    entitlements.fail()
    assert search(authorization=token).status_code == 503
    assert search().status_code == 401
