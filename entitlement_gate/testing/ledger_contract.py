"""The suite that every ledger must pass.

Holding, committing and releasing, reconciling with billing, refusing bad input, owning holds, and the outbox.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import pytest

from entitlement_gate.domain.errors import ReservationConflict, ReservationExpired, ReservationNotFound
from entitlement_gate.ledger.balances import MOST, WIDEST, Row, Share, available
from entitlement_gate.ledger.protocol import LONE_RETENTION, RETENTION, Demand, Receipt, Refusal, State, UsageTarget

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ANNA", "BERT", "CALLS", "METER", "SEATS", "LedgerContract", "demand"]

ANNA = "10000000-0000-4000-8000-00000000000a"
BERT = "20000000-0000-4000-8000-00000000000b"
CALLS = "30000000-0000-4000-8000-00000000000c"
SEATS = "40000000-0000-4000-8000-00000000000d"
METER = UsageTarget("api_calls", "count")


def demand(quantity: int, *rows: Row, entitlement_id: str = CALLS, ticket: float = 1.0, **more: Any) -> Demand:
    """Return a demand on one row of ten, where no rows are given."""
    rows = rows or (Row("row", 10),)
    return Demand(entitlement_id=entitlement_id, quantity=quantity, rows=rows, ticket=ticket, **more)


class _LedgerCases(ABC):
    """How a ledger is made, and how its time passes."""

    @abstractmethod
    def make_ledger(self) -> Any:
        """Return an empty ledger that is its own outbox."""

    @abstractmethod
    def pass_time(self, ledger: Any, seconds: float) -> None:
        """Let the ledger's clock, whosever it is, go forward."""

    @pytest.fixture
    def ledger(self) -> Any:
        """An empty ledger, closed after the test."""
        ledger = self.make_ledger()
        yield ledger
        ledger.close()

    def left(self, ledger: Any, *rows: Row, entitlement_id: str = CALLS) -> int:
        """Return what is available to Anna."""
        tallies = ledger.charges(ANNA).get(entitlement_id, {})
        return available(rows or (Row("row", 10),), tallies)


