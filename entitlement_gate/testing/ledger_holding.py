"""What reserving, committing and releasing must do, for every ledger. Never here: what is special about one store."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from entitlement_gate.domain.errors import ReservationConflict, ReservationExpired, ReservationNotFound
from entitlement_gate.ledger.protocol import LONE_RETENTION, RETENTION, Demand, Receipt, Refusal, State
from entitlement_gate.ledger.rule import Row, Share
from entitlement_gate.testing.ledger_cases import ANNA, BERT, CALLS, SEATS, LedgerCases, demand

__all__ = ["HoldingCases"]


class HoldingCases(LedgerCases):
    """Holds, their keys and their ends."""

    def test_nothing_is_charged_to_a_customer_who_never_used_anything(self, ledger: Any) -> None:
        assert not ledger.charges(ANNA)
        ledger.adopt_upstream(ANNA, {CALLS: (Row("row", 10),)}, 1.0)
        assert not ledger.charges(ANNA)

    def test_a_hold_is_subtracted_and_given_back(self, ledger: Any) -> None:
        held = ledger.reserve(ANNA, [demand(4)], key="k", ttl=60)
        assert (held.state, held.shares, held.available) == (State.HELD, (Share(CALLS, "row", 4),), (10,))
        assert held.key == "k"
        assert not (held.is_replay or held.is_late or held.is_overage)
        assert self.left(ledger) == 6
        released = ledger.release(ANNA, "k")
        assert (released.state, released.is_replay) == (State.RELEASED, False)
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
            ledger.reserve(ANNA, [demand(1, *rows)], key=str(number), ttl=5)
        self.pass_time(ledger, 6)
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

    @pytest.mark.parametrize(("actual", "left"), [(1, 9), (3, 7), (4, 6), (5, 5), (12, -2)])
    def test_what_was_used_in_the_end_is_what_counts(self, ledger: Any, actual: int, left: int) -> None:
        ledger.reserve(ANNA, [demand(4)], key="k", ttl=60)
        assert ledger.commit(ANNA, "k", actual=actual).quantity == actual
        assert self.left(ledger) == left
        assert ledger.commit(ANNA, "k").quantity == actual
        with pytest.raises(ReservationConflict):
            ledger.commit(ANNA, "k", actual=actual + 1)
        assert self.left(ledger) == left

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
        for seconds, left in ((61, 8), (240, 9), (300, 10)):
            self.pass_time(ledger, seconds)
            assert self.left(ledger) == left

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
        held = ledger.reserve(ANNA, both, key="k", ttl=60)
        assert held.shares == (Share(CALLS, "row", 4), Share(SEATS, "s", 2))
        assert held.available == (10, 2)
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
        admitted = [outcome for some in outcomes for outcome in some if isinstance(outcome, Receipt)]
        assert (len(admitted), self.left(ledger)) == (10, 0)

    def test_closing_twice_does_nothing(self, ledger: Any) -> None:
        ledger.close()
        ledger.close()
