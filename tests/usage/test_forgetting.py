"""Keys that a database ledger remembers are forgotten in small steps, whoever's they are."""

import json
import statistics
import time

import pytest

from entitlement_gate.ledger.balances import Row, available
from entitlement_gate.ledger.protocol import RETENTION, LedgerUnavailable, Refusal
from entitlement_gate.testing.ledger_contract import ANNA, BERT, CALLS, demand

PLENTY = Row("row", 10**6)
ONE = [demand(1, PLENTY)]
NOON = 1_768_478_400.0  # long ago


def left(ledger):
    return available((PLENTY,), ledger.charges(ANNA)[CALLS])


def fill(alias, count, *, customer_id=ANNA, state="committed", until=NOON, key="{}"):
    """Put keys into the tables as so many verbs would have left them, and what they used up or hold."""
    from entitlement_gate.usage.models import Account, Charge, Hold

    wants, shares = json.dumps([[CALLS, 1, None]]), json.dumps([[CALLS, "row", 1]])
    what = {"customer_id": customer_id, "state": state, "wants": wants, "shares": shares, "expires_at": until}
    how = {"until": until, "is_overage": False, "is_late": False, "is_lone": False, "purpose": ""}
    holds = [Hold(key=key.format(number), **what, **how) for number in range(count)]
    Hold.objects.using(alias).bulk_create(holds, batch_size=2_000)
    Account.objects.using(alias).create(customer_id=customer_id, version=1)
    amounts = {"committed": count * (state == "committed"), "held": count * (state == "held")}
    nothing = {"baseline": 0, "seen": 0, "refunded": 0, "ticket": 1_000_000}
    Charge.objects.using(alias).create(
        customer_id=customer_id, entitlement_id=CALLS, row_id="row", **amounts, **nothing
    )


def kept(alias, **which):
    from entitlement_gate.usage.models import Hold

    return Hold.objects.using(alias).filter(**which).count()


def took(ledger, customer_id, key):
    began = time.monotonic()
    assert ledger.consume(customer_id, ONE, key=key).quantity == 1
    return time.monotonic() - began


def test_the_first_use_after_twenty_thousand_costs_what_any_other_does(ledger, alias):
    usual = statistics.median(took(ledger, BERT, f"usual {number}") for number in range(9))
    fill(alias, 20_000)
    assert min(took(ledger, ANNA, f"first {number}") for number in range(3)) < 20 * usual
    assert kept(alias, until=NOON) == 20_000 - 3 * 32
    assert left(ledger) == 10**6 - 20_003
    again = ledger.consume(ANNA, ONE, key="19999")  # forgotten, though its turn to be swept has not come
    assert (again.is_replay, kept(alias, key="19999")) == (False, 1)
    assert ledger.consume(ANNA, ONE, key="19999").is_replay


def test_keys_of_a_customer_who_does_not_come_back_are_forgotten_by_the_verbs_of_others(ledger, alias):
    fill(alias, 100, customer_id=BERT)
    ledger.consume(BERT, ONE, key="young")
    for number in range(4):
        ledger.consume(ANNA, ONE, key=str(number))
    assert kept(alias, customer_id=BERT) == 1
    assert ledger.consume(BERT, [demand(10**6, PLENTY)], key="all") == Refusal(CALLS, 10**6 - 101)


def test_a_verb_waits_for_nobody_whose_keys_it_would_forget(postgres_alias):
    from django.db import connections

    from tests.usage.test_ledger import emptied

    ledger = emptied(postgres_alias)
    fill(postgres_alias, 40, customer_id=BERT)
    other = connections.create_connection(postgres_alias)
    with other.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT id FROM entitlement_usage_hold ORDER BY until LIMIT 30 FOR UPDATE")
        ledger.consume(ANNA, ONE, key="k")
        assert kept(postgres_alias, customer_id=BERT) == 30
        cursor.execute("ROLLBACK")  # the server lets go of nothing at once where a client only leaves
    other.close()
    ledger.consume(ANNA, ONE, key="l")
    assert kept(postgres_alias, customer_id=BERT) == 0
    ledger.close()


def test_holds_that_ran_out_together_are_given_back_in_steps_before_anything_is_said(ledger, alias):
    fill(alias, 2_500, state="held")
    ledger._deadline = 0
    everything = [demand(10**6, PLENTY)]
    for left_over in (1_500, 500):
        with pytest.raises(LedgerUnavailable, match="ran out"):
            ledger.consume(ANNA, everything, key="all")
        assert kept(alias, state="held") == left_over
    assert ledger.consume(ANNA, everything, key="all").available == (10**6,)
    assert ledger.consume(ANNA, everything, key="all").is_replay
    assert left(ledger) == 0
    assert ledger.commit(ANNA, "7").is_late


def test_a_check_sees_all_that_ran_out(ledger, alias):
    fill(alias, 2_500, state="held")
    assert left(ledger) == 10**6
    assert kept(alias, state="expired") == 2_500
    ledger._now += f" + {RETENTION + 1}"
    ledger.consume(ANNA, ONE, key="k")
    assert kept(alias, state="expired") == 2_500 - 32