class _HoldingCases(_LedgerCases):
    """Holds, their keys and their ends."""

    def test_nothing_is_charged_to_a_customer_who_never_used_anything(self, ledger: Any) -> None:
        assert not ledger.charges(ANNA)
        ledger.adopt_upstream(ANNA, {CALLS: (Row("row", 10),)}, 1.0)
        assert not ledger.charges(ANNA)

    def test_a_hold_is_subtracted_and_given_back(self, ledger: Any) -> None:
        hold = ledger.reserve(ANNA, [demand(4)], key="k", ttl=60)
        assert (hold.state, hold.shares, hold.available) == (State.HELD, (Share(CALLS, "row", 4),), (10,))
        assert hold.key == "k"
        assert not (hold.is_replay or hold.is_late or hold.is_overage)
        assert self.left(ledger) == 6
        release = ledger.release(ANNA, "k")
        assert (release.state, release.is_replay) == (State.RELEASED, False)
        assert self.left(ledger) == 10
        assert ledger.release(ANNA, "k").is_replay
        assert self.left(ledger) == 10

    def test_consuming_commits_what_the_key_holds_already(self, ledger: Any) -> None:
        ledger.reserve(ANNA, [demand(4)], key="k", ttl=60)
        done = ledger.consume(ANNA, [demand(4)], key="k")
        assert (done.state, done.quantity, done.available) == (State.COMMITTED, 4, ())
        assert ledger.consume(ANNA, [demand(4)], key="k").is_replay
        assert self.left(ledger) == 6

    def test_holds_return_however_many_run_out_together(self, ledger: Any) -> None:
        rows = (Row("row", 1200),)
        for number in range(1200):
            ledger.reserve(ANNA, [demand(1, *rows)], key=str(number), ttl=60)
        self.pass_time(ledger, 61)
        assert self.left(ledger, *rows) == 1200
        assert ledger.consume(ANNA, [demand(1200, *rows)], key="all").quantity == 1200

    def test_a_commit_stays(self, ledger: Any) -> None:
        ledger.reserve(ANNA, [demand(4)], key="k", ttl=60)
        done = ledger.commit(ANNA, "k")
        assert (done.state, done.quantity, done.is_late, done.is_replay) == (State.COMMITTED, 4, False, False)
        self.pass_time(ledger, 61)
        assert self.left(ledger) == 6
        assert ledger.commit(ANNA, "k").is_replay
        assert ledger.commit(ANNA, "k", actual=4).is_replay
        assert self.left(ledger) == 6

    def test_what_is_not_available_is_refused_and_changes_nothing(self, ledger: Any) -> None:
        ledger.consume(ANNA, [demand(4)], key="a")
        assert ledger.reserve(ANNA, [demand(7)], key="b", ttl=60) == Refusal(CALLS, 6)
        assert ledger.consume(ANNA, [demand(7)], key="b") == Refusal(CALLS, 6)
        assert self.left(ledger) == 6
        with pytest.raises(ReservationNotFound):
            ledger.commit(ANNA, "b")
        assert isinstance(ledger.reserve(ANNA, [demand(6)], key="b", ttl=60), Receipt)
        assert self.left(ledger) == 0

    def test_overage_is_admitted_where_demanded_and_says_so(self, ledger: Any) -> None:
        over = ledger.consume(ANNA, [demand(12, overdraw=True)], key="k")
        assert (over.is_overage, over.available, over.quantity) == (True, (10,), 12)
        assert self.left(ledger) == -2
        assert not ledger.reserve(BERT, [demand(10, overdraw=True)], key="k", ttl=60).is_overage

    def test_the_same_key_and_quantity_replays(self, ledger: Any) -> None:
        first = ledger.reserve(ANNA, [demand(4)], key="k", ttl=60)
        again = ledger.reserve(ANNA, [demand(4)], key="k", ttl=60)
        assert (again.is_replay, again.shares, again.available) == (True, first.shares, ())
        assert again.expires_at == first.expires_at
        assert self.left(ledger) == 6
        assert not ledger.consume(ANNA, [demand(4)], key="k").is_replay
        assert ledger.consume(ANNA, [demand(4)], key="k").is_replay
        assert ledger.reserve(ANNA, [demand(4)], key="k", ttl=60).state is State.COMMITTED
        assert self.left(ledger) == 6

    @pytest.mark.parametrize("other", [demand(5), demand(4, entitlement_id=SEATS)])
    def test_another_quantity_or_entitlement_under_a_key_conflicts(self, ledger: Any, other: Demand) -> None:
        ledger.reserve(ANNA, [demand(4)], key="k", ttl=60)
        with pytest.raises(ReservationConflict):
            ledger.reserve(ANNA, [other], key="k", ttl=60)
        with pytest.raises(ReservationConflict):
            ledger.consume(ANNA, [other], key="k")
        assert self.left(ledger) == 6

    @pytest.mark.parametrize(("actual", "remaining"), [(1, 9), (3, 7), (4, 6), (5, 5), (12, -2)])
    def test_what_was_used_in_the_end_is_what_counts(self, ledger: Any, actual: int, remaining: int) -> None:
        ledger.reserve(ANNA, [demand(4)], key="k", ttl=60)
        assert ledger.commit(ANNA, "k", actual=actual).quantity == actual
        assert self.left(ledger) == remaining
        assert ledger.commit(ANNA, "k").quantity == actual
        with pytest.raises(ReservationConflict):
            ledger.commit(ANNA, "k", actual=actual + 1)
        assert self.left(ledger) == remaining

    def test_a_hold_runs_out(self, ledger: Any) -> None:
        ledger.reserve(ANNA, [demand(4)], key="k", ttl=60)
        self.pass_time(ledger, 30)
        assert self.left(ledger) == 6
        self.pass_time(ledger, 31)
        assert self.left(ledger) == 10
        assert ledger.release(ANNA, "k").state is State.EXPIRED
        with pytest.raises(ReservationExpired):
            ledger.extend(ANNA, "k", 60)
        with pytest.raises(ReservationExpired):
            ledger.commit(ANNA, "k", late=False)
        assert self.left(ledger) == 10

    def test_a_hold_that_ran_out_makes_room_at_once(self, ledger: Any) -> None:
        ledger.reserve(ANNA, [demand(10)], key="a", ttl=60)
        self.pass_time(ledger, 61)
        assert isinstance(ledger.reserve(ANNA, [demand(10)], key="b", ttl=60), Receipt)

    def test_a_late_commit_counts_and_says_so(self, ledger: Any) -> None:
        ledger.reserve(ANNA, [demand(8)], key="a", ttl=60)
        self.pass_time(ledger, 61)
        ledger.reserve(ANNA, [demand(8)], key="b", ttl=60)
        late = ledger.commit(ANNA, "a")
        assert (late.state, late.is_late, late.quantity) == (State.COMMITTED, True, 8)
        assert ledger.commit(ANNA, "a").is_late
        assert self.left(ledger) == -6

    def test_a_key_that_ran_out_or_was_released_is_reserved_anew(self, ledger: Any) -> None:
        ledger.reserve(ANNA, [demand(4)], key="k", ttl=60)
        self.pass_time(ledger, 61)
        anew = ledger.reserve(ANNA, [demand(4)], key="k", ttl=60)
        assert (anew.state, anew.is_replay) == (State.HELD, False)
        ledger.release(ANNA, "k")
        assert ledger.consume(ANNA, [demand(4)], key="k").state is State.COMMITTED
        self.pass_time(ledger, 61)
        assert self.left(ledger) == 6

    @pytest.mark.parametrize("has_run_out", [True, False])
    def test_where_nothing_is_held_any_more_another_entitlement_may_pay(self, ledger: Any, has_run_out: bool) -> None:  # noqa: FBT001 - a parameter of the case
        ledger.reserve(ANNA, [demand(4)], key="k", ttl=60)
        if has_run_out:
            self.pass_time(ledger, 61)
        else:
            ledger.release(ANNA, "k")
        with pytest.raises(ReservationConflict):
            ledger.reserve(ANNA, [demand(5, entitlement_id=SEATS)], key="k", ttl=60)
        anew = ledger.reserve(ANNA, [demand(4, entitlement_id=SEATS)], key="k", ttl=60)
        assert (anew.state, anew.is_replay, anew.shares[0].entitlement_id) == (State.HELD, False, SEATS)
        assert self.left(ledger) == 10
        with pytest.raises(ReservationConflict):
            ledger.consume(ANNA, [demand(4)], key="k")
        assert ledger.commit(ANNA, "k").shares == anew.shares

    def test_an_extended_hold_lasts(self, ledger: Any) -> None:
        first = ledger.reserve(ANNA, [demand(4)], key="k", ttl=60)
        self.pass_time(ledger, 50)
        assert ledger.extend(ANNA, "k", 60).expires_at > first.expires_at
        self.pass_time(ledger, 50)
        assert self.left(ledger) == 6
        self.pass_time(ledger, 11)
        assert self.left(ledger) == 10

    def test_a_key_is_forgotten_in_the_end_and_its_use_is_not(self, ledger: Any) -> None:
        ledger.consume(ANNA, [demand(4)], key="used")
        ledger.reserve(ANNA, [demand(4)], key="held", ttl=60)
        self.pass_time(ledger, 61)
        assert self.left(ledger) == 6
        self.pass_time(ledger, 86_401)
        for key in ("used", "held"):
            with pytest.raises(ReservationNotFound):
                ledger.release(ANNA, key)
        assert self.left(ledger) == 6
        assert not ledger.consume(ANNA, [demand(1)], key="used").is_replay
        with pytest.raises(ReservationNotFound):
            ledger.release(ANNA, "held")

    def test_each_hold_runs_out_at_its_own_time(self, ledger: Any) -> None:
        for key, ttl in (("long", 600), ("short", 60), ("middle", 300)):
            ledger.reserve(ANNA, [demand(1)], key=key, ttl=ttl)
        for seconds, remaining in ((61, 8), (240, 9), (300, 10)):
            self.pass_time(ledger, seconds)
            assert self.left(ledger) == remaining

    def test_forgetting_a_key_forgets_no_other(self, ledger: Any) -> None:
        ledger.consume(ANNA, [demand(1)], key="old")
        self.pass_time(ledger, 86_000)
        ledger.consume(ANNA, [demand(1)], key="young")
        self.pass_time(ledger, 500)
        ledger.consume(ANNA, [demand(1)], key="other")
        assert not ledger.consume(ANNA, [demand(1)], key="old").is_replay
        assert ledger.consume(ANNA, [demand(1)], key="young").is_replay

    def test_the_first_use_after_many_keys_were_forgotten_together_is_admitted(self, ledger: Any) -> None:
        rows = (Row("row", 1300),)
        for number in range(1200):
            ledger.consume(ANNA, [demand(1, *rows)], key=str(number))
        self.pass_time(ledger, RETENTION + 1)
        first = ledger.consume(ANNA, [demand(1, *rows)], key="7")  # long forgotten, swept or not
        assert (first.is_replay, first.available) == (False, (100,))
        assert ledger.consume(ANNA, [demand(1, *rows)], key="7").is_replay
        for number in range(8, 20):
            with pytest.raises(ReservationNotFound):
                ledger.commit(ANNA, str(number))
        assert self.left(ledger, *rows) == 99

    def test_a_use_counts_however_long_ago(self, ledger: Any) -> None:
        ledger.consume(ANNA, [demand(4)], key="k")
        self.pass_time(ledger, 400 * 86_400)
        assert ledger.consume(ANNA, [demand(7)], key="l") == Refusal(CALLS, 6)

    def test_a_key_that_nobody_else_knows_is_soon_forgotten_and_its_use_is_not(self, ledger: Any) -> None:
        ledger.reserve(ANNA, [demand(1)], key="kept", ttl=60, is_lone=True)
        for is_lone in (False, True):
            ledger.reserve(ANNA, [demand(1)], key="back", ttl=60, is_lone=is_lone)
            ledger.release(ANNA, "back")
        ledger.reserve(ANNA, [demand(1)], key="late", ttl=60, is_lone=True)
        ledger.reserve(ANNA, [demand(1)], key="known", ttl=60)
        ledger.commit(ANNA, "kept")
        ledger.commit(ANNA, "known")
        ledger.consume(ANNA, [demand(1)], key="at once", is_lone=True)
        self.pass_time(ledger, LONE_RETENTION - 30)
        assert ledger.commit(ANNA, "kept").is_replay
        assert ledger.release(ANNA, "back").is_replay
        assert ledger.commit(ANNA, "late").is_late
        self.pass_time(ledger, LONE_RETENTION + 1)
        for key in ("kept", "back", "late", "at once"):
            with pytest.raises(ReservationNotFound):
                ledger.release(ANNA, key)
        assert ledger.commit(ANNA, "known").is_replay
        assert self.left(ledger) == 6

    def test_an_end_is_final(self, ledger: Any) -> None:
        ledger.consume(ANNA, [demand(1)], key="used")
        with pytest.raises(ReservationConflict):
            ledger.release(ANNA, "used")
        with pytest.raises(ReservationConflict):
            ledger.extend(ANNA, "used", 60)
        ledger.reserve(ANNA, [demand(1)], key="back", ttl=60)
        ledger.release(ANNA, "back")
        with pytest.raises(ReservationConflict):
            ledger.commit(ANNA, "back", late=False)
        with pytest.raises(ReservationConflict):
            ledger.extend(ANNA, "back", 60)
        assert self.left(ledger) == 9

    def test_an_unknown_key_is_not_found(self, ledger: Any) -> None:
        for verb in (ledger.commit, ledger.release, lambda *who: ledger.extend(*who, 60)):
            with pytest.raises(ReservationNotFound):
                verb(ANNA, "nobody's")

    def test_a_key_belongs_to_its_customer(self, ledger: Any) -> None:
        ledger.reserve(ANNA, [demand(4)], key="k", ttl=60)
        for verb in (ledger.commit, ledger.release, lambda *who: ledger.extend(*who, 60)):
            with pytest.raises(ReservationNotFound):
                verb(BERT, "k")
        assert not ledger.charges(BERT)
        assert not ledger.reserve(BERT, [demand(9)], key="k", ttl=60).is_replay
        assert self.left(ledger) == 6

    def test_several_entitlements_are_all_held_or_none(self, ledger: Any) -> None:
        both = [demand(4), demand(2, Row("s", 2), entitlement_id=SEATS)]
        hold = ledger.reserve(ANNA, both, key="k", ttl=60)
        assert hold.shares == (Share(CALLS, "row", 4), Share(SEATS, "s", 2))
        assert hold.available == (10, 2)
        assert ledger.reserve(ANNA, both, key="l", ttl=60) == Refusal(SEATS, 0)
        assert self.left(ledger) == 6
        with pytest.raises(ValueError, match="several"):
            ledger.commit(ANNA, "k", actual=1)
        assert ledger.commit(ANNA, "k").quantity == 6
        assert self.left(ledger) == 6
        assert self.left(ledger, Row("s", 2), entitlement_id=SEATS) == 0

    def test_threads_never_admit_more_than_there_is(self, ledger: Any) -> None:
        outcomes: list[list[Any]] = []

        def work(name: int) -> None:
            outcomes.append([ledger.consume(ANNA, [demand(1)], key=f"{name}-{number}") for number in range(5)])

        threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        receipts = [outcome for some in outcomes for outcome in some if isinstance(outcome, Receipt)]
        assert (len(receipts), self.left(ledger)) == (10, 0)

    def test_closing_twice_does_nothing(self, ledger: Any) -> None:
        ledger.close()
        ledger.close()


