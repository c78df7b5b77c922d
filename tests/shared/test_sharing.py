"""What gates that share one Redis promise; each gate stands for a process."""

import logging
import threading
import time

import pytest

from entitlement_gate.domain.decisions import Reason
from entitlement_gate.domain.errors import CustomerNotFound
from entitlement_gate.engine.snapshots import _SINCE_THE_CALL
from entitlement_gate.resilience.single_flight import Wait
from tests.engine.fakes import ANNA, BERT, DOWN, customers, eventually, feature, once, waiters
from tests.shared.conftest import SealedBilling, invalidate, raw_client, record_key, shared_of


def seen(decision):
    return decision.outcome.value, decision.source, round(decision.age, 1)


def overtaken_at(gate, customer):
    entry = gate._snapshots.entries.get(customer)
    return entry is not None and entry.is_invalidated


class TestFinding:
    def test_what_one_fetched_serves_another_and_then_its_memory_does(self, gates, billing, clock, ask):
        one, other = gates
        assert seen(ask(one, "check", ANNA, "reports")) == ("allowed", "live", 0)
        clock.advance(20)
        assert seen(ask(other, "check", ANNA, "reports")) == ("allowed", "shared", 20)
        clock.advance(10)
        assert seen(ask(other, "check", ANNA, "reports")) == ("allowed", "cache", 30)
        assert billing.calls == [ANNA]

    def test_it_is_fresh_no_longer_than_where_it_was_fetched(self, gates, billing, clock):
        one, other = gates
        one.check(ANNA, "reports")
        clock.advance(59)
        other.check(ANNA, "reports")
        clock.advance(1)
        billing.hold()
        assert other.check(ANNA, "reports").source == "cache"  # served while it is renewed
        billing.wait_for_calls(2)

    def test_data_past_its_ttl_is_fetched_anew(self, gates, billing, clock, ask):
        one, other = gates
        one.check(ANNA, "reports")
        clock.advance(60)
        assert seen(ask(other, "check", ANNA, "reports")) == ("allowed", "live", 0)
        assert seen(one.check(ANNA, "reports", refresh=False))[1] == "cache"
        eventually(lambda: one.check(ANNA, "reports").age < 1)  # renewed by what the other fetched
        assert len(billing.calls) == 2

    def test_what_one_holds_already_is_no_renewal(self, make_gate, billing, clock):
        gate = make_gate(stale_while_revalidate=0)
        gate.check(ANNA, "reports")
        entry = gate._snapshots.entries[ANNA]
        entry.fresh_for, entry.fresh_until = 1, entry.fetched_at + 1  # as one that was unlucky with its jitter
        gate._snapshots.forget(entry)
        clock.advance(2)
        assert gate.check(ANNA, "reports").source == "live"

    def test_a_customer_unknown_to_billing_is_shared(self, gates, billing, ask):
        billing.error = CustomerNotFound("404")
        assert ask(gates[0], "check", ANNA, "reports").reason is Reason.CUSTOMER_NOT_FOUND
        decision = ask(gates[1], "check", ANNA, "reports")
        assert (decision.reason, decision.source) == (Reason.CUSTOMER_NOT_FOUND, "shared")
        assert len(billing.calls) == 1

    def test_a_customer_without_a_row_is_shared(self, gates, billing):
        assert [gate.check(BERT, "reports").source for gate in gates] == ["live", "shared"]

    def test_a_failure_is_not(self, gates, billing, ask):
        billing.error = DOWN
        assert ask(gates[0], "check", ANNA, "reports").source == "fallback"
        billing.error = None
        assert ask(gates[1], "check", ANNA, "reports").source == "live"

    def test_the_ledger_and_all_who_listen_hear_of_it_as_it_was_fetched(self, gates, billing, monkeypatch):
        one, other = gates
        adopted, refreshed = [], []
        monkeypatch.setattr(other, "adopting", adopted.append, raising=False)
        monkeypatch.setattr(other, "refreshed", refreshed.append)
        one.check(ANNA, "reports")
        other.check(ANNA, "reports")
        assert [snapshot.customer_id for snapshot in adopted] == [ANNA]
        assert refreshed == []  # it was no fetch of this process

    def test_another_scope_is_another_world(self, make_gate, billing, clock):
        stranger = SealedBilling(clock)
        make_gate().check(ANNA, "reports")
        assert make_gate(stranger).check(ANNA, "reports").source == "live"

    def test_health_says_how_redis_fares(self, gates):
        gates[0].check(ANNA, "reports")
        assert gates[0].health()["shared"] == "closed"


