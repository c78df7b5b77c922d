"""What every outbox must do. Never here: what is special about one store."""

from __future__ import annotations

from typing import Any

from entitlement_gate.ledger.protocol import RETENTION, UsageTarget
from entitlement_gate.ledger.rule import Row
from entitlement_gate.testing.ledger_cases import ANNA, CALLS, METER, SEATS, LedgerCases, demand

__all__ = ["OutboxCases"]


class OutboxCases(LedgerCases):
    """The events that commits leave."""

    def test_each_commit_leaves_one_event(self, ledger: Any) -> None:
        shipped = demand(4, target=METER)
        ledger.reserve(ANNA, [shipped], key="k", ttl=60)
        assert ledger.pending() == 0
        ledger.commit(ANNA, "k", actual=3)
        ledger.commit(ANNA, "k")
        ledger.consume(ANNA, [demand(1)], key="not shipped")
        assert ledger.pending() == 1
        (event,) = ledger.take(10)
        assert (event.key, event.customer_id, event.target) == ("k", ANNA, METER)
        assert (event.quantity, event.attempts) == (3, 1)
        assert event.at > 0

    def test_several_shipped_entitlements_leave_an_event_each(self, ledger: Any) -> None:
        seats = demand(2, Row("s", 2), entitlement_id=SEATS, target=UsageTarget("seats", "n"))
        ledger.consume(ANNA, [demand(4, target=METER), seats], key="k")
        events = {event.key: event.quantity for event in ledger.take(10)}
        assert events == {f"k/{CALLS}": 4, f"k/{SEATS}": 2}

    def test_an_event_is_with_one_taker_at_a_time(self, ledger: Any) -> None:
        for number in range(3):
            ledger.consume(ANNA, [demand(1, target=METER)], key=str(number))
        first, second = ledger.take(2, lease=60), ledger.take(2, lease=60)
        assert {event.key for event in (*first, *second)} == {"0", "1", "2"}
        assert (len(first), len(second), len(ledger.take(2))) == (2, 1, 0)
        ledger.delivered(first[0])
        ledger.delivered(first[0])
        self.pass_time(ledger, 61)
        assert {event.attempts for event in ledger.take(5)} == {2}
        assert ledger.pending() == 2

    def test_a_key_that_was_forgotten_while_its_event_waits_leaves_another_event(self, ledger: Any) -> None:
        for quantity, is_buried in ((1, False), (2, True), (3, False)):
            ledger.consume(ANNA, [demand(quantity, target=METER)], key="k")
            assert ledger.pending() == (1 if quantity == 1 else 2)
            if is_buried:
                ledger.bury(next(event for event in ledger.take(9) if event.key == "k"), "no")
                assert ledger.pending() == 1
            self.pass_time(ledger, RETENTION + 1)
        (letter,) = ledger.dead_letters()
        ledger.revive(letter.event)
        events = ledger.take(9)
        assert sorted(event.quantity for event in events) == [1, 2, 3]
        assert len({event.key for event in events}) == 3

    def test_an_event_can_be_postponed(self, ledger: Any) -> None:
        ledger.consume(ANNA, [demand(1, target=METER)], key="k")
        (event,) = ledger.take(1)
        ledger.postpone(event, 100)
        self.pass_time(ledger, 90)
        assert not ledger.take(1)
        self.pass_time(ledger, 11)
        assert len(ledger.take(1)) == 1
        ledger.delivered(event)
        ledger.postpone(event, 0)
        assert ledger.pending() == 0

    def test_a_refused_event_is_kept_and_can_be_revived(self, ledger: Any) -> None:
        ledger.consume(ANNA, [demand(1, target=METER)], key="k")
        (event,) = ledger.take(1)
        ledger.bury(event, "HTTP 400: no")
        ledger.bury(event, "again")
        assert ledger.pending() == 0
        (letter,) = ledger.dead_letters()
        assert (letter.event, letter.why) == (event, "HTTP 400: no")
        ledger.revive(event)
        ledger.revive(event)
        assert not ledger.dead_letters()
        (again,) = ledger.take(1)
        assert (again, again.attempts) == (event, 1)
