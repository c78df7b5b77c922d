"""A ledger whose Redis is another server by now, behind the same address."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import redis

from entitlement_gate.ledger.balances import Row, available
from entitlement_gate.ledger.protocol import LedgerUnavailable
from entitlement_gate.ledger.redis import RedisLedger
from entitlement_gate.testing.ledger_contract import ANNA, CALLS, METER, demand
from tests.ledger.failing_over import Pair

ROW = Row("row", 1_000)
AT_ONCE = 8


@pytest.fixture
def pair(tmp_path):
    pair = Pair(tmp_path)
    yield pair
    pair.stop()


@pytest.fixture
def ledger(pair):
    ledger = RedisLedger(pair.url)
    yield ledger
    ledger.close()


def use(ledger, key):
    return ledger.consume(ANNA, [demand(1, ROW, target=METER)], key=key).quantity


def left(ledger):
    return available((ROW,), ledger.charges(ANNA)[CALLS])


def open_many(ledger):
    """Let the pool hold a connection for each of many threads."""
    start = Barrier(AT_ONCE)

    def ask(_):
        start.wait()
        for _ in range(20):
            ledger.charges(ANNA)

    with ThreadPoolExecutor(AT_ONCE) as crowd:
        list(crowd.map(ask, range(AT_ONCE)))


def test_uses_go_on_at_the_new_primary_and_nothing_is_counted_twice(pair, ledger):
    assert use(ledger, "before") == 1
    open_many(ledger)
    pair.fail_over()
    assert [use(ledger, f"after {number}") for number in range(10)] == [1] * 10
    assert use(ledger, "after 0") == 1
    assert left(ledger) == 1_000 - 11


def test_reads_do_not_go_on_at_the_old_primary(pair, ledger):
    use(ledger, "before")
    open_many(ledger)
    pair.fail_over()
    elsewhere = RedisLedger(pair.new.patient_url)
    use(elsewhere, "elsewhere")
    assert left(ledger) == left(elsewhere) == 998
    assert ledger.pending() == elsewhere.pending() == 2
    elsewhere.close()


def test_a_server_that_stays_a_replica_is_unavailable_and_says_why(pair):
    ledger = RedisLedger(pair.old.patient_url)
    use(ledger, "before")
    pair.fail_over()
    for ask in (lambda: use(ledger, "after"), lambda: left(ledger), ledger.pending):
        with pytest.raises(LedgerUnavailable, match="ReadOnlyError"):
            ask()
    with redis.Redis(port=pair.old.port) as client:
        assert client.info("clients")["connected_clients"] <= 2  # the one that asks, and none that is kept
        client.replicaof("NO", "ONE")
    assert use(ledger, "after") == 1
    ledger.close()


def test_a_new_primary_that_evicts_is_refused(pair, ledger):
    use(ledger, "before")
    with redis.Redis(port=pair.new.port) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    pair.fail_over()
    with pytest.raises(LedgerUnavailable, match="noeviction"):
        [use(ledger, f"after {number}") for number in range(2)]


def test_a_client_whose_pool_is_of_another_kind_is_left_to_itself(pair):
    pool = redis.BlockingConnectionPool.from_url(pair.old.patient_url, max_connections=2)
    with redis.Redis(connection_pool=pool) as client:
        ledger = RedisLedger(client)
        use(ledger, "before")
        pair.fail_over()
        with pytest.raises(LedgerUnavailable, match="ReadOnlyError"):
            use(ledger, "after")
    pool.disconnect()


def test_a_client_of_the_caller_s_own_finds_the_new_primary_too(pair):
    with redis.Redis.from_url(pair.url) as client:
        ledger = RedisLedger(client)
        use(ledger, "before")
        pair.fail_over()
        assert use(ledger, "after") == 1
