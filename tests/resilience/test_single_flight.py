import asyncio
import threading

import pytest

from entitlement_gate.resilience.single_flight import NotFetchedError, SingleFlight, Wait
from entitlement_gate.resilience.worker_pool import WorkerPool
from tests.engine.fakes import ANNA, BERT, eventually


class Upstream:
    """Fetches that end when they are told to, and the results that were kept."""

    def __init__(self, clock, most=4):
        self.fetched = []
        self.kept = []
        self.is_open = True
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)
        self.lock = threading.Lock()
        self.workers = WorkerPool(most, clock, 30)
        self.single_flight = SingleFlight(
            self.lock,
            self.workers,
            clock,
            admit=lambda _: self.is_open,
            fetch=self._fetch,
            fail=lambda error: error,
            keep=lambda *kept: self.kept.append(kept),
            deadline=3,
            patience=30,
        )
        self.join = self.single_flight.join
        self.is_running = self.single_flight.is_running
        self.clock = clock

    def _fetch(self, call):
        self.fetched.append(call.key)
        number = len(self.fetched)
        self.begun.release()
        assert self.may_end.acquire(timeout=60)
        return number

    def begin(self):
        assert self.begun.acquire(timeout=60)

    def end(self, count=1):
        self.may_end.release(count)

    def forget(self, customer):
        with self.lock:
            successor = self.single_flight.forget(customer)
        self.single_flight.begin(successor)


def number_of(call):
    return Wait(call, 60).wait()


@pytest.fixture
def upstream(clock):
    made = Upstream(clock)
    yield made
    made.end(100)
    made.workers.close()


def test_all_who_ask_at_once_share_a_call(upstream):
    call = upstream.join(ANNA)
    assert all(upstream.join(ANNA) is call for _ in range(20))
    assert upstream.is_running(ANNA)
    upstream.end()
    assert number_of(call) == 1
    assert upstream.fetched == [ANNA]


def test_customers_are_fetched_apart(upstream):
    upstream.join(ANNA)
    upstream.join(BERT)
    upstream.begin()
    upstream.begin()
    assert sorted(upstream.fetched) == [ANNA, BERT]


def test_a_call_may_be_refused_and_one_that_runs_is_joined_all_the_same(upstream):
    call = upstream.join(ANNA)
    upstream.begin()
    upstream.is_open = False
    assert upstream.join(BERT) is None
    assert upstream.join(ANNA) is call
    assert upstream.join(ANNA, later=True) is None


def test_a_later_call_begins_after_the_one_that_runs_and_is_shared(upstream):
    first = upstream.join(ANNA)
    upstream.begin()
    second = upstream.join(ANNA, later=True)
    assert second is upstream.join(ANNA, later=True)
    assert second is not first
    assert upstream.fetched == [ANNA]
    upstream.end(2)
    assert (number_of(first), number_of(second)) == (1, 2)
    assert [result for _, result in upstream.kept] == [1, 2]


def test_a_call_that_has_not_begun_is_late_enough(clock):
    upstream = Upstream(clock, most=1)
    upstream.join(ANNA)
    upstream.begin()
    queued = upstream.join(BERT)
    assert upstream.join(BERT, later=True) is queued
    upstream.end(2)
    upstream.workers.close()


def test_a_forgotten_call_ends_for_those_who_wait_and_nobody_else(upstream):
    first = upstream.join(ANNA)
    upstream.begin()
    upstream.forget(ANNA)
    assert not upstream.is_running(ANNA)
    second = upstream.join(ANNA)
    upstream.begin()
    upstream.end(2)
    assert {number_of(first), number_of(second)} == {1, 2}
    assert [result for _, result in upstream.kept] == [2]


def test_forgetting_a_call_starts_the_later_one_at_once(upstream):
    upstream.join(ANNA)
    upstream.begin()
    second = upstream.join(ANNA, later=True)
    upstream.forget(ANNA)
    upstream.begin()
    assert upstream.join(ANNA) is second
    upstream.end(2)
    assert number_of(second) == 2


def test_forgetting_where_nothing_runs_changes_nothing(upstream):
    upstream.forget(ANNA)
    assert not upstream.is_running(ANNA)


def test_a_hung_call_is_given_up_and_another_starts(upstream, clock):
    hung = upstream.join(ANNA)
    upstream.begin()
    clock.advance(30)
    assert upstream.join(ANNA) is hung
    clock.advance(0.1)
    assert upstream.join(ANNA) is not hung
    upstream.begin()
    upstream.end(2)
    eventually(lambda: len(upstream.kept) == 1)


