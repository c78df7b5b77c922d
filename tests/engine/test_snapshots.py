import asyncio
import threading

import pytest

from entitlement_gate.domain.decisions import Reason
from entitlement_gate.domain.errors import CustomerNotFound, SourceMalformed, SourceRejected, SourceUnavailable
from entitlement_gate.domain.grants import Snapshot
from entitlement_gate.engine.fetcher import Fetcher
from entitlement_gate.resilience.single_flight import SharedCall
from tests.engine.fakes import ANNA, BERT, DOWN, customers, eventually, feature, once, waiters
from tests.lab.striking import strike_newborns


def seen(decision):
    return decision.outcome.value, decision.reason.value, decision.source, decision.age


def test_the_first_check_fetches_and_the_next_is_answered_from_memory(gate, billing, clock, ask):
    assert seen(ask(gate, "check", ANNA, "reports")) == ("allowed", "allowed", "live", 0)
    clock.advance(59.9)
    assert seen(ask(gate, "check", ANNA, "reports")) == ("allowed", "allowed", "cache", pytest.approx(59.9))
    assert len(billing.calls) == 1


def test_data_past_its_ttl_is_served_at_once_while_one_fetch_renews_it(gate, billing, clock, ask):
    ask(gate, "check", ANNA, "reports")
    billing.hold()
    clock.advance(60)
    for _ in range(3):
        assert seen(ask(gate, "check", ANNA, "reports")) == ("allowed", "allowed", "cache", 60)
    billing.wait_for_calls(2)
    billing.release()
    eventually(lambda: seen(gate.check(ANNA, "reports"))[3] == 0)
    assert len(billing.calls) == 2


@pytest.mark.parametrize("age", [None, 61], ids=["unknown", "to be renewed"])
def test_who_comes_too_late_to_join_a_fetch_starts_no_other(gate, billing, clock, ask, monkeypatch, age):
    if age is not None:
        gate.check(ANNA, "reports")
        clock.advance(age)
    store = gate._snapshots
    before, join = len(billing.calls), store._join_unless_renewed

    def join_too_late(customer_id, entry):
        if len(billing.calls) == before:  # another's fetch begins and ends after the look
            gate.check(customer_id, "reports", refresh=True)
        return join(customer_id, entry)

    monkeypatch.setattr(store, "_join_unless_renewed", join_too_late)
    assert seen(ask(gate, "check", ANNA, "reports")) == ("allowed", "allowed", "cache", age or 0)
    assert not store._single_flight.is_running(ANNA)
    assert len(billing.calls) == before + 1


def test_after_that_a_check_waits_for_a_fetch(gate, billing, clock, ask):
    ask(gate, "check", ANNA, "reports")
    clock.advance(120)
    assert seen(ask(gate, "check", ANNA, "reports")) == ("allowed", "allowed", "live", 0)


def test_when_fetching_fails_older_data_is_served_and_marked(gate, billing, clock, ask):
    ask(gate, "check", ANNA, "reports")
    billing.error = DOWN
    clock.advance(3_600)
    assert seen(ask(gate, "check", ANNA, "reports")) == ("allowed", "allowed", "stale", 3_600)


def test_data_that_is_too_old_is_no_answer(gate, billing, clock, ask):
    ask(gate, "check", ANNA, "reports")
    billing.error = DOWN
    clock.advance(3_601)
    assert seen(ask(gate, "check", ANNA, "reports")) == ("unknown", "unavailable", "fallback", None)


@pytest.mark.parametrize("window", [60, 120], ids=["while it is renewed", "after that"])
def test_a_customer_who_cannot_be_renewed_is_not_fetched_at_every_check(gate, billing, ask, window):
    ask(gate, "check", ANNA, "reports")
    billing.error = SourceRejected(422)  # which never opens the breaker
    billing.clock.advance(window)
    for failures in range(1, 6):
        ask(gate, "check", ANNA, "reports")
        billing.wait_for_calls(1 + failures)
        eventually(lambda: not gate._snapshots._single_flight.is_running(ANNA))
    for _ in range(20):
        assert seen(ask(gate, "check", ANNA, "reports")) == ("allowed", "allowed", "stale", window)
    assert len(billing.calls) == 6
    billing.clock.advance(5)
    ask(gate, "check", ANNA, "reports")
    billing.wait_for_calls(7)


