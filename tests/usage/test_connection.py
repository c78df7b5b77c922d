import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
from django.db import connections
from freezegun import freeze_time

from entitlement_gate.ledger.protocol import LedgerUnavailable
from entitlement_gate.resilience.clock import Deadline
from entitlement_gate.testing.ledger_contract import ANNA, demand
from entitlement_gate.usage.connection import OwnConnections
from tests.lab.striking import strike_everywhere
from tests.usage.test_ledger import emptied

ELSEWHERE = """
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["entitlement_gate"], ENTITLEMENT_GATE={"BASE_URL": "sandbox:", "DEADLINE": 30})
django.setup()
from entitlement_gate.usage.models import Account
print(Account._meta.db_table, Account._meta.app_label)
"""


def test_a_database_without_the_tables_is_unavailable(ledger):
    with ledger._connections.borrowed() as connection, connection.cursor() as cursor:
        cursor.execute("ALTER TABLE entitlement_usage_account RENAME TO elsewhere")
    try:
        with pytest.raises(LedgerUnavailable, match="entitlement_usage_account"):
            ledger.consume(ANNA, [demand(1)], key="k")
    finally:
        with ledger._connections.borrowed() as connection, connection.cursor() as cursor:
            cursor.execute("ALTER TABLE elsewhere RENAME TO entitlement_usage_account")
    assert ledger.consume(ANNA, [demand(1)], key="k").quantity == 1


def test_a_connection_that_broke_is_made_anew(postgres_alias):
    ledger = emptied(postgres_alias)
    ledger.consume(ANNA, [demand(1)], key="a")
    with connections[postgres_alias].cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    assert ledger.consume(ANNA, [demand(1)], key="b").quantity == 1
    ledger.close()


def test_threads_that_come_and_go_leave_no_connections_behind(postgres_alias):
    ledger = emptied(postgres_alias)
    for number in range(40):
        thread = threading.Thread(
            target=ledger.consume, args=(ANNA, [demand(1, overdraw=True)]), kwargs={"key": str(number)}
        )
        thread.start()
        thread.join()
    assert len(ledger._connections._idle) == 1
    ledger.close()
    assert ledger._connections._idle == []


class Interrupted(BaseException):
    """What a time limit raises in the middle of anything."""


def test_a_connection_whose_conversation_was_interrupted_is_not_used_again(ledger):
    lent = []

    def interrupted():
        with ledger._connections.borrowed() as connection:
            connection.ensure_connection()
            lent.append(connection)
            raise Interrupted

    with pytest.raises(Interrupted):
        interrupted()
    assert lent[0].connection is None
    assert ledger.charges(ANNA) == {}


def test_nobody_waits_for_ever_for_a_connection(ledger, monkeypatch):
    monkeypatch.setattr(OwnConnections, "MOST", 1)
    ledger._connections.remake()
    in_use = "all 1 connections of the ledger are in use"
    with ledger._connections.borrowed(), pytest.raises(LedgerUnavailable, match=in_use):
        ledger._connections.ask(("SELECT 1", ()), seconds=0.05)
    assert ledger.charges(ANNA) == {}


class OneConnection(OwnConnections):
    """Remembers those it made: what was struck leaves one open, as a warning says that is an error here."""

    MOST = 1

    def __init__(self, alias):
        super().__init__(alias)
        self.made = []

    def _make_connection(self):
        self.made.append(super()._make_connection())
        return self.made[-1]

    def close(self):
        for connection in self.made:
            connection.close()


def test_nobody_waits_for_ever_for_a_connection_where_a_test_has_frozen_the_clock(sqlite_alias):
    own = OwnConnections(sqlite_alias, deadline=0.1)
    own.MOST = 1
    own.remake()
    in_use = "all 1 connections of the ledger are in use"
    with own.borrowed(), freeze_time("2030-01-01"), pytest.raises(LedgerUnavailable, match=in_use):
        own.ask(("SELECT 1", ()))
    own.close()


def test_an_exception_that_strikes_while_a_connection_is_lent_or_comes_back_costs_none(sqlite_alias):
    own = OneConnection(sqlite_alias)

    @contextmanager
    def idle():
        yield own

    def ask(own):
        assert own.ask(("SELECT 1", ()), seconds=30) == [[(1,)]]

    def borrow_at_once(own):
        with own.borrowed(Deadline(0.0, time)):
            pass

    assert strike_everywhere(idle, ask, borrow_at_once) > 20
    own.close()