class TestClocks:
    def test_a_fetch_in_the_future_was_now(self, make_gate, billing, clock):
        clock.step(3_600)
        make_gate().check(ANNA, "reports")
        clock.step(-3_600)
        decision = make_gate().check(ANNA, "reports")
        assert decision.source == "shared"
        assert 0 <= decision.age < 30

    def test_and_ages_all_the_same_by_the_clock_of_redis(self, make_gate, billing, clock):
        clock.step(3_600)
        gate = make_gate(ttl=0.05)
        gate.check(ANNA, "reports")
        clock.step(-3_600)
        time.sleep(0.06)  # Redis has a clock of its own
        assert make_gate(ttl=0.05).check(ANNA, "reports").source == "live"

    def test_by_a_clock_that_is_ahead_it_is_older(self, make_gate, clock):
        make_gate().check(ANNA, "reports")
        clock.step(61)
        assert make_gate().check(ANNA, "reports").source == "live"


class TestWhenFetchingFails:
    def test_an_older_record_is_better_than_nothing(self, gates, billing, clock, ask):
        one, other = gates
        one.check(ANNA, "reports")
        clock.advance(1_000)
        billing.error = DOWN
        for _ in range(9):
            assert seen(ask(other, "check", ANNA, "reports")) == ("allowed", "stale", 1_000)
        assert len(billing.calls) == 6  # it failed five times a moment ago

    def test_up_to_an_age(self, gates, billing, clock):
        gates[0].check(ANNA, "reports")
        clock.advance(3_601)
        billing.error = DOWN
        assert gates[1].check(ANNA, "reports").source == "fallback"

    def test_what_is_held_is_not_replaced_by_what_is_older(self, gates, billing, clock):
        one, other = gates
        one.check(ANNA, "reports")
        clock.advance(10)
        raw_client(other).delete(record_key(other, ANNA))
        other.check(ANNA, "reports")
        held = other._snapshots.entries[ANNA]
        clock.advance(200)
        billing.error = DOWN
        assert seen(other.check(ANNA, "reports")) == ("allowed", "stale", 200)
        assert other._snapshots.entries[ANNA] is held

    def test_what_is_held_is_replaced_by_what_is_newer(self, gates, billing, clock):
        one, other = gates
        one.check(ANNA, "reports")
        clock.advance(100)
        other.check(ANNA, "reports")
        clock.advance(100)
        billing.error = DOWN
        assert seen(one.check(ANNA, "reports")) == ("allowed", "stale", 100)

    def test_while_the_breaker_is_open_others_data_serves(self, gates, billing, clock, ask):
        one, other = gates
        billing.error = DOWN
        for customer in customers(5):
            other.check(customer, "reports")
        assert other.health()["breaker"] == "open"
        billing.error = None
        one.check(ANNA, "reports")
        calls = len(billing.calls)
        assert ask(other, "check", ANNA, "reports").source == "shared"
        assert ask(other, "check", BERT, "reports").source == "fallback"
        assert len(billing.calls) == calls


