"""Whose a hold is, where several reserve with one key, in every ledger. Never here: what is special about one store."""

from __future__ import annotations

from typing import Any

import pytest

from entitlement_gate.domain.errors import ReservationConflict
from entitlement_gate.ledger.protocol import State
from entitlement_gate.testing.ledger_cases import ANNA, METER, LedgerCases, demand

__all__ = ["OwningCases"]


class OwningCases(LedgerCases):
    """One key, and two who reserve with it."""

    def test_who_replays_does_not_give_back_what_another_holds(self, ledger: Any) -> None:
        ledger.reserve(ANNA, [demand(4)], key="k", ttl=60, owner="first")
        again = ledger.reserve(ANNA, [demand(4)], key="k", ttl=60, owner="second")
        assert (again.state, again.is_replay) == (State.HELD, True)
        kept = ledger.release(ANNA, "k", owner="second")
        assert (kept.state, kept.is_replay, self.left(ledger)) == (State.HELD, True, 6)
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
        told = ledger.release(ANNA, "k", owner="second")
        assert (told.state, told.is_replay) == (State.COMMITTED, True)
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

    @pytest.mark.parametrize("owner", ["x" * 65, "a\0b", "\udc00", None])
    def test_an_owner_that_cannot_be_changes_nothing(self, ledger: Any, owner: Any) -> None:
        with pytest.raises(ValueError, match="owner"):
            ledger.reserve(ANNA, [demand(1)], key="k", ttl=60, owner=owner)
        assert not ledger.charges(ANNA)
        ledger.reserve(ANNA, [demand(1)], key="k", ttl=60)
        with pytest.raises(ValueError, match="owner"):
            ledger.release(ANNA, "k", owner=owner)
        assert self.left(ledger) == 9
