from entitlement_gate.resilience.token_bucket import TokenBucket


def spent(budget, tries):
    return sum(budget.spend() for _ in range(tries))


def test_a_process_may_fill_its_cache_once_at_any_speed(clock):
    assert spent(TokenBucket(clock, 10_000), 20_000) == 10_000


def test_a_small_cache_does_not_make_a_small_budget(clock):
    assert spent(TokenBucket(clock, 10), 20_000) == 1_000


def test_a_hundred_a_second_are_added(clock):
    budget = TokenBucket(clock, 10)
    spent(budget, 20_000)
    clock.advance(0.5)
    assert spent(budget, 1_000) == 50


def test_a_clock_that_went_back_takes_nothing_away(clock):
    budget = TokenBucket(clock, 10)
    clock.advance(-1_000_000)
    assert spent(budget, 20_000) == 1_000
    clock.advance(0.5)
    assert spent(budget, 1_000) == 50


def test_no_more_is_saved_than_a_burst(clock):
    budget = TokenBucket(clock, 10)
    clock.advance(3_600)
    assert spent(budget, 20_000) == 1_000