class TestDenials:
    def test_before_a_denial_a_young_record_will_do(self, gates, billing, clock, ask):
        one, other = gates
        for gate in gates:
            gate.check(ANNA, "sso")
        billing.grants[ANNA] = (feature("sso"),)
        clock.advance(5)
        assert seen(ask(one, "check", ANNA, "sso")) == ("allowed", "live", 0)
        clock.advance(4)
        assert seen(ask(other, "check", ANNA, "sso")) == ("allowed", "shared", 4)
        assert len(billing.calls) == 2

    def test_an_older_one_will_not(self, gates, billing, clock, ask):
        one, other = gates
        one.check(ANNA, "sso")
        billing.grants[ANNA] = (feature("sso"),)
        clock.advance(5)
        assert seen(ask(other, "check", ANNA, "sso")) == ("allowed", "live", 0)
        assert len(billing.calls) == 2

    def test_if_that_fetch_fails_the_shared_denial_stands(self, gates, billing, clock, ask):
        gates[0].check(ANNA, "sso")
        billing.error = DOWN
        clock.advance(5)
        assert seen(ask(gates[1], "check", ANNA, "sso")) == ("denied", "stale", 5)

    @pytest.mark.parametrize("is_held", [False, True])
    def test_who_joined_a_call_that_was_content_with_less_asks_again(self, gates, billing, clock, is_held):
        one, other = gates
        if is_held:
            other.check(ANNA, "sso")
            clock.advance(30)
        one.check(ANNA, "sso", refresh=True)
        clock.advance(6)
        look, release = shared_of(other).look, threading.Event()

        def slow(customer_id, wanted):
            assert release.wait(10)
            return look(customer_id, wanted)

        shared_of(other).look = slow
        call = other._snapshots._single_flight.join(ANNA)
        eventually(lambda: call.began_at is not None)
        told = []
        asking = threading.Thread(target=lambda: told.append(other.check(ANNA, "sso")))
        asking.start()
        once(lambda: waiters(other) == 1, release.set)
        asking.join()
        assert call.result.source == "shared"
        assert [seen(decision) for decision in told] == [("denied", "live", 0)]

    def test_both_waits_together_keep_the_deadline(self, make_gate, billing, clock):
        gate = make_gate()
        call = gate._snapshots._single_flight.join(ANNA)
        assert Wait(call, 10).wait()
        wait = next(gate._snapshots._awaiting(ANNA, call, clock.monotonic() + 3))
        assert wait.seconds == 3
        assert next(gate._snapshots._awaiting(ANNA, call, clock.monotonic() - 3)).seconds == 0


def count_looks(gate, monkeypatch):
    """Give a list that grows with each look of the gate at what is shared."""
    store, looks = shared_of(gate)._store, []
    look = store.look
    monkeypatch.setattr(store, "look", lambda *args, **keywords: looks.append(args) or look(*args, **keywords))
    return looks


class TestRefresh:
    def test_it_takes_no_record_of_before(self, gates, billing, ask):
        one, other = gates
        one.check(ANNA, "sso")
        billing.grants[ANNA] = (feature("sso"),)
        assert seen(ask(other, "check", ANNA, "sso", refresh=True)) == ("allowed", "live", 0)

    def test_nor_that_of_a_call_that_was_running(self, gates, billing):
        one, other = gates
        billing.hold()
        earlier = threading.Thread(target=one.check, args=(ANNA, "sso"))
        earlier.start()
        billing.wait_for_calls(1)
        billing.grants[ANNA] = (feature("sso"),)
        told = []
        later = threading.Thread(target=lambda: told.append(other.check(ANNA, "sso", refresh=True)))
        later.start()
        eventually(lambda: other._snapshots._single_flight.is_running(ANNA))
        billing.release()
        earlier.join()
        later.join()
        assert [seen(decision) for decision in told] == [("allowed", "live", 0)]
        assert len(billing.calls) == 2

    def test_but_that_of_one_which_began_since(self, make_gate, billing, monkeypatch):
        gates = [make_gate() for _ in range(4)]
        billing.hold()
        told = []
        threads = [
            threading.Thread(target=lambda gate=gate: told.append(gate.check(ANNA, "reports", refresh=True)))
            for gate in gates
        ]
        threads[0].start()
        billing.wait_for_calls(1)
        looks = [count_looks(gate, monkeypatch) for gate in gates[1:]]
        for thread in threads[1:]:
            thread.start()
        for some in looks:  # who looks again knows by the first look since when a fetch will do
            eventually(lambda some=some: len(some) > 1)
        billing.release()
        for thread in threads:
            thread.join()
        assert sorted(decision.source for decision in told) == ["live", "live", "shared", "shared"]
        assert len(billing.calls) == 2  # the first, and one for all who called after it had begun

    def test_a_call_that_has_not_begun_takes_over_what_is_asked(self, gates):
        single_flight = gates[0]._snapshots._single_flight
        with gates[0]._snapshots._lock:  # nobody lets it begin
            call = single_flight.join_locked(ANNA)
            assert single_flight.join_locked(ANNA, max_age=_SINCE_THE_CALL) is call
        assert call.max_age == _SINCE_THE_CALL


