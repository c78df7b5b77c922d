"""Clients whose clocks are wrong by days: time is the server's, so that it is none of the ledger's business."""

import time
import uuid
from functools import partial

import pytest

from entitlement_gate.ledger.balances import Row, available
from entitlement_gate.ledger.protocol import Receipt, Refusal, State
from entitlement_gate.ledger.redis import RedisLedger
from entitlement_gate.testing.ledger_contract import ANNA, CALLS, demand
from tests.lab.test_ledger_database import settings_of
from tests.ledger.conftest import redis_url  # noqa: F401 - a fixture
from tests.ledger.racing import drained, race, skewed
from tests.usage.conftest import postgres, postgres_alias, usage_app  # noqa: F401 - fixtures
from tests.usage.databases import made_ledger
from tests.usage.test_ledger import emptied

DAY = 86_400


@pytest.fixture(params=["redis", "postgresql"])
def make_ledger(request):
    """Return what makes ledgers over one store, in any process."""
    if request.param == "redis":
        return partial(RedisLedger, request.getfixturevalue("redis_url"), prefix=uuid.uuid4().hex)
    alias = request.getfixturevalue("postgres_alias")
    emptied(alias).close()
    return partial(made_ledger, settings_of(alias))


@pytest.fixture
def ledger(make_ledger, postgres_alias):  # noqa: F811 - the fixture
    from entitlement_gate.usage.ledger import DatabaseLedger

    ledger = make_ledger() if make_ledger.func is RedisLedger else DatabaseLedger(postgres_alias)
    yield ledger
    ledger.close()


def left(ledger, budget):
    return available((Row("row", budget),), ledger.charges(ANNA).get(CALLS, {}))


def test_eight_processes_with_eight_clocks_get_exactly_what_there_is(make_ledger, ledger, tmp_path):
    keys = race(partial(skewed, make_ledger), tmp_path, budget=400)
    assert len(keys) == len(set(keys)) == 400
    assert left(ledger, 400) == 0
    events = drained(ledger)
    assert sorted(events) == sorted((key, 1) for key in keys)


@pytest.mark.parametrize("days", [-10, 10])
def test_a_hold_lasts_as_long_by_any_client_s_clock(ledger, monkeypatch, days):
    asked = [demand(6, Row("row", 10))]
    right = time.time
    held = ledger.reserve(ANNA, asked, key="held", ttl=60)
    monkeypatch.setattr(time, "time", lambda: right() + days * DAY)
    assert left(ledger, 10) == 4
    assert ledger.reserve(ANNA, asked, key="more", ttl=60) == Refusal(CALLS, 4)
    assert abs(held.expires_at - right() - 60) < 60
    short = ledger.reserve(ANNA, [demand(1, Row("row", 10))], key="short", ttl=0.2)
    assert isinstance(short, Receipt)
    monkeypatch.undo()
    time.sleep(0.3)  # the server's time, which nobody can move
    assert left(ledger, 10) == 4
    assert ledger.release(ANNA, "short").state is State.EXPIRED
    assert not ledger.commit(ANNA, "held").is_late
