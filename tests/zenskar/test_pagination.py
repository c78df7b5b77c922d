import pytest

from entitlement_gate.domain.errors import CustomerNotFound, SourceMalformed, SourceRejected, SourceUnavailable
from entitlement_gate.resilience.clock import Deadline
from entitlement_gate.zenskar.pagination import all_rows
from entitlement_gate.zenskar.retry import Reply, Retries, RetryBudget
from tests.zenskar.flows import Hands, ok, run, status
from tests.zenskar.scripted import a_row


@pytest.fixture
def clock():
    return Hands()


def listing(clock, *told, max_pages=50):
    retries = Retries(Deadline(3.0, clock), RetryBudget(), 3, clock)
    return run(all_rows({"limit": "100"}, retries, max_pages), clock, *told)


def test_rows_of_all_pages_come_in_order(clock):
    rows, calls, _ = listing(clock, ok({"id": 1}, cursor="a"), ok(cursor="b"), ok({"id": 2}, {"id": 3}))

    assert [row["id"] for row in rows] == [1, 2, 3]
    assert [call.get("cursor") for call in calls] == [None, "a", "b"]
    assert all(call["limit"] == "100" for call in calls)


def test_a_later_page_is_retried_too(clock):
    rows, calls, _ = listing(clock, ok({"id": 1}, cursor="a"), status(500), ok({"id": 2}))

    assert [row["id"] for row in rows] == [1, 2]
    assert [call.get("cursor") for call in calls] == [None, "a", "a"]


def test_404_on_the_first_page_is_an_answer(clock):
    with pytest.raises(CustomerNotFound):
        listing(clock, status(404))


@pytest.mark.parametrize(
    ("second", "error"),
    [
        (status(404), SourceMalformed),
        (status(401), SourceRejected),
        (status(500), SourceUnavailable),
        (Reply(200, {}, b"{}"), SourceMalformed),
        (Reply(200, {}, b"<html>"), SourceMalformed),
    ],
    ids=str,
)
def test_a_part_of_an_answer_is_no_answer(clock, second, error):
    with pytest.raises(error):
        listing(clock, ok(a_row(), cursor="a"), second)


@pytest.mark.parametrize("cursors", ["aa", "aba", "abcb"])
def test_a_repeated_cursor_is_a_failed_fetch(clock, cursors):
    with pytest.raises(SourceMalformed, match="repeats a cursor"):
        listing(clock, *(ok(cursor=cursor) for cursor in cursors))


def test_too_many_pages_are_a_failed_fetch(clock):
    pages = [ok({"id": number}, cursor=str(number)) for number in range(3)]

    with pytest.raises(SourceMalformed, match="more than 3 pages"):
        listing(clock, *pages, ok(), max_pages=3)
    assert len(listing(clock, *pages, ok({"id": 3}), max_pages=4)[0]) == 4