class TestOneFetchInTheFleet:
    def test_whoever_comes_later_waits_and_gets_it(self, make_gate, billing):
        gates = [make_gate() for _ in range(4)]
        billing.hold()
        told = []
        threads = [
            threading.Thread(target=lambda gate=gate: told.append(gate.check(ANNA, "reports")))
            for gate in gates
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        billing.wait_for_calls(1)
        threading.Timer(0.1, billing.release).start()
        for thread in threads:
            thread.join()
        assert billing.calls == [ANNA]
        assert {decision.source for decision in told} <= {"live", "shared", "cache"}
        assert all(decision.allowed for decision in told)

    def test_a_failed_fetch_gives_the_turn_to_the_next(self, gates, billing):
        one, other = gates
        billing.hold()
        billing.error = DOWN
        first = threading.Thread(target=one.check, args=(ANNA, "reports"))
        first.start()
        billing.wait_for_calls(1)
        billing.error = None
        told = []
        second = threading.Thread(target=lambda: told.append(other.check(ANNA, "reports")))
        second.start()
        eventually(lambda: other._snapshots._single_flight.is_running(ANNA))
        billing.release()
        first.join()
        second.join()
        assert [decision.source for decision in told] == ["live"]

    def test_the_lease_of_one_that_died_runs_out(self, make_gate, billing):
        scope, store = billing.seal().scope, shared_of(make_gate())._store
        assert store.look(scope, ANNA, "of a dead process", 0.2, always=True).has_lease
        eventually(lambda: store.look(scope, ANNA, "of the next", 60, always=True).has_lease)
        assert not store.look(scope, ANNA, "of one more", 60, always=True).has_lease

    def test_who_has_waited_long_enough_asks_billing_itself(self, make_gate, billing, clock, monkeypatch):
        gate = make_gate()
        shared = shared_of(gate)
        shared._store.look(billing.seal().scope, ANNA, "of one that hangs", 30, always=True)
        monkeypatch.setattr(shared._closing, "wait", clock.advance)
        assert gate.check(ANNA, "reports").source == "live"
        assert make_gate().check(ANNA, "reports").source == "shared"  # kept all the same

    def test_a_gate_that_closes_waits_no_longer(self, make_gate, billing):
        gate = make_gate()
        shared_of(gate)._store.look(billing.seal().scope, ANNA, "of one that hangs", 30, always=True)
        told = []
        thread = threading.Thread(target=lambda: told.append(gate.check(ANNA, "reports")))
        thread.start()
        eventually(lambda: gate._snapshots._single_flight.is_running(ANNA))
        gate.close()
        thread.join(60)
        assert [decision.source for decision in told] == ["fallback"]
        assert billing.calls == []

    def test_a_later_fetch_that_was_faster_is_not_overwritten(self, gates, billing):
        one, other = gates
        store, seal = shared_of(one)._store, billing.seal()
        first = store.look(seal.scope, ANNA, "", 1, always=False).stamp
        other.check(ANNA, "reports")
        kept = raw_client(one).hget(record_key(one, ANNA), "record")
        assert store.keep(seal.scope, ANNA, "", first, record=b"an older one")
        assert raw_client(one).hget(record_key(one, ANNA), "record") == kept

    def test_one_from_a_clock_that_was_ahead_is(self, gates, billing):
        raw_client(gates[0]).hset(record_key(gates[0], ANNA), mapping={"begun": 2**52, "record": b"of a lost server"})
        assert [gate.check(ANNA, "reports").source for gate in gates] == ["live", "shared"]

    def test_the_lease_is_returned_where_the_record_came_with_it(self, gates, billing, clock, monkeypatch):
        """Between a look and the next the record arrived and the lease fell free."""
        one, other = gates
        one.check(ANNA, "reports")
        store, seal = shared_of(other)._store, billing.seal()
        look = store.look
        monkeypatch.setattr(store, "look", lambda *args, always: look(*args, always=True))
        assert other.check(ANNA, "reports").source == "shared"
        assert look(seal.scope, ANNA, "next", 1, always=True).has_lease


class TestRecordsOfOthers:
    @pytest.mark.parametrize("spoil", [lambda text: text[:-1] + b"]", lambda _: b"nonsense", lambda _: b"\x00" * 999])
    def test_a_record_that_is_not_ours_is_a_miss_and_noted_once(self, make_gate, billing, spoil, caplog):
        gate = make_gate()
        gate.check(ANNA, "reports")
        key = record_key(gate, ANNA)
        raw_client(gate).hset(key, "record", spoil(raw_client(gate).hget(key, "record")))
        assert [make_gate().check(ANNA, "reports").source for _ in range(2)] == ["live", "shared"]
        assert [record.message for record in caplog.records] == [
            "a shared record is not signed with our API key; billing is asked instead"
        ]

    def test_anothers_record_under_this_customers_key_is_a_miss(self, make_gate, billing):
        gate = make_gate()
        gate.check(BERT, "reports")
        client = raw_client(gate)
        client.hset(record_key(gate, ANNA), mapping=client.hgetall(record_key(gate, BERT)))
        assert make_gate().check(ANNA, "reports").source == "live"

    def test_a_record_of_before_the_key_was_changed_is_a_miss(self, make_gate, billing):
        make_gate().check(ANNA, "reports")
        billing.secret = "another key"
        assert make_gate().check(ANNA, "reports").source == "live"

    def test_a_record_of_another_generation_is_a_miss(self, make_gate, billing):
        gate = make_gate()
        gate.check(ANNA, "reports")
        store = shared_of(gate)._store
        raw_client(gate).set(store._keys(billing.seal().scope, ANNA)[0], "another")
        assert make_gate().check(ANNA, "reports").source == "live"

    def test_records_go_by_themselves(self, make_gate):
        gate = make_gate(stale_if_error=200)
        gate.check(ANNA, "reports")
        assert 250 < raw_client(gate).ttl(record_key(gate, ANNA)) <= 260

    def test_without_a_seal_nothing_is_shared(self, make_gate, billing, caplog):
        def seal():
            raise RuntimeError("no secrets here")

        billing.seal = seal
        assert [make_gate().check(ANNA, "reports").source for _ in range(2)] == ["live", "live"]
        gate = make_gate()
        invalidate(gate, ANNA)
        assert gate.check(ANNA, "reports").source == "live"
        assert {record.levelno for record in caplog.records} == {logging.WARNING}
        assert "no secrets here" not in caplog.text


class TestInvalidation:
    def test_all_fetch_anew_once(self, gates, billing, ask):
        one, other = gates
        for gate in gates:
            gate.check(ANNA, "sso")
        billing.grants[ANNA] = (feature("sso"),)
        invalidate(one, ANNA)
        eventually(lambda: overtaken_at(other, ANNA))
        assert ask(other, "check", ANNA, "sso").allowed
        assert ask(one, "check", ANNA, "sso").allowed
        assert len(billing.calls) == 2

    def test_an_allowance_of_before_does_not_survive_it(self, gates, billing):
        one, other = gates
        for gate in gates:
            gate.check(ANNA, "reports")
        billing.grants[ANNA] = ()
        invalidate(one, ANNA)
        eventually(lambda: overtaken_at(other, ANNA))
        assert not other.has(ANNA, "reports")

    async def test_it_can_be_awaited(self, gates, billing):
        from entitlement_gate.resilience.effects import run_async

        one, other = gates
        other.check(ANNA, "reports")
        await run_async(one._snapshots.invalidating(ANNA))
        eventually(lambda: overtaken_at(other, ANNA))

    def test_a_fetch_begun_before_it_is_neither_kept_nor_shared(self, make_gate, gates, billing):
        one, other = gates
        billing.hold()
        told = []
        earlier = threading.Thread(target=lambda: told.append(one.check(ANNA, "sso")))
        earlier.start()
        billing.wait_for_calls(1)
        billing.grants[ANNA] = (feature("sso"),)
        invalidate(other, ANNA)
        billing.release()
        earlier.join()
        assert [decision.allowed for decision in told] == [False]  # it asked before
        assert one.check(ANNA, "sso").allowed
        assert make_gate().check(ANNA, "sso").allowed
        assert len(billing.calls) == 2

    def test_nor_where_the_news_are_late(self, gates, billing, monkeypatch):
        one, other = gates
        monkeypatch.setattr(one._snapshots, "overtaken", lambda *_: None)
        billing.hold()
        earlier = threading.Thread(target=one.check, args=(ANNA, "sso"))
        earlier.start()
        billing.wait_for_calls(1)
        billing.grants[ANNA] = (feature("sso"),)
        invalidate(other, ANNA)
        billing.release()
        earlier.join()
        assert one.check(ANNA, "sso").allowed

    def test_ones_own_call_of_before_is_not_shared_either(self, gates, billing):
        one, other = gates
        billing.hold()
        earlier = threading.Thread(target=one.check, args=(ANNA, "sso"))
        earlier.start()
        billing.wait_for_calls(1)
        billing.grants[ANNA] = (feature("sso"),)
        one._snapshots.invalidate(ANNA)  # all the others are told by that call, at the latest
        billing.release()
        earlier.join()
        assert other.check(ANNA, "sso").allowed

    def test_data_fetched_since_stays(self, gates, billing):
        one, other = gates
        other.check(ANNA, "reports")
        invalidate(one, ANNA)
        eventually(lambda: overtaken_at(other, ANNA))
        other.check(ANNA, "reports")
        stamp = other._snapshots.entries[ANNA].stamp
        other._snapshots.overtaken(ANNA, stamp.generation)
        assert not overtaken_at(other, ANNA)

    def test_a_call_begun_since_goes_on(self, gates, billing):
        one, other = gates
        invalidate(one, ANNA)
        billing.hold()
        waiting = threading.Thread(target=other.check, args=(ANNA, "reports"))
        waiting.start()
        billing.wait_for_calls(1)
        call = other._snapshots._single_flight._calls[ANNA]
        other._snapshots.overtaken(ANNA, call.generation)
        assert not call.is_forgotten
        other._snapshots.overtaken(ANNA, "a later one")
        assert call.is_forgotten
        billing.release()
        waiting.join()

    def test_what_is_not_held_is_none_the_worse(self, gates):
        gates[0]._snapshots.overtaken(ANNA, "generation")
        assert gates[0].check(ANNA, "reports").allowed

    def test_ones_own_news_are_none(self, gates, billing):
        one, other = gates
        invalidate(one, ANNA)
        one.check(ANNA, "reports")
        other.check(ANNA, "reports")
        invalidate(other, BERT)
        one.check(BERT, "reports")
        assert one.check(ANNA, "reports").source == "cache"

    def test_while_the_others_cannot_be_told_nothing_shared_counts_here(self, gates, billing, monkeypatch):
        one, other = gates
        other.check(ANNA, "sso")
        store = shared_of(one)._store
        invalidated = store.invalidate
        monkeypatch.setattr(store, "invalidate", lambda *_: False)
        invalidate(one, ANNA)
        billing.grants[ANNA] = (feature("sso"),)
        assert one.check(ANNA, "sso").source == "live"
        monkeypatch.setattr(store, "invalidate", invalidated)
        shared_of(one)._tell_all()
        eventually(lambda: overtaken_at(other, ANNA))
        assert shared_of(one)._pending == {}

    def test_another_invalidation_while_all_are_told_is_told_too(self, gates, billing, monkeypatch):
        shared = shared_of(gates[0])
        invalidated, told = shared._store.invalidate, []

        def interrupted(*args):
            if not told:
                shared.mark(ANNA)
            told.append(args)
            return invalidated(*args)

        monkeypatch.setattr(shared._store, "invalidate", interrupted)
        invalidate(gates[0], ANNA)
        assert list(shared._pending) == [ANNA]
        shared.tell_of(ANNA)
        assert shared._pending == {}
        assert len(told) == 2

    def test_what_cannot_be_told_is_bounded(self, gates, monkeypatch):
        monkeypatch.setattr("entitlement_gate.shared.shared_snapshots._MOST_PENDING", 2)
        for customer in customers(3):
            shared_of(gates[0]).mark(customer)
        assert list(shared_of(gates[0])._pending) == customers(3)[1:]

    def test_what_was_forgotten_untold_stands_for_everybody(self, make_gate, billing, clock, monkeypatch):
        monkeypatch.setattr("entitlement_gate.shared.shared_snapshots._MOST_PENDING", 2)
        one, other, third = make_gate(), make_gate(), make_gate()
        for gate in (one, other):
            gate.check(ANNA, "sso")
        for gate in (other, third):
            gate.check(BERT, "sso")
        store = shared_of(one)._store
        with monkeypatch.context() as cut_off:
            cut_off.setattr(store, "invalidate", lambda *_: False)
            cut_off.setattr(store, "tell_everybody", lambda *_: False)
            for customer in (ANNA, *customers(2)):  # Anna is the one too many
                invalidate(one, customer)
            shared_of(one)._tell_all()
            assert ANNA not in shared_of(one)._pending
        billing.grants[ANNA] = (feature("sso"),)
        clock.advance(1)
        assert one.check(ANNA, "sso").source == "live"  # not what was shared of her before
        shared_of(one)._tell_all()
        eventually(lambda: overtaken_at(other, ANNA) and overtaken_at(other, BERT) and overtaken_at(third, BERT))
        clock.advance(1)
        before = len(billing.calls)
        assert other.check(BERT, "sso").source == "live"
        assert len(billing.calls) == before + 1
        assert third.check(BERT, "sso").source == "shared"  # fetched since
        assert not shared_of(one)._is_everybody_pending

    def test_everybody_is_told_again_until_it_is_done(self, gates, monkeypatch):
        monkeypatch.setattr("entitlement_gate.shared.shared_snapshots._MOST_PENDING", 1)
        shared, told = shared_of(gates[0]), []

        def tell(scopes, _):
            told.append(scopes)
            if len(told) == 2:
                shared.mark(BERT)  # another is forgotten while all are told
            return len(told) > 1

        monkeypatch.setattr(shared._store, "tell_everybody", tell)
        for customer in customers(2):
            shared.mark(customer)
        for _ in range(4):
            shared._tell_all()
        assert len(told) == 3
        assert not shared._is_everybody_pending

    def test_without_a_seal_everybody_waits(self, gates, billing, monkeypatch):
        monkeypatch.setattr("entitlement_gate.shared.shared_snapshots._MOST_PENDING", 1)
        shared = shared_of(gates[0])
        monkeypatch.setattr(billing, "seal", None)
        for customer in customers(2):
            shared.mark(customer)
        shared._tell_all()
        assert shared._is_everybody_pending

    def test_in_an_outage_of_billing_nothing_of_before_is_shared(self, gates, billing):
        one, other = gates
        one.check(ANNA, "reports")
        invalidate(one, ANNA)
        billing.error = DOWN
        assert other.check(ANNA, "reports").source == "fallback"
        assert one.check(ANNA, "reports").source == "stale"
