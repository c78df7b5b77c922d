"""An exception may strike at every line: whatever is half done then, the next check and reservation are right."""

import time
from contextlib import contextmanager

import pytest

from entitlement_gate import EntitlementGate
from entitlement_gate.testing import FakeSource
from entitlement_gate.testing.clock import MovableClock
from tests.lab.striking import strike_everywhere

ANNA = "10000000-0000-4000-8000-000000000001"
BERT = "20000000-0000-4000-8000-000000000002"
DEADLINE = 5.0  # generous: a strike that is not recovered from costs all of it


class World:
    """A gate over a source in memory."""

    def __init__(self, **options):
        self.clock = MovableClock()
        self.source = FakeSource(clock=self.clock)
        for customer in (ANNA, BERT):
            self.source.grant(customer, "sso")
            self.source.grant(customer, "calls", 5)
        self.gate = EntitlementGate(self.source, **{"deadline": DEADLINE, "clock": self.clock, **options})


@contextmanager
def cold():
    world = World()
    yield world
    world.gate.close()


@contextmanager
def warm():
    """A gate that has a thread, and knows Anna."""
    world = World()
    assert world.gate.has(ANNA, "sso")
    yield world
    world.gate.close()


def check_both(world):
    """Both customers are answered rightly, and newly invalidated as well, each within the deadline."""
    for customer in (ANNA, BERT):
        for refresh in (False, True):
            began = time.monotonic()
            decision = world.gate.check(customer, "sso", refresh=refresh)
            assert decision.reason == "allowed", decision.reason
            assert time.monotonic() - began < DEADLINE
    world.source.revoke(ANNA, "sso")
    world.gate.invalidate(ANNA)
    assert not world.gate.has(ANNA, "sso")
    assert world.gate.has(BERT, "sso")
    reservable(world)


def reservable(world):
    with world.gate.reserve(BERT, "calls", 5):
        pass


ACTS = {
    "check": lambda world: world.gate.check(ANNA, "sso"),
    "has": lambda world: world.gate.has(ANNA, "sso"),
    "another": lambda world: world.gate.check(BERT, "sso"),
    "quantity": lambda world: world.gate.check(ANNA, "calls", 2),
    "refresh": lambda world: world.gate.check(ANNA, "sso", refresh=True),
    "get": lambda world: world.gate.get(ANNA).check("sso"),
    "invalidate": lambda world: world.gate.invalidate(ANNA),
}


@pytest.mark.parametrize("world", [cold, warm])
@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_the_next_check_is_right_wherever_one_was_struck(world, act):
    assert strike_everywhere(world, act, check_both)
