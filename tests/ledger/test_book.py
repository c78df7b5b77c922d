from entitlement_gate.ledger.balances import Row
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
    book.adopt({}, 100 * 86_400.0, 100 * 86_400.0)
    assert not book.tallies[CALLS]
    assert book.commit("k", 12.0).state is State.COMMITTED
    assert book.tallies[CALLS]["row"].committed == 4


def test_news_of_a_clock_that_is_ahead_drops_no_row_that_left_just_now():
    now = 1_800_000_000.0
    book = Book(ANNA)
    book.reserve([demand(4, ticket=now - 1)], "k", 10.0, now)
    book.commit("k", now)
    book.adopt({}, now + 4 * 365 * 86_400.0, now)
    assert book.tallies[CALLS]["row"].committed == 4


def test_clocks_that_differ_a_little_keep_their_order():
    now = 1_800_000_000.0
    book = Book(ANNA)
    book.reserve([demand(1, ticket=now + 0.9)], "k", 10.0, now)
    book.adopt({CALLS: (Row("row", 5, 5),)}, now + 0.5, now + 0.6)
    assert book.tallies[CALLS]["row"].seen == 0
    book.adopt({CALLS: (Row("row", 5, 5),)}, now + 1.0, now + 1.0)
    assert book.tallies[CALLS]["row"].seen == 5


def test_what_was_written_while_the_clock_of_the_ledger_was_ahead_holds_nothing_off():
    now = 1_800_000_000.0
    book = Book(ANNA)
    book.reserve([demand(1, ticket=now + 3600)], "k", 10.0, now + 3600)
    book.adopt({CALLS: (Row("row", 5, 5),)}, now, now)
    assert book.tallies[CALLS]["row"].seen == 5
