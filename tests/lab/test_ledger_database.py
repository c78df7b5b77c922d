"""What only real processes on a real database show."""

import time
from functools import partial

import pytest
from django.db import connections, transaction

from entitlement_gate.ledger.balances import Row, available
from entitlement_gate.testing.ledger_contract import ANNA, CALLS, METER, demand
from tests.ledger.racing import drained, kill_many, race
from tests.usage.conftest import postgres, postgres_alias, sqlite_alias, usage_app  # noqa: F401 - fixtures
from tests.usage.databases import made_ledger
from tests.usage.test_ledger import emptied


@pytest.fixture(params=["sqlite_alias", "postgres_alias"])
def alias(request):
    return request.getfixturevalue(request.param)


def settings_of(alias):
    kept = ("ENGINE", "NAME", "USER", "HOST", "OPTIONS")
    return {name: connections[alias].settings_dict[name] for name in kept}


def left(ledger, row):
    return available((row,), ledger.charges(ANNA)[CALLS])


def test_eight_processes_on_a_budget_of_a_thousand_get_exactly_a_thousand(alias, tmp_path):
    ledger = emptied(alias)
    keys = race(partial(made_ledger, settings_of(alias)), tmp_path)
    assert len(keys) == len(set(keys)) == 1_000
    assert left(ledger, Row("row", 1_000)) == 0
    assert sorted(drained(ledger)) == sorted((key, 1) for key in keys)
    ledger.close()


def test_killed_workers_lose_nothing_acknowledged_and_their_holds_return(alias, tmp_path):
    ledger = emptied(alias)
    keys = kill_many(partial(made_ledger, settings_of(alias)), tmp_path, kills=25)
    time.sleep(2.1)  # the holds of the dead
    events = drained(ledger)
    assert set(keys) <= {key for key, _ in events}
    assert len(events) == len(set(events)) == ledger.pending()
    assert left(ledger, Row("row", 10**6)) == 10**6 - len(events)
    ledger.close()


def test_a_view_that_fails_undoes_no_commit(postgres_alias):  # noqa: F811 - the fixture
    ledger = emptied(postgres_alias)

    def view():
        ledger.consume(ANNA, [demand(4, target=METER)], key="k")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), transaction.atomic(using=postgres_alias):
        view()
    assert left(ledger, Row("row", 10)) == 6
    assert drained(ledger) == [("k", 4)]
    ledger.close()