def test_a_connection_that_is_lent_while_the_ledger_closes_is_closed_when_it_comes_back(ledger):
    with ledger._connections.borrowed() as connection:
        connection.ensure_connection()
        ledger.close()
        assert connection.connection is not None
    assert connection.connection is None
    assert ledger.charges(ANNA) == {}


@pytest.mark.parametrize(("name", "test"), [("test_shop", {}), ("shop", {"NAME": "shop"}), ("file:memorydb_x", {})])
def test_no_connection_stays_open_to_a_database_that_a_test_run_will_drop(usage_app, name, test):
    own = OwnConnections("default")
    with own.borrowed() as connection:
        connection.settings_dict = {**connection.settings_dict, "NAME": name, "TEST": test}
    assert own._idle == []


def test_outside_of_tests_any_name_is_as_good(usage_app, monkeypatch):
    monkeypatch.delattr("django.core.mail.outbox")
    own = OwnConnections("default")
    with own.borrowed() as connection:
        connection.settings_dict = {**connection.settings_dict, "NAME": "test_drive"}
    assert own._idle == [connection]


def test_a_forked_child_has_a_connection_of_its_own(ledger):
    ledger.consume(ANNA, [demand(1)], key="parent")
    child = os.fork()
    if child == 0:
        try:
            done = ledger.consume(ANNA, [demand(1)], key="child").quantity == 1
        finally:
            os._exit(0 if done else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert ledger.charges(ANNA)
    assert ledger.consume(ANNA, [demand(1)], key="child").is_replay


def test_the_ledger_is_not_in_the_view_s_transaction(ledger, alias):
    with ledger._connections.borrowed() as connection:
        assert connection is not connections[alias]
    assert repr(ledger) == f"<DatabaseLedger in {alias!r}>"


def test_any_other_database_is_refused(usage_app, monkeypatch):
    monkeypatch.setattr(type(connections["default"]), "vendor", "oracle")
    with pytest.raises(ValueError, match="PostgreSQL or SQLite, not oracle"):
        OwnConnections("default")


def test_what_is_kept_says_what_it_is(usage_app):
    from entitlement_gate.usage.models import Account, Charge, Event, Hold

    assert str(Account(customer_id="c", version=1)) == "c"
    assert str(Charge(customer_id="c", entitlement_id="e", row_id="r")) == "c e r"
    assert str(Hold(customer_id="c", key="k", state="held")) == "c k held"
    assert str(Event(customer_id="c", key="k")) == "c k"


def test_the_tables_have_one_name_wherever_the_models_were_imported_first():
    """Their package is within another app's, to which Django would count them where their own is not installed."""
    told = subprocess.run(
        [sys.executable, "-c", ELSEWHERE], capture_output=True, text=True, timeout=60, check=True
    ).stdout  # fmt: skip
    assert told.split() == ["entitlement_usage_account", "entitlement_usage"]


def test_the_migrations_are_up_to_date(usage_app):
    from django.core.management import call_command

    call_command("makemigrations", "entitlement_usage", check=True, dry_run=True, verbosity=0)


OUTLIVES = """
import ctypes, json, os, sys
from entitlement_gate.testing.ledger_contract import ANNA, demand
from tests.usage.databases import made_ledger

def session():
    connections = ledger._connections
    return connections.ask(("SELECT pg_backend_pid()", ()))[0] if connections.vendor == "postgresql" else 0

ledger = made_ledger(json.load(sys.stdin))
ledger.consume(ANNA, [demand(1)], key="parent")
before = session()
child = ctypes.PyDLL(None).fork()
if child == 0:
    assert session() != before or not before
    sys.exit(0 if ledger.consume(ANNA, [demand(1)], key="child").quantity == 1 else 1)
assert os.waitpid(child, 0)[1] == 0
assert session() == before
assert ledger.consume(ANNA, [demand(1)], key="child").is_replay
"""


def test_a_child_that_python_was_not_told_of_leaves_its_parent_s_session_alone_to_its_end(ledger, alias):
    kept = ("ENGINE", "NAME", "USER", "HOST")
    database = {name: connections[alias].settings_dict[name] for name in kept}
    done = subprocess.run(
        [sys.executable, "-c", OUTLIVES],
        input=json.dumps(database),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