def test_a_fetch_that_failed_quickly_is_tried_again_at_the_next_check(gate, billing, clock, ask):
    ask(gate, "check", ANNA, "reports")
    billing.error = DOWN
    clock.advance(120)
    assert seen(ask(gate, "check", ANNA, "reports"))[2:] == ("stale", 120)
    billing.error = None
    assert seen(ask(gate, "check", ANNA, "reports"))[2:] == ("live", 0)


def test_nobody_waits_twice_for_a_customer_whose_fetch_failed_slowly(gate, billing, clock, ask):
    class Slow(SourceUnavailable):
        def __init__(self):
            super().__init__("after a while")
            clock.advance(0.5)

    ask(gate, "check", ANNA, "reports")
    clock.advance(120)
    billing.error = Slow
    assert seen(ask(gate, "check", ANNA, "reports"))[2] == "stale"
    billing.error = None
    assert seen(ask(gate, "check", ANNA, "reports"))[2] == "stale"
    clock.advance(5)
    assert seen(ask(gate, "check", ANNA, "reports"))[2] == "live"


def test_stale_data_is_served_while_renewing_only_as_far_as_errors_may_be_bridged(make_gate, billing, clock, ask):
    gate = make_gate(stale_if_error=0)
    ask(gate, "check", ANNA, "reports")
    billing.error = DOWN
    clock.advance(60)
    assert seen(ask(gate, "check", ANNA, "reports"))[2:] == ("cache", 60)
    eventually(lambda: gate.health()["last_failure"])
    eventually(lambda: not gate._snapshots._single_flight.is_running(ANNA))
    assert seen(ask(gate, "check", ANNA, "reports")) == ("unknown", "unavailable", "fallback", None)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DOWN, Reason.UNAVAILABLE),
        (SourceRejected(403), Reason.REJECTED),
        (SourceMalformed("no list"), Reason.MALFORMED_RESPONSE),
        (ZeroDivisionError(), Reason.UNAVAILABLE),
        (SystemExit(1), Reason.UNAVAILABLE),
    ],
)
def test_every_failure_is_an_answer_with_its_reason_and_is_not_held(gate, ask, error, reason):
    billing = gate.source
    billing.error = error
    decision = ask(gate, "check", ANNA, "reports")
    assert (decision.outcome, decision.reason, decision.source) == ("unknown", reason, "fallback")
    billing.error = None
    assert ask(gate, "check", ANNA, "reports").allowed


def test_a_source_that_returns_something_else_is_an_answer_too(make_gate, ask):
    class Broken:
        fetch = staticmethod(lambda _: None)

    assert ask(make_gate(Broken()), "check", ANNA, "reports").reason is Reason.UNAVAILABLE


def test_another_customers_answer_is_none(gate, billing, ask):
    class Confused:
        fetch = staticmethod(lambda _: Snapshot(BERT, (feature(),), 0))

    gate._snapshots._fetcher.source = Confused()
    assert ask(gate, "check", ANNA, "reports").reason is Reason.MALFORMED_RESPONSE
    assert gate.health()["customers"] == 0


def test_a_customer_unknown_to_billing_is_held_like_any_denial(gate, billing, clock, ask):
    billing.error = CustomerNotFound("404")
    assert ask(gate, "check", ANNA, "reports").reason is Reason.CUSTOMER_NOT_FOUND
    assert seen(ask(gate, "check", ANNA, "reports")) == ("denied", "customer_not_found", "cache", 0)
    assert len(billing.calls) == 1
    assert gate.health()["last_failure"] is None


def test_refresh_waits_for_a_fetch_begun_after_the_call(gate, billing, ask):
    billing.hold()
    waiter = threading.Thread(target=gate.has, args=(ANNA, "reports"))
    waiter.start()
    billing.wait_for_calls(1)
    billing.grants[ANNA] = (feature("sso"),)
    running = gate._snapshots._single_flight._calls[ANNA]
    once(lambda: running.successor is not None, billing.release)
    assert ask(gate, "check", ANNA, "sso", refresh=True).allowed
    assert len(billing.calls) == 2
    waiter.join()


