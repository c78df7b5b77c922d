import pytest

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


def test_what_was_waited_counts_though_the_clock_stands_still(clock):
    deadline, waits = Deadline(0.5, clock), []
    while deadline.remaining():
        deadline.pause(0.2, waits.append)
    assert waits == pytest.approx([0.2, 0.2, 0.1])


def test_nobody_waits_beyond_a_deadline(clock):
    deadline, waits = Deadline(3.0, clock), []
    clock.advance(2.5)
    deadline.pause(60.0, waits.append)
    assert waits == [0.5]
