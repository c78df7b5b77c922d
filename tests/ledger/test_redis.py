import socket
import threading
import uuid

import pytest
import redis

from entitlement_gate.domain.errors import ReservationNotFound
from entitlement_gate.ledger.balances import MOST, Row
from entitlement_gate.ledger.protocol import LedgerLost, LedgerUnavailable
from entitlement_gate.ledger.redis import RedisLedger
from entitlement_gate.testing.ledger_contract import ANNA, CALLS, LedgerContract, demand
from tests.busyness import Timed
from tests.engine.fakes import eventually
from tests.ledger.clocks import pass_time_in_redis
from tests.ports import free_port


class Raced(redis.Redis):
    """A client between whose round trips others act: before its first pipeline, and after its first ``EXISTS``.

    A verb that finds no ledger asks in a pipeline whether there is any, and then of its bucket alone.
    """

    before_pipeline = after_exists = None

    def pipeline(self, *given, **named):
        act, self.before_pipeline = self.before_pipeline, None
        if act:
            act()
        return super().pipeline(*given, **named)

    def exists(self, *names):
        found = super().exists(*names)
        act, self.after_exists = self.after_exists, None
        if act:
            act()
        return found


class TestRedisLedger(LedgerContract):
    @pytest.fixture(autouse=True)
    def server(self, redis_url):
        self.url = redis_url

    def make_ledger(self):
        return RedisLedger(self.url, prefix=uuid.uuid4().hex)

    def pass_time(self, ledger, seconds):
        pass_time_in_redis(ledger, seconds)

    def test_it_says_what_it_is_and_nothing_of_where(self, ledger):
        assert "redis://" not in repr(ledger)

    def test_more_than_lua_computes_exactly_is_refused_and_changes_nothing(self, ledger):
        for key in "ab":
            ledger.consume(ANNA, [demand(MOST // 2, overdraw=True)], key=key)
        with pytest.raises(LedgerUnavailable, match=r"2\*\*53"):
            ledger.consume(ANNA, [demand(2, overdraw=True)], key="c")
        with pytest.raises(ReservationNotFound):
            ledger.release(ANNA, "c")
        assert self.left(ledger) == 10 - MOST + MOST % 2

    def test_a_row_that_billing_used_beyond_what_lua_computes_is_not_counted_wrongly(self, ledger):
        with pytest.raises(LedgerUnavailable, match="the database counts further"):
            ledger.consume(ANNA, [demand(1, Row("row", 10, MOST + 1))], key="a")

    def test_a_script_that_the_server_forgot_is_sent_again(self, ledger):
        ledger.consume(ANNA, [demand(1)], key="a")
        ledger._client.script_flush()
        assert ledger.consume(ANNA, [demand(1)], key="b").quantity == 1

    def test_a_flush_is_noticed_and_admits_nothing_until_it_is_accepted(self, ledger):
        other = RedisLedger(self.url, prefix=ledger._prefix)
        other.consume(ANNA, [demand(10)], key="all")
        ledger.charges(ANNA)
        for key in ledger._client.keys(f"{{{ledger._prefix}*"):
            ledger._client.delete(key)
        with pytest.raises(LedgerLost):
            ledger.consume(ANNA, [demand(1)], key="more")
        fresh = RedisLedger(self.url, prefix=ledger._prefix, must_exist=True)
        with pytest.raises(LedgerLost):
            fresh.charges(ANNA)
        founder = RedisLedger(self.url, prefix=ledger._prefix)  # a process that cannot know
        founder.charges(ANNA)
        with pytest.raises(LedgerLost, match="other"):
            ledger.consume(ANNA, [demand(1)], key="more")
        fresh.accept_loss()
        assert ledger.consume(ANNA, [demand(1)], key="more").quantity == 1
        assert other.consume(ANNA, [demand(1)], key="yet more").quantity == 1

    def test_a_process_that_knew_the_ledger_refounds_it_for_nobody(self, ledger):
        bert = next(f"{number}" for number in range(99) if ledger._bucket(f"{number}") != ledger._bucket(ANNA))
        ledger.consume(ANNA, [demand(10)], key="all")
        for key in ledger._client.keys(f"{{{ledger._prefix}*"):
            ledger._client.delete(key)
        for _ in range(2):
            with pytest.raises(LedgerLost, match="gone"):
                ledger.consume(bert, [demand(1)], key="first")
        ledger.accept_loss()
        assert ledger.consume(bert, [demand(1)], key="first").quantity == 1

    def test_a_ledger_that_another_founds_meanwhile_is_theirs_and_is_not_founded_twice(self, ledger, caplog):
        with Raced.from_url(self.url) as client:
            late = RedisLedger(client, prefix=ledger._prefix)
            client.before_pipeline = lambda: ledger.consume(ANNA, [demand(1)], key="first")
            with caplog.at_level("INFO", "entitlement_gate.ledger"):
                assert late.consume(ANNA, [demand(1)], key="second").quantity == 1
        assert client.before_pipeline is None
        assert caplog.text.count("founding") == 1
        assert self.left(ledger) == self.left(late) == 8

    @pytest.mark.parametrize("step", ["_run_verb", "_is_founded"])
    def test_a_ledger_that_another_thread_founds_after_a_step_of_ours_is_no_loss(self, ledger, step, caplog):
        plain = getattr(ledger, step)

        def overtaken(*args, **keywords):
            answer = plain(*args, **keywords)
            delattr(ledger, step)
            ledger.consume(ANNA, [demand(1)], key="first")
            return answer

        setattr(ledger, step, overtaken)
        assert ledger.consume(ANNA, [demand(1)], key="second").quantity == 1
        assert self.left(ledger) == 8
        assert "remains" not in caplog.text

    def test_a_bucket_that_another_founds_a_moment_later_is_waited_for(self, ledger):
        meta, aside = (ledger._key(ledger._bucket(ANNA), name) for name in ("meta", "aside"))

        def found_all_but_one():
            ledger.charges(ANNA)
            ledger._client.rename(meta, aside)

        with Raced.from_url(self.url) as client:
            late = RedisLedger(client, prefix=ledger._prefix)
            client.before_pipeline = found_all_but_one
            client.after_exists = lambda: ledger._client.rename(aside, meta)
            assert late.consume(ANNA, [demand(1)], key="a").quantity == 1
        assert client.after_exists is None
        assert self.left(ledger) == 9

    def test_a_bucket_that_is_gone_is_loss_even_to_a_new_process(self, ledger):
        ledger.consume(ANNA, [demand(10)], key="all")
        ledger._client.delete(ledger._key(ledger._bucket(ANNA), "meta"))
        with pytest.raises(LedgerLost, match="missing"):
            RedisLedger(self.url, prefix=ledger._prefix).charges(ANNA)

    def test_a_server_that_is_behind_what_was_seen_is_loss(self, ledger):
        ledger.consume(ANNA, [demand(1)], key="a")
        ledger._client.hset(ledger._key(ledger._bucket(ANNA), "meta"), "seq", 0)
        with pytest.raises(LedgerLost, match="behind"):
            ledger.consume(ANNA, [demand(1)], key="b")

    def test_threads_that_come_together_after_a_loss_was_accepted_elsewhere_all_go_on(self, ledger):
        ledger.charges(ANNA)
        other = RedisLedger(self.url, prefix=ledger._prefix)
        failures = []

        def charge():
            start.wait()
            try:
                ledger.charges(ANNA)
            except Exception as error:  # noqa: BLE001 - none is right
                failures.append(error)

        for _ in range(20):
            other.accept_loss()
            start = threading.Barrier(4)
            crowd = [threading.Thread(target=charge) for _ in range(4)]
            for thread in crowd:
                thread.start()
            for thread in crowd:
                thread.join()
        assert not failures

    def test_what_a_slow_thread_was_told_before_a_loss_was_accepted_stops_nobody(self, ledger, monkeypatch):
        ledger.charges(ANNA)
        bucket = ledger._bucket(ANNA)
        before = ledger._versions[bucket]
        ask = ledger._client.evalsha

        def slowly(*given):
            told = ask(*given)
            ledger._versions[bucket] = before  # by a thread that asked before
            return told

        RedisLedger(self.url, prefix=ledger._prefix).accept_loss()
        monkeypatch.setattr(ledger._client, "evalsha", slowly)
        assert ledger.consume(ANNA, [demand(1)], key="a").quantity == 1
        monkeypatch.undo()
        assert ledger.consume(ANNA, [demand(1)], key="b").quantity == 1
        assert ledger._versions[bucket][0] != before[0]

    def test_an_error_that_has_nothing_to_do_with_the_server_costs_no_connection(self, ledger):
        connection = ledger._client.client_id()
        ledger._client.set(ledger._key(ledger._bucket(ANNA), f"rows:{ANNA}"), "no hash")
        with pytest.raises(LedgerUnavailable, match="Redis: "):
            ledger.consume(ANNA, [demand(1)], key="a")
        assert ledger._client.client_id() == connection

    def test_a_server_that_evicts_is_refused(self, ledger):
        ledger._client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            with pytest.raises(LedgerUnavailable, match="noeviction"):
                RedisLedger(self.url, prefix=ledger._prefix).charges(ANNA)
        finally:
            ledger._client.config_set("maxmemory-policy", "noeviction")

    def test_what_was_written_while_the_clock_of_redis_was_ahead_holds_nothing_off(self, ledger):
        self.pass_time(ledger, 100_000)
        ledger.reserve(ANNA, [demand(1, ticket=7e9)], key="k", ttl=60)
        ledger.release(ANNA, "k")
        self.pass_time(ledger, -100_000)
        ledger.adopt_upstream(ANNA, {CALLS: (Row("row", 5, 5),)}, 2.0)
        ledger.consume(ANNA, [demand(5, Row("row", 5, 5))], key="l")
        assert self.left(ledger, Row("row", 5, 5)) == 0

    def test_the_next_server_is_examined_too_where_it_comes_as_this_one_is(self, ledger, monkeypatch):
        info, asked = ledger._info, []

        def fail_over(section):
            facts = info(section)
            if not asked:
                ledger._look_anew()  # in another thread, as it loses its connection
            asked.append(section)
            return facts

        monkeypatch.setattr(ledger, "_info", fail_over)
        for _ in range(3):
            ledger.charges(ANNA)
        assert asked == ["memory", "memory"]

    def test_a_verb_under_way_goes_on_when_the_ledger_is_closed_and_leaves_no_connection(self):
        name, receipts = uuid.uuid4().hex, []
        ledger = RedisLedger(f"{self.url}&client_name={name}", prefix=name)
        ledger.consume(ANNA, [demand(1)], key="a")
        with redis.Redis.from_url(self.url) as admin:

            def flags():
                return [client["flags"] for client in admin.client_list() if client["name"] == name]

            admin.client_pause(30_000, all=False)
            try:
                thread = threading.Thread(target=lambda: receipts.append(ledger.consume(ANNA, [demand(1)], key="b")))
                thread.start()
                eventually(lambda: any("b" in each for each in flags()))
                ledger.close()
            finally:
                admin.client_unpause()
            thread.join()
            assert receipts[0].quantity == 1
            eventually(lambda: not flags())
            assert ledger.consume(ANNA, [demand(1)], key="c").quantity == 1
            eventually(lambda: not flags())

    def test_a_connection_that_broke_is_made_anew(self, ledger):
        ledger.consume(ANNA, [demand(1)], key="a")
        ledger._client.client_kill_filter(_type="normal", skipme=True)
        with redis.Redis.from_url(self.url) as other:
            other.client_kill_filter(_type="normal", skipme=True)
        assert ledger.consume(ANNA, [demand(1)], key="b").quantity == 1


def test_no_server_is_unavailable():
    with pytest.raises(LedgerUnavailable, match="Redis: ConnectionError"):
        RedisLedger(f"redis://127.0.0.1:{free_port()}/0").charges(ANNA)


def test_a_server_that_says_nothing_is_unavailable_within_half_a_second():
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        with Timed() as timed, pytest.raises(LedgerUnavailable, match="Timeout"):
            RedisLedger(f"redis://127.0.0.1:{deaf.getsockname()[1]}/0").charges(ANNA)
        assert timed.within(0.5), timed.seconds
