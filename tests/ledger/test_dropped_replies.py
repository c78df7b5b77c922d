"""A reply that is lost on its way: the verb is done again, and counts once."""

import uuid
from urllib.parse import urlsplit

from entitlement_gate.ledger.balances import Row, available
from entitlement_gate.ledger.redis import RedisLedger
from entitlement_gate.testing.ledger_contract import ANNA, CALLS, METER, demand
from tests.ledger.racing import drained
from tests.ledger.servers import DroppingProxy

BUDGET = Row("row", 1_000)


def left(ledger):
    return available((BUDGET,), ledger.charges(ANNA)[CALLS])


def test_a_dropped_reply_of_any_verb_counts_nothing_twice(redis_url):
    place = urlsplit(redis_url)
    proxy = DroppingProxy(place.port)
    # As patient as the URL: a time-out would be no dropped reply.
    ledger = RedisLedger(place._replace(netloc=f"127.0.0.1:{proxy.port}").geturl(), prefix=uuid.uuid4().hex)
    asked = [demand(3, BUDGET, target=METER)]
    ledger.consume(ANNA, [demand(1, BUDGET)], key="connects")

    def dropping(verb, *args, **more):
        proxy.to_drop = 1
        told = verb(*args, **more)
        assert proxy.to_drop == 0
        return told

    assert dropping(ledger.reserve, ANNA, asked, key="k", ttl=60).quantity == 3
    assert left(ledger) == 996
    dropping(ledger.extend, ANNA, "k", 60)
    dropping(ledger.commit, ANNA, "k", actual=2)
    assert left(ledger) == 997
    dropping(ledger.consume, ANNA, asked, key="l")
    ledger.reserve(ANNA, asked, key="m", ttl=60)
    dropping(ledger.release, ANNA, "m")
    dropping(ledger.adopt_upstream, ANNA, {CALLS: (BUDGET,)}, 2.0)
    dropping(ledger.charges, ANNA)
    assert left(ledger) == 994
    assert sorted(drained(ledger)) == [("k", 2), ("l", 3)]
    proxy.stop()
