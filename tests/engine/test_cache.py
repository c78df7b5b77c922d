import pytest

from entitlement_gate.domain.grants import Snapshot
from entitlement_gate.engine.cache import _MOST_ANSWERS, Entry, SnapshotCache
from tests.engine.fakes import ANNA, BERT, customers, feature


@pytest.fixture
def make(clock):
    def make(customer=ANNA, *grants):
        return Entry(Snapshot(customer, grants, clock.time()), clock.monotonic(), clock.time(), 60)

    return make


def test_age_is_what_the_clocks_agree_on(make, clock):
    entry = make()
    clock.advance(7)
    assert entry.age(clock) == 7


def test_a_wall_clock_set_back_makes_nothing_younger(make, clock):
    entry = make()
    clock.advance(7)
    clock.step(-3_600)
    assert entry.age(clock) == 7


def test_a_suspended_machine_ages_what_it_holds(make, clock):
    entry = make()
    clock.step(3_600)
    assert entry.age(clock) == 3_600


def test_answers_are_bounded(make):
    cache, entry = SnapshotCache(2), make()
    cache.put(entry)
    for number in range(_MOST_ANSWERS + 1):
        cache.remember(entry, number, number)
    assert entry.keys == ((ANNA, _MOST_ANSWERS),)
    assert cache.answers == {(ANNA, _MOST_ANSWERS): _MOST_ANSWERS}


def test_an_answer_leaves_with_its_entry(make):
    cache, (one, two, three) = SnapshotCache(2), customers(3)
    for customer in (one, two):
        cache.put(entry := make(customer))
        cache.remember(entry, "reports", customer)
    held = cache.answers
    cache.put(make(two))
    assert held == {(one, "reports"): one}
    cache.put(make(three))
    assert held == {}


def test_an_answer_that_comes_late_serves_nobody_else(make):
    cache, before, after = SnapshotCache(2), make(), make()
    cache.put(before)
    cache.put(after)
    cache.remember(before, "reports", "no")
    assert (before.keys, cache.answers) == ((), {})


def test_a_fork_in_the_middle_of_a_change_leaves_no_answer_of_before(make):
    cache, entry = SnapshotCache(2), make()
    cache.put(entry)
    cache.remember(entry, "reports", "yes")
    held = cache.answers
    held[ANNA, "seats"] = "of an entry that was just replaced"
    cache.remake()
    assert held is cache.answers
    assert held == {(ANNA, "reports"): "yes"}


def test_the_customer_refreshed_longest_ago_leaves_first(make):
    cache, (one, two, three) = SnapshotCache(2), customers(3)
    for customer in (one, two, one, three):
        cache.put(make(customer))
    assert sorted(cache.entries) == [one, three]


def test_customers_without_a_grant_leave_before_any_other(make):
    cache, (paying, one, two, three) = SnapshotCache(3), customers(4)
    for entry in (make(paying, feature()), make(one), make(two), make(one), make(three)):
        cache.put(entry)
    assert sorted(cache.entries) == [paying, one, three]
    assert list(cache.blanks) == [one, three]


def test_a_customer_who_gets_a_first_grant_is_no_longer_one_of_those(make):
    cache, (one, two, three) = SnapshotCache(2), customers(3)
    for entry in (make(one), make(one, feature()), make(two, feature()), make(three, feature())):
        cache.put(entry)
    assert sorted(cache.entries) == [two, three]
    assert cache.blanks == {}


def test_expired_data_is_kept_for_outages_and_answers_nothing_by_itself(make):
    cache, entry = SnapshotCache(2), make()
    cache.put(entry)
    cache.remember(entry, "reports", "yes")
    cache.expire(ANNA)
    assert cache.entries[ANNA].snapshot is entry.snapshot
    assert cache.entries[ANNA].is_invalidated
    assert cache.answers == {}


def test_expiring_a_customer_who_is_not_held_changes_nothing():
    cache = SnapshotCache(2)
    cache.expire(BERT)
    assert cache.entries == {}


def test_a_forked_child_evicts_by_age_too(make, clock):
    cache, (one, two, three) = SnapshotCache(2), customers(3)
    cache.put(make(one))
    cache.put(make(two))
    clock.advance(1)
    cache.put(make(one))
    cache.remake()
    cache.put(make(three))
    assert sorted(cache.entries) == [one, three]


class Strike(BaseException):
    pass


def test_whatever_strikes_as_an_entry_is_put_leaves_the_rest_in_order(make, monkeypatch):
    cache = SnapshotCache(3)
    for customer in customers(3):
        cache.put(make(customer))

    def strike(*_):
        monkeypatch.undo()
        raise Strike

    monkeypatch.setattr(cache, "_replace", strike)
    with pytest.raises(Strike):
        cache.put(make(ANNA))
    assert set(cache._order) == set(cache.entries)
    cache.drop(ANNA)  # which is not held
    cache.put(make(ANNA))
    assert ANNA in cache.entries
