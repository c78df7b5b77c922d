"""Two reservations with one key: whatever becomes of each, and in whatever order, the work is counted once."""

import asyncio
import logging

import pytest

from entitlement_gate.domain.errors import ReservationConflict, ReservationNotFound
from entitlement_gate.ledger.memory import MemoryLedger
from tests.engine.fakes import ANNA, BERT
from tests.engine.test_reservations import CALLS, Elsewhere, quantity

DAY = 86_400


def _sync(held, verb, *args):
    return getattr(held, verb)(*args)


def _async(held, verb, *args):
    return asyncio.run(getattr(held, f"a{verb}")(*args))


@pytest.fixture(params=[_sync, _async], ids=["sync", "async"])
def tell(request):
    """Tell a reservation something, through either door."""
    return request.param


@pytest.fixture(params=[MemoryLedger, Elsewhere])
def ledger(request, clock):
    return request.param(clock=clock)


@pytest.fixture
def gate(make_gate, billing, ledger):
    billing.grants[ANNA] = (quantity(),)
    return make_gate(ledger=ledger, usage={"api_calls": {"slug": "calls", "field": "n"}})


@pytest.fixture
def reserve(gate, ask):
    return lambda key="k", amount=4, **more: ask(gate, "reserve", ANNA, "api_calls", amount, key=key, **more)


def left(gate):
    return gate.check(ANNA, "api_calls").remaining


def finish(held, verb):
    """End a reservation as a block does that succeeds or fails, or as its holder says."""
    if verb == "leave":
        with held:
            pass
    elif verb == "fail":
        with pytest.raises(KeyError), held:
            raise KeyError
    else:
        getattr(held, verb)()


SUCCEEDED, FAILED = ("leave", "commit"), ("fail", "release")
ENDS = [(first, second) for first in SUCCEEDED + FAILED for second in SUCCEEDED + FAILED]


@pytest.mark.parametrize("delay", [0, 61, 2 * DAY], ids=["in time", "ran out", "forgotten"])
@pytest.mark.parametrize("is_owner_first", [True, False])
@pytest.mark.parametrize("ends", ENDS, ids="-".join)
def test_who_succeeds_is_counted_once_and_who_fails_takes_nothing_away(
    gate, reserve, ledger, clock, *, ends, is_owner_first, delay
):
    both = [reserve(), reserve()]
    clock.advance(delay)
    for held, end in zip(both if is_owner_first else both[::-1], ends, strict=True):
        try:
            finish(held, end)
        except (ReservationConflict, ReservationNotFound):
            assert end == "release"  # of what the other one committed, or nobody knows any more
    is_counted = any(end in SUCCEEDED for end in ends)
    clock.advance(61)
    assert left(gate) == (6 if is_counted else 10)
    assert [event.quantity for event in ledger.take(9)] == ([4_000_000] if is_counted else [])
    assert not any(tally.held for tally in ledger.charges(ANNA)[CALLS].values())


def test_who_replays_gives_nothing_back_and_is_through(gate, reserve, tell):
    first, second = reserve(), reserve()
    for _ in range(2):
        tell(second, "release")
        assert (second.state, left(gate)) == ("released", 6)
    for verb, args in (("commit", ()), ("extend", (60,))):
        with pytest.raises(ReservationConflict, match="released"):
            tell(second, verb, *args)
    tell(first, "commit")
    assert (first.is_late, left(gate)) == (False, 6)


def test_a_commit_after_the_owner_gave_it_back_counts_late(gate, reserve, tell):
    first, second = reserve(), reserve()
    tell(first, "release")
    assert left(gate) == 10
    tell(second, "commit")
    assert (second.state, second.is_late, left(gate)) == ("committed", True, 6)


def test_a_commit_of_what_the_ledger_knows_nothing_of_any_more_counts_late(gate, reserve, tell, ledger):
    held = reserve()
    ledger._books.clear()  # as a store that was lost, and whose loss was accepted
    tell(held, "commit", 3)
    tell(held, "commit", 3)
    assert (held.is_late, held.quantity, left(gate)) == (True, 3, 7)
    assert reserve().state == "committed"  # the key replays
    assert [event.quantity for event in ledger.take(9)] == [3_000_000]


def test_what_counts_late_counts_though_the_balance_is_gone(gate, reserve, tell, ask):
    first, second = reserve(), reserve()
    tell(first, "release")
    ask(gate, "consume", ANNA, "api_calls", 10)
    tell(second, "commit")
    assert left(gate) == -4


def test_whoever_commits_another_quantity_second_gets_a_conflict(gate, reserve, tell):
    first, second = reserve(), reserve()
    tell(second, "commit", 3)
    with pytest.raises(ReservationConflict, match="another quantity"):
        tell(first, "commit", 4)
    tell(first, "commit", 3)
    with pytest.raises(ReservationConflict, match="another quantity"):
        tell(second, "commit", 4)
    for held in (first, second):
        with pytest.raises(ReservationConflict, match="committed"):
            tell(held, "release")
        with pytest.raises(ReservationConflict, match="committed"):
            tell(held, "extend", 9)
    assert (first.quantity, left(gate)) == (3, 7)


def test_the_owner_s_failure_takes_back_nothing_that_was_used_up_under_its_key(gate, reserve, ask, caplog):
    caplog.set_level(logging.INFO)
    first = reserve()
    ask(gate, "consume", ANNA, "api_calls", 4, key="k")
    finish(first, "fail")
    assert left(gate) == 6
    assert [record.levelname for record in caplog.records if "was left to release" in record.message] == ["INFO"]


def test_who_ran_out_takes_nothing_from_who_reserved_anew(gate, reserve, tell, clock):
    first = reserve(ttl=5)
    clock.advance(6)
    second = reserve()
    finish(first, "fail")
    assert (second.state, left(gate)) == ("held", 6)
    tell(second, "commit")
    assert (second.is_late, left(gate)) == (False, 6)


def test_a_hold_whose_owner_died_runs_out_whoever_replays(gate, reserve, tell, clock):
    reserve(ttl=60)
    second = reserve(ttl=600)
    tell(second, "extend", 90)
    finish(second, "fail")
    clock.advance(89)
    assert left(gate) == 6
    clock.advance(1)
    assert left(gate) == 10


def test_reservations_without_a_key_have_nothing_to_do_with_each_other(gate, reserve, tell):
    first, second = reserve(key=None), reserve(key=None)
    tell(first, "release")
    tell(second, "commit")
    assert (second.is_late, left(gate)) == (False, 6)
    assert first.key != second.key


def test_a_reservation_of_nothing_does_nothing(make_gate, ask, tell, ledger):
    held = ask(make_gate(ledger=ledger, shadow=True), "reserve", BERT, "api_calls", key="k")
    for verb, args in (("extend", (60,)), ("release", ()), ("commit", (3,))):
        tell(held, verb, *args)
    assert (held.state, held.quantity, held.is_late) == ("released", None, False)
    assert not ledger.charges(BERT)
