import json

import pytest
from django.core.management import call_command
from django.db import connections

from entitlement_gate.testing.ledger_contract import ANNA, demand
from tests.ledger.test_health import with_events
from tests.usage.databases import KnownDatabase
from tests.usage.test_ledger import emptied


@pytest.mark.parametrize(("fixture", "vendor"), [("sqlite_alias", "sqlite"), ("postgres_alias", "postgresql")])
def test_a_database_tells_what_waits(request, fixture, vendor):
    ledger = emptied(request.getfixturevalue(fixture))
    report = with_events(ledger).health()
    ledger.close()
    assert json.loads(json.dumps(report)) == {
        "store": "database",
        "reachable": True,
        "pending": 2,
        "dead_letters": 1,
        "vendor": vendor,
        "migrated": True,
    }


def test_a_database_that_was_not_migrated_is_told(usage_app, tmp_path):
    from entitlement_gate.usage.ledger import DatabaseLedger

    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "ledger.sqlite3")}
    with KnownDatabase("unmigrated", database) as alias:
        call_command("migrate", "entitlement_usage", "zero", database=alias, verbosity=0)
        ledger = DatabaseLedger(alias)
        report = ledger.health()
        ledger.close()
    assert (report["reachable"], report["migrated"], report["pending"]) == (True, False, None)
    assert "error" not in report


def test_a_database_that_is_not_there_is_told_without_its_password(usage_app):
    from entitlement_gate.usage.ledger import DatabaseLedger

    nowhere = {"ENGINE": "django.db.backends.postgresql", "NAME": "n", "HOST": "/nonexistent", "PASSWORD": "secret"}
    connections.settings["nowhere"] = nowhere
    connections.configure_settings(connections.settings)
    try:
        report = DatabaseLedger("nowhere").health()
    finally:
        del connections["nowhere"], connections.settings["nowhere"]
    assert (report["reachable"], report["migrated"], report["pending"]) == (False, None, None)
    assert report["error"].startswith("LedgerUnavailable: postgresql: OperationalError")
    assert "secret" not in json.dumps(report)


def test_asking_after_a_database_leaves_nothing_locked(postgres_alias):
    ledger = emptied(postgres_alias)
    ledger.health()
    assert ledger.consume(ANNA, [demand(1)], key="k").quantity == 1
    assert not ledger.is_local
    ledger.close()
