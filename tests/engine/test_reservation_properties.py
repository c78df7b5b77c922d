"""Whatever is asked for in whatever shadow: a reservation lets in what a check does, and nothing is overspent."""

from functools import reduce

from hypothesis import given, settings
from hypothesis import strategies as st

from entitlement_gate.domain.errors import EntitlementDenied
from entitlement_gate.domain.requirements import Requirement
from entitlement_gate.engine.gate import EntitlementGate
from entitlement_gate.ledger.memory import MemoryLedger
from tests.engine.fakes import ANNA, Billing, Clock, feature, instant
from tests.engine.test_reservations import CALLS, OTHER, SEATS, quantity

GRANTED = {"api_calls": (CALLS, 2_000_000), "seats": (SEATS, 3_000_000)}
COUNTED = ["api_calls", "seats", "old", "nothing"]
counted = st.builds(Requirement, st.sampled_from(COUNTED), st.integers(1, 4))
leaves = st.one_of(counted, st.builds(Requirement, st.just("reports")))


@st.composite
def requirements(draw):
    """Joined as it comes, each counted name once: what pays for two at once has only half of it for each."""
    parts = draw(st.lists(leaves, min_size=2, max_size=5, unique_by=lambda leaf: leaf.entitlement))
    parts = [~part if draw(st.booleans()) and draw(st.booleans()) else part for part in parts]
    return reduce(lambda left, right: left & right if draw(st.booleans()) else left | right, parts)


def held(ledger):
    return {name: sum(tally.held for tally in rows.values()) for name, rows in ledger.charges(ANNA).items()}


@settings(max_examples=150, deadline=None)
@given(requirements(), st.sets(st.sampled_from([*COUNTED, "reports"])))
def test_a_reservation_lets_in_what_a_check_does_and_overspends_nothing_outside_of_shadow(requirement, shadow):
    clock = Clock()
    billing, ledger = Billing(clock), MemoryLedger(clock=clock)
    old = quantity("old", 5, OTHER, expires_at=instant(-5))
    billing.grants[ANNA] = (feature(), quantity(remaining=2), quantity("seats", 3, SEATS), old)
    with EntitlementGate(billing, clock=clock, ledger=ledger, shadow=shadow) as gate:
        is_allowed = gate.check(ANNA, requirement).allowed
        try:
            gate.reserve(ANNA, requirement, key="job")
        except EntitlementDenied:
            assert not is_allowed
            assert not any(held(ledger).values())
            return
        assert is_allowed
        before = held(ledger)
        for name, (entitlement_id, granted) in GRANTED.items():
            assert name in shadow or before.get(entitlement_id, 0) <= granted
        gate.reserve(ANNA, requirement, key="job")
        assert held(ledger) == before
