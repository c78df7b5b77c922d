import pytest

from entitlement_gate.resilience.circuit_breaker import CircuitBreaker
from tests.engine.fakes import held_elsewhere


@pytest.fixture
def breaker(clock):
    return CircuitBreaker(clock)


@pytest.fixture
def open_breaker(breaker):
    for _ in range(CircuitBreaker.FAILURES):
        breaker.record_failure()
    return breaker


def test_it_opens_at_the_fifth_failure_in_a_row(breaker):
    for _ in range(4):
        breaker.record_failure()
    assert (breaker.state, breaker.admit()) == ("closed", True)
    breaker.record_failure()
    assert (breaker.state, breaker.admit()) == ("open", False)


def test_a_success_starts_the_count_again(breaker):
    for _ in range(4):
        breaker.record_failure()
    breaker.record_success()
    for _ in range(4):
        breaker.record_failure()
    assert breaker.state == "closed"


def test_an_answer_that_says_nothing_of_health_leaves_the_count(breaker):
    for _ in range(4):
        breaker.record_failure()
    breaker.record_answer()
    breaker.record_failure()
    assert breaker.state == "open"


def test_after_five_seconds_one_probe_is_let_through(open_breaker, clock):
    clock.advance(4.999)
    assert not open_breaker.admit()
    clock.advance(0.001)
    assert open_breaker.state == "half_open"
    assert [open_breaker.admit() for _ in range(3)] == [True, False, False]
    assert open_breaker.state == "open"


@pytest.mark.parametrize("verb", ["record_success", "record_answer"])
def test_a_probe_that_is_answered_closes_it(open_breaker, clock, verb):
    clock.advance(5)
    assert open_breaker.admit()
    getattr(open_breaker, verb)()
    assert open_breaker.state == "closed"


def test_a_probe_that_fails_opens_it_again(open_breaker, clock):
    clock.advance(5)
    assert open_breaker.admit()
    open_breaker.record_failure()
    clock.advance(4.9)
    assert open_breaker.state == "open"


def test_a_probe_that_never_reports_back_is_followed_by_another(open_breaker, clock):
    clock.advance(5)
    assert open_breaker.admit()
    clock.advance(5)
    assert open_breaker.admit()


def test_a_forked_child_knows_what_was_learned(open_breaker):
    with held_elsewhere(open_breaker._lock):
        open_breaker.remake()
        assert not open_breaker.admit()


def test_a_clock_that_went_back_keeps_it_open_no_longer(open_breaker, clock):
    clock.advance(-1_000)
    assert open_breaker.state == "half_open"
    assert open_breaker.admit()
    assert not open_breaker.admit()
    clock.advance(5)
    assert open_breaker.admit()
