"""Shared snapshots whose Redis is another server by now, behind the same address."""

import time

import pytest

from tests.engine.fakes import ANNA
from tests.ledger.failing_over import Pair
from tests.shared.conftest import invalidate, shared_of

PATIENCE = 30


@pytest.fixture
def pair(tmp_path):
    pair = Pair(tmp_path)
    yield pair
    pair.stop()


def test_snapshots_are_shared_by_the_new_primary_at_once(make_gate, pair, billing):
    gate = make_gate(redis_url=pair.url)
    assert gate.check(ANNA, "reports").source == "live"
    pair.fail_over()
    gate.check(ANNA, "reports", refresh=True)
    assert shared_of(gate).state == "closed"
    assert make_gate(redis_url=pair.new.patient_url).check(ANNA, "reports").source == "shared"


def test_what_was_shared_at_the_old_primary_is_not_read_there(make_gate, pair, billing):
    gate = make_gate(redis_url=pair.url)
    gate.check(ANNA, "reports")
    pair.fail_over()
    other = make_gate(redis_url=pair.new.patient_url)
    other.check(ANNA, "reports")
    invalidate(other, ANNA)
    fresh = make_gate(redis_url=pair.old.patient_url)  # who comes to the old one is told that it is none
    assert fresh.check(ANNA, "reports").source == "live"
    assert shared_of(fresh).state == "open"


def test_who_listened_at_the_old_primary_hears_what_is_told_at_the_new_one(make_gate, pair, billing):
    gate = make_gate(redis_url=pair.url)
    gate.check(ANNA, "reports")
    pair.fail_over()
    other = make_gate(redis_url=pair.new.patient_url)
    other.check(ANNA, "reports")
    invalidate(other, ANNA)
    until = time.monotonic() + PATIENCE
    while not gate._snapshots.entries[ANNA].is_invalidated and time.monotonic() < until:
        time.sleep(0.02)
    assert gate._snapshots.entries[ANNA].is_invalidated
