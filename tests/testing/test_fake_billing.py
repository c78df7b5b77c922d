from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.test import override_settings

import entitlement_gate as eg
from entitlement_gate.api import _Default, default_gate, make_gate
from entitlement_gate.sandbox.scenario import KINDS, ScenarioError
from entitlement_gate.testing import FakeBilling, override_entitlements
from tests.customers import FREE, PRO, SETTINGS

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)


def check(*asked):
    return eg.check_entitlement(FREE, *asked)


def test_nobody_has_anything_at_first(entitlements):
    assert check("sso").reason == "customer_not_found"
    assert eg.check_entitlement(PRO, "reports").reason == "customer_not_found"


def test_a_grant_counts_at_once(entitlements):
    assert not check("sso")
    entitlements.grant(FREE, "sso")
    assert check("sso").source == "live"
    entitlements.grant(UUID(FREE), "seats", 5)
    assert check("seats", 5).remaining == 5


def test_rows_are_of_any_kind(entitlements):
    entitlements.grant(FREE, "credits", "2.5", type="Credits", units="tokens", expiry_at="+1d")
    assert (check("credits").type, check("credits").units) == ("Credits", "tokens")
    assert check("credits", 3).reason == "insufficient_credits"


def test_a_revoked_entitlement_is_gone_at_once(entitlements):
    entitlements.grant(FREE, "sso")
    assert check("sso")
    entitlements.revoke(FREE, "sso")
    assert check("sso").reason == "not_entitled"


def test_what_is_used_is_gone_at_once(entitlements):
    entitlements.grant(FREE, "seats", 5)
    assert check("seats", 5)
    entitlements.use(FREE, "seats", 2)
    assert (check("seats", 5).reason, check("seats").remaining) == ("insufficient_quantity", 3)
    entitlements.use(FREE, "seats")
    assert check("seats").remaining == 2


def test_what_expires_ends_at_once(entitlements):
    entitlements.grant(FREE, "sso")
    assert check("sso")
    entitlements.expire(FREE, "sso")
    assert check("sso").reason == "expired"


def test_what_nobody_has_cannot_be_used_or_expire(entitlements):
    with pytest.raises(LookupError):
        entitlements.use(FREE, "seats")
    with pytest.raises(LookupError):
        entitlements.expire(FREE, "seats")


def test_an_outage_is_unknown_where_nothing_was_fetched_before(entitlements):
    entitlements.grant(FREE, "sso")
    entitlements.fail()
    assert (check("sso").outcome, check("sso").reason) == ("unknown", "unavailable")
    entitlements.recover()
    assert check("sso").source == "live"


def test_an_outage_is_bridged_by_stale_data_at_once_and_not_for_ever(entitlements):
    entitlements.grant(FREE, "sso")
    assert check("sso")
    entitlements.fail("status", status=503)
    assert (bool(check("sso")), check("sso").source) == (True, "stale")
    entitlements.advance(timedelta(hours=2))
    assert check("sso").outcome == "unknown"


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        *[(kind, "unavailable") for kind in ("unavailable", "down", "error", "timeout", "connection", 429, 500)],
        *[(kind, "rejected") for kind in ("rejected", "unauthorized", 401)],
        *[(kind, "malformed_response") for kind in ("malformed_response", "malformed", "html", 302)],
        *[(kind, "customer_not_found") for kind in ("not_found", 404)],
    ],
)
def test_a_failure_is_what_the_decision_shall_say_or_a_word_or_a_status(entitlements, kind, reason):
    entitlements.grant(FREE, "sso")
    entitlements.fail(kind)
    assert check("sso").reason == reason


@pytest.mark.parametrize("kind", ["on fire", True, None, 5])
def test_a_failure_that_nobody_knows_is_refused(entitlements, kind):
    with pytest.raises(ScenarioError):
        entitlements.fail(kind)


def test_rejected_credentials_are_told(entitlements):
    entitlements.fail("status", status=401)
    assert check("sso").reason == "rejected"


def test_billing_recovers_from_a_long_outage_at_once(entitlements):
    entitlements.grant(FREE, "sso")
    entitlements.fail("reset")
    for _ in range(10):
        assert check("sso").outcome == "unknown"
    entitlements.recover()
    assert check("sso")


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"delay", "drip", "big", "gzip_bomb", "deep"}))
def test_every_fault_is_felt_without_waiting(entitlements, kind):
    entitlements.grant(FREE, "sso")
    entitlements.fail(kind)
    assert check("sso").outcome == "unknown"


def test_time_stands_still_and_passes_as_told(entitlements):
    entitlements.freeze(NOON)
    entitlements.grant(FREE, "sso", expiry_at="+1h")
    assert check("sso").expires_at == NOON + timedelta(hours=1)
    assert check("sso").age == 0
    entitlements.advance(3599)
    assert check("sso")
    entitlements.advance(1)
    assert not check("sso")


def test_the_projects_own_settings_apply():
    changed = {**SETTINGS, "BASE_URL": "https://api.zenskar.com", "API_KEY": "k", "ORGANISATION": "o"}
    with override_settings(ENTITLEMENT_GATE=changed), FakeBilling() as billing:
        billing.fail()
        assert not check("sso")
        with override_settings(ENTITLEMENT_GATE={**changed, "ON_UNAVAILABLE": "allow"}):
            assert check("sso")


def test_an_override_stands_before_it_and_gives_way_again(entitlements):
    entitlements.grant(FREE, "sso")
    assert check("sso")
    with override_entitlements({"seats": 5}):
        assert (check("sso").source, bool(check("seats"))) == ("override", True)
        entitlements.revoke(FREE, "sso")
    assert check("sso").reason == "not_entitled"


def test_it_may_begin_and_end_inside_an_override():
    with override_entitlements({"seats": 5}):
        with FakeBilling() as billing:
            billing.grant(FREE, "sso")
            assert not check("sso")
            billing.recover()
        assert check("seats")
    assert _Default.make is make_gate
    assert check("sso").source == "live"


def test_the_gate_of_the_settings_comes_back_without_what_was_told():
    with FakeBilling() as billing:
        billing.grant(FREE, "sso")
        assert check("sso")
        inside = default_gate()
    assert default_gate() is not inside
    assert not check("sso")


def test_it_may_be_used_by_unittest():
    import unittest

    class Case(unittest.TestCase):
        def setUp(self):
            self.entitlements = self.enterContext(FakeBilling())

        def test_inside(self):
            self.entitlements.grant(FREE, "sso")
            assert check("sso")

    result = unittest.defaultTestLoader.loadTestsFromTestCase(Case).run(unittest.TestResult())
    assert (result.testsRun, result.errors, result.failures) == (1, [], [])
    assert not check("sso")
