from entitlement_gate.ledger.book import Book
from entitlement_gate.ledger.protocol import State
from entitlement_gate.testing.ledger_contract import ANNA, CALLS, demand


def test_a_key_nobody_knows_has_no_time_to_take_effect():
    book = Book(ANNA)
    book.expire("unknown", 1.0)
    assert not book.records


def test_a_commit_later_than_its_row_is_remembered_counts_anew():
    book = Book(ANNA)
    book.reserve([demand(4)], "k", 10.0, 0.0)
    book.expire("k", 5.0)
    assert book.records["k"].state is State.HELD
    book.expire("k", 11.0)
    assert book.records["k"].state is State.EXPIRED
    book.adopt({}, 100 * 86_400.0)
    assert not book.tallies[CALLS]
    assert book.commit("k", 12.0).state is State.COMMITTED
    assert book.tallies[CALLS]["row"].committed == 4