def test_a_hung_call_gives_way_to_its_successor(upstream, clock):
    upstream.join(ANNA)
    upstream.begin()
    successor = upstream.join(ANNA, later=True)
    clock.advance(31)
    assert upstream.join(ANNA) is successor


def test_what_nobody_waits_for_any_longer_is_not_fetched(clock):
    upstream = Upstream(clock, most=1)
    first, unwanted = upstream.join(ANNA), upstream.join(BERT)
    upstream.begin()
    clock.advance(3.1)
    upstream.end()
    assert number_of(first) == 1
    error = Wait(unwanted, 60).wait()
    assert isinstance(error, NotFetchedError)
    assert "nobody" in str(error)
    assert upstream.fetched == [ANNA]
    upstream.workers.close()


def test_a_queued_call_that_somebody_joins_is_wanted_for_longer(clock):
    upstream = Upstream(clock, most=1)
    upstream.join(ANNA)
    upstream.begin()
    wanted = upstream.join(BERT)
    clock.advance(2)
    upstream.join(BERT)
    clock.advance(2)
    upstream.end(2)
    assert number_of(wanted) == 2
    upstream.workers.close()


def test_without_workers_a_call_ends_at_once(upstream):
    upstream.workers.close()
    call = upstream.join(ANNA)
    assert "closed" in str(Wait(call, 60).wait())
    assert not upstream.is_running(ANNA)


def test_a_waiter_gives_up_in_time_and_the_call_goes_on(upstream):
    call = upstream.join(ANNA)
    upstream.begin()
    assert Wait(call, 0.01).wait() is None
    assert asyncio.run(Wait(call, 0.01).wait_async()) is None
    upstream.end()
    assert number_of(call) == 1


def test_a_cancelled_waiter_harms_nobody(upstream):
    async def storm():
        waiters = [asyncio.ensure_future(Wait(call, 60).wait_async()) for _ in range(50)]
        await asyncio.sleep(0.01)
        for waiter in waiters[1:]:
            waiter.cancel()
        upstream.end()
        return await asyncio.gather(*waiters, return_exceptions=True)

    call = upstream.join(ANNA)
    first, *cancelled = asyncio.run(storm())
    assert first == 1
    assert all(isinstance(one, asyncio.CancelledError) for one in cancelled)


def test_a_call_that_is_done_is_read_at_once_in_any_loop(upstream):
    call = upstream.join(ANNA)
    upstream.end()
    assert number_of(call) == 1
    assert asyncio.run(Wait(call, 0).wait_async()) == 1


def test_a_loop_closed_while_the_call_runs_makes_no_noise(upstream, caplog):
    call = upstream.join(ANNA)
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(Wait(call, 60).wait_async())
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    upstream.end()
    assert number_of(call) == 1
    assert caplog.records == []
    waiting._log_destroy_pending = False  # that it is never finished is what this test is about


class Strike(BaseException):
    pass


def test_a_call_that_was_noted_and_not_queued_runs_when_the_next_joins(upstream, monkeypatch):
    submit = upstream.workers.submit
    monkeypatch.setattr(upstream.workers, "submit", struck)
    with pytest.raises(Strike):
        upstream.join(ANNA)
    monkeypatch.setattr(upstream.workers, "submit", submit)
    assert upstream.is_running(ANNA)  # as far as anybody noted
    call = upstream.join(ANNA)
    upstream.end()
    assert number_of(call) == 1


def test_a_call_that_was_queued_and_joined_by_nobody_fetches_nothing(clock, monkeypatch):
    upstream = Upstream(clock, most=1)
    first = upstream.join(BERT)
    upstream.begin()
    monkeypatch.setattr(upstream.workers, "_add_threads", struck)
    with pytest.raises(Strike):
        upstream.join(ANNA)
    monkeypatch.undo()
    clock.advance(3.1)
    upstream.end(2)
    assert number_of(first) == 1
    assert number_of(upstream.join(BERT)) == 2
    assert upstream.fetched == [BERT, BERT]
    assert not upstream.is_running(ANNA)
    upstream.workers.close()


def struck(*_, **__):
    raise Strike


def test_whatever_strikes_a_thread_at_a_fetch_those_who_wait_are_told(upstream, caplog):
    upstream.single_flight._fetch = struck
    assert isinstance(Wait(upstream.join(ANNA), 60).wait(), Strike)
    assert not upstream.is_running(ANNA)


