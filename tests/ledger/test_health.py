import json
import uuid

import pytest

from entitlement_gate.ledger.memory import MemoryLedger
from entitlement_gate.ledger.protocol import examined
from entitlement_gate.ledger.redis import RedisLedger
from entitlement_gate.testing.ledger_contract import ANNA, METER, demand
from tests.ports import free_port


@pytest.fixture
def ledger(redis_url):
    ledger = RedisLedger(redis_url, prefix=uuid.uuid4().hex)
    yield ledger
    ledger.close()


def with_events(ledger):
    """Leave three events, of which one is set aside."""
    for number in range(3):
        ledger.consume(ANNA, [demand(1, target=METER)], key=str(number))
    ledger.bury(ledger.take(1, lease=60)[0], "no")
    return ledger


def test_memory_tells_what_waits():
    report = with_events(MemoryLedger()).health()
    assert report == {"store": "memory", "reachable": True, "pending": 2, "dead_letters": 1}


def test_redis_tells_what_waits_and_how_it_keeps(ledger):
    report = with_events(ledger).health()
    assert json.loads(json.dumps(report)) == {
        "store": "redis",
        "reachable": True,
        "pending": 2,
        "dead_letters": 1,
        "maxmemory_policy": "noeviction",
        "appendonly": False,
        "lost": False,
    }


def test_a_redis_that_nobody_used_yet_is_not_lost(ledger, redis_url):
    assert ledger.health()["lost"] is False
    assert RedisLedger(redis_url, prefix=ledger._prefix, must_exist=True).health()["lost"] is True


def test_a_redis_that_evicts_is_told_and_not_refused(ledger):
    ledger._client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        report = ledger.health()
    finally:
        ledger._client.config_set("maxmemory-policy", "noeviction")
    assert (report["reachable"], report["maxmemory_policy"]) == (True, "allkeys-lru")


def test_loss_is_told_until_it_is_accepted(ledger, redis_url):
    ledger.consume(ANNA, [demand(1)], key="k")
    meta = ledger._key(ledger._bucket(ANNA), "meta")
    newcomer = RedisLedger(redis_url, prefix=ledger._prefix)
    ledger._client.hset(meta, "seq", "0")
    assert (ledger.health()["lost"], newcomer.health()["lost"]) == (True, False)
    ledger._client.hset(meta, "epoch", "another")
    assert (ledger.health()["lost"], newcomer.health()["lost"]) == (True, False)
    ledger._client.delete(meta)
    assert (ledger.health()["lost"], newcomer.health()["lost"]) == (True, True)
    for key in ledger._client.keys(f"{{{ledger._prefix}*"):
        ledger._client.delete(key)
    assert (ledger.health()["lost"], newcomer.health()["lost"]) == (True, False)
    newcomer.accept_loss()
    assert (ledger.health()["lost"], newcomer.health()["lost"]) == (False, False)
    assert ledger.consume(ANNA, [demand(1)], key="l").quantity == 1


def test_a_redis_that_is_not_there_is_told_without_its_password():
    report = RedisLedger(f"redis://anna:secret@127.0.0.1:{free_port()}/0").health()
    assert report["reachable"] is False
    assert (report["pending"], report["lost"]) == (None, None)
    assert report["error"].startswith("LedgerUnavailable: Redis: ConnectionError")
    assert "secret" not in json.dumps(report)


def test_secrets_in_an_error_are_not_told():
    def look(_):
        raise ValueError("redis://anna:hush@host/0 postgres://h%20ush@host PASSWORD=hush password='hu sh' user=anna")

    error = examined("store", look)["error"]
    assert error == "ValueError: redis://***@host/0 postgres://***@host PASSWORD=*** password=*** user=anna"
