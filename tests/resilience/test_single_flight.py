import asyncio
import threading

import pytest

from entitlement_gate.domain.grants import Snapshot
from entitlement_gate.engine.cache import Entry
from entitlement_gate.resilience.single_flight import Landing, Rules, SingleFlight, Wait
from entitlement_gate.resilience.worker_pool import WorkerPool
from tests.engine.fakes import ANNA, BERT, eventually


class Airline:
    """SingleFlight that take off when they are told to, and what they landed."""

    def __init__(self, clock, most=4):
        self.fetched = []
        self.landed = []
        self.is_open = True
        self.begun = threading.Semaphore(0)
        self.may_land = threading.Semaphore(0)
        self.lock = threading.Lock()
        self.workers = WorkerPool(most, clock, 30)
        rules = Rules(lambda _: self.is_open, self._fetch, lambda *kept: self.landed.append(kept), 3, 30)
        self.flights = SingleFlight(self.lock, self.workers, clock, rules)
        self.clock = clock

    def _fetch(self, flight):
        self.fetched.append(flight.customer_id)
        number = len(self.fetched)
        self.begun.release()
        assert self.may_land.acquire(timeout=30)
        return Landing(Entry(Snapshot(flight.customer_id, (), number), self.clock.monotonic(), 0, 60))

    def begin(self):
        assert self.begun.acquire(timeout=5)

    def land(self, count=1):
        self.may_land.release(count)

    def void(self, customer):
        with self.lock:
            self.flights.void(customer)


def number_of(flight):
    return Wait(flight, 5).wait().entry.snapshot.fetched_at


@pytest.fixture
def airline(clock):
    made = Airline(clock)
    yield made
    made.land(100)
    made.workers.close()


def test_all_who_ask_at_once_share_a_flight(airline):
    flights = {id(airline.flights.join(ANNA)): airline.flights.join(ANNA) for _ in range(20)}
    assert len(flights) == 1
    assert airline.flights.is_flying(ANNA)
    airline.land()
    assert number_of(airline.flights.join(ANNA)) == 1
    assert airline.fetched == [ANNA]


def test_customers_fly_apart(airline):
    airline.flights.join(ANNA)
    airline.flights.join(BERT)
    airline.begin()
    airline.begin()
    assert sorted(airline.fetched) == [ANNA, BERT]


def test_a_flight_may_be_refused_and_one_that_is_up_is_joined_all_the_same(airline):
    flight = airline.flights.join(ANNA)
    airline.begin()
    airline.is_open = False
    assert airline.flights.join(BERT) is None
    assert airline.flights.join(ANNA) is flight
    assert airline.flights.join(ANNA, later=True) is None


def test_a_later_flight_begins_after_the_one_that_is_up_and_is_shared(airline):
    first = airline.flights.join(ANNA)
    airline.begin()
    second = airline.flights.join(ANNA, later=True)
    assert second is airline.flights.join(ANNA, later=True)
    assert second is not first
    assert airline.fetched == [ANNA]
    airline.land(2)
    assert (number_of(first), number_of(second)) == (1, 2)
    assert [landing.entry.snapshot.fetched_at for _, landing in airline.landed] == [1, 2]


def test_a_flight_that_has_not_begun_is_late_enough(clock):
    airline = Airline(clock, most=1)
    airline.flights.join(ANNA)
    airline.begin()
    queued = airline.flights.join(BERT)
    assert airline.flights.join(BERT, later=True) is queued
    airline.land(2)
    airline.workers.close()


def test_an_invalidated_flight_lands_for_those_who_wait_and_nobody_else(airline):
    first = airline.flights.join(ANNA)
    airline.begin()
    airline.void(ANNA)
    assert not airline.flights.is_flying(ANNA)
    second = airline.flights.join(ANNA)
    airline.begin()
    airline.land(2)
    assert {number_of(first), number_of(second)} == {1, 2}
    assert [landing.entry.snapshot.fetched_at for _, landing in airline.landed] == [2]


