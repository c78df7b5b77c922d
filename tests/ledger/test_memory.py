import os

import pytest

from entitlement_gate.ledger.balances import Row
from entitlement_gate.ledger.book import Book
from entitlement_gate.ledger.memory import MemoryLedger
from entitlement_gate.ledger.protocol import UsageTarget
from entitlement_gate.testing.ledger_contract import ANNA, BERT, CALLS, LedgerContract, demand
from tests.engine.fakes import held_elsewhere


class Clock:
    def __init__(self, now=1_800_000_000.0):
        self.now = now

    def time(self):
        return self.now


class TestMemoryLedger(LedgerContract):
    def make_ledger(self):
        self.clock = Clock()
        return MemoryLedger(clock=self.clock)

    def pass_time(self, ledger, seconds):
        self.clock.now += seconds

    def test_a_forked_child_is_not_stopped_by_a_lock_held_at_the_fork(self, ledger):
        ledger.consume(ANNA, [demand(4)], key="k")
        with held_elsewhere(ledger._lock):
            child = os.fork()
            if child == 0:
                os._exit(0 if self.left(ledger) == 6 else 1)
        assert os.waitpid(child, 0)[1] == 0

    @pytest.mark.parametrize("verb", ["reserve", "consume"])
    def test_a_child_forked_in_the_middle_of_a_verb_has_nothing_of_it_half(self, ledger, monkeypatch, verb):
        ledger.consume(ANNA, [demand(1)], key="before")
        work = getattr(Book, verb)
        children = []

        def fork_in_the_middle(*args, **options):
            monkeypatch.setattr(Book, verb, work)
            outcome = work(*args, **options)
            children.append(os.fork())
            if children == [0]:  # the thread that was at the verb is not here any more
                is_whole = self.left(ledger) == 9 and ledger.consume(ANNA, [demand(9)], key="k").quantity == 9
                os._exit(0 if is_whole else 1)
            return outcome

        monkeypatch.setattr(Book, verb, fork_in_the_middle)
        options = {"ttl": 60} if verb == "reserve" else {}
        getattr(ledger, verb)(ANNA, [demand(4)], key="k", **options)
        assert os.waitpid(children[0], 0)[1] == 0
        assert self.left(ledger) == 5

    def test_a_verb_in_the_middle_of_which_it_is_made_anew_is_undone_once(self, ledger, monkeypatch):
        work = Book.consume

        def remake_in_the_middle(*args, **options):
            work(*args, **options)
            ledger.remake()
            assert self.left(ledger) == 10
            raise Strike

        ledger.consume(BERT, [demand(3)], key="another's")
        monkeypatch.setattr(Book, "consume", remake_in_the_middle)
        with pytest.raises(Strike):
            ledger.consume(ANNA, [demand(4)], key="k")
        assert self.left(ledger) == 10
        assert ledger.charges(BERT)[CALLS]["row"].committed == 3

    def test_it_says_what_it_is(self, ledger):
        ledger.consume(ANNA, [demand(4)], key="k")
        assert repr(ledger) == "<MemoryLedger of 1 customers>"

    def test_a_clock_set_back_prolongs_no_hold_and_no_lease(self, ledger):
        ledger.reserve(ANNA, [demand(4)], key="k", ttl=60)
        ledger.consume(ANNA, [demand(1, target=METER)], key="used")
        assert ledger.take(1, lease=60)
        self.clock.now -= 100_000
        assert self.left(ledger) == 5
        assert not ledger.take(1)
        self.clock.now += 60
        assert self.left(ledger) == 9
        assert ledger.take(1)

    @pytest.mark.parametrize("verb", ["adopt_upstream", "consume"])
    def test_a_clock_set_back_holds_off_no_news(self, ledger, verb):
        ledger.reserve(ANNA, [demand(1, ticket=self.clock.now)], key="k", ttl=60)
        ledger.release(ANNA, "k")
        self.clock.now -= 100_000
        if verb == "adopt_upstream":
            ledger.charges(ANNA)
            ledger.adopt_upstream(ANNA, {CALLS: (Row("row", 5, 5),)}, self.clock.now)
        self.clock.now += 1
        ledger.consume(ANNA, [demand(5, Row("row", 5, 5), ticket=self.clock.now)], key="l")
        assert self.left(ledger, Row("row", 5, 5)) == 0

    def test_usage_is_dated_by_the_wall_clock_however_that_was_set(self, ledger):
        ledger.charges(ANNA)
        ledger.consume(ANNA, [demand(1)], key="before")
        self.clock.now -= 100_000
        ledger.consume(ANNA, [demand(1, target=METER)], key="after")
        (event,) = ledger.take(1)
        assert event.at == self.clock.now

    @pytest.mark.parametrize("where", ["_hold", "_count", "_settle", "_report"])
    @pytest.mark.parametrize("verb", ["reserve", "consume", "commit", "release"])
    def test_a_verb_that_is_struck_is_done_or_not_done_and_never_by_half(self, ledger, where, verb, *, monkeypatch):
        two = [demand(2, target=METER), demand(3, entitlement_id="other", target=METER)]
        ledger.reserve(ANNA, two, key="held", ttl=60)
        before = ledger.charges(ANNA), ledger.pending()
        monkeypatch.setattr(Book, where, struck_after(getattr(Book, where)))
        verbs = {
            "reserve": lambda: ledger.reserve(ANNA, two, key="new", ttl=60),
            "consume": lambda: ledger.consume(ANNA, two, key="new"),
            "commit": lambda: ledger.commit(ANNA, "held"),
            "release": lambda: ledger.release(ANNA, "held"),
        }
        try:
            verbs[verb]()
        except Strike:
            assert (ledger.charges(ANNA), ledger.pending()) == before
            monkeypatch.undo()
            verbs[verb]()
        done = ledger.charges(ANNA), ledger.pending()
        assert done != before
        monkeypatch.undo()
        assert verbs[verb]().is_replay
        assert (ledger.charges(ANNA), ledger.pending()) == done

    def test_usage_that_was_not_counted_in_the_end_is_not_reported(self, ledger):
        ledger.reserve(ANNA, [demand(2, target=METER)], key="held", ttl=60)
        book = ledger._books[ANNA]
        book.changed = Unclearable()
        with pytest.raises(Strike):
            ledger.commit(ANNA, "held")
        assert ledger.pending() == 0
        assert ledger.commit(ANNA, "held").quantity == 2
        assert ledger.pending() == 1

    def test_a_hold_that_was_struck_as_it_ran_out_runs_out_at_the_next_look(self, ledger, monkeypatch):
        ledger.reserve(ANNA, [demand(4)], key="k", ttl=60)
        self.pass_time(ledger, 61)
        monkeypatch.setattr(Book, "_hold", struck_after(Book._hold))
        with pytest.raises(Strike):
            ledger.charges(ANNA)
        monkeypatch.undo()
        assert self.left(ledger) == 10


METER = UsageTarget("meter", "count")


class Strike(BaseException):
    pass


def struck_after(method):
    """Return a method after which an exception strikes."""

    def struck(*args, **keywords):
        method(*args, **keywords)
        raise Strike

    return struck


class Unclearable(set):
    """What a verb changed, which strikes the first time it is cleared."""

    has_struck = False

    def clear(self):
        super().clear()
        if not self.has_struck:
            self.has_struck = True
            raise Strike