def test_refresh_that_fails_serves_what_is_known_as_stale(gate, billing, ask):
    ask(gate, "check", ANNA, "reports")
    billing.error = DOWN
    assert seen(ask(gate, "check", ANNA, "reports", refresh=True)) == ("allowed", "allowed", "stale", 0)


def test_what_is_at_hand_is_fresh_and_known_by_what_it_was_asked_with(gate, clock):
    assert gate.find_answer((ANNA, "reports")) is None
    gate.check(ANNA, "reports")
    assert gate.find_answer((ANNA, "reports")).allowed
    assert gate.find_answer(None) is None
    clock.advance(60)
    assert gate.find_answer((ANNA, "reports")) is None


def test_what_a_fetch_brings_is_adopted_before_a_check_that_waited_goes_on(make_gate, billing, ask, monkeypatch):
    gate, order = make_gate(), []
    monkeypatch.setattr(gate, "adopting", lambda snapshot: order.append(snapshot.customer_id))
    ask(gate, "check", ANNA, "reports")
    assert order == [ANNA]
    billing.error = DOWN
    ask(gate, "check", BERT, "reports")
    assert order == [ANNA]


def test_a_fetch_that_outlives_the_gate_tells_nobody(gate, billing, clock):
    class Gone:
        pass

    asking = Fetcher(billing, gate.options, clock, Gone(), shared=None)
    asking.remake()
    assert asking.fetch(SharedCall(ANNA), None).entry.snapshot.customer_id == ANNA


