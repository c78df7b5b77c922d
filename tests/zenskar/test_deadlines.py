import time
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from entitlement_gate.domain.errors import SourceUnavailable
from tests.zenskar.scripted import CUSTOMER, GOOD, HEAD, PROMPTLY, a_page, a_row, drip, hang, reply, then_hang, took


def date_in(clock, seconds):
    return format_datetime(datetime.fromtimestamp(clock.now + seconds, UTC), usegmt=True)


@pytest.mark.parametrize("form", [lambda clock: "1", lambda clock: date_in(clock, 1)], ids=["seconds", "date"])
def test_retry_after_is_waited_for(serve, connect, clock, form):
    server = serve(reply(429, retry_after=form(clock)), GOOD)
    began = time.monotonic()

    assert connect(server, clock=clock, deadline=60).fetch(CUSTOMER)
    assert 1 <= time.monotonic() - began < PROMPTLY


@pytest.mark.parametrize("text", ["soon", "-5", ""])
def test_a_retry_after_that_cannot_be_read_is_as_none(serve, connect, text):
    server = serve(reply(503, retry_after=text), GOOD)
    began = time.monotonic()

    assert connect(server, deadline=60).fetch(CUSTOMER)
    assert time.monotonic() - began < PROMPTLY


@pytest.mark.parametrize("text", ["600", "99999999999999999999999", "Fri, 01 Jan 2100 00:00:00 GMT"])
def test_a_retry_after_beyond_the_deadline_ends_the_fetch_at_once(serve, connect, text):
    server = serve(reply(429, retry_after=text))
    seconds, error = took(lambda: connect(server, deadline=60).fetch(CUSTOMER))

    assert isinstance(error, SourceUnavailable)
    assert (seconds < PROMPTLY, len(server.seen)) == (True, 1)


@pytest.mark.parametrize(
    "step",
    [
        drip(HEAD + b"content-length: 99999\r\n\r\n{"),
        drip(HEAD + b"x-drip: "),
        drip(b""),
        drip(b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        hang,
        then_hang(HEAD + b"content-length: 9\r\n\r\n{"),
    ],
    ids=[
        "drip in the body",
        "drip in the headers",
        "drip in the status",
        "drip after hints",
        "hang",
        "hang in the body",
    ],
)
def test_the_deadline_covers_every_byte(serve, connect, step):
    server = serve(step)
    client, fetches = connect(server, deadline=0.4), 0
    while not server.seen:  # where the machine is too busy to ask within the deadline
        seconds, error = took(lambda: client.fetch(CUSTOMER))
        fetches += 1

    assert isinstance(error, SourceUnavailable)
    assert 0.35 <= seconds < PROMPTLY
    assert len(server.seen) <= fetches  # the server may read only then what it was asked before


@pytest.mark.parametrize(
    "first", [HEAD + b"content-length: 99999\r\n\r\n{", HEAD + b"x-drip: "], ids=["body", "headers"]
)
def test_a_dripping_connection_is_gone_with_its_fetch(serve, connect, first):
    server = serve(drip(first))
    while not server.seen:  # where the machine is too busy to ask within the deadline
        took(lambda: connect(server, deadline=0.2).fetch(CUSTOMER))

    assert server.gone.wait(PROMPTLY)


def test_the_deadline_covers_all_pages(serve, connect):
    def slow_page(number):
        def send(connection):
            time.sleep(0.1)
            return reply(200, a_page(a_row(), cursor=str(number)))(connection)

        return send

    server = serve(*map(slow_page, range(50)))
    seconds, error = took(lambda: connect(server, deadline=0.5).fetch(CUSTOMER))

    assert isinstance(error, SourceUnavailable)
    assert seconds < PROMPTLY
    assert len(server.seen) <= 5


def test_the_deadline_covers_retries(serve, connect):
    server = serve(reply(503, retry_after="0"))
    seconds, _ = took(lambda: connect(server, deadline=0.3, max_attempts=1000).fetch(CUSTOMER))

    assert seconds < PROMPTLY


def test_a_deadline_that_has_passed_sends_nothing_more(serve, connect):
    class Leaping:
        """Jumps past every deadline once it has been looked at."""

        def __init__(self):
            self.now = 0.0

        def time(self):
            return 0.0

        def monotonic(self):
            self.now += 10
            return self.now

    server = serve(GOOD)
    _, error = took(lambda: connect(server, clock=Leaping()).fetch(CUSTOMER))

    assert str(error) == "no answer within 3.0 s (1 attempt)"
    assert not server.connections


def test_in_a_steady_outage_a_fetch_is_hardly_more_than_a_call(serve, connect):
    server = serve(reply(500))
    client = connect(server)
    for _ in range(200):
        with pytest.raises(SourceUnavailable):
            client.fetch(CUSTOMER)

    assert 200 <= len(server.seen) <= 220
