"""Thirty simulated days of a billing that counts late: how far beyond what was granted an application gets.

What the rule promises, over rows that billing takes from in the order in which they end:

* the only one who uses the balance never gets beyond it, however late billing counts;
* beside somebody who asks billing itself, the overshoot is never more than that somebody took so far: what billing
  counts beyond what was committed here may be the use of holds that are yet to be committed, so that it offsets them;
* a hold that is committed after a row that pays for it ended lands on the rows that are left, in billing's eyes: the
  overshoot is at most what was committed so.
"""

import pytest

from tests.ledger.lagging import Month


@pytest.mark.parametrize("seed", range(8))
def test_the_only_consumer_never_overshoots(seed):
    month = Month(seed).run()
    assert month.worst == 0
    assert month.refused > 200  # it tried
    assert month.admitted > 500
    assert month.left_by_the_ledger() <= month.left_by_billing()


@pytest.mark.parametrize("foreign", [5, 50])
def test_foreign_use_overshoots_by_no_more_than_was_taken_elsewhere(foreign):
    months = [Month(seed, foreign=foreign).run() for seed in range(6)]
    for month in months:
        for excess, taken in month.excesses:
            assert excess <= taken
    assert any(month.worst for month in months)  # the bound is about something


def test_holds_that_outlive_their_rows_overshoot_by_no_more_than_they_held():
    months = [Month(seed, across_ends=True).run() for seed in range(6)]
    for month in months:
        assert month.worst <= month.crossed
    assert any(month.crossed for month in months)
