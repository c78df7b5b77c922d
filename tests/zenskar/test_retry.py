import random
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from entitlement_gate.domain.errors import CustomerNotFound, SourceMalformed, SourceRejected, SourceUnavailable
from entitlement_gate.resilience.clock import Deadline
from entitlement_gate.zenskar.retry import Failure, Reply, Retries, RetryBudget, get_reply
from tests.zenskar.flows import NOON, Hands, ok, run, status


@pytest.fixture
def clock():
    return Hands()


def asking(clock, *told, budget=None, attempts=3, seconds=3.0):
    retries = Retries(Deadline(seconds, clock), budget or RetryBudget(), attempts, clock)
    return run(get_reply({}, retries), clock, *told)


def test_a_deadline_is_never_longer_than_it_was_whatever_the_clock_does(clock):
    clock.elapsed = 1_000.0
    deadline = Deadline(3.0, clock)
    clock.elapsed = 0.0
    assert deadline.remaining() == 3.0


def test_a_body_is_not_shown_in_a_reply():
    assert "secret" not in repr(Reply(200, {}, b"secret"))


def test_a_good_answer_is_taken_at_once(clock):
    reply, calls, pauses = asking(clock, ok())

    assert (reply.status, len(calls), pauses) == (200, 1, [])


@pytest.mark.parametrize(
    "told", [*map(status, (408, 425, 429, 500, 502, 503, 504, 599)), Failure("no connection")], ids=str
)
def test_what_may_pass_is_tried_three_times_with_growing_pauses(clock, told):
    with pytest.raises(SourceUnavailable, match=r"\(3 attempts\)"):
        asking(clock, told)
    assert clock.elapsed <= 0.1 + 0.2


@pytest.mark.parametrize("number", [408, 425, 429, 500, 502, 503])
def test_what_has_passed_is_answered(clock, number):
    reply, calls, pauses = asking(clock, status(number), Failure("reset"), ok())

    assert (reply.status, len(calls), len(pauses)) == (200, 3, 2)


@pytest.mark.parametrize("number", [400, 401, 403, 405, 409, 422, 499])
def test_a_refusal_is_never_tried_again(clock, number):
    with pytest.raises(SourceRejected) as caught:
        asking(clock, status(number, b'{"detail": "who are you"}'), ok())

    assert (caught.value.status, caught.value.detail, clock.elapsed) == (number, "who are you", 0.0)


@pytest.mark.parametrize("number", [101, 201, 202, 204, 206, 300, 301, 302, 304, 307, 308, 399])
def test_another_success_and_a_redirection_are_no_answer(clock, number):
    with pytest.raises(SourceMalformed, match=f"HTTP {number} is no answer"):
        asking(clock, status(number), ok())


def test_an_unknown_customer_is_told_as_such(clock):
    with pytest.raises(CustomerNotFound):
        asking(clock, status(404), ok())


def test_a_failure_that_another_try_cannot_mend_is_not_tried_again(clock):
    with pytest.raises(SourceUnavailable, match=r"late \(1 attempt\)"):
        asking(clock, Failure("late", may_retry=False), ok())


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_attempts_are_counted_with_the_first(clock, attempts):
    with pytest.raises(SourceUnavailable, match=rf"\({attempts} attempts?\)"):
        asking(clock, status(500), attempts=attempts)


def test_a_pause_never_outlasts_the_deadline(clock):
    with pytest.raises(SourceUnavailable, match="1 attempt"):
        asking(clock, status(503, retry_after="3"), ok())
    assert clock.elapsed == 0.0


def date(seconds):
    return format_datetime(datetime.fromtimestamp(NOON + seconds, UTC), usegmt=True)


@pytest.mark.parametrize(
    ("text", "least"),
    [("1", 1.0), (" 2 ", 2.0), ("0", 0.0), (date(2), 2.0), (date(2).replace("GMT", "-0000"), 2.0), (date(2)[5:], 2.0)],
)
def test_retry_after_is_honoured(clock, text, least):
    _, _, pauses = asking(clock, status(503, retry_after=text), ok())

    assert least <= pauses[0] <= max(least, 0.1)


@pytest.mark.parametrize(
    "text", [*("", "soon", "-5", "1.5", "1e3", "\u0665", "0x10", "1,5", "Mon", "1 2 3"), date(-60), date(-1e9)]
)
def test_a_retry_after_that_says_nothing_usable_is_as_none(clock, text):
    _, _, pauses = asking(clock, status(429, retry_after=text), ok())

    assert pauses[0] <= 0.1


@pytest.mark.parametrize(
    "text", ["3", "3600", "9" * 20, "9" * 5000, date(4), date(1e9), "Mon, 01 Jan 9999 00:00:00 GMT"], ids=len
)
def test_a_retry_after_beyond_the_deadline_ends_the_fetch_at_once(clock, text):
    with pytest.raises(SourceUnavailable, match="1 attempt"):
        asking(clock, status(429, retry_after=text), ok())
    assert clock.elapsed == 0.0


def test_no_retry_after_whatsoever_breaks_a_fetch(clock):
    letters = random.Random(7)
    for _ in range(3000):
        text = "".join(letters.choices('0123456789 :,-+GMTJanFebMon/.()\\"', k=letters.randrange(40)))
        try:
            asking(clock, status(503, retry_after=text), ok())
        except SourceUnavailable:
            continue


def test_pauses_are_jittered_in_full(clock):
    pauses = [asking(clock, status(500), ok())[2][0] for _ in range(200)]

    assert min(pauses) < 0.02
    assert 0.08 < max(pauses) <= 0.1


def test_in_a_steady_outage_retries_add_almost_nothing(clock):
    budget, calls = RetryBudget(), 0
    for _ in range(200):
        with pytest.raises(SourceUnavailable) as caught:
            asking(clock, status(500), budget=budget)
        calls += int(str(caught.value).partition("(")[2].split()[0])

    assert 1 < calls / 200 <= 1.1


def test_successes_earn_retries_back():
    budget = RetryBudget()
    assert [budget.spend() for _ in range(6)] == [True] * 5 + [False]
    for _ in range(11):
        budget.record_success()
    assert [budget.spend(), budget.spend()] == [True, False]


def test_after_a_failure_nothing_is_retried_until_something_succeeds():
    budget = RetryBudget()
    budget.record_failure()
    assert not budget.spend()
    budget.record_success()
    assert budget.spend()


def test_saved_retries_are_bounded():
    budget = RetryBudget()
    for _ in range(1000):
        budget.record_success()
    assert sum(budget.spend() for _ in range(10)) == 5
