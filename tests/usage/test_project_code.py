"""Project code on threads of the gate asks PostgreSQL, which cuts its connections."""

import asyncio
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest
from django.db import OperationalError, connections
from django.db.utils import InterfaceError

from entitlement_gate import Reason
from entitlement_gate.engine.gate import EntitlementGate
from entitlement_gate.ledger.memory import MemoryLedger
from entitlement_gate.ledger.protocol import LedgerUnavailable
from entitlement_gate.project_gate import RequestGate
from entitlement_gate.resilience import worker_pool
from entitlement_gate.signals import entitlements_refreshed, source_failed
from entitlement_gate.testing import FakeSource
from tests.engine.fakes import ANNA, customers, eventually

HOW = {"at once": {}, "kept and looked at": {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}}


@pytest.fixture(params=HOW)
def alias(request, postgres, usage_app, monkeypatch):
    """A database whose connections Django closes after each request, or keeps and looks at before the next."""
    monkeypatch.setattr(worker_pool, "_IDLE_SECONDS", 0.2)
    alias = f"project_{request.param.replace(' ', '_')}"
    before = set(threading.enumerate())
    options = {**postgres.get("OPTIONS", {}), "application_name": alias}
    with known(alias, {**postgres, **HOW[request.param], "OPTIONS": options}):
        yield alias
        for thread in set(threading.enumerate()) - before:
            thread.join(60)  # and closes what it kept: one left open would fail the run


@contextmanager
def known(alias, database):
    connections.settings[alias] = database
    connections.configure_settings(connections.settings)
    try:
        yield
    finally:
        connections[alias].close()
        del connections[alias], connections.settings[alias]


def asked(alias):
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT 1")
        return cursor.fetchone()


def cut(alias):
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND application_name = %s",
            [alias],
        )
    connections[alias].close()


class Source(FakeSource):
    """A source, or an API key, that stands in the database."""

    def __init__(self, alias):
        super().__init__()
        self.alias = alias

    def fetch(self, customer_id):
        asked(self.alias)
        return super().fetch(customer_id)


class Ledger(MemoryLedger):
    """A ledger elsewhere, in the project's own tables."""

    is_local = False

    def __init__(self, alias):
        super().__init__()
        self.alias = alias

    def charges(self, customer_id):
        try:
            asked(self.alias)
        except (OperationalError, InterfaceError) as error:
            raise LedgerUnavailable("cut") from error
        return super().charges(customer_id)


@pytest.mark.parametrize("kind", [EntitlementGate, RequestGate])
@pytest.mark.parametrize("door", ["check", "acheck"])
def test_the_fetch_after_the_cut_succeeds(alias, kind, door):
    with kind(Source(alias), deadline=30) as gate:
        for customer in customers(3):
            asking = getattr(gate, door)(customer, "sso")
            assert (asking if door == "check" else asyncio.run(asking)).reason == Reason.CUSTOMER_NOT_FOUND
            cut(alias)


@pytest.mark.usefixtures("no_fetch_remains")
@pytest.mark.parametrize("signal", [entitlements_refreshed, source_failed])
def test_a_receiver_hears_after_the_cut(alias, signal):
    heard = []

    def hear(**told):
        heard.append(asked(alias))

    source = FakeSource()
    if signal is source_failed:
        source.fail("rejected")
    signal.connect(hear)
    try:
        with RequestGate(source, deadline=30) as gate:
            for count, customer in enumerate(customers(3), start=1):
                gate.check(customer, "sso")
                eventually(lambda count=count: len(heard) == count, seconds=60)
                cut(alias)
    finally:
        signal.disconnect(hear)


@pytest.mark.parametrize("door", ["check", "acheck"])
def test_a_ledger_of_the_projects_own_is_asked_after_the_cut(alias, door):
    source = FakeSource()
    source.grant(ANNA, "calls", 5)
    with EntitlementGate(source, ledger=Ledger(alias), deadline=30) as gate:
        for _ in range(3):
            asking = getattr(gate, door)(ANNA, "calls")
            assert (asking if door == "check" else asyncio.run(asking)).remaining == 5
            cut(alias)


def test_a_connection_that_cannot_be_closed_harms_no_fetch(alias, monkeypatch):
    def fail(self):
        raise InterfaceError("cannot be closed")

    with EntitlementGate(Source(alias), deadline=30) as gate:
        gate.check(ANNA, "sso")
        with monkeypatch.context() as patched:
            patched.setattr(type(connections[alias]), "close_if_unusable_or_obsolete", fail)
            assert gate.check(customers(1)[0], "sso").reason == Reason.CUSTOMER_NOT_FOUND


ALONE = """
import sys
from entitlement_gate import EntitlementGate
from entitlement_gate.testing.fakes import FakeSource
{before}
source = FakeSource()
source.grant("10000000-0000-4000-8000-000000000001", "sso")
print(EntitlementGate(source).has("10000000-0000-4000-8000-000000000001", "sso"), "django.db" in sys.modules)
"""


@pytest.mark.parametrize(("before", "is_there"), [("", False), ("import django.db", True)])
def test_without_settings_of_django_nothing_of_it_is_asked(before, is_there):
    done = subprocess.run(
        [sys.executable, "-c", ALONE.format(before=before)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.stdout, done.stderr) == (f"True {is_there}\n", "")
