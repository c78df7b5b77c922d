"""Others in the way: stricter isolation, deadlocks, locks that have no time-out, servers that do not let write."""

import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

import psycopg
import pytest
from django.db import connections
from django.http import HttpResponse
from django.test.testcases import LiveServerThread
from django.urls import path

from entitlement_gate import requires_entitlement
from entitlement_gate.api import default_gate
from entitlement_gate.ledger.balances import Row
from entitlement_gate.ledger.protocol import LedgerUnavailable, Receipt
from entitlement_gate.testing.ledger_contract import ANNA, METER, demand
from entitlement_gate.usage.connection import OwnConnections
from tests.customers import PRO, SETTINGS
from tests.engine.fakes import eventually
from tests.usage.databases import KnownDatabase
from tests.usage.test_ledger import emptied

THREADS, EACH = 8, 5


@requires_entitlement("API Calls", consume=True)
def use(request):
    return HttpResponse("used")


urlpatterns = [path("use/", use)]


@pytest.fixture
def ledger_as(postgres_alias, postgres):
    """Make a ledger that connects as a role of its own, with these defaults."""
    known = []

    def ledger_as(name, options=None, **defaults):
        with _connected(postgres) as connection:
            connection.execute(f"CREATE ROLE {name} LOGIN SUPERUSER")
            for parameter, value in defaults.items():
                connection.execute(f"ALTER ROLE {name} SET {parameter} = '{value}'")
        known.append(KnownDatabase(f"as_{name}", {**postgres, "USER": name, "OPTIONS": options or {}}))
        return emptied(known[-1].__enter__())

    yield ledger_as
    for database in known:
        database.__exit__()
        with _connected(postgres) as connection:
            connection.execute(f"DROP ROLE {database.database['USER']}")


def _connected(postgres):
    return psycopg.connect(
        host=postgres["HOST"], user=postgres["USER"], dbname=postgres["NAME"], autocommit=True
    )  # fmt: skip


@pytest.fixture
def in_memory(usage_app):
    """The kind of database that Django makes for the tests of a project on SQLite."""
    with KnownDatabase(
        "shared_cache", {"ENGINE": "django.db.backends.sqlite3", "NAME": "file:memorydb_it?mode=memory&cache=shared"}
    ) as alias:
        yield alias


def all_let_in(ledger):
    """Whether threads that race for as much as there is are all let in, and leave an event each."""
    whole = demand(1, Row("row", THREADS * EACH), target=METER)

    def use(number):
        return isinstance(ledger.consume(ANNA, [whole], key=f"work {number}"), Receipt)

    with ThreadPoolExecutor(THREADS) as pool:
        done = all(pool.map(use, range(THREADS * EACH)))
        taken = sum(len(events) for events in pool.map(lambda _: ledger.take(10), range(THREADS)))
    assert not isinstance(ledger.consume(ANNA, [whole], key="one more"), Receipt)
    return done and taken == THREADS * EACH


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_role_s_stricter_isolation_keeps_nobody_out(ledger_as, level):
    ledger = ledger_as("strict", default_transaction_isolation=level)
    assert all_let_in(ledger)
    ledger.close()


def test_nor_does_the_project_s_own(ledger_as):
    ledger = ledger_as("careful", options={"isolation_level": psycopg.IsolationLevel.SERIALIZABLE})
    assert all_let_in(ledger)
    ledger.close()


def test_a_role_s_time_limits_are_not_the_ledger_s(ledger_as, postgres):
    ledger = ledger_as("hasty", lock_timeout="100ms", statement_timeout="100ms")
    ledger.consume(ANNA, [demand(1)], key="a")
    with _connected(postgres) as other:
        other.execute("BEGIN")
        other.execute("UPDATE entitlement_usage_account SET version = 0")
        free = threading.Timer(0.4, lambda: other.execute("ROLLBACK"))
        free.start()
        assert ledger.consume(ANNA, [demand(1)], key="b").quantity == 1
        free.join()
    ledger.close()


def test_a_role_that_may_not_write_is_told_so_until_it_may(ledger_as, postgres, settings):
    ledger = ledger_as("reader")
    ledger.consume(ANNA, [demand(1)], key="before")
    with _connected(postgres) as other:
        other.execute("ALTER ROLE reader SET default_transaction_read_only = on")
        other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'reader'")
        for key in ("a", "b"):
            with pytest.raises(LedgerUnavailable, match=r"cannot execute INSERT in a read-only transaction \(25006\)"):
                ledger.consume(ANNA, [demand(1)], key=key)
        other.execute("ALTER ROLE reader RESET default_transaction_read_only")
    assert ledger.consume(ANNA, [demand(1)], key="a").quantity == 1  # over a connection that begins as one may now
    ledger.close()


