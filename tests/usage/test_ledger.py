import pytest
from django.db import connections
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from entitlement_gate.testing.ledger_contract import LedgerContract
from tests.ledger.machine import LedgerMachine

TABLES = ("account", "charge", "hold", "event")


def emptied(alias, deadline=30):  # the machine may be busy
    from entitlement_gate.usage.ledger import DatabaseLedger

    connections[alias].close()  # another test may have had the server cut it
    with connections[alias].cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"DELETE FROM entitlement_usage_{table}")
    return DatabaseLedger(alias, deadline=deadline)


class DatabaseContract(LedgerContract):
    def make_ledger(self):
        return emptied(self.alias)

    def pass_time(self, ledger, seconds):
        ledger._now += f" + {seconds}"

    def test_it_agrees_with_the_oracle(self):
        make_ledger, pass_time = self.make_ledger, self.pass_time

        class Machine(LedgerMachine):
            def make_ledger(self):
                return make_ledger()

            def pass_time(self, ledger, seconds):
                pass_time(ledger, seconds)

        quiet = {"deadline": None, "suppress_health_check": list(HealthCheck)}
        run_state_machine_as_test(Machine, settings=settings(max_examples=15, stateful_step_count=30, **quiet))


class TestOnSqlite(DatabaseContract):
    @pytest.fixture(autouse=True)
    def database(self, sqlite_alias):
        self.alias = sqlite_alias


class TestOnPostgres(DatabaseContract):
    @pytest.fixture(autouse=True)
    def database(self, postgres_alias):
        self.alias = postgres_alias
