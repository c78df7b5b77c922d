"""How every ledger must follow billing. Never here: what is special about one store."""

from __future__ import annotations

from typing import Any

from entitlement_gate.ledger.protocol import Receipt, Refusal
from entitlement_gate.ledger.rule import MOST, WIDEST, Row, Share
from entitlement_gate.testing.ledger_cases import ANNA, CALLS, LedgerCases, demand

__all__ = ["ReconcilingCases"]


class ReconcilingCases(LedgerCases):
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
