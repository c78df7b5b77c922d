from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace

import pytest

from entitlement_gate import CustomerNotFound, EntitlementGate, EntitlementType, SourceUnavailable
from entitlement_gate.testing import FakeSource
from entitlement_gate.testing.fakes import MovableClock
from tests.customers import FREE, PRO


@pytest.fixture
def source():
    return FakeSource()


@pytest.fixture
def gate(source):
    with EntitlementGate(source) as gate:
        yield gate


def test_what_is_granted_is_answered(source, gate):
    source.grant(FREE, "sso")
    source.grant(FREE, "seats", 2)
    source.grant(FREE, "seats", "3")
    assert gate.has(FREE, "sso")
    assert gate.check(FREE, "seats", 5).remaining == 5
    assert gate.check(FREE, "reports").reason == "not_entitled"
    assert gate.check(PRO, "sso").reason == "customer_not_found"


def test_grants_are_exact_and_have_every_field(source):
    source.grant(FREE, "calls", 0.1, used=Decimal("0.05"), type=EntitlementType.CREDITS, units="calls")
    (grant,) = source.fetch(FREE).grants
    assert (grant.quantity, grant.remaining, grant.type, grant.units) == (
        Decimal("0.1"),
        Decimal("0.05"),
        "Credits",
        "calls",
    )


def test_a_change_counts_once_the_gate_is_told(source, gate):
    source.grant(FREE, "sso")
    assert gate.has(FREE, "sso")
    source.revoke(FREE, "sso")
    assert gate.has(FREE, "sso")
    gate.invalidate(FREE)
    assert gate.check(FREE, "sso").reason == "not_entitled"


def test_revoking_leaves_other_names(source):
    source.grant(FREE, "sso")
    source.grant(FREE, "seats", 5)
    source.revoke(FREE, "sso")
    source.revoke(PRO, "sso")
    assert [grant.name for grant in source.fetch(FREE).grants] == ["seats"]
    assert source.fetch(PRO).grants == ()


@pytest.mark.parametrize("reason", ["unavailable", "rejected", "malformed_response"])
def test_it_fails_with_the_reason_told_until_it_recovers(source, gate, reason):
    source.grant(FREE, "sso")
    source.fail(reason)
    assert gate.check(FREE, "sso").reason == reason
    source.recover()
    assert gate.has(FREE, "sso")


def test_it_fails_with_an_exception_of_yours(source):
    source.fail(SourceUnavailable("down"))
    with pytest.raises(SourceUnavailable, match="down"):
        source.fetch(FREE)
    source.fail()
    with pytest.raises(SourceUnavailable):
        source.fetch(FREE)


def test_a_reason_that_is_none_is_refused(source):
    with pytest.raises(ValueError, match="one of unavailable, rejected, malformed_response"):
        source.fail("tired")


@pytest.mark.parametrize("quantity", ["many", float("nan"), True])
def test_a_quantity_that_is_none_is_refused(source, quantity):
    with pytest.raises(ValueError, match="a quantity is"):
        source.grant(FREE, "seats", quantity)


def test_it_tells_who_was_asked_for_and_when():
    source = FakeSource(clock=SimpleNamespace(time=lambda: 7.0, monotonic=lambda: 7.0))
    source.grant(FREE, "sso")
    with pytest.raises(CustomerNotFound):
        source.fetch(PRO)
    assert (source.fetch(FREE).fetched_at, source.fetched) == (7.0, [PRO, FREE])
    assert repr(source) == "<FakeSource of 1 customers>"


NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)


def test_it_runs_with_the_machines_clock():
    clock = MovableClock()
    assert abs(clock.time() - time.time()) < 5
    assert abs(clock.monotonic() - time.monotonic()) < 5
    assert clock.monotonic() <= clock.monotonic()


def test_a_running_clock_is_moved_on_both_faces():
    clock = MovableClock()
    clock.advance(3600)
    assert 3600 <= clock.time() - time.time() + 1 < 3605
    assert 3600 <= clock.monotonic() - time.monotonic() + 1 < 3605


@pytest.mark.parametrize("at", [NOON, NOON.replace(tzinfo=None)])
def test_a_frozen_clock_stands_still_until_it_is_moved(at):
    clock = MovableClock()
    clock.freeze(at)
    tick = clock.monotonic()
    assert (clock.time(), clock.monotonic()) == (NOON.timestamp(), tick)
    clock.advance(timedelta(minutes=1))
    assert (clock.time(), clock.monotonic()) == (NOON.timestamp() + 60, tick + 60)


def test_it_freezes_now_where_no_instant_is_given():
    clock = MovableClock()
    clock.freeze()
    assert clock.time() == clock.time()
    assert abs(clock.time() - time.time()) < 5


@pytest.mark.parametrize("by", [-1, timedelta(seconds=-1)])
def test_time_never_goes_back(by):
    with pytest.raises(ValueError, match="forward only"):
        MovableClock().advance(by)
