from __future__ import annotations

import logging
import time

import pytest
from django.test import override_settings

from entitlement_gate import ahas_entitlement, check_entitlement, has_entitlement
from entitlement_gate.access import RequestEntitlements
from entitlement_gate.api import default_gate
from entitlement_gate.signals import entitlement_checked, entitlement_denied, entitlements_refreshed, source_failed
from tests.customers import FREE, PRO, SETTINGS


@pytest.fixture(autouse=True)
def _project():
    with override_settings(ENTITLEMENT_GATE=SETTINGS):
        yield


@pytest.fixture
def heard():
    heard = []

    def hear(signal, decision, **_):
        heard.append(("checked" if signal is entitlement_checked else "denied", decision.reason))

    for signal in (entitlement_checked, entitlement_denied):
        signal.connect(hear)
    yield heard
    for signal in (entitlement_checked, entitlement_denied):
        signal.disconnect(hear)


def test_every_check_is_told_warm_or_not(heard):
    for _ in range(3):
        assert has_entitlement(PRO, "reports")
    assert heard == [("checked", "allowed")] * 3


def test_a_denial_is_told_twice_over(heard):
    assert not check_entitlement(FREE, "reports")
    assert heard == [("checked", "not_entitled"), ("denied", "not_entitled")]


async def test_a_check_in_a_loop_is_told(heard):
    assert await ahas_entitlement(PRO, "reports")
    assert heard == [("checked", "allowed")]


def test_a_check_of_a_request_is_told_once(heard, rf):
    request = rf.get("/", headers={"X-Customer": FREE})
    assert not RequestEntitlements(request).has("reports")
    assert heard == [("checked", "not_entitled"), ("denied", "not_entitled")]


async def test_an_async_receiver_hears_from_both_doors():
    heard = []

    async def hear(decision, **_):
        heard.append(decision.entitlement)

    entitlement_checked.connect(hear)
    try:
        assert await ahas_entitlement(PRO, "reports")
    finally:
        entitlement_checked.disconnect(hear)
    assert heard == ["reports"]


def test_a_receiver_that_raises_breaks_no_check(caplog):
    def fail(**_):
        raise LookupError("receiver")

    entitlement_checked.connect(fail)
    try:
        with caplog.at_level(logging.ERROR):
            assert has_entitlement(PRO, "reports")
    finally:
        entitlement_checked.disconnect(fail)
    assert "receiver" in caplog.text


@override_settings(ENTITLEMENT_GATE={**SETTINGS, "SHADOW": {"reports"}})
def test_shadow_mode_allows_tells_and_logs_what_it_would_refuse(heard, caplog):
    with caplog.at_level(logging.INFO, "entitlement_gate"):
        decisions = [check_entitlement(FREE, "reports") for _ in range(2)]
    assert all(d.allowed and d.shadow and d.outcome == "denied" for d in decisions)
    assert heard == [("checked", "not_entitled"), ("denied", "not_entitled")] * 2
    assert caplog.messages == ["shadow: would refuse: reports: not_entitled"] * 2
    assert not has_entitlement(FREE, "sso")


def test_a_fetch_is_told_once_its_snapshot_serves_checks():
    heard = []

    def hear(snapshot, **_):
        heard.append((snapshot.customer_id, has_entitlement(PRO, "reports")))

    entitlements_refreshed.connect(hear)
    try:
        assert has_entitlement(PRO, "reports")
        assert wait_until(lambda: heard == [(PRO, True)])
    finally:
        entitlements_refreshed.disconnect(hear)


def test_a_failed_fetch_is_told():
    heard = []

    def hear(customer_id, error, **_):
        heard.append((customer_id, type(error).__name__))

    source_failed.connect(hear)
    try:
        default_gate().source._transport.sandbox.fail("status", status=401)
        assert not has_entitlement(PRO, "reports")
        assert wait_until(lambda: heard == [(PRO, "SourceRejected")])
    finally:
        source_failed.disconnect(hear)


def wait_until(happened, seconds=30.0):
    until = time.monotonic() + seconds
    while not happened() and time.monotonic() < until:
        time.sleep(0.005)
    return happened()
