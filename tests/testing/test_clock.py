from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from entitlement_gate.testing.clock import MovableClock

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
