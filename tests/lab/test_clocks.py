"""Clocks that jump while answers are cached."""

import random

import pytest

from entitlement_gate.engine.gate import EntitlementGate
from tests.engine.fakes import ANNA, NOON, Billing, Clock, feature, instant

MILLISECOND = 0.001


@pytest.mark.parametrize("seed", range(5))
def test_a_wall_clock_stepping_about_never_moves_a_boundary(seed):
    """Whatever was worked out before: allowed exactly from ``active_from`` up to ``expires_at``."""
    dice, clock = random.Random(seed), Clock()
    billing = Billing(clock)
    billing.grants[ANNA] = (feature(active_from=instant(-50), expires_at=instant(50)),)
    gate = EntitlementGate(billing, clock=clock, deadline=10)
    for _ in range(1_500):
        near = dice.choice([-50, 50, 0]) + dice.choice([-MILLISECOND, 0, MILLISECOND, dice.uniform(-40, 40)])
        clock.wall = NOON + near
        clock.tick += dice.choice([0, 0, 0.001, 1])
        is_live = NOON - 50 <= clock.wall < NOON + 50
        assert gate.has(ANNA, "reports") is is_live
        assert gate.check(ANNA, "reports").allowed is is_live
    gate.close()


def test_a_machine_that_slept_serves_nothing_from_before_as_fresh():
    clock = Clock()
    billing = Billing(clock)
    gate = EntitlementGate(billing, clock=clock, deadline=10)
    assert gate.has(ANNA, "reports")
    billing.grants[ANNA] = ()
    clock.step(8 * 3_600)
    assert gate.check(ANNA, "reports").source == "live"
    assert not gate.has(ANNA, "reports")
    gate.close()
