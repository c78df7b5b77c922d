"""Databases and servers that stand still: whoever asks has an answer by the deadline, and threads come back."""

import asyncio
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from django.db import connections

from entitlement_gate import EntitlementGate, EntitlementUnavailable
from entitlement_gate.ledger.protocol import LedgerUnavailable
from entitlement_gate.ledger.redis import RedisLedger
from entitlement_gate.testing import FakeSource
from entitlement_gate.testing.ledger_contract import ANNA
from entitlement_gate.usage import connection as module
from entitlement_gate.usage.connection import OwnConnections
from entitlement_gate.usage.ledger import DatabaseLedger
from tests.engine.fakes import Clock, eventually
from tests.ledger.servers import RedisServer
from tests.usage.databases import KnownDatabase
from tests.usage.servers import PostgresServer
from tests.usage.test_ledger import emptied
from tests.usage.test_waiting import locked

DEADLINE = 0.5
# What stands still does so for ever; a busy machine may take so many seconds for what takes DEADLINE.
SOON = 60


class Stopped:
    """The processes of a server, which neither answer nor break a connection while they are stopped."""

    def __init__(self, process):
        self.process = process

    def __enter__(self):
        self.pids = [self.process.pid, *self._children()]
        for pid in self.pids:
            os.kill(pid, signal.SIGSTOP)

    def __exit__(self, *_):
        for pid in self.pids:
            os.kill(pid, signal.SIGCONT)

    def _children(self):
        tasks = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return list(map(int, tasks.read_text().split()))


@pytest.fixture(scope="module")
def server():
    server = PostgresServer()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def alias(usage_app, server):
    with KnownDatabase("standing_still", server.settings) as alias:
        yield alias
        connections[alias].close()


@pytest.fixture
def make_gate():
    made = []

    def make_gate(ledger, clock=None):
        source = FakeSource()
        source.grant(ANNA, "calls", 10)
        source.grant(ANNA, "sso")
        made.append(EntitlementGate(source, ledger=ledger, deadline=DEADLINE, clock=clock or time))
        gate = made[-1]
        assert answered(lambda: gate.consume(ANNA, "calls", key="first"), clock).remaining == 9
        return gate

    yield make_gate
    for gate in made:
        gate.close()


def answered(call, clock=None):
    """Return what a call by key answers, tried again where the machine is too busy for an answer by DEADLINE."""
    for _ in range(20):
        try:
            return call()
        except EntitlementUnavailable:
            (clock.advance if clock else time.sleep)(6)  # the ledger is left alone for 5 seconds
    return call()


def took(call):
    began = time.monotonic()
    try:
        call()
    except (EntitlementUnavailable, LedgerUnavailable):
        pass
    else:
        pytest.fail("it answered")
    return time.monotonic() - began


def assert_everything_ends(gate, held):
    assert took(lambda: gate.require(ANNA, "calls")) < SOON
    assert took(lambda: asyncio.run(gate.arequire(ANNA, "calls"))) < SOON
    assert took(lambda: gate.reserve(ANNA, "calls")) < SOON
    assert took(lambda: asyncio.run(gate.aconsume(ANNA, "calls"))) < SOON
    assert took(held.commit) < SOON
    assert took(lambda: asyncio.run(held.arelease())) < SOON
    assert gate.has(ANNA, "sso")
    steps = gate._checking(ANNA, "calls", None, refresh=False)
    with pytest.raises(StopIteration) as at_once:  # left alone: there is nothing to wait for
        next(steps)
    assert at_once.value.value.reason == "unavailable"


def test_a_postgresql_that_hangs_keeps_nobody_longer_than_the_deadline(alias, server, make_gate):
    emptied(alias).close()
    clock = Clock()
    gate = make_gate(DatabaseLedger(alias, deadline=DEADLINE), clock)
    held = answered(lambda: gate.reserve(ANNA, "calls", 2, key="held"), clock)
    with Stopped(server.process):
        assert_everything_ends(gate, held)
    clock.advance(6)
    answered(lambda: gate.require(ANNA, "calls"), clock)
    eventually(lambda: not gate.ledger._connections._conversations._sockets, seconds=SOON)


@pytest.fixture
def redis_server(tmp_path):
    server = RedisServer(tmp_path)
    yield server
    server.kill()


def test_a_redis_that_hangs_does_neither(redis_server, make_gate):
    gate = make_gate(RedisLedger(redis_server.url))
    held = answered(lambda: gate.reserve(ANNA, "calls", 2, key="held"))
    with Stopped(redis_server.process):
        assert_everything_ends(gate, held)


@pytest.mark.parametrize("begin", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
def test_a_sqlite_that_is_locked_does_neither(usage_app, tmp_path, make_gate, begin):
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "ledger.sqlite3")}
    with KnownDatabase("locked", database) as alias:
        gate = make_gate(DatabaseLedger(alias, deadline=DEADLINE))
        other = locked(alias, begin, "SELECT 1")
        began = time.monotonic()
        for _ in range(5):
            with pytest.raises(EntitlementUnavailable):
                gate.reserve(ANNA, "calls")
        assert time.monotonic() - began < 5 * DEADLINE + SOON
        other.close()
        gate.ledger.close()


def test_a_thread_that_waits_for_what_never_answers_comes_back(alias, server):
    own = OwnConnections(alias, deadline=0.2)
    ended = threading.Event()

    def ask():
        with pytest.raises(LedgerUnavailable):
            own.ask(("SELECT 1", ()))
        ended.set()

    own.ask(("SELECT 1", ()))
    with Stopped(server.process):
        thread = threading.Thread(target=ask)
        thread.start()
        eventually(lambda: own._conversations._sockets)
        assert not ended.wait(0.2 + module._GRACE)
        with own._conversations.until(time.monotonic(), connections["default"]):  # whoever comes next sees to it
            pass
        assert ended.wait(SOON)
        thread.join()
    assert own._conversations._sockets == {}
    own.close()


def test_a_conversation_that_ended_by_itself_is_not_cut(alias):
    own = OwnConnections(alias)
    with own.borrowed() as connection:
        connection.ensure_connection()
        with own._conversations.until(time.monotonic() - 2 * module._GRACE, connection):
            connection.close()
            own._conversations._cut_overdue()
        assert own._conversations._sockets == {}
    assert own.ask(("SELECT 1", ())) == [[(1,)]]
    own.close()


def test_a_server_that_is_gone_is_noticed_about_as_fast_as_nobody_waits(alias):
    with OwnConnections(alias, deadline=2.5).borrowed() as connection:
        options = connection.settings_dict["OPTIONS"]
        connection.close()
    assert (options["connect_timeout"], options["tcp_user_timeout"], options["keepalives_idle"]) == (3, 3000, 3)


def test_a_deadline_may_mean_never(alias):
    own = OwnConnections(alias, deadline=1e9)
    assert own.ask(("SELECT 1", ())) == [[(1,)]]
    own.close()