class TestDenials:
    def test_a_denial_from_older_data_is_preceded_by_a_fetch(self, gate, billing, ask):
        ask(gate, "check", ANNA, "sso")
        billing.grants[ANNA] = (feature("sso"),)
        billing.clock.advance(4.9)
        assert seen(ask(gate, "check", ANNA, "sso")) == ("denied", "not_entitled", "cache", pytest.approx(4.9))
        billing.clock.advance(0.1)
        assert seen(ask(gate, "check", ANNA, "sso")) == ("allowed", "allowed", "live", 0)

    def test_an_allowance_is_not(self, gate, billing, ask):
        ask(gate, "check", ANNA, "reports")
        billing.clock.advance(30)
        assert ask(gate, "check", ANNA, "reports").source == "cache"
        assert len(billing.calls) == 1

    def test_if_that_fetch_fails_the_older_denial_stands(self, gate, billing, ask):
        ask(gate, "check", ANNA, "sso")
        billing.error = DOWN
        billing.clock.advance(5)
        assert seen(ask(gate, "check", ANNA, "sso")) == ("denied", "not_entitled", "stale", 5)

    def test_it_stands_even_where_no_error_may_be_bridged(self, make_gate, billing, ask):
        gate = make_gate(stale_if_error=0, on_unavailable="allow")
        ask(gate, "check", ANNA, "sso")
        billing.error = DOWN
        billing.clock.advance(5)
        assert seen(ask(gate, "check", ANNA, "sso")) == ("denied", "not_entitled", "stale", 5)

    def test_however_many_ask_there_is_one_fetch_per_age(self, gate, billing, ask):
        ask(gate, "check", ANNA, "sso")
        billing.error = DOWN
        billing.clock.advance(5)
        for _ in range(20):
            assert ask(gate, "check", ANNA, "sso").source == "stale"
        threads = [threading.Thread(target=gate.check, args=(ANNA, "other")) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(billing.calls) == 2
        billing.clock.advance(5)
        ask(gate, "check", ANNA, "sso")
        assert len(billing.calls) == 3

    def test_who_asks_while_it_flies_waits_for_it(self, gate, billing, ask):
        ask(gate, "check", ANNA, "sso")
        billing.clock.advance(5)
        billing.hold()
        first = threading.Thread(target=gate.check, args=(ANNA, "sso"))
        first.start()
        billing.wait_for_calls(2)
        once(lambda: waiters(gate) == 2, billing.release)
        assert seen(ask(gate, "check", ANNA, "sso")) == ("denied", "not_entitled", "live", 0)
        first.join()
        assert len(billing.calls) == 2

    def test_what_another_check_has_fetched_meanwhile_is_used(self, gate, billing, clock):
        gate.check(ANNA, "sso")
        clock.advance(5)
        steps = gate._snapshots.view(ANNA)
        with pytest.raises(StopIteration) as end:
            next(steps)
        gate.check(ANNA, "sso")
        with pytest.raises(StopIteration) as newer:
            next(gate._snapshots.for_denial(end.value.value))
        assert (newer.value.value.source, newer.value.value.entry.age(clock)) == ("cache", 0)
        assert len(billing.calls) == 2

    def test_what_was_fetched_meanwhile_but_slowly_is_used_and_fetched_once_more(self, gate, billing, clock):
        gate.check(ANNA, "sso")
        clock.advance(5)
        with pytest.raises(StopIteration) as end:
            next(gate._snapshots.view(ANNA))
        billing.error = DOWN
        gate.check(ANNA, "other")  # the fetch that the older data was worth
        billing.error = None
        billing.grants[ANNA] = (feature("sso"),)
        gate.check(ANNA, "sso", refresh=True)
        clock.advance(5)
        wait = next(gate._snapshots.for_denial(end.value.value))
        assert wait.wait().entry.age(clock) == 0
        assert len(billing.calls) == 4

    def test_a_denial_just_fetched_is_not_fetched_again(self, make_gate, billing, ask):
        gate = make_gate(denial_max_age=0)
        assert seen(ask(gate, "check", ANNA, "sso")) == ("denied", "not_entitled", "live", 0)
        assert len(billing.calls) == 1


class TestBreaker:
    @pytest.fixture
    def broken(self, gate, billing):
        gate.check(ANNA, "reports")
        billing.error = DOWN
        for customer in customers(5):
            gate.check(customer, "reports")
        assert gate.health()["breaker"] == "open"
        return gate

    def test_upstream_is_left_alone_and_checks_answer_at_once(self, broken, billing, ask):
        calls = len(billing.calls)
        billing.clock.advance(1)
        assert seen(ask(broken, "check", BERT, "reports")) == ("unknown", "unavailable", "fallback", None)
        assert seen(ask(broken, "check", ANNA, "reports", refresh=True)) == ("allowed", "allowed", "stale", 1)
        assert len(billing.calls) == calls

    def test_data_that_cannot_be_renewed_is_stale(self, broken, billing, ask):
        billing.clock.advance(60)
        broken._snapshots._breaker._opened_at = billing.clock.monotonic()
        assert seen(ask(broken, "check", ANNA, "reports")) == ("allowed", "allowed", "stale", 60)

    def test_one_probe_of_many_goes_through(self, broken, billing, clock):
        calls = len(billing.calls)
        clock.advance(5)
        billing.hold()
        threads = [threading.Thread(target=broken.check, args=(one, "reports")) for one in customers(20, start=100)]
        for thread in threads:
            thread.start()
        eventually(lambda: sum(thread.is_alive() for thread in threads) == 1)
        billing.error = None
        billing.release()
        for thread in threads:
            thread.join()
        assert len(billing.calls) == calls + 1

    def test_it_closes_when_the_probe_succeeds(self, broken, billing, ask):
        billing.error = None
        billing.clock.advance(5)
        assert ask(broken, "check", BERT, "reports").source == "live"
        assert broken.health()["breaker"] == "closed"

    @pytest.mark.parametrize("status", [400, 422])
    def test_wrong_parameters_do_not_open_it(self, gate, billing, ask, status):
        billing.error = SourceRejected(status)
        for customer in customers(10):
            assert ask(gate, "check", customer, "reports").reason is Reason.REJECTED
        assert gate.health()["breaker"] == "closed"

    @pytest.mark.parametrize("status", [401, 403])
    def test_wrong_credentials_do_and_stale_data_is_served(self, gate, ask, status, caplog):
        billing = gate.source
        ask(gate, "check", ANNA, "reports")
        billing.error = SourceRejected(status)
        billing.clock.advance(120)
        assert seen(ask(gate, "check", ANNA, "reports")) == ("allowed", "allowed", "stale", 120)
        for customer in customers(10):
            assert ask(gate, "check", customer, "reports").outcome == "unknown"
        assert gate.health()["breaker"] == "open"
        assert gate.health()["last_failure"] == "SourceRejected"
        assert len(billing.calls) == 6
        assert [record.levelname for record in caplog.records] == ["ERROR"]


class TestDeadline:
    """Waits take real time, the clocks stand still unless they are moved."""

    def test_who_waits_gives_up_and_the_fetch_still_counts(self, make_gate, billing, ask):
        gate = make_gate(deadline=0.05)
        billing.hold()
        assert seen(ask(gate, "check", ANNA, "reports")) == ("unknown", "unavailable", "fallback", None)
        billing.release()
        eventually(lambda: gate.health()["customers"] == 1)
        assert ask(gate, "check", ANNA, "reports").source == "cache"
        assert gate.health()["last_failure"] is None  # the clock says that no time has passed

    def test_a_fetch_that_outlasts_those_who_wait_is_a_failure_once(self, make_gate, billing, ask):
        gate = make_gate(deadline=20.0)
        gate.check(ANNA, "reports")
        billing.hold()
        billing.error = DOWN
        billing.clock.advance(120)
        waiting = gate._snapshots.view(ANNA)
        next(waiting)
        billing.wait_for_calls(2)
        billing.clock.advance(20.0)
        with pytest.raises(StopIteration) as end:
            waiting.send(None)  # nothing came in time
        assert end.value.value.source == "stale"
        assert gate._snapshots._breaker._failures == 1
        calls = len(billing.calls)
        assert ask(gate, "check", ANNA, "reports").source == "stale"  # at once: it is known to fail
        assert len(billing.calls) == calls
        billing.release()
        eventually(lambda: not gate._snapshots._single_flight.is_running(ANNA))
        assert gate._snapshots._breaker._failures == 1

    def test_one_that_no_longer_counts_says_nothing_of_newer_data(self, make_gate, billing, clock):
        gate = make_gate(deadline=20.0)
        gate.check(ANNA, "reports")
        billing.hold()
        clock.advance(120)
        waiting = gate._snapshots.view(ANNA)
        call = next(waiting).call  # where the wait for it begins
        billing.wait_for_calls(2)
        gate.invalidate(ANNA)
        billing.release()
        assert gate.check(ANNA, "reports").source == "live"
        clock.advance(20.0)
        with pytest.raises(StopIteration):
            waiting.send(None)  # nothing came in time
        assert call.is_counted
        assert not gate._snapshots.entries[ANNA].has_failed
        clock.advance(60)
        assert gate.check(ANNA, "reports").source == "cache"  # renewed as ever, and not left alone
        billing.wait_for_calls(4)

    def test_a_fetch_that_waits_for_a_worker_is_no_failure_of_billing(self, make_gate, billing, ask):
        gate = make_gate(deadline=0.05, max_concurrency=1)
        billing.hold()
        ask(gate, "check", ANNA, "reports")
        ask(gate, "check", BERT, "reports")
        assert gate._snapshots._breaker._failures == 0

    def test_a_source_that_hangs_for_ever_starves_nobody_for_good(self, make_gate, clock, ask):
        hung, never = customers(2), threading.Event()

        class Hanging:
            def fetch(self, customer_id):
                assert customer_id not in hung or never.wait(30)
                return Snapshot(customer_id, (feature(),), clock.time())

        gate = make_gate(Hanging(), deadline=0.5, max_concurrency=2)
        for customer in hung:
            assert not ask(gate, "has", customer, "reports")
        assert not ask(gate, "has", ANNA, "reports")
        clock.advance(31)
        eventually(lambda: ask(gate, "has", BERT, "reports"))
        never.set()


class TestColdFetches:
    """Customers that are not held, and those of whom billing knows nothing, are fetched from a budget."""

    @pytest.fixture
    def spent(self, gate, clock):
        def spent(name):
            budget = getattr(gate._snapshots, name)
            budget._tokens, budget._filled_at = 0.0, clock.monotonic()

        return spent

    def test_without_budget_a_stranger_gets_no_answer_and_those_who_are_held_do(self, gate, spent, ask, caplog):
        billing = gate.source
        ask(gate, "check", ANNA, "reports")
        spent("_strangers")
        for customer in customers(10):
            assert seen(ask(gate, "check", customer, "reports")) == ("unknown", "unavailable", "fallback", None)
        assert ask(gate, "check", ANNA, "reports").source == "cache"
        assert ask(gate, "check", ANNA, "reports", refresh=True).source == "live"
        assert billing.calls == [ANNA, ANNA]
        assert len(caplog.records) == 1
        assert gate.health()["breaker"] == "closed"

    def test_many_who_ask_about_one_stranger_spend_one_fetch(self, gate, billing, clock):
        gate._snapshots._strangers._tokens = 1.0
        billing.hold()
        told = []
        threads = [threading.Thread(target=lambda: told.append(gate.has(ANNA, "reports"))) for _ in range(50)]
        for thread in threads:
            thread.start()
        billing.release()
        for thread in threads:
            thread.join()
        assert told == [True] * 50

    def test_ten_thousand_random_ids_cost_the_budget_and_no_more(self, make_gate, billing, clock):
        gate = make_gate(max_customers=10)
        for number, customer in enumerate(customers(2_000)):
            gate.has(customer, "reports")
            clock.advance(0.001 if number % 2 else 0)
        assert len(billing.calls) == pytest.approx(1_100, abs=2)

    def test_a_process_may_fill_its_cache_once_at_any_speed(self, make_gate, billing):
        gate = make_gate(max_customers=1_500)
        for customer in customers(2_000):
            gate.has(customer, "reports")
        assert len(billing.calls) == 1_500

    def test_without_budget_the_older_denial_of_a_customer_without_grants_stands(self, billing, gate, spent, ask):
        ask(gate, "check", BERT, "reports")
        billing.clock.advance(5)
        spent("_blanks")
        assert seen(ask(gate, "check", BERT, "reports")) == ("denied", "not_entitled", "stale", 5)
        assert billing.calls == [BERT]
        assert ask(gate, "check", ANNA, "reports").source == "live"  # strangers have a budget of their own

    def test_an_invalidation_is_worth_a_fetch_at_any_time(self, gate, billing, spent, ask):
        ask(gate, "check", BERT, "reports")
        spent("_blanks")
        ask(gate, "invalidate", BERT)
        billing.grants[BERT] = (feature(),)
        assert ask(gate, "check", BERT, "reports").source == "live"


class TestInvalidation:
    def test_where_nothing_is_shared_there_is_nobody_to_tell(self, gate, billing):
        gate.check(ANNA, "sso")
        assert list(gate._snapshots.invalidating(ANNA)) == []
        assert gate._snapshots.entries[ANNA].is_invalidated

    def test_the_next_check_fetches(self, gate, billing, ask):
        ask(gate, "check", ANNA, "sso")
        billing.grants[ANNA] = (feature("sso"),)
        ask(gate, "invalidate", ANNA)
        assert seen(ask(gate, "check", ANNA, "sso")) == ("allowed", "allowed", "live", 0)

    def test_it_beats_an_older_fetch_in_flight(self, gate, billing, ask):
        billing.hold()
        older = threading.Thread(target=gate.check, args=(ANNA, "sso"))
        older.start()
        billing.wait_for_calls(1)
        billing.grants[ANNA] = (feature("sso"),)
        ask(gate, "invalidate", ANNA)
        once(lambda: len(billing.calls) == 2, billing.release)
        assert ask(gate, "check", ANNA, "sso").allowed
        older.join()
        assert ask(gate, "check", ANNA, "sso").allowed
        assert len(billing.calls) == 2

    def test_in_an_outage_what_was_known_is_served_as_stale(self, gate, billing, ask):
        ask(gate, "check", ANNA, "reports")
        ask(gate, "invalidate", ANNA)
        billing.error = DOWN
        assert seen(ask(gate, "check", ANNA, "reports")) == ("allowed", "allowed", "stale", 0)


class TestClosing:
    def test_no_further_fetch_begins_and_what_is_held_is_served(self, gate, billing, ask):
        ask(gate, "check", ANNA, "reports")
        gate.close()
        gate.close()
        assert billing.closed == 2
        assert ask(gate, "check", BERT, "reports").reason is Reason.UNAVAILABLE
        billing.clock.advance(60)
        assert ask(gate, "check", ANNA, "reports").source in ("cache", "stale")
        assert billing.calls == [ANNA]

    def test_queued_fetches_end_without_a_call(self, make_gate, billing, ask):
        gate = make_gate(max_concurrency=1)
        billing.hold()
        told = []
        threads = [threading.Thread(target=lambda c=c: told.append(gate.check(c, "reports"))) for c in (ANNA, BERT)]
        threads[0].start()
        billing.wait_for_calls(1)
        threads[1].start()
        eventually(lambda: gate._snapshots._single_flight.is_running(BERT))
        gate.close()
        billing.release()
        for thread in threads:
            thread.join()
        assert billing.calls == [ANNA]
        assert {decision.reason for decision in told} == {Reason.ALLOWED, Reason.UNAVAILABLE}


def test_a_failure_is_noted_once_whoever_is_first(gate):
    asking = gate._snapshots._fetcher
    call = SharedCall(ANNA)
    asking.failed(call, DOWN)
    asking.failed(call, DOWN)
    assert asking.breaker._failures == 1


def test_twenty_threads_and_four_loops_share_one_fetch_and_its_failure(gate, billing):
    async def some():
        return await asyncio.gather(*(gate.acheck(ANNA, "reports") for _ in range(5)))

    billing.hold()
    billing.error = DOWN
    told = []
    threads = [threading.Thread(target=lambda: told.append(gate.check(ANNA, "reports"))) for _ in range(20)]
    threads += [threading.Thread(target=lambda: told.extend(asyncio.run(some()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    once(lambda: waiters(gate) == 40, billing.release)
    for thread in threads:
        thread.join()
    assert len({seen(decision) for decision in told}) == 1
    assert (len(told), len(billing.calls)) == (40, 1)


@pytest.mark.parametrize("error", [KeyError("a bug"), SystemExit(2)])
def test_whatever_hears_of_a_fetch_and_fails_leaves_an_answer_and_no_call(gate, ask, error, *, monkeypatch):
    def fail(_):
        raise error

    monkeypatch.setattr(gate, "adopting", fail)
    assert ask(gate, "check", ANNA, "reports").reason is Reason.UNAVAILABLE
    monkeypatch.undo()
    assert ask(gate, "check", ANNA, "reports").allowed


def test_a_thread_that_is_struck_as_it_begins_keeps_no_check(gate, billing, ask, monkeypatch):
    strike_newborns(monkeypatch, "entitlement_gate-")
    assert seen(ask(gate, "check", ANNA, "reports"))[:3] == ("allowed", "allowed", "live")
    assert seen(ask(gate, "check", BERT, "reports"))[2] == "live"


@pytest.mark.parametrize("act", ["deny", "invalidate", "overtaken"])
def test_whatever_has_to_start_a_thread_holds_no_lock_meanwhile(gate, billing, clock, monkeypatch, act):
    gate.check(ANNA, "reports")
    store, held = gate._snapshots, []
    submit = store._workers.submit

    def watched(*args, **kwargs):
        held.append(None in store._lock._claims)
        return submit(*args, **kwargs)

    monkeypatch.setattr(store._workers, "submit", watched)
    if act == "deny":
        clock.advance(6)
        assert not gate.has(ANNA, "unheard of")
    else:
        billing.hold()
        store._single_flight.join(ANNA)
        billing.wait_for_calls(2)
        later = store._single_flight.join(ANNA, later=True)
        store.invalidate(ANNA) if act == "invalidate" else store.overtaken(ANNA, "newer")
        billing.wait_for_calls(3)
        billing.release()
        assert later.done.wait(60)
    assert held
    assert not any(held)
