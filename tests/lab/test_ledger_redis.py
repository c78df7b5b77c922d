"""What only real processes and a real, dying Redis show."""

import os
import signal
import time
import uuid
from functools import partial

import pytest
import redis

from entitlement_gate.ledger.balances import Row, available
from entitlement_gate.ledger.protocol import LedgerLost, LedgerUnavailable, Receipt
from entitlement_gate.ledger.redis import RedisLedger
from entitlement_gate.testing.ledger_contract import ANNA, CALLS, METER, demand
from tests.busyness import Timed
from tests.ledger.racing import drained, kill_many, race
from tests.ledger.servers import RedisServer

BUDGET = Row("row", 1_000)


def left(ledger, row=BUDGET):
    return available((row,), ledger.charges(ANNA)[CALLS])


@pytest.fixture
def make_server(tmp_path):
    servers = []

    def make(*options):
        servers.append(RedisServer(tmp_path, *options))
        return servers[-1]

    yield make
    for server in servers:
        server.kill()


def test_eight_processes_on_a_budget_of_a_thousand_get_exactly_a_thousand(make_server, tmp_path):
    url = make_server().patient_url
    keys = race(partial(RedisLedger, url), tmp_path)
    ledger = RedisLedger(url)
    assert len(keys) == len(set(keys)) == 1_000
    assert left(ledger) == 0
    assert sorted(drained(ledger)) == sorted((key, 1) for key in keys)


def test_killed_workers_lose_nothing_acknowledged_and_their_holds_return(make_server, tmp_path):
    url, row = make_server().patient_url, Row("row", 10**6)
    keys = kill_many(partial(RedisLedger, url), tmp_path)
    ledger = RedisLedger(url)
    time.sleep(2.1)  # the holds of the dead
    events = drained(ledger)
    assert set(keys) <= {key for key, _ in events}
    assert len(events) == len(set(events)) == ledger.pending()
    assert left(ledger, row) == 10**6 - len(events)


def test_a_killed_redis_with_aof_keeps_what_it_acknowledged(make_server):
    server = make_server("--appendonly", "yes", "--appendfsync", "always")  # by default, a second's writes may go
    ledger = RedisLedger(server.patient_url)
    for number in range(100):
        ledger.consume(ANNA, [demand(1, BUDGET)], key=str(number))
    server.kill()
    with pytest.raises(LedgerUnavailable):
        ledger.consume(ANNA, [demand(1, BUDGET)], key="down")
    server.start()
    assert left(ledger) == 900
    assert ledger.consume(ANNA, [demand(1, BUDGET)], key="99").is_replay


def test_a_killed_redis_without_aof_is_lost_and_not_refilled(make_server):
    server = make_server()
    ledger = RedisLedger(server.patient_url)
    ledger.consume(ANNA, [demand(1_000, BUDGET)], key="all")
    server.kill()
    server.start()
    for _ in range(2):
        with pytest.raises(LedgerLost):
            ledger.consume(ANNA, [demand(1, BUDGET)], key="more")
    with pytest.raises(LedgerLost):
        RedisLedger(server.patient_url, must_exist=True).charges(ANNA)
    ledger.accept_loss()
    assert isinstance(ledger.consume(ANNA, [demand(1, BUDGET)], key="more"), Receipt)


def test_an_old_dump_is_loss(make_server):
    server = make_server()
    ledger = RedisLedger(server.patient_url)
    ledger.consume(ANNA, [demand(1, BUDGET)], key="dumped")
    ledger._client.save()
    ledger.consume(ANNA, [demand(1, BUDGET)], key="not dumped")
    server.kill()
    server.start()
    with pytest.raises(LedgerLost, match="behind"):
        ledger.consume(ANNA, [demand(1, BUDGET)], key="more")


def test_a_hung_redis_is_unavailable_within_half_a_second(make_server):
    server = make_server()
    ledger = RedisLedger(server.url)
    ledger.consume(ANNA, [demand(1, BUDGET)], key="a")
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        for each in (ledger, RedisLedger(server.url)):
            with Timed() as timed, pytest.raises(LedgerUnavailable):
                each.consume(ANNA, [demand(1, BUDGET)], key="b")
            assert timed.within(0.5), timed.seconds
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    assert isinstance(ledger.consume(ANNA, [demand(1, BUDGET)], key="b"), Receipt)
    assert left(ledger) == 998


def test_every_key_of_a_verb_is_in_one_slot_of_a_cluster(make_server):
    server = make_server("--cluster-enabled", "yes")
    ledger = RedisLedger(server.patient_url, prefix=uuid.uuid4().hex)
    ledger._client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
    deadline = time.monotonic() + 10
    while b"cluster_state:ok" not in ledger._client.execute_command("CLUSTER", "INFO"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    ledger.reserve(ANNA, [demand(1, BUDGET, target=METER)], key="k", ttl=60)
    ledger.commit(ANNA, "k")
    ledger.adopt_upstream(ANNA, {CALLS: (BUDGET,)}, 2.0)
    assert left(ledger) == 999
    assert len(drained(ledger)) == 1


def test_a_client_of_a_cluster_counts_and_ships(make_server):
    server = make_server("--cluster-enabled", "yes")
    with redis.Redis.from_url(server.url) as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
        deadline = time.monotonic() + 10
        while b"cluster_state:ok" not in client.execute_command("CLUSTER", "INFO"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    ledger = RedisLedger(redis.RedisCluster.from_url(server.url))
    for number in range(100):
        ledger.consume(f"customer {number}", [demand(1, BUDGET, target=METER)], key="k")
    assert ledger.pending() == 100
    events = ledger.take(60)
    assert len(events) == 60
    ledger.bury(events[0], "no")
    assert [letter.event for letter in ledger.dead_letters()] == [events[0]]
    assert len(drained(ledger)) == 40
    ledger.accept_loss()
    assert ledger.consume("customer 7", [demand(1, BUDGET)], key="k").is_replay
    assert ledger.health()["pending"] == 99
    ledger.close()
