import gc
import threading
import weakref

import pytest

from entitlement_gate.domain.errors import ReservationNotFound
from entitlement_gate.ledger.memory import MemoryLedger
from entitlement_gate.ledger.protocol import Refusal
from entitlement_gate.testing.ledger_contract import ANNA, BERT, demand


class Watcher:
    def __init__(self, ledger):
        self.ledger = ledger
        self.heard = []

    def first_charged(self, customer_id):
        self.heard.append((customer_id, self.ledger.has_charged(customer_id), bool(self.ledger.charges(customer_id))))


@pytest.fixture
def ledger():
    return MemoryLedger()


@pytest.fixture
def watcher(ledger):
    watcher = Watcher(ledger)
    ledger.watchers.add(watcher)
    return watcher


def test_a_watcher_hears_of_a_customer_once_the_book_is_seen_and_before_it_counts(ledger, watcher):
    assert ledger.is_local
    assert not ledger.has_charged(ANNA)
    ledger.reserve(ANNA, [demand(1)], key="k", ttl=60)
    ledger.commit(ANNA, "k")
    ledger.consume(ANNA, [demand(1)], key="l")
    assert watcher.heard == [(ANNA, True, False)]
    assert (ledger.has_charged(ANNA), ledger.has_charged(BERT)) == (True, False)
    ledger.consume(BERT, [demand(1)], key="k")
    assert [customer for customer, *_ in watcher.heard] == [ANNA, BERT]


def test_a_verb_that_counts_nothing_opens_no_book(ledger, watcher):
    ledger.charges(ANNA)
    ledger.adopt_upstream(ANNA, {}, 1.0)
    for verb in (ledger.commit, ledger.release, lambda *who: ledger.extend(*who, 60)):
        with pytest.raises(ReservationNotFound):
            verb(ANNA, "k")
    with pytest.raises(ValueError, match="key"):
        ledger.consume(ANNA, [demand(1)], key="")
    assert not ledger.has_charged(ANNA)
    assert not watcher.heard


def test_a_refusal_may_be_a_customer_s_first_book(ledger, watcher):
    assert isinstance(ledger.consume(ANNA, [demand(11)], key="k"), Refusal)
    assert ledger.has_charged(ANNA) == bool(watcher.heard)


def test_a_watcher_that_is_gone_is_forgotten(ledger):
    watcher = Watcher(ledger)
    ledger.watchers.add(watcher)
    del watcher
    gc.collect()
    assert not ledger.watchers
    ledger.consume(ANNA, [demand(1)], key="k")


def test_a_verb_counts_nothing_that_a_watcher_did_not_hear_of_whoever_opened_the_book(ledger):
    is_told, may_go_on = threading.Event(), threading.Event()

    class Slow:
        calls = 0

        def first_charged(self, customer_id):
            self.calls += 1
            if self.calls == 1:
                is_told.set()
                may_go_on.wait(60)

    slow = Slow()
    ledger.watchers.add(slow)
    opener = threading.Thread(target=ledger.consume, args=(ANNA, [demand(1)]), kwargs={"key": "first"})
    opener.start()
    assert is_told.wait(60)
    ledger.consume(ANNA, [demand(1)], key="second")  # waits for nobody, and tells the watcher itself
    assert slow.calls == 2
    may_go_on.set()
    opener.join()
    ledger.consume(ANNA, [demand(1)], key="third")
    assert slow.calls == 2


def test_a_watcher_that_fails_leaves_nothing_counted_and_hears_again(ledger):
    class Failing:
        calls = 0

        def first_charged(self, customer_id):
            self.calls += 1
            if self.calls == 1:
                raise ZeroDivisionError

    failing = Failing()
    ledger.watchers.add(failing)
    with pytest.raises(ZeroDivisionError):
        ledger.consume(ANNA, [demand(1)], key="k")
    assert not ledger.charges(ANNA)
    assert ledger.consume(ANNA, [demand(1)], key="k").quantity == 1
    assert failing.calls == 2


def test_a_watcher_added_meanwhile_disturbs_nobody(ledger):
    class Growing(weakref.WeakSet):
        """Changes its size under the first one who goes through it, as another thread's `add` would."""

        is_quiet = False

        def __iter__(self):
            for each in super().__iter__():
                if not self.is_quiet:
                    self.is_quiet = True
                    self.add(late)
                yield each

    early, late = Watcher(ledger), Watcher(ledger)
    ledger.watchers = Growing([early])
    ledger.consume(ANNA, [demand(1)], key="k")
    assert len(early.heard) == len(late.heard) == 1
