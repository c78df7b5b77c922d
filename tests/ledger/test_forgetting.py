"""Keys are forgotten in small steps, or by the store itself; what was used up is not."""

import time
import uuid

import pytest

from entitlement_gate.domain.errors import ReservationNotFound
from entitlement_gate.ledger import redis_client
from entitlement_gate.ledger.balances import Row, available
from entitlement_gate.ledger.memory import _A_FEW, MemoryLedger
from entitlement_gate.ledger.protocol import LONE_RETENTION, RETENTION, LedgerUnavailable, Refusal
from entitlement_gate.ledger.redis import RedisLedger
from entitlement_gate.testing.ledger_contract import ANNA, BERT, CALLS, demand
from tests.ledger.clocks import pass_time_in_redis
from tests.ledger.test_memory import Clock

PLENTY = Row("row", 10**6)
ONE = [demand(1, PLENTY)]


def left(ledger):
    return available((PLENTY,), ledger.charges(ANNA)[CALLS])


class TestInMemory:
    @pytest.fixture
    def clock(self):
        return Clock()

    @pytest.fixture
    def ledger(self, clock):
        return MemoryLedger(clock=clock)

    @staticmethod
    def records(ledger):
        return sum(len(book.records) for book in ledger._books.values())

    def test_a_key_that_nobody_could_retry_is_not_kept(self, ledger):
        for number in range(100):
            ledger.consume(ANNA, ONE, key=f"made for this {number}", is_lone=True)
        assert (self.records(ledger), len(ledger._visits), left(ledger)) == (0, 1, 10**6 - 100)

    def test_of_holds_that_were_settled_nothing_is_left_where_their_customer_does_not_come_back(self, ledger, clock):
        for number in range(100):
            for verb in (ledger.commit, ledger.release):
                key = f"{number} {verb.__name__}"
                ledger.reserve(BERT, ONE, key=key, ttl=60)
                verb(BERT, key)
        book = ledger._books[BERT]
        clock.now += RETENTION + 1
        for _ in range(20):
            ledger.consume(ANNA, ONE, key="made for this", is_lone=True)
        assert (book.records, book.due, len(ledger._visits)) == ({}, [], 1)

    def test_a_hold_that_is_consumed_by_its_key_stays_known_though_the_consumer_says_it_is_alone(self, ledger):
        ledger.reserve(ANNA, ONE, key="k", ttl=60)
        ledger.consume(ANNA, ONE, key="k", is_lone=True)
        assert ledger.commit(ANNA, "k").is_replay

    def test_keys_of_customers_who_do_not_come_back_are_forgotten_a_few_at_a_time(self, ledger, clock):
        for number in range(300):
            ledger.consume(f"gone {number}", ONE, key="k")
        clock.now += RETENTION + 1
        before = self.records(ledger)
        steps = []
        for _ in range(20):
            ledger.consume(ANNA, ONE, key="made for this", is_lone=True)
            steps.append(before - self.records(ledger))
            before = self.records(ledger)
        assert max(steps) <= _A_FEW
        assert (before, sum(steps)) == (0, 300)
        assert ledger.consume("gone 7", [demand(10**6, PLENTY)], key="l") == Refusal(CALLS, 10**6 - 1)

    def test_books_that_say_nothing_are_dropped(self, ledger, clock):
        for number in range(100):
            ledger.reserve(f"ran out {number}", ONE, key="k", ttl=5)
            ledger.reserve(f"gave back {number}", ONE, key="k", ttl=5)
            ledger.release(f"gave back {number}", "k")
            ledger.consume(f"refused {number}", [demand(11)], key="k")
        for _ in range(3):
            clock.now += RETENTION + 6
            for _ in range(30):
                ledger.consume(ANNA, ONE, key="made for this", is_lone=True)
        assert list(ledger._books) == [ANNA]
        assert not ledger._visits

    def test_a_book_whose_rows_left_long_ago_is_dropped_at_the_next_news(self, ledger, clock):
        ledger.consume(ANNA, ONE, key="made for this", is_lone=True)
        ledger.adopt_upstream(ANNA, {}, 91 * 86_400.0)
        assert not ledger.has_charged(ANNA)
        ledger.adopt_upstream(ANNA, {}, 92 * 86_400.0)

    def test_news_of_a_customer_whose_book_goes_meanwhile_are_no_error(self, ledger):
        class Going(dict):
            def __contains__(self, customer_id):
                return True

        ledger._books = Going()
        ledger.adopt_upstream(ANNA, {CALLS: (PLENTY,)}, 1.0)
        assert not dict.keys(ledger._books)

    def test_a_use_is_not_written_into_a_book_that_is_dropped_meanwhile(self, ledger):
        class Dropping:
            """Lets the book go between its opening and its use, as another thread's verb would."""

            heard = 0

            def first_charged(self, customer_id):
                self.heard += 1
                if self.heard == 1:
                    del ledger._books[customer_id]

        watcher = Dropping()
        ledger.watchers.add(watcher)
        ledger.consume(ANNA, [demand(4)], key="k")
        assert watcher.heard == 2
        assert ledger.charges(ANNA)[CALLS]["row"].committed == 4

    def test_a_customer_whose_book_was_dropped_is_announced_again(self, ledger, clock):
        heard = []

        class Watcher:
            def first_charged(self, customer_id):
                heard.append(customer_id)

        watcher = Watcher()
        ledger.watchers.add(watcher)
        ledger.reserve(BERT, ONE, key="k", ttl=5)
        clock.now += LONE_RETENTION + 6
        ledger.consume(ANNA, ONE, key="a")
        clock.now += RETENTION
        ledger.consume(ANNA, ONE, key="b")
        assert not ledger.has_charged(BERT)
        ledger.consume(BERT, ONE, key="k")
        assert heard == [BERT, ANNA, BERT]

    def test_a_hold_that_is_extended_again_and_again_runs_out_once(self, ledger, clock):
        ledger.reserve(ANNA, ONE, key="k", ttl=60)
        for _ in range(50):
            clock.now += 30
            ledger.extend(ANNA, "k", 60)
        assert left(ledger) == 10**6 - 1
        clock.now += 60
        assert left(ledger) == 10**6
        assert ledger.commit(ANNA, "k").is_late