class _ReconcilingCases(_LedgerCases):
    """Which rows pay, and what news from billing changes."""

    def test_the_largest_numbers_stay_exact(self, ledger: Any) -> None:
        row = Row("row", MOST)
        ledger.consume(ANNA, [demand(MOST - 2, row)], key="a")
        ledger.reserve(ANNA, [demand(1, row)], key="b", ttl=60)
        assert self.left(ledger, row) == 1
        assert ledger.consume(ANNA, [demand(2, row)], key="c") == Refusal(CALLS, 1)
        assert isinstance(ledger.consume(ANNA, [demand(1, row)], key="c"), Receipt)

    def test_a_balance_larger_than_any_quantity_pays(self, ledger: Any) -> None:
        row = Row("row", WIDEST)
        for key in "abc":
            assert isinstance(ledger.consume(ANNA, [demand(MOST // 4, row)], key=key), Receipt)
        assert self.left(ledger, row) == WIDEST - 3 * (MOST // 4)

    def test_rows_that_end_first_pay_first(self, ledger: Any) -> None:
        rows = (Row("soon", 3), Row("negative", -1), Row("later", 5), Row("never", 10))
        paid = ledger.consume(ANNA, [demand(10, *rows)], key="k")
        assert paid.shares == (Share(CALLS, "soon", 3), Share(CALLS, "later", 5), Share(CALLS, "never", 2))
        assert self.left(ledger, *rows) == 7
        assert self.left(ledger, *rows[2:]) == 8
        ledger.reserve(ANNA, [demand(4, *rows)], key="less", ttl=60)
        assert ledger.commit(ANNA, "less", actual=9).shares == (Share(CALLS, "never", 9),)

    def test_less_than_was_held_is_paid_by_the_rows_that_end_first(self, ledger: Any) -> None:
        rows = (Row("soon", 3), Row("never", 10))
        ledger.reserve(ANNA, [demand(8, *rows)], key="k", ttl=60)
        assert ledger.commit(ANNA, "k", actual=2).shares == (Share(CALLS, "soon", 2),)
        assert self.left(ledger, *rows) == 11

    def test_local_use_is_not_counted_twice_when_billing_catches_up(self, ledger: Any) -> None:
        ledger.consume(ANNA, [demand(5, Row("row", 10, 2))], key="a")
        assert self.left(ledger, Row("row", 10, 2)) == 5
        assert self.left(ledger, Row("row", 8, 4)) == 5
        assert self.left(ledger, Row("row", 5, 7)) == 5
        ledger.consume(ANNA, [demand(1, Row("row", 5, 7), ticket=2.0)], key="b")
        assert self.left(ledger, Row("row", 10, 2)) == 4
        assert self.left(ledger, Row("row", 5, 7)) == 4
        assert self.left(ledger, Row("row", 4, 8)) == 4

    def test_more_caught_up_than_was_committed_is_no_credit(self, ledger: Any) -> None:
        ledger.consume(ANNA, [demand(2)], key="k")
        assert self.left(ledger, Row("row", 5, 5)) == 5
        assert ledger.consume(ANNA, [demand(6, Row("row", 5, 5))], key="l") == Refusal(CALLS, 5)

    def test_billing_may_take_it_from_another_row(self, ledger: Any) -> None:
        ledger.consume(ANNA, [demand(5, Row("a", 10), Row("b", 10))], key="k")
        assert self.left(ledger, Row("a", 10), Row("b", 5, 5)) == 15

    def test_a_row_that_leaves_takes_its_counts_along(self, ledger: Any) -> None:
        ledger.consume(ANNA, [demand(5, Row("a", 5), Row("b", 5))], key="k")
        ledger.reserve(ANNA, [demand(2, Row("a", 5), Row("b", 5))], key="l", ttl=60)
        assert self.left(ledger, Row("b", 5)) == 3
        assert self.left(ledger, Row("b", 5), Row("new", 7, 3)) == 10

    def test_a_top_up_is_available_at_once(self, ledger: Any) -> None:
        ledger.consume(ANNA, [demand(10)], key="k")
        assert self.left(ledger, Row("row", 15)) == 5
        assert isinstance(ledger.consume(ANNA, [demand(5, Row("row", 15))], key="l"), Receipt)

    def test_a_credit_note_gives_back(self, ledger: Any) -> None:
        ledger.consume(ANNA, [demand(5)], key="k")
        ledger.adopt_upstream(ANNA, {CALLS: (Row("row", 5, 5),)}, 2.0)
        ledger.adopt_upstream(ANNA, {CALLS: (Row("row", 7, 3),)}, 3.0)
        assert self.left(ledger, Row("row", 7, 3)) == 7
        ledger.adopt_upstream(ANNA, {CALLS: (Row("row", 5, 5),)}, 2.5)
        assert self.left(ledger, Row("row", 7, 3)) == 7

    def test_a_credit_note_that_was_none_is_taken_back(self, ledger: Any) -> None:
        ledger.consume(ANNA, [demand(5)], key="k")
        for ticket, used in enumerate((5, 3, 5), start=2):
            ledger.adopt_upstream(ANNA, {CALLS: (Row("row", 10 - used, used),)}, float(ticket))
        ledger.consume(ANNA, [demand(2, Row("row", 5, 5), ticket=5.0)], key="l")
        assert self.left(ledger, Row("row", 5, 5)) == 3

    def test_older_news_changes_nothing(self, ledger: Any) -> None:
        ledger.consume(ANNA, [demand(5, Row("row", 5, 5), ticket=9.0)], key="k")
        ledger.adopt_upstream(ANNA, {CALLS: (Row("row", 10),)}, 8.0)
        assert self.left(ledger, Row("row", 5, 5)) == 0

    def test_news_of_a_clock_that_was_ahead_holds_off_no_later_news(self, ledger: Any) -> None:
        in_2191 = 7e9
        ledger.reserve(ANNA, [demand(1, ticket=in_2191)], key="k", ttl=60)
        ledger.release(ANNA, "k")
        self.pass_time(ledger, 1)
        ledger.adopt_upstream(ANNA, {CALLS: (Row("row", 5, 5),)}, in_2191)
        ledger.consume(ANNA, [demand(5, Row("row", 5, 5))], key="l")
        assert self.left(ledger, Row("row", 5, 5)) == 0

    def test_news_of_a_clock_that_was_ahead_is_newer_than_what_came_before(self, ledger: Any) -> None:
        in_2191 = 7e9
        ledger.consume(ANNA, [demand(5, Row("row", 5, 5), ticket=in_2191)], key="k")
        ledger.adopt_upstream(ANNA, {CALLS: (Row("row", 10),)}, 8.0)
        assert self.left(ledger, Row("row", 5, 5)) == 0

    def test_before_the_first_commit_foreign_use_is_no_catching_up(self, ledger: Any) -> None:
        ledger.reserve(ANNA, [demand(1)], key="k", ttl=60)
        ledger.release(ANNA, "k")
        ledger.consume(ANNA, [demand(5, Row("row", 7, 3), ticket=2.0)], key="l")
        assert self.left(ledger, Row("row", 7, 3)) == 2

    def test_what_left_long_ago_is_dropped(self, ledger: Any) -> None:
        ledger.consume(ANNA, [demand(5, Row("old", 10))], key="k")
        ledger.adopt_upstream(ANNA, {CALLS: ()}, 1.0)
        assert self.left(ledger, Row("old", 10)) == 5
        ledger.adopt_upstream(ANNA, {}, 91 * 86_400.0)
        assert not ledger.charges(ANNA).get(CALLS)


class _RefusingCases(_LedgerCases):
    """Keys, quantities and times that cannot be."""

    @pytest.mark.parametrize("key", ["", "x" * 201, "a\0b", "\udc00", None])
    def test_a_key_that_cannot_be_changes_nothing(self, ledger: Any, key: Any) -> None:
        verbs: tuple[Callable[[], object], ...] = (
            lambda: ledger.reserve(ANNA, [demand(1)], key=key, ttl=60),
            lambda: ledger.consume(ANNA, [demand(1)], key=key),
            lambda: ledger.commit(ANNA, key),
            lambda: ledger.release(ANNA, key),
            lambda: ledger.extend(ANNA, key, 60),
        )
        for verb in verbs:
            with pytest.raises(ValueError, match="key"):
                verb()
        assert not ledger.charges(ANNA)

    @pytest.mark.parametrize("key", ["x" * 200, "ключ {a}", "a b\n'\"|%s", "0"])
    def test_any_other_text_is_a_key(self, ledger: Any, key: str) -> None:
        ledger.reserve(ANNA, [demand(1)], key=key, ttl=60)
        assert ledger.commit(ANNA, key).key == key

    @pytest.mark.parametrize("quantity", [0, -1, MOST + 1, 1.5, True, "1"])
    def test_a_quantity_that_cannot_be_changes_nothing(self, ledger: Any, quantity: Any) -> None:
        with pytest.raises(ValueError, match="counts"):
            ledger.reserve(ANNA, [demand(quantity)], key="k", ttl=60)
        ledger.reserve(ANNA, [demand(1)], key="k", ttl=60)
        with pytest.raises(ValueError, match="counts"):
            ledger.commit(ANNA, "k", actual=quantity)
        assert self.left(ledger) == 9

    @pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), True, "60"])
    def test_a_time_to_live_that_cannot_be_changes_nothing(self, ledger: Any, ttl: Any) -> None:
        with pytest.raises(ValueError, match="lives"):
            ledger.reserve(ANNA, [demand(1)], key="k", ttl=ttl)
        assert not ledger.charges(ANNA)

    def test_demands_that_cannot_be_change_nothing(self, ledger: Any) -> None:
        no_rows = Demand(entitlement_id=CALLS, quantity=1, rows=(), ticket=1.0)
        for demands in ([], [demand(1), demand(1)], [no_rows]):
            with pytest.raises(ValueError, match=r"entitlement|row"):
                ledger.consume(ANNA, demands, key="k")
        assert not ledger.charges(ANNA)


class _OwningCases(_LedgerCases):
    """One key, and two who reserve with it."""

    def test_who_replays_does_not_give_back_what_another_holds(self, ledger: Any) -> None:
        ledger.reserve(ANNA, [demand(4)], key="k", ttl=60, owner="first")
        again = ledger.reserve(ANNA, [demand(4)], key="k", ttl=60, owner="second")
        assert (again.state, again.is_replay) == (State.HELD, True)
        receipt = ledger.release(ANNA, "k", owner="second")
        assert (receipt.state, receipt.is_replay, self.left(ledger)) == (State.HELD, True, 6)
        assert ledger.release(ANNA, "k").state is State.HELD
        assert ledger.release(ANNA, "k", owner="first").state is State.RELEASED
        assert self.left(ledger) == 10

    def test_the_owner_who_reserves_again_still_owns(self, ledger: Any) -> None:
        for _ in range(2):
            ledger.reserve(ANNA, [demand(4)], key="k", ttl=60, owner="first")
        assert ledger.release(ANNA, "k", owner="first").state is State.RELEASED
        assert self.left(ledger) == 10

    def test_a_commit_by_whoever_replays_is_not_undone_by_the_owner(self, ledger: Any) -> None:
        ledger.reserve(ANNA, [demand(4)], key="k", ttl=60, owner="first")
        ledger.reserve(ANNA, [demand(4)], key="k", ttl=60, owner="second")
        done = ledger.commit(ANNA, "k")
        assert (done.is_late, done.quantity) == (False, 4)
        with pytest.raises(ReservationConflict):
            ledger.release(ANNA, "k", owner="first")
        receipt = ledger.release(ANNA, "k", owner="second")
        assert (receipt.state, receipt.is_replay) == (State.COMMITTED, True)
        assert self.left(ledger) == 6

    def test_what_was_consumed_under_the_key_of_a_hold_is_not_undone_by_its_owner(self, ledger: Any) -> None:
        ledger.reserve(ANNA, [demand(4)], key="k", ttl=60, owner="first")
        assert ledger.consume(ANNA, [demand(4)], key="k").state is State.COMMITTED
        with pytest.raises(ReservationConflict):
            ledger.release(ANNA, "k", owner="first")
        assert ledger.commit(ANNA, "k").is_replay
        assert self.left(ledger) == 6

    def test_a_commit_after_the_owner_released_counts_late_and_once(self, ledger: Any) -> None:
        shipped = demand(4, target=METER)
        ledger.reserve(ANNA, [shipped], key="k", ttl=60, owner="first")
        ledger.reserve(ANNA, [shipped], key="k", ttl=60, owner="second")
        ledger.release(ANNA, "k", owner="first")
        late = ledger.commit(ANNA, "k", actual=3)
        assert (late.state, late.is_late, late.is_replay, late.quantity) == (State.COMMITTED, True, False, 3)
        again = ledger.commit(ANNA, "k")
        assert (again.is_late, again.is_replay, self.left(ledger)) == (True, True, 7)
        assert ledger.consume(ANNA, [shipped], key="k").is_replay
        with pytest.raises(ReservationConflict):
            ledger.commit(ANNA, "k", actual=4)
        (event,) = ledger.take(9)
        assert (event.key, event.quantity) == ("k", 3)

    @pytest.mark.parametrize("is_released", [True, False])
    def test_who_owned_before_does_not_release_what_was_reserved_anew(self, ledger: Any, is_released: bool) -> None:  # noqa: FBT001 - a parameter of the case
        ledger.reserve(ANNA, [demand(4)], key="k", ttl=60, owner="first")
        if is_released:
            ledger.release(ANNA, "k", owner="first")
        else:
            self.pass_time(ledger, 61)
        assert not ledger.reserve(ANNA, [demand(4)], key="k", ttl=60, owner="second").is_replay
        assert ledger.release(ANNA, "k", owner="first").state is State.HELD
        assert self.left(ledger) == 6
        assert not ledger.commit(ANNA, "k").is_late
        assert ledger.commit(ANNA, "k").is_replay
        assert self.left(ledger) == 6

    def test_whoever_extends_a_hold_its_owner_releases_it(self, ledger: Any) -> None:
        ledger.reserve(ANNA, [demand(4)], key="k", ttl=60, owner="first")
        ledger.extend(ANNA, "k", 120)
        self.pass_time(ledger, 61)
        assert ledger.release(ANNA, "k", owner="second").state is State.HELD
        assert ledger.release(ANNA, "k", owner="first").state is State.RELEASED

    def test_the_hold_of_an_owner_who_died_runs_out_whoever_replays(self, ledger: Any) -> None:
        ledger.reserve(ANNA, [demand(4)], key="k", ttl=60, owner="first")
        ledger.reserve(ANNA, [demand(4)], key="k", ttl=600, owner="second")
        self.pass_time(ledger, 61)
        assert self.left(ledger) == 10
        assert ledger.release(ANNA, "k", owner="second").state is State.EXPIRED
        assert ledger.commit(ANNA, "k").is_late
        assert self.left(ledger) == 6

    @pytest.mark.parametrize("verb", ["reserve", "consume"])
    def test_a_key_is_known_by_its_purpose_whatever_paid(self, ledger: Any, verb: str) -> None:
        how: dict[str, Any] = {"ttl": 60} if verb == "reserve" else {}
        first = getattr(ledger, verb)(ANNA, [demand(4)], key="k", purpose="export", **how)
        for other in ([demand(3, entitlement_id=SEATS)], [demand(1), demand(1, entitlement_id=SEATS)]):
            again = getattr(ledger, verb)(ANNA, other, key="k", purpose="export", **how)
            assert (again.is_replay, again.shares) == (True, first.shares)
        assert self.left(ledger) == 6

    def test_without_the_same_purpose_a_key_is_known_by_what_is_wanted(self, ledger: Any) -> None:
        ledger.reserve(ANNA, [demand(4)], key="k", ttl=60, purpose="export")
        for purpose in ("", "import"):
            assert ledger.reserve(ANNA, [demand(4)], key="k", ttl=60, purpose=purpose).is_replay
            with pytest.raises(ReservationConflict):
                ledger.reserve(ANNA, [demand(4, entitlement_id=SEATS)], key="k", ttl=60, purpose=purpose)
        ledger.reserve(ANNA, [demand(4)], key="plain", ttl=60)
        with pytest.raises(ReservationConflict):
            ledger.reserve(ANNA, [demand(1)], key="plain", ttl=60, purpose="export")

    def test_what_was_given_back_is_reserved_anew_for_its_purpose_whatever_pays(self, ledger: Any) -> None:
        ledger.reserve(ANNA, [demand(4)], key="k", ttl=60, purpose="export")
        ledger.release(ANNA, "k")
        anew = ledger.reserve(ANNA, [demand(3, entitlement_id=SEATS)], key="k", ttl=60, purpose="export")
        assert (anew.is_replay, [share.entitlement_id for share in anew.shares]) == (False, [SEATS])
        assert self.left(ledger) == 10

    @pytest.mark.parametrize("word", ["x" * 65, "a\0b", "\udc00", None])
    def test_a_purpose_that_cannot_be_changes_nothing(self, ledger: Any, word: Any) -> None:
        with pytest.raises(ValueError, match="purpose"):
            ledger.reserve(ANNA, [demand(1)], key="k", ttl=60, purpose=word)
        with pytest.raises(ValueError, match="purpose"):
            ledger.consume(ANNA, [demand(1)], key="k", purpose=word)
        assert not ledger.charges(ANNA)

    @pytest.mark.parametrize("owner", ["x" * 65, "a\0b", "\udc00", None])
    def test_an_owner_that_cannot_be_changes_nothing(self, ledger: Any, owner: Any) -> None:
        with pytest.raises(ValueError, match="owner"):
            ledger.reserve(ANNA, [demand(1)], key="k", ttl=60, owner=owner)
        assert not ledger.charges(ANNA)
        ledger.reserve(ANNA, [demand(1)], key="k", ttl=60)
        with pytest.raises(ValueError, match="owner"):
            ledger.release(ANNA, "k", owner=owner)
        assert self.left(ledger) == 9


class _OutboxCases(_LedgerCases):
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


class LedgerContract(_HoldingCases, _OwningCases, _RefusingCases, _ReconcilingCases, _OutboxCases):
    """Inherit, name the class ``Test…``, and say how a ledger is made and how its time passes.

    >>> class TestMyLedger(LedgerContract):
    ...     def make_ledger(self): return MyLedger()
    ...     def pass_time(self, ledger, seconds): ledger.clock.forward(seconds)
    """
