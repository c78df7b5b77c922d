from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entitlement_gate.domain.grants import Grant
from entitlement_gate.ledger.balances import (
    MOST,
    WIDEST,
    Row,
    Share,
    Tally,
    allocate,
    available,
    burden,
    micro_units,
    quantity_of,
    reshare,
    rows_of,
)


@pytest.mark.parametrize(
    ("quantity", "millionths"), [("1", 10**6), ("0.000001", 1), ("2.50", 2_500_000), ("9007199254.740992", MOST)]
)
def test_a_quantity_is_counted_in_millionths(quantity, millionths):
    assert micro_units(Decimal(quantity)) == millionths
    assert quantity_of(millionths) == Decimal(quantity)


@pytest.mark.parametrize("quantity", ["0", "-1", "0.0000001", "1.0000001", "9007199254.740993", "NaN", "Infinity"])
def test_what_cannot_be_counted_is_refused(quantity):
    with pytest.raises(ValueError, match="ledger counts"):
        micro_units(Decimal(quantity))


@pytest.mark.parametrize(("millionths", "text"), [(10**7, "10"), (1, "0.000001"), (-1_500_000, "-1.5"), (0, "0")])
def test_a_quantity_is_told_without_trailing_zeros(millionths, text):
    assert f"{quantity_of(millionths):f}" == text


def test_grants_become_rows_those_that_end_first_in_front():
    def grant(row_id, year=None, **numbers):
        ends = None if year is None else datetime(year, 1, 1, tzinfo=UTC)
        return Grant(id=row_id, name="calls", expires_at=ends, **numbers)

    rows = rows_of(
        [
            grant("never", quantity=Decimal(3)),
            grant("late", 2031, quantity=Decimal("5.0000019"), used=Decimal("1.0000009")),
            grant("b", 2030, reported_remaining=Decimal("-0.0000001")),
            grant("a", 2030),
            grant("huge", 2032, reported_remaining=Decimal(10) ** 300, used=-(Decimal(10) ** 300)),
        ]
    )
    assert rows == (
        Row("a", 0, 0),
        Row("b", -1, 0),
        Row("late", 4_000_001, 1_000_000),
        Row("huge", WIDEST, -WIDEST),
        Row("never", 3_000_000, 0),
    )


def tally(committed=0, held=0, baseline=0, refunded=0):
    return Tally(baseline, committed, held, baseline, refunded, 1)


def test_the_formula():
    rows = (Row("a", 10, 7), Row("b", 20, 1), Row("new", 5, 3))
    tallies = {"a": tally(committed=9, held=2, baseline=4), "b": tally(committed=1, held=1), "left": tally(held=99)}
    assert burden(rows, tallies) == 3 + (10 - (3 + 1))
    assert available(rows, tallies) == 35 - 9


def test_more_caught_up_than_committed_is_no_credit():
    assert available((Row("a", 5, 5),), {"a": tally(committed=2)}) == 5


def test_the_last_row_pays_what_no_other_has_room_for():
    rows = (Row("a", 3), Row("b", 0), Row("c", 1))
    assert allocate("e", rows, {"a": tally(held=1)}, 5) == (Share("e", "a", 2), Share("e", "c", 3))


@given(
    st.lists(st.integers(-5, 20), min_size=1, max_size=4),
    st.integers(1, 40),
    st.integers(1, 60),
)
def test_nothing_is_lost_between_rows(remaining, quantity, actual):
    rows = tuple(Row(str(index), left) for index, left in enumerate(remaining))
    shares = allocate("e", rows, {}, quantity)
    assert sum(share.amount for share in shares) == quantity
    kept = reshare(shares, actual)
    assert sum(share.amount for share in kept) == actual
    assert all(share.amount > 0 for share in (*shares, *kept))
    for share in shares[:-1]:
        assert share.amount <= rows[int(share.row_id)].remaining