def test_an_invalidation_starts_the_later_flight_at_once(airline):
    airline.flights.join(ANNA)
    airline.begin()
    second = airline.flights.join(ANNA, later=True)
    airline.void(ANNA)
    airline.begin()
    assert airline.flights.join(ANNA) is second
    airline.land(2)
    assert number_of(second) == 2


def test_invalidating_where_nothing_flies_changes_nothing(airline):
    airline.void(ANNA)
    assert not airline.flights.is_flying(ANNA)


def test_a_hung_flight_is_given_up_and_another_starts(airline, clock):
    hung = airline.flights.join(ANNA)
    airline.begin()
    clock.advance(30)
    assert airline.flights.join(ANNA) is hung
    clock.advance(0.1)
    assert airline.flights.join(ANNA) is not hung
    airline.begin()
    airline.land(2)
    eventually(lambda: len(airline.landed) == 1)


def test_a_hung_flight_gives_way_to_its_successor(airline, clock):
    airline.flights.join(ANNA)
    airline.begin()
    successor = airline.flights.join(ANNA, later=True)
    clock.advance(31)
    assert airline.flights.join(ANNA) is successor


def test_what_nobody_waits_for_any_longer_is_not_fetched(clock):
    airline = Airline(clock, most=1)
    first, unwanted = airline.flights.join(ANNA), airline.flights.join(BERT)
    airline.begin()
    clock.advance(3.1)
    airline.land()
    assert number_of(first) == 1
    assert "nobody" in str(Wait(unwanted, 5).wait().error)
    assert airline.fetched == [ANNA]
    airline.workers.close()


def test_a_queued_flight_that_somebody_joins_is_wanted_for_longer(clock):
    airline = Airline(clock, most=1)
    airline.flights.join(ANNA)
    airline.begin()
    wanted = airline.flights.join(BERT)
    clock.advance(2)
    airline.flights.join(BERT)
    clock.advance(2)
    airline.land(2)
    assert number_of(wanted) == 2
    airline.workers.close()


def test_without_workers_a_flight_lands_at_once(airline):
    airline.workers.close()
    flight = airline.flights.join(ANNA)
    assert "closed" in str(Wait(flight, 5).wait().error)
    assert not airline.flights.is_flying(ANNA)


def test_a_waiter_gives_up_in_time_and_the_flight_goes_on(airline):
    flight = airline.flights.join(ANNA)
    airline.begin()
    assert Wait(flight, 0.01).wait() is None
    assert asyncio.run(Wait(flight, 0.01).wait_async()) is None
    airline.land()
    assert number_of(flight) == 1


def test_a_cancelled_waiter_harms_nobody(airline):
    async def storm():
        waiters = [asyncio.ensure_future(Wait(flight, 5).wait_async()) for _ in range(50)]
        await asyncio.sleep(0.01)
        for waiter in waiters[1:]:
            waiter.cancel()
        airline.land()
        return await asyncio.gather(*waiters, return_exceptions=True)

    flight = airline.flights.join(ANNA)
    landed, *cancelled = asyncio.run(storm())
    assert landed.entry.snapshot.fetched_at == 1
    assert all(isinstance(one, asyncio.CancelledError) for one in cancelled)


def test_a_flight_that_has_landed_is_read_at_once_in_any_loop(airline):
    flight = airline.flights.join(ANNA)
    airline.land()
    assert number_of(flight) == 1
    assert asyncio.run(Wait(flight, 0).wait_async()).entry.snapshot.fetched_at == 1


def test_a_loop_closed_while_the_flight_is_up_makes_no_noise(airline, caplog):
    flight = airline.flights.join(ANNA)
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(Wait(flight, 5).wait_async())
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    airline.land()
    assert number_of(flight) == 1
    assert caplog.records == []
    waiting._log_destroy_pending = False  # that it is never finished is what this test is about


class Strike(BaseException):
    pass


def test_a_flight_that_was_noted_and_not_queued_flies_when_the_next_joins(airline, monkeypatch):
    submit = airline.workers.submit
    monkeypatch.setattr(airline.workers, "submit", struck)
    with pytest.raises(Strike):
        airline.flights.join(ANNA)
    monkeypatch.setattr(airline.workers, "submit", submit)
    assert airline.flights.is_flying(ANNA)  # as far as anybody noted
    flight = airline.flights.join(ANNA)
    airline.land()
    assert number_of(flight) == 1


