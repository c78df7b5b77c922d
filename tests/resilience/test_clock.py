from entitlement_gate.resilience.clock import Deadline


def test_a_deadline_counts_down_to_zero_and_no_further(clock):
    deadline = Deadline(3.0, clock)
    clock.advance(1.0)
    assert deadline.remaining() == 2.0
    clock.advance(8.0)
    assert deadline.remaining() == 0.0


def test_a_clock_that_went_back_leaves_no_more_than_there_was(clock):
    deadline = Deadline(3.0, clock)
    clock.advance(-500)
    assert deadline.remaining() == 3.0
