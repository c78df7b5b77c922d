"""The thread that hears of invalidations: when it begins, what it survives, when it ends."""

import gc
import os
import subprocess
import sys
import threading
import time
import warnings
import weakref

import pytest

from entitlement_gate.engine.gate import EntitlementGate
from entitlement_gate.shared import invalidation_stream
from tests.engine.fakes import ANNA, BERT, customers, eventually, held_elsewhere
from tests.shared.conftest import SealedBilling, invalidate, raw_client, shared_of

NAME = "entitlement_gate-listening"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr("entitlement_gate.shared.invalidation_stream._BLOCK", 0.05)
    monkeypatch.setattr("entitlement_gate.shared.invalidation_stream._PAUSE", 0.05)
    monkeypatch.setattr(
        "entitlement_gate.resilience.worker_pool._IDLE_SECONDS", 0.05
    )  # an idle worker knows its last work


def listener_of(gate):
    return shared_of(gate)._reader._thread


def disconnect_all(gate):
    raw_client(gate).execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def overtaken_at(gate, customer):
    return gate._snapshots.entries[customer].is_invalidated


def test_there_is_none_before_the_first_fetch_and_one_after(make_gate):
    gate = make_gate()
    gate.health()
    assert listener_of(gate) is None
    gate.check(ANNA, "reports")
    first = listener_of(gate)
    gate.check(BERT, "reports")
    assert listener_of(gate) is first
    assert first.daemon


def test_those_who_meet_at_the_first_fetch_start_one(make_gate, monkeypatch):
    shared = shared_of(make_gate())
    store, begun = shared._store, []
    position, begin = store.position, shared._reader._begin

    def met():
        monkeypatch.setattr(store, "position", position)
        shared._reader.start()  # the other, who came first; a lock of ours lets in whoever is called from within
        return position()

    monkeypatch.setattr(store, "position", met)
    monkeypatch.setattr(shared._reader, "_begin", lambda: begun.append(begin()))
    assert shared._reader.start()
    assert len(begun) == 1


def test_one_that_was_late_to_begin_and_has_been_replaced_ends(make_gate):
    gate = make_gate()
    gate.check(ANNA, "reports")
    first, reader = listener_of(gate), shared_of(gate)._reader
    reader._begin()
    eventually(lambda: not first.is_alive())
    assert listener_of(gate).is_alive()


def test_news_that_come_as_the_stream_is_looked_at_make_nothing_else_overtaken(gates, monkeypatch):
    one, other = gates
    for gate in gates:
        gate.check(ANNA, "reports")
        gate.check(BERT, "reports")
    reader = shared_of(other)._reader
    reader.close()
    eventually(lambda: not listener_of(other).is_alive())
    client, look = raw_client(other), invalidation_stream.last_news

    def overtaken(*args):
        answer = look(*args)
        invalidate(one, ANNA)
        reader.take(client.xread({reader._store.news_key: reader._position}))
        return answer

    monkeypatch.setattr(invalidation_stream, "last_news", overtaken)
    reader.catch_up(client)
    assert (overtaken_at(other, ANNA), overtaken_at(other, BERT)) == (True, False)


def test_it_ends_when_the_gate_is_closed_however_often(make_gate):
    gate = make_gate()
    gate.check(ANNA, "reports")
    gate.close()
    gate.close()
    eventually(lambda: not listener_of(gate).is_alive())


# Whoever drops a gate that was not closed leaves its connections to the collector, which may take a socket first.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_it_ends_when_the_gate_is_gone(redis_url, clock):
    gate = EntitlementGate(SealedBilling(clock), redis_url=redis_url)
    gate.check(ANNA, "reports")
    thread, shared = listener_of(gate), weakref.ref(shared_of(gate))
    del gate
    eventually(lambda: gc.collect() is not None and shared() is None)
    eventually(lambda: not thread.is_alive())


def test_one_that_ended_is_followed_by_another(make_gate):
    gate = make_gate()
    gate.check(ANNA, "reports")
    first = listener_of(gate)
    shared_of(gate)._reader.close()
    eventually(lambda: not first.is_alive())
    shared_of(gate)._reader._closing.clear()
    gate.check(BERT, "reports")
    assert listener_of(gate) is not first
    assert listener_of(gate).is_alive()