def test_a_flight_that_was_queued_and_joined_by_nobody_fetches_nothing(clock, monkeypatch):
    airline = Airline(clock, most=1)
    first = airline.flights.join(BERT)
    airline.begin()
    monkeypatch.setattr(airline.workers, "_muster", struck)
    with pytest.raises(Strike):
        airline.flights.join(ANNA)
    monkeypatch.undo()
    clock.advance(3.1)
    airline.land(2)
    assert number_of(first) == 1
    assert number_of(airline.flights.join(BERT)) == 2
    assert airline.fetched == [BERT, BERT]
    assert not airline.flights.is_flying(ANNA)
    airline.workers.close()


def struck(*_, **__):
    raise Strike


def test_whatever_strikes_a_thread_at_a_fetch_those_who_wait_are_told(airline, caplog):
    airline.flights._rules = airline.flights._rules._replace(fetch=struck)
    assert isinstance(Wait(airline.flights.join(ANNA), 5).wait().error, Strike)
    assert not airline.flights.is_flying(ANNA)


def test_whatever_strikes_where_it_lands_those_who_wait_have_it_and_another_starts(airline, caplog):
    airline.flights._rules = airline.flights._rules._replace(land=struck)
    first = airline.flights.join(ANNA)
    airline.land(2)
    assert number_of(first) == 1
    eventually(lambda: not airline.flights.is_flying(ANNA))
    assert number_of(airline.flights.join(ANNA)) == 2
    assert "interrupted at its work: Strike" in caplog.text


def test_a_flight_whose_thread_is_gone_gives_way_to_its_successor(airline):
    lost = airline.flights.join(ANNA)
    airline.begin()
    successor = airline.flights.join(ANNA, later=True)
    with airline.workers._lock:  # as if the thread had died in the middle of it
        airline.workers._busy.clear()
        airline.workers._threads.clear()
    assert not airline.flights.is_flying(ANNA)
    assert airline.flights.join(ANNA) is successor
    airline.begin()
    airline.land(2)
    assert {number_of(lost), number_of(successor)} == {1, 2}


def test_a_flight_that_was_voided_and_not_taken_off_gives_way(airline):
    flight = airline.flights.join(ANNA)
    airline.begin()
    flight.is_void = True
    assert not airline.flights.counts(flight)
    assert airline.flights.join(ANNA) is not flight


def test_a_flight_queued_twice_flies_once(airline):
    flight = airline.flights.join(ANNA)
    airline.begin()
    assert airline.workers.submit(lambda: airline.flights._fly(flight))
    airline.land()
    assert number_of(flight) == 1
    eventually(lambda: not airline.workers._busy)
    assert airline.fetched == [ANNA]


def test_a_bell_rings_for_who_comes_as_it_lands(airline):
    flight, rung = airline.flights.join(ANNA), []
    airline.land()
    assert number_of(flight) == 1
    flight.ring(lambda: rung.append(True))
    assert rung == [True]
    flight.land(flight.landing)  # a bell that rings twice is no harm
    assert rung == [True, True]


def test_a_waiter_in_a_loop_is_woken_twice_without_a_word(airline, caplog):
    async def wait():
        waiting = asyncio.ensure_future(Wait(flight, 5).wait_async())
        await asyncio.sleep(0.01)
        (bell,) = flight._bells
        bell()
        landing = await waiting
        bell()
        airline.land()
        await asyncio.sleep(0.01)
        return landing

    flight = airline.flights.join(ANNA)
    assert asyncio.run(wait()) is None  # woken before it landed
    assert number_of(flight) == 1
    assert not caplog.records


def test_a_clock_that_went_back_leaves_no_flight_up_for_ever(airline, clock):
    lost = airline.flights.join(ANNA)
    airline.begin()
    clock.advance(-500)
    assert airline.flights.join(ANNA) is not lost
