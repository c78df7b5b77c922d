"""A Redis user that may not do everything, and the versions of what is spoken."""

import logging
import uuid

import pytest
import redis

from entitlement_gate.ledger.protocol import LedgerUnavailable
from entitlement_gate.ledger.redis import RedisLedger
from entitlement_gate.testing.ledger_contract import ANNA, METER, demand
from tests.ledger.servers import PATIENT, RedisServer

# What the reference of the setting REDIS_URL names.
NEEDED = "+@read +@write +@scripting +@connection +time"
KEYS = "~{entitlements:*"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture
def admin(server):
    with redis.Redis(port=server.port, decode_responses=True) as client:
        client.flushall()
        yield client


@pytest.fixture(params=["+@all -@dangerous", NEEDED])
def url(request, server, admin):
    """Return the URL of a user with so many rights, and no others."""
    name = f"user-{uuid.uuid4().hex}"
    admin.execute_command("ACL", "SETUSER", name, "on", ">secret", KEYS, *request.param.split())
    yield f"redis://{name}:secret@127.0.0.1:{server.port}/0?client_name=ledger&protocol=3&{PATIENT}"
    admin.execute_command("ACL", "DELUSER", name)


def test_a_user_without_dangerous_commands_can_count(url, caplog):
    ledger = RedisLedger(url)
    for key in ("first", "second"):
        assert ledger.consume(ANNA, [demand(1, target=METER)], key=key).quantity == 1
    ledger.reserve(ANNA, [demand(1)], key="held", ttl=60)
    ledger.extend(ANNA, "held", 90)
    ledger.release(ANNA, "held")
    ledger.adopt_upstream(ANNA, {}, 1.0)
    assert ledger.charges(ANNA)
    first, second = ledger.take(10)
    ledger.bury(first, "refused")
    ledger.postpone(second, 0)
    ledger.delivered(second)
    (letter,) = ledger.dead_letters()
    ledger.revive(letter.event)
    assert (ledger.pending(), ledger.dead_letters()) == (1, ())
    ledger.accept_loss()
    assert ledger.consume(ANNA, [demand(1)], key="third").quantity == 1
    ledger._look_anew()  # as after each error that leads to another server
    assert ledger.consume(ANNA, [demand(1)], key="fourth").quantity == 1
    lines = [record.getMessage() for record in caplog.records if "INFO" in record.getMessage()]
    assert lines == ["Redis refuses INFO: see for yourself that its maxmemory-policy is noeviction"]
    report = ledger.health()
    assert (report["reachable"], report["lost"], report["pending"]) == (True, False, 1)
    assert (report["maxmemory_policy"], report["appendonly"]) == (None, None)
    ledger.close()


def test_a_user_that_may_not_even_read_is_told_so_by_the_kind_of_error(server, admin):
    admin.execute_command("ACL", "SETUSER", "nobody", "on", ">secret", KEYS, "+@connection")
    ledger = RedisLedger(f"redis://nobody:secret@127.0.0.1:{server.port}/0?{PATIENT}")
    with pytest.raises(LedgerUnavailable, match="NoPermission"):
        ledger.charges(ANNA)
    report = ledger.health()
    assert "NoPermission" in report["error"]
    admin.execute_command("ACL", "SETUSER", "nobody", *NEEDED.split())
    assert ledger.charges(ANNA) == {}
    ledger.close()


def test_a_first_start_on_an_empty_redis_alarms_nobody(server, admin, caplog):
    with caplog.at_level(logging.INFO, logger="entitlement_gate.ledger"):
        RedisLedger(server.patient_url).charges(ANNA)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "founding the ledger 'entitlements' in Redis, which holds none")
    ]


@pytest.mark.parametrize("left", ["rows:{customer}", "events", "dead"])
def test_what_is_left_of_a_lost_ledger_is_told_of_as_it_is_founded_anew(server, admin, caplog, left):
    before = RedisLedger(server.patient_url)
    before.consume(ANNA, [demand(1, target=METER)], key="before")
    if left == "dead":
        before.bury(before.take(1)[0], "refused")
    kept = before._key(before._bucket(ANNA), left.format(customer=ANNA))
    for key in list(admin.scan_iter()):
        if key != kept:
            admin.delete(key)
    with caplog.at_level(logging.INFO, logger="entitlement_gate.ledger"):
        RedisLedger(server.patient_url).charges(ANNA)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "founding the ledger 'entitlements' in Redis among the remains of one that is lost")
    ]