class TestInRedis:
    @pytest.fixture
    def ledger(self, redis_url):
        # What sweeps a thousand holds takes longer than usual where the machine is busy.
        ledger = RedisLedger(redis_url, prefix=uuid.uuid4().hex)
        ledger.charges(ANNA)
        yield ledger
        ledger.close()

    @staticmethod
    def keys(ledger):
        """Return the kinds of the keys of customers, and for how long each stays; None is for ever."""
        names = [name.decode() for name in ledger._client.scan_iter(f"{{{ledger._prefix}*", count=1000)]
        kinds = [(name.split("}:")[1].split(":")[0], ledger._client.pttl(name)) for name in names]
        return [(kind, None if ttl == -1 else ttl / 1000) for kind, ttl in kinds if kind != "meta"]

    @staticmethod
    def commands(ledger):
        return sum(told["calls"] for told in ledger._client.info("commandstats").values())

    def test_a_key_has_an_end_by_itself_and_what_was_used_up_has_none(self, ledger):
        for number in range(20):
            ledger.consume(ANNA, ONE, key=str(number))
            ledger.reserve(ANNA, ONE, key=f"back {number}", ttl=60)
            ledger.release(ANNA, f"back {number}")
        ledger.consume(ANNA, ONE, key="made for this", is_lone=True)
        kept = sorted(ttl for kind, ttl in self.keys(ledger) if kind == "kept")
        assert len(kept) == 41
        assert LONE_RETENTION - 60 < kept[0] <= LONE_RETENTION
        assert all(RETENTION - 60 < ttl <= RETENTION for ttl in kept[1:])
        assert [each for each in self.keys(ledger) if each[0] != "kept"] == [("rows", None)]

    def test_of_a_customer_who_does_not_come_back_the_count_alone_is_left(self, ledger, monkeypatch):
        monkeypatch.setattr(redis_client, "_REMEMBERED", (100_000, 0))  # 0.1 s of the server's own time
        for number in range(20):
            ledger.consume(ANNA, ONE, key=str(number))
        end = time.monotonic() + 30
        while len(self.keys(ledger)) > 1 and time.monotonic() < end:
            time.sleep(0.02)
        assert self.keys(ledger) == [("rows", None)]
        with pytest.raises(ReservationNotFound):
            ledger.commit(ANNA, "7")
        assert left(ledger) == 10**6 - 20

    def test_the_first_use_after_a_quiet_day_asks_no_more_of_the_server_than_any_other(self, ledger):
        def cost(key):
            before = self.commands(ledger)
            assert ledger.consume(ANNA, ONE, key=key).quantity == 1
            return self.commands(ledger) - before

        usual = cost("first")
        for number in range(2_500):
            ledger.consume(ANNA, ONE, key=str(number))
        pass_time_in_redis(ledger, RETENTION + 1)
        assert cost("7") <= usual + 1  # the key's own old record, which is still there: only our clock was moved
        assert left(ledger) == 10**6 - 2_502

    def test_a_released_key_that_is_reserved_anew_is_in_one_place(self, ledger):
        ledger.reserve(ANNA, ONE, key="k", ttl=60)
        ledger.release(ANNA, "k")
        ledger.reserve(ANNA, ONE, key="k", ttl=60)
        assert sorted(kind for kind, _ in self.keys(ledger)) == ["due", "holds", "rows"]
        ledger.commit(ANNA, "k")
        assert sorted(kind for kind, _ in self.keys(ledger)) == ["kept", "rows"]

    def test_holds_that_ran_out_together_are_given_back_in_steps_before_anything_is_said(self, ledger, monkeypatch):
        monkeypatch.setattr(redis_client, "_SWEEPS", 2)
        for number in range(2_500):
            ledger.reserve(ANNA, ONE, key=str(number), ttl=3600)
        pass_time_in_redis(ledger, 3601)
        everything = [demand(10**6, PLENTY)]
        with pytest.raises(LedgerUnavailable, match="ran out"):
            ledger.consume(ANNA, everything, key="all")
        assert ledger.consume(ANNA, everything, key="all").available == (10**6,)
        assert ledger.consume(ANNA, everything, key="all").is_replay
        assert left(ledger) == 0
        assert ledger.commit(ANNA, "7").is_late
