"""Redis that is down, hangs or comes back: no check fails, none is noticeably slower."""

import signal
import socket
import threading
import time

import pytest
import redis

from entitlement_gate.engine.gate import EntitlementGate
from tests.busyness import Timed
from tests.engine.fakes import ANNA, BERT, customers, eventually
from tests.ports import free_port
from tests.shared.conftest import SealedBilling, invalidate, raw_client, shared_of

HANGS = 0.25


@pytest.fixture
def billing():
    return SealedBilling(time)


@pytest.fixture
def gates(own_redis, billing):
    """Give two, by real clocks."""
    made = [EntitlementGate(billing, redis_url=own_redis.url, deadline=10) for _ in range(2)]
    yield made
    for gate in made:
        gate.close()


def timed(gate, customer, **how):
    with Timed() as timed:
        decision = gate.check(customer, "reports", **how)
    return decision.source, timed


def typical(taken):
    """Return the median: one of many may find the machine busy."""
    return sorted(taken, key=lambda took: took.seconds)[len(taken) // 2]


def looks_at_redis(gate, monkeypatch):
    """Give a list that grows with each look at what is shared, by the state of the breaker before it."""
    store, states = shared_of(gate)._store, []
    look = store.look
    monkeypatch.setattr(store, "look", lambda *args, **how: states.append(store.state) or look(*args, **how))
    return states


def test_without_redis_a_check_costs_what_it_costs_without_sharing(billing, caplog, monkeypatch):
    gate = EntitlementGate(billing, redis_url=f"redis://:password@127.0.0.1:{free_port()}/0")
    states = looks_at_redis(gate, monkeypatch)
    sources, taken = zip(*(timed(gate, customer) for customer in customers(20)), strict=True)
    assert set(sources) == {"live"}
    assert typical(taken).within(HANGS), typical(taken).seconds
    assert states.count("closed") <= 1  # by the first it is known that there is nothing to ask
    invalidate(gate, ANNA)
    assert gate.check(ANNA, "reports").source == "live"
    assert [record.message for record in caplog.records] == [
        "shared snapshots are out of reach, so this process asks billing itself: ConnectionError"
    ]
    assert "password" not in f"{caplog.text}{gate!r}{gate.options!r}{shared_of(gate)!r}"
    assert gate.health()["shared"] == "open"
    gate.close()


def test_redis_that_hangs_costs_one_check_a_moment_and_the_others_nothing(gates, own_redis, caplog, monkeypatch):
    gate, _ = gates
    gate.check(ANNA, "reports")
    states = looks_at_redis(gate, monkeypatch)
    own_redis.process.send_signal(signal.SIGSTOP)
    sources, taken = zip(*(timed(gate, customer) for customer in customers(20)), strict=True)
    own_redis.process.send_signal(signal.SIGCONT)
    assert set(sources) == {"live"}
    slowest = max(taken, key=lambda took: took.seconds)
    assert slowest.within(HANGS + 0.5), slowest.seconds
    assert typical(taken).within(HANGS), typical(taken).seconds
    assert states.count("closed") <= 1
    assert len(caplog.records) == 1


def test_redis_that_hangs_in_the_middle_of_a_fetch_loses_nothing(gates, own_redis, billing):
    gate, _ = gates
    billing.hold()
    told = []
    thread = threading.Thread(target=lambda: told.append(timed(gate, ANNA)))
    thread.start()
    billing.wait_for_calls(1)
    own_redis.process.send_signal(signal.SIGSTOP)
    billing.release()
    thread.join()
    own_redis.process.send_signal(signal.SIGCONT)
    assert told[0][0] == "live"
    assert gate.check(ANNA, "reports").source == "cache"


def test_who_waits_for_another_process_as_redis_dies_asks_billing(gates, own_redis, billing):
    one, other = gates
    billing.hold()
    told = []
    threads = [threading.Thread(target=lambda gate=gate: told.append(timed(gate, ANNA))) for gate in (one, other)]
    threads[0].start()
    billing.wait_for_calls(1)
    threads[1].start()
    eventually(lambda: other._snapshots._single_flight.is_running(ANNA))
    own_redis.kill()
    billing.wait_for_calls(2)
    billing.release()
    for thread in threads:
        thread.join()
    assert [source for source, _ in told] == ["live", "live"]


def test_when_it_is_back_it_is_used_again_and_what_was_missed_is_told(gates, own_redis, billing, monkeypatch):
    monkeypatch.setattr("entitlement_gate.shared.invalidation_stream._PAUSE", 0.05)
    monkeypatch.setattr("entitlement_gate.resilience.circuit_breaker.CircuitBreaker.SECONDS", 0.1)
    one, other = gates
    for gate in gates:
        gate.check(ANNA, "reports")
    own_redis.kill()
    time.sleep(0.1)  # both find it gone
    invalidate(one, ANNA)
    assert one.check(BERT, "reports").source == "live"
    assert shared_of(one)._pending
    own_redis.start()
    eventually(lambda: not shared_of(one)._pending)
    eventually(lambda: other._snapshots.entries[ANNA].is_invalidated)
    eventually(lambda: one.check(ANNA, "reports", refresh=True) and raw_client(one).dbsize() > 1)
    assert one.health()["shared"] == "closed"


def test_a_server_that_lost_its_scripts_gets_them_again(own_redis, billing):
    first, second = (EntitlementGate(billing, redis_url=own_redis.patient_url, deadline=30) for _ in range(2))
    with first as gate, second as other:
        gate.check(BERT, "reports")
        raw_client(gate).script_flush()
        assert gate.check(ANNA, "reports").source == "live"
        assert other.check(ANNA, "reports").source == "shared"


def test_a_server_that_answers_nonsense_is_one_that_fails(billing, caplog):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def serve():
            connection, _ = listener.accept()
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.close()

        threading.Thread(target=serve, daemon=True).start()
        with EntitlementGate(billing, redis_url=f"redis://127.0.0.1:{port}") as gate:
            assert gate.check(ANNA, "reports").source == "live"
    assert len(caplog.records) == 1


def test_a_server_that_takes_no_writes_is_one_that_fails(gates, own_redis, billing):
    with redis.Redis(port=own_redis.port) as client:
        client.config_set("maxmemory", 1)
    assert [gate.check(ANNA, "reports").source for gate in gates] == ["live", "live"]
