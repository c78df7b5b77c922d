from entitlement_gate.resilience.clock import LONG_AGO, elapsed


def test_what_was_is_so_many_seconds_ago():
    assert elapsed(10.0, 12.5) == 2.5
    assert elapsed(10.0, 10.0) == 0


def test_what_never_was_is_long_ago():
    assert elapsed(LONG_AGO, 10.0) == float("inf")


def test_nobody_knows_how_long_ago_what_lies_ahead_was():
    assert elapsed(12.5, 10.0) == float("inf")
