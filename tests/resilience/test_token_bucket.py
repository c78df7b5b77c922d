import time

from entitlement_gate.resilience.token_bucket import TokenBucket


def spent(bucket, tries):
    return sum(bucket.spend() for _ in range(tries))


def test_a_bucket_is_full_at_the_start(clock):
    assert spent(TokenBucket(10, rate=2, clock=clock), 100) == 10


def test_so_many_tokens_are_added_a_second(clock):
    bucket = TokenBucket(1_000, rate=100, clock=clock)
    spent(bucket, 2_000)
    clock.advance(0.5)
    assert spent(bucket, 1_000) == 50


def test_several_tokens_are_spent_together_or_none(clock):
    bucket = TokenBucket(10, rate=2, clock=clock)
    assert bucket.spend(9)
    assert not bucket.spend(2)
    assert bucket.spend(1)
    clock.advance(1)
    assert bucket.spend(2)


def test_no_more_is_saved_than_fits_in(clock):
    bucket = TokenBucket(10, rate=2, clock=clock)
    clock.advance(3_600)
    bucket.add(5)
    assert spent(bucket, 100) == 10


def test_a_clock_that_went_back_takes_nothing_away(clock):
    bucket = TokenBucket(10, rate=2, clock=clock)
    assert bucket.spend(10)
    clock.advance(-1_000_000)
    assert bucket.spend(10)
    clock.advance(1)
    assert spent(bucket, 100) == 2


def test_without_a_rate_only_what_is_put_in_comes_back(clock):
    bucket = TokenBucket(2, rate=0, clock=clock)
    assert spent(bucket, 10) == 2
    for seconds in (3_600, -10_000):
        clock.advance(seconds)
        assert not bucket.spend()
    bucket.add(1)
    assert spent(bucket, 10) == 1


def test_a_bucket_goes_by_the_clock_of_the_process(monkeypatch):
    now = 1_000_000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    bucket = TokenBucket(10, rate=2)
    assert bucket.spend(10)
    now += 1
    assert spent(bucket, 10) == 2