def test_without_a_thread_to_be_had_all_goes_on_by_age_alone(make_gate, monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    gate = make_gate()
    shared = shared_of(gate)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert shared._reader.start()
    assert not listener_of(gate).is_alive()


def test_a_broken_connection_makes_it_miss_nothing(gates):
    one, other = gates
    other.check(ANNA, "reports")
    disconnect_all(one)
    invalidate(one, ANNA)
    eventually(lambda: overtaken_at(other, ANNA))


def test_news_that_were_dropped_before_they_were_read_make_everything_overtaken(gates, monkeypatch):
    monkeypatch.setattr("entitlement_gate.shared.store._MOST_NEWS", 100)
    one, other = gates
    one.check(ANNA, "reports")
    reader = shared_of(one)._reader
    other.check(BERT, "reports")
    with monkeypatch.context() as busy:
        busy.setattr(reader, "catch_up", lambda client: 1 / 0)  # it reads nothing meanwhile
        time.sleep(0.2)  # more than one read takes
        invalidate(other, ANNA)
        store = shared_of(other)._store
        for number in range(400):
            store.invalidate("another scope", customers(1)[0], str(number), "sender")
        assert raw_client(one).xlen(store.news_key) < 300
        assert not overtaken_at(one, ANNA)
    eventually(lambda: overtaken_at(one, ANNA))


def test_a_stream_that_is_full_and_was_read_makes_nothing_overtaken(gates, monkeypatch):
    monkeypatch.setattr("entitlement_gate.shared.store._MOST_NEWS", 100)
    one, other = gates
    one.check(ANNA, "reports")
    store = shared_of(other)._store
    for number in range(400):
        store.invalidate("another scope", customers(1)[0], str(number), "sender")
        if number % 40 == 0:  # the reader keeps up
            last = raw_client(one).xrevrange(store.news_key, count=1)[0][0].decode()
            eventually(lambda last=last: shared_of(one)._reader._position == last)
    assert not overtaken_at(one, ANNA)


def test_a_stream_that_began_anew_makes_everything_overtaken(gates):
    one, other = gates
    invalidate(one, BERT)
    other.check(ANNA, "reports")
    raw_client(one).delete(shared_of(one)._store.news_key)
    disconnect_all(one)
    eventually(lambda: overtaken_at(other, ANNA))
    assert other.check(ANNA, "reports").source == "shared"  # it is still what Redis has


def test_what_is_held_from_before_the_first_word_of_redis_is_overtaken(make_gate, monkeypatch):
    gate = make_gate()
    store = shared_of(gate)._store
    with monkeypatch.context() as patch:
        patch.setattr(store, "position", lambda: None)
        assert gate.check(ANNA, "reports").source == "live"
    assert listener_of(gate) is None
    gate.check(BERT, "reports")
    assert overtaken_at(gate, ANNA)


def test_news_of_other_scopes_and_malformed_ones_are_let_be(gates, clock, make_gate):
    one, other = gates
    other.check(ANNA, "reports")
    invalidate(make_gate(SealedBilling(clock)), ANNA)
    raw_client(one).xadd(shared_of(one)._store.news_key, {b"\xff": b"\xff"})
    raw_client(one).xadd(shared_of(one)._store.news_key, {"scope": one.source.seal().scope})
    other.check(BERT, "reports")
    invalidate(one, BERT)
    eventually(lambda: overtaken_at(other, BERT))
    assert not overtaken_at(other, ANNA)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_shares_and_listens_on_its_own(make_gate, gates, billing):
    one, other = gates
    for gate in gates:
        gate.check(ANNA, "reports")
    with held_elsewhere(shared_of(other)._lock), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads about is what this is about
        pid = os.fork()
        if pid == 0:
            status = 255
            try:
                assert listener_of(other) is None
                invalidate(other, ANNA)
                other.check(BERT, "reports")
                assert listener_of(other).is_alive()
                assert other.check(ANNA, "reports").source == "live"
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    eventually(lambda: overtaken_at(one, ANNA) and overtaken_at(other, ANNA))
    assert one.check(ANNA, "reports").source == "shared"


def test_nothing_is_imported_or_started_before_it_is_needed():
    script = """
import sys, threading
from entitlement_gate.engine.gate import EntitlementGate
from entitlement_gate.zenskar.client import ZenskarClient
EntitlementGate(ZenskarClient("key", "organisation"), ledger=None)
assert "redis" not in sys.modules
EntitlementGate(ZenskarClient("key", "organisation"), ledger=None, redis_url="redis://127.0.0.1:1/0").health()
assert threading.active_count() == 1, threading.enumerate()
"""
    subprocess.run([sys.executable, "-c", script], timeout=120, check=True)


def test_a_process_that_listens_exits_promptly(redis_url):
    script = f"""
from entitlement_gate.engine.gate import EntitlementGate
from tests.shared.conftest import SealedBilling
import time
gate = EntitlementGate(SealedBilling(time), redis_url={redis_url!r})
assert gate.has("10000000-0000-4000-8000-000000000001", "reports")
print(time.time())
"""
    done = subprocess.run([sys.executable, "-c", script], timeout=120, check=True, capture_output=True)
    assert time.time() - float(done.stdout) < 30  # who waits for news does so for ever
    assert done.stderr == b""
