"""How often Redis is asked: a network is slow, and there are 64 buckets."""

import uuid
from typing import ClassVar
from urllib.parse import urlsplit

import pytest
import redis

from entitlement_gate.ledger.balances import Row
from entitlement_gate.ledger.protocol import LedgerUnavailable
from entitlement_gate.ledger.redis import RedisLedger
from entitlement_gate.ledger.redis_client import BUCKETS
from entitlement_gate.testing.ledger_contract import ANNA, BERT, CALLS, METER, demand

PLENTY = Row("row", 10**6)


class Counting(redis.Connection):
    """Counts what is sent at once, and lets others go first."""

    sent = 0
    before: ClassVar = []  # what happens before each of the next ones is sent

    def send_packed_command(self, *args, **keywords):
        Counting.sent += 1
        if Counting.before:
            Counting.before.pop(0)()
        return super().send_packed_command(*args, **keywords)


@pytest.fixture
def ledger(redis_url):
    place = urlsplit(redis_url)
    pool = redis.ConnectionPool(connection_class=Counting, host=place.hostname, port=place.port)
    ledger = RedisLedger(redis.Redis(connection_pool=pool), prefix=uuid.uuid4().hex)
    ledger._client.ping()  # connects, with a greeting
    yield ledger
    ledger.close()


@pytest.fixture
def used(ledger):
    """A ledger with two events in each of its buckets, more or less."""
    for number in range(2 * BUCKETS):
        ledger.consume(f"customer {number}", [demand(1, target=METER)], key="k")
    return ledger


def trips(verb, *args, **keywords):
    before = Counting.sent
    outcome = verb(*args, **keywords)
    return Counting.sent - before, outcome


def test_founding_takes_a_handful_however_many_buckets_there_are(ledger):
    count, told = trips(ledger.consume, ANNA, [demand(1)], key="k")
    assert (told.quantity, count < 10) == (1, True)


def test_any_other_verb_takes_one(used):
    asked = [demand(1, PLENTY, target=METER)]
    for customer_id in (BERT, ANNA):  # the first lets the server learn the scripts
        counts = [
            trips(used.reserve, customer_id, asked, key="a", ttl=60)[0],
            trips(used.extend, customer_id, "a", 60)[0],
            trips(used.commit, customer_id, "a")[0],
            trips(used.reserve, customer_id, asked, key="b", ttl=60)[0],
            trips(used.release, customer_id, "b")[0],
            trips(used.consume, customer_id, asked, key="c")[0],
            trips(used.charges, customer_id)[0],
            trips(used.adopt_upstream, customer_id, {CALLS: (PLENTY,)}, 2.0)[0],
        ]
    assert counts == [1] * 8


def test_the_outbox_takes_two(used):
    assert trips(used.pending) == (1, 2 * BUCKETS)
    count, events = trips(used.take, 100)
    assert (count, len(events)) == (2, 100)
    assert len(set(events)) == 100
    count, rest = trips(used.take, 100)
    assert (count, len(rest)) == (2, 2 * BUCKETS - 100)
    assert trips(used.take, 100) == (1, ())
    for event in (*events, *rest):
        used.bury(event, "no")
    assert trips(used.pending) == (1, 0)
    count, letters = trips(used.dead_letters, 100)
    assert (count, len(letters)) == (2, 100)
    count, letters = trips(used.dead_letters, 1_000)
    assert (count, {letter.event for letter in letters}) == (2, {*events, *rest})


def test_no_more_letters_are_fetched_than_asked_for_where_one_customer_has_thousands(ledger):
    for number in range(2_000):
        ledger.consume(ANNA, [demand(1, target=METER, overdraw=True)], key=str(number))
    for event in ledger.take(2_000):
        ledger.bury(event, "no")
    assert 10 <= len(ledger._ask_some("dead", {ledger._bucket(ANNA): 10})) < 100
    assert len(ledger.dead_letters(10)) == 10
    assert len(ledger.dead_letters(5_000)) == 2_000


def test_accepting_a_loss_takes_one(used):
    assert trips(used.accept_loss)[0] == 1
    assert used.consume(ANNA, [demand(1)], key="k").quantity == 1


def test_another_shipper_that_is_faster_leaves_the_rest_to_a_next_look(used, redis_url):
    other = RedisLedger(redis_url, prefix=used._prefix)
    Counting.before = [lambda: None, lambda: other.take(2 * BUCKETS - 3)]  # between the look and the taking
    assert len(used.take(10)) == 3
    assert used.take(10) == ()
    other.close()


def test_who_is_slower_than_another_shipper_again_and_again_gives_up(used, redis_url):
    other = RedisLedger(redis_url, prefix=used._prefix)

    def use():
        other.consume(ANNA, [demand(1, PLENTY, target=METER)], key=uuid.uuid4().hex)

    Counting.before = [use, lambda: other.take(1_000)] * 3
    assert trips(used.take, 10) == (6, ())
    other.close()


def test_an_error_of_one_command_among_many_is_told_without_what_was_sent(used):
    used._client.set(used._key(0, "event-due"), "no sorted set")
    with pytest.raises(LedgerUnavailable, match=r"^Redis: ResponseError$|WRONGTYPE") as error:
        used.pending()
    assert "HDEL" not in str(error.value)
