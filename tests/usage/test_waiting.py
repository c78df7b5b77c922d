"""How long a verb waits, what it asks, and what it leaves behind when it does not get to its end."""

import time
from types import SimpleNamespace

import pytest
from django.db import connections

from entitlement_gate.domain.errors import ReservationNotFound
from entitlement_gate.ledger.balances import Row
from entitlement_gate.ledger.protocol import LedgerUnavailable
from entitlement_gate.testing.ledger_contract import ANNA, BERT, CALLS, METER, demand
from tests.busyness import Timed
from tests.usage.databases import KnownDatabase
from tests.usage.test_ledger import emptied


def locked(alias, begin, lock):
    """Lock Anna's row from elsewhere; return what lets go of it."""
    other = connections.create_connection(alias)
    cursor = other.cursor()
    cursor.execute(begin)
    cursor.execute(lock)
    return other


def test_nobody_waits_long_for_a_row_of_postgresql(postgres_alias):
    ledger = emptied(postgres_alias, deadline=3)
    ledger.consume(ANNA, [demand(1)], key="a")
    other = locked(postgres_alias, "BEGIN", "UPDATE entitlement_usage_account SET version = 0")
    with Timed() as timed, pytest.raises(LedgerUnavailable, match="lock timeout"):
        ledger.consume(ANNA, [demand(1)], key="b")
    assert timed.seconds > 1.5
    assert timed.within(3.5)  # once: who waited enough does not wait again
    assert ledger.consume(BERT, [demand(1)], key="b").quantity == 1
    assert ledger.charges(ANNA)
    other.close()
    assert ledger.consume(ANNA, [demand(1)], key="b").quantity == 1
    ledger.close()


@pytest.fixture
def locked_sqlite(usage_app, tmp_path):
    """Return a ledger whose database another connection has locked; it works once that lets go, after the test."""
    database = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(tmp_path / "ledger.sqlite3"),
        "OPTIONS": {"timeout": 0.2},
    }
    with KnownDatabase("impatient", database) as alias:
        ledger = emptied(alias)
        other = locked(alias, "BEGIN IMMEDIATE", "SELECT 1")
        yield ledger
        other.close()
        assert ledger.consume(ANNA, [demand(1)], key="b").quantity == 1
        ledger.close()


def test_nobody_waits_longer_for_sqlite_than_the_database_says(locked_sqlite):
    with Timed() as timed, pytest.raises(LedgerUnavailable, match="locked"):
        locked_sqlite.consume(ANNA, [demand(1)], key="b")
    assert timed.within(0.4)


def test_nobody_waits_for_ever_where_a_test_has_frozen_the_clock(locked_sqlite, monkeypatch):
    frozen = SimpleNamespace(monotonic=lambda: 5.0, sleep=time.sleep)
    monkeypatch.setattr("entitlement_gate.usage.connection.time", frozen)
    with pytest.raises(LedgerUnavailable, match="locked"):
        locked_sqlite.consume(ANNA, [demand(1)], key="b")


@pytest.mark.parametrize(
    ("verb", "trips"),
    [
        (lambda ledger: ledger.reserve(ANNA, [demand(1, target=METER)], key="new", ttl=60), 2),
        (lambda ledger: ledger.consume(ANNA, [demand(1, target=METER)], key="new"), 2),
        (lambda ledger: ledger.commit(ANNA, "held"), 2),
        (lambda ledger: ledger.release(ANNA, "held"), 2),
        (lambda ledger: ledger.extend(ANNA, "held", 60), 2),
        (lambda ledger: ledger.charges(ANNA), 1),
        (lambda ledger: ledger.adopt_upstream(ANNA, {CALLS: (Row("row", 9, 1),)}, 2.0), 3),
        (lambda ledger: ledger.adopt_upstream(BERT, {CALLS: (Row("row", 9, 1),)}, 2.0), 1),
    ],
)
def test_a_verb_takes_two_round_trips_to_postgresql_begin_and_commit_among_them(postgres_alias, verb, trips):
    ledger = emptied(postgres_alias)
    both = [demand(2, Row("row", 2), Row("other", 8), target=METER)]
    ledger.reserve(ANNA, both, key="held", ttl=60)
    asked = []

    def counted(execute, *how):
        asked.append(how[0])
        return execute(*how)

    with ledger._connections.borrowed() as lent_next_too:
        assert not asked
    with lent_next_too.execute_wrapper(counted):
        verb(ledger)
    assert len(asked) == trips
    ledger.close()


def test_an_interrupted_verb_leaves_no_transaction_behind(ledger, monkeypatch):
    from entitlement_gate.usage import ledger as statements

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(statements, "_to_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ledger.consume(ANNA, [demand(4)], key="k")
    monkeypatch.undo()
    assert not ledger.charges(ANNA)
    assert not ledger.consume(ANNA, [demand(4)], key="k").is_replay


def test_numbers_that_no_column_holds_leave_no_transaction_behind(ledger):
    with pytest.raises((LedgerUnavailable, OverflowError)):
        ledger.consume(ANNA, [demand(1, Row("row", 2**70, 2**70))], key="k")
    with pytest.raises(ReservationNotFound):
        ledger.commit(ANNA, "k")
    assert ledger.consume(ANNA, [demand(1)], key="k").quantity == 1


def test_the_project_s_own_binding_of_parameters_is_left_alone(usage_app, postgres):
    database = {**postgres, "OPTIONS": {"server_side_binding": True}}
    with KnownDatabase("bound", database) as alias:
        ledger = emptied(alias)
        assert ledger.consume(ANNA, [demand(1)], key="k").quantity == 1
        ledger.close()
        assert connections[alias].settings_dict["OPTIONS"]["server_side_binding"] is True