def test_whatever_strikes_where_it_is_kept_those_who_wait_have_it_and_another_starts(upstream, caplog):
    upstream.single_flight._keep = struck
    first = upstream.join(ANNA)
    upstream.end(2)
    assert number_of(first) == 1
    eventually(lambda: not upstream.is_running(ANNA))
    assert number_of(upstream.join(ANNA)) == 2
    assert "interrupted at its work: Strike" in caplog.text


def test_a_call_whose_thread_is_gone_gives_way_to_its_successor(upstream):
    lost = upstream.join(ANNA)
    upstream.begin()
    successor = upstream.join(ANNA, later=True)
    with upstream.workers._lock:  # as if the thread had died in the middle of it
        upstream.workers._busy.clear()
        upstream.workers._threads.clear()
    assert not upstream.is_running(ANNA)
    assert upstream.join(ANNA) is successor
    upstream.begin()
    upstream.end(2)
    assert {number_of(lost), number_of(successor)} == {1, 2}


def test_a_call_that_was_forgotten_and_not_taken_out_gives_way(upstream):
    call = upstream.join(ANNA)
    upstream.begin()
    call.is_forgotten = True
    assert not upstream.single_flight.is_current(call)
    assert upstream.join(ANNA) is not call


def test_no_thread_is_started_with_the_lock_held(upstream, monkeypatch):
    submit, held = upstream.workers.submit, []

    def watched(*args, **kwargs):
        held.append(upstream.lock.locked())
        return submit(*args, **kwargs)

    monkeypatch.setattr(upstream.workers, "submit", watched)
    first = upstream.join(ANNA)
    upstream.begin()
    second = upstream.join(ANNA, later=True)
    upstream.end()
    assert number_of(first) == 1
    upstream.begin()
    third = upstream.join(ANNA, later=True)
    upstream.forget(ANNA)
    upstream.begin()
    upstream.end(2)
    assert {number_of(second), number_of(third)} == {2, 3}
    assert held == [False, False, False]


def test_a_call_that_was_forgotten_before_it_could_be_queued_brings_its_waiters_what_it_fetches(upstream):
    with upstream.lock:
        call = upstream.single_flight.join_locked(ANNA)
    upstream.forget(ANNA)
    upstream.single_flight.begin(call)
    upstream.end()
    assert number_of(call) == 1
    assert upstream.kept == []


def test_so_does_a_successor_that_was_forgotten_before_it_could_begin(upstream):
    first = upstream.join(ANNA)
    upstream.begin()
    second = upstream.join(ANNA, later=True)
    with upstream.lock:
        assert upstream.single_flight.forget(ANNA) is second
        upstream.single_flight.forget(ANNA)
    upstream.single_flight.begin(second)
    upstream.end(2)
    assert {number_of(first), number_of(second)} == {1, 2}
    assert upstream.kept == []


def test_a_call_that_no_worker_takes_any_more_leaves_another_in_its_place(upstream, monkeypatch):
    def refuse(*_, **__):
        upstream.forget(ANNA)
        return False

    monkeypatch.setattr(upstream.workers, "submit", refuse)
    call = upstream.join(ANNA)
    assert isinstance(call.result, NotFetchedError)


def test_a_call_queued_twice_runs_once(upstream):
    call = upstream.join(ANNA)
    upstream.begin()
    assert upstream.workers.submit(lambda: upstream.single_flight._run(call))
    upstream.end()
    assert number_of(call) == 1
    eventually(lambda: not upstream.workers._busy)
    assert upstream.fetched == [ANNA]


def test_who_comes_as_it_ends_is_called_back(upstream):
    call, called = upstream.join(ANNA), []
    upstream.end()
    assert number_of(call) == 1
    call.done.add_callback(lambda: called.append(True))
    assert called == [True]
    call.set_result(call.result)  # being called twice is no harm
    assert called == [True, True]


def test_a_waiter_in_a_loop_is_woken_twice_without_a_word(upstream, caplog):
    async def wait():
        waiting = asyncio.ensure_future(Wait(call, 60).wait_async())
        await asyncio.sleep(0.01)
        (callback,) = call.done._callbacks
        callback()
        result = await waiting
        callback()
        upstream.end()
        await asyncio.sleep(0.01)
        return result

    call = upstream.join(ANNA)
    assert asyncio.run(wait()) is None  # woken before it was done
    assert number_of(call) == 1
    assert not caplog.records


def test_a_clock_that_went_back_leaves_no_call_running_for_ever(upstream, clock):
    lost = upstream.join(ANNA)
    upstream.begin()
    clock.advance(-500)
    assert upstream.join(ANNA) is not lost