def test_the_victim_of_a_deadlock_tries_again(ledger_as, postgres):
    ledger = ledger_as("victim", deadlock_timeout="5s")
    ledger._connections._deadline = 30
    ledger.consume(ANNA, [demand(1)], key="a")
    with ThreadPoolExecutor(1) as pool, _connected(postgres) as other, _connected(postgres) as looking:
        other.execute("SET deadlock_timeout = '60s'")
        other.execute("BEGIN")
        other.execute("LOCK TABLE entitlement_usage_hold IN SHARE MODE")
        late = pool.submit(ledger.consume, ANNA, [demand(1)], key="b")
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'entitlement_usage_hold'::regclass"
        eventually(lambda: looking.execute(waiting).fetchone()[0] == 1)
        other.execute("UPDATE entitlement_usage_account SET version = version")  # waits for the ledger, which waits
        other.execute("COMMIT")
        assert late.result(30).quantity == 1
    ledger.close()


def test_a_shared_cache_lets_all_in_though_its_locks_have_no_time_out(in_memory):
    ledger = emptied(in_memory)
    assert all_let_in(ledger)


def test_one_that_stays_locked_is_given_up_in_time(in_memory):
    ledger = emptied(in_memory)
    ledger._connections._deadline = 0.2
    other = connections.create_connection(in_memory)
    with other.cursor() as cursor:
        cursor.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailable, match="locked"):
            ledger.consume(ANNA, [demand(1)], key="k")
        cursor.execute("ROLLBACK")
    assert ledger.consume(ANNA, [demand(1)], key="k").quantity == 1
    other.close()


@pytest.fixture
def served():
    """Django's own, which has a thread for each browser."""
    thread = LiveServerThread("127.0.0.1", lambda handler: handler, connections_override={})
    thread.daemon = True
    thread.start()
    thread.is_ready.wait()
    assert thread.error is None
    yield f"http://127.0.0.1:{thread.port}"
    thread.terminate()


def test_browsers_of_a_live_server_are_all_let_in(in_memory, served, settings, monkeypatch):
    emptied(in_memory)
    monkeypatch.setattr("django.db.router.db_for_write", lambda *_, **__: in_memory)
    settings.ROOT_URLCONF = __name__
    settings.ENTITLEMENT_GATE = {**SETTINGS, "LEDGER": "database"}

    def visit(_):
        asked = urllib.request.Request(f"{served}/use/", headers={"X-Customer": PRO})
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return answer.status

    with ThreadPoolExecutor(4) as browsers:
        assert set(browsers.map(visit, range(40))) == {HTTPStatus.OK}
    assert default_gate().check(PRO, "API Calls").remaining == 910
    default_gate().close()


def test_a_file_that_many_write_lets_all_in(sqlite_alias):
    ledger = emptied(sqlite_alias)
    assert all_let_in(ledger)
    ledger.close()


def test_pauses_grow_to_a_bound_and_differ():
    from entitlement_gate.usage import connection as module

    pauses = [pause for pause, _ in zip(module._pauses(), range(20), strict=False)]
    assert len(set(pauses)) == 20
    assert all(pause <= module._LONGEST_PAUSE for pause in pauses)
    assert min(pauses[10:]) >= module._LONGEST_PAUSE / 2 > max(pauses[:2])


def test_a_connection_breaks_and_its_idle_neighbours_go_with_it(postgres_alias):
    own = OwnConnections(postgres_alias)
    with own.borrowed() as one, own.borrowed() as other:
        one.ensure_connection()
        other.ensure_connection()
    with connections[postgres_alias].cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    assert own.ask(("SELECT 1", ())) == [[(1,)]]
    assert len(own._idle) == 1
    own.close()


def test_a_driver_that_takes_one_statement_at_a_time_does_as_well(postgres_alias, monkeypatch):
    monkeypatch.setattr("entitlement_gate.usage.connection._takes_many", lambda vendor: False)
    ledger = emptied(postgres_alias)
    assert all_let_in(ledger)
    assert set(ledger.charges(ANNA)) == {demand(1).entitlement_id}
    ledger.close()
