"""The client's own doors for single requests, and the list of customers."""

import itertools
import json
import traceback

import httpx
import pytest

from entitlement_gate.domain.errors import SourceMalformed, SourceRejected, SourceUnavailable
from entitlement_gate.sandbox import Sandbox, SandboxTransport, Scenario
from entitlement_gate.zenskar import pagination
from entitlement_gate.zenskar.client import ZenskarClient
from tests.ports import free_port
from tests.zenskar.scripted import (
    CUSTOMER,
    HEAD,
    KEY,
    ORGANISATION,
    PROMPTLY,
    a_page,
    a_row,
    drip,
    hang,
    raw,
    reply,
    took,
)


def test_a_get_returns_whatever_came(serve, connect):
    server = serve(reply(404, b'{"detail": "no"}', date="today"))
    told = connect(server).get("some/thing", {"limit": "5", "q": "a b&c"})

    assert (told.status, told.headers["date"], told.body) == (404, "today", b'{"detail": "no"}')
    (seen,) = server.seen
    assert (seen.method, seen.target.partition("?")[0]) == ("GET", "/some/thing")
    assert seen.query == {"limit": "5", "q": "a b&c"}
    assert (seen.headers["x-api-key"], seen.headers["organisation"]) == (KEY, ORGANISATION)


def test_a_post_sends_its_body_and_headers_once(serve, connect):
    server = serve(reply(503))
    told = connect(f"{server.url}/base").post("usage/a%2Fb", b'{"n": 1}', {"idempotency-key": "k"})

    (seen,) = server.seen
    assert (told.status, seen.method, seen.target) == (503, "POST", "/base/usage/a%2Fb")
    assert (seen.headers["idempotency-key"], seen.headers["content-type"]) == ("k", "application/json")
    assert (seen.headers["content-length"], seen.headers["x-api-key"]) == ("8", KEY)


def test_a_redirect_is_not_followed(serve, connect):
    other = serve(reply(200))
    server = serve(reply(307, location=f"{other.url}/x"))

    assert connect(server).post("usage/x", b"{}").status == 307
    assert connect(server).get("x").status == 307
    assert other.seen == []


@pytest.mark.parametrize(
    "path",
    ["", "/x", "http://elsewhere.example/x", "//elsewhere.example/x", "x/..", "./x", "x//y", "x/", "x?y", "x y", "é"],
)
def test_a_path_that_leads_elsewhere_is_refused_before_anything_is_sent(serve, connect, path):
    server = serve(reply(200))
    client = connect(server)
    for ask in (lambda: client.get(path), lambda: client.post(path, b"{}")):
        with pytest.raises(ValueError, match="a path below the base URL"):
            ask()
    assert not server.connections


@pytest.mark.parametrize(
    "script", [hang, drip(HEAD + b"content-length: 9999\r\n\r\n"), drip(b"HTTP/1.1 200 OK\r\nx: ")]
)
def test_a_single_request_is_held_to_the_deadline(serve, connect, script):
    client = connect(serve(script), deadline=0.3)
    for ask in (lambda: client.get("x"), lambda: client.post("usage/x", b"{}")):
        seconds, error = took(ask)
        assert isinstance(error, SourceUnavailable)
        assert seconds < PROMPTLY


def test_no_answer_is_unavailable_and_shows_no_secret(serve, connect):
    client = connect(f"http://127.0.0.1:{free_port()}")
    for ask in (lambda: client.get("x"), lambda: client.post("usage/x", b"{}")):
        _, error = took(ask)
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
        assert str(error) == "no connection (ConnectError)"
        assert KEY not in shown
        assert ORGANISATION not in shown


def test_a_server_that_quotes_the_key_is_not_believed(serve, connect):
    client = connect(serve(reply(400, f"bad key {KEY}".encode())))
    assert client.get("x").body == b"bad key ***"
    assert client.post("x", b"{}").body == b"bad key ***"


def test_a_good_answer_that_cannot_be_read_is_malformed(serve, connect):
    client = connect(serve(reply(200, b"x" * 2000)), max_body_bytes=1000)
    assert isinstance(took(lambda: client.get("x"))[1], SourceMalformed)
    client = connect(serve(reply(200, b"x", content_encoding="gzip")))
    assert isinstance(took(lambda: client.post("x", b"{}"))[1], SourceMalformed)


def test_a_header_that_cannot_be_written_is_refused(connect, serve):
    client = connect(serve(reply(200)))
    assert str(took(lambda: client.post("x", b"{}", {"idempotency-key": "a\r\nb: c"}))[1]) == (
        "the request could not be written"
    )
    with pytest.raises(ValueError, match="ascii"):
        client.post("x", b"{}", {"idempotency-key": "ü"})


def test_a_fetch_of_every_status_asks_for_none(serve, connect):
    server = serve(reply(200, a_page(a_row(status="draft"))))
    assert len(connect(server).fetch(CUSTOMER, every_status=True).grants) == 1
    assert server.seen[0].query == {"limit": "100"}


IDS = [f"10000000-0000-4000-8000-{number:012}" for number in range(7)]


def a_list(*ids, cursor=None):
    return reply(200, json.dumps({"results": [{"id": each} for each in ids], "next": cursor}).encode())


def test_customers_are_listed_page_by_page_as_they_are_asked_for(serve, connect):
    server = serve(a_list(*IDS[:2], cursor="a+b="), a_list(IDS[2].upper(), cursor="c"), a_list(cursor=None))
    found = connect(server, page_size=2).customers()
    assert server.seen == []
    assert list(itertools.islice(found, 2)) == IDS[:2]
    assert len(server.seen) == 1
    assert list(found) == IDS[2:3]
    assert [seen.query for seen in server.seen] == [
        {"limit": "2"}, {"limit": "2", "cursor": "a+b="}, {"limit": "2", "cursor": "c"},
    ]  # fmt: skip
    assert {seen.target.partition("?")[0] for seen in server.seen} == {"/customers"}


def test_customers_come_from_the_sandbox_too():
    people = [{"id": each, "name": each[-1]} for each in IDS]
    scenario = Scenario.parse({"api_key": "key", "organisation": ORGANISATION, "customers": people})
    with ZenskarClient("key", ORGANISATION, transport=SandboxTransport(Sandbox(scenario)), page_size=3) as client:
        assert list(client.customers()) == IDS


def test_each_page_has_a_deadline_and_retries_of_its_own(serve, connect, clock):
    def slowly(answer):
        def send(connection):
            clock.leapt += 40
            return answer(connection)

        return send

    first, second = slowly(a_list(IDS[0], cursor="a")), slowly(a_list(IDS[1]))
    found = connect(serve(reply(503), first, reply(503), second), clock=clock, deadline=60).customers()
    assert list(found) == IDS[:2]


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (reply(404, b'{"detail": "Not Found"}'), SourceRejected, "offers no list of customers"),
        (reply(403), SourceRejected, "403"),
        (reply(200, b"<html>"), SourceMalformed, "the list of customers: the body is no JSON"),
        (reply(200, b'{"data": []}'), SourceMalformed, "the list of customers: the answer has no list of results"),
        (reply(200, b'{"results": [{"id": 5}]}'), SourceMalformed, "no id that is a UUID"),
        (reply(200, b'{"results": ["x"]}'), SourceMalformed, "no id that is a UUID"),
        (reply(200, b'{"results": [], "next": "x"}'), SourceMalformed, "repeats a cursor"),
        (raw(b""), SourceUnavailable, "no connection"),
    ],
)
def test_a_list_that_cannot_be_used_is_an_error(serve, connect, *, answer, error, says):
    _, caught = took(lambda: list(connect(serve(answer)).customers()))
    assert isinstance(caught, error)
    assert says in str(caught)


def test_cursors_without_an_end_are_an_error(monkeypatch):
    monkeypatch.setattr(pagination, "_MOST_PAGES", 10)
    numbers = itertools.count()

    def answer(_):
        return httpx.Response(200, json={"results": [], "next": str(next(numbers))})

    client = ZenskarClient("key", "org", transport=httpx.MockTransport(answer))
    with pytest.raises(SourceMalformed, match="more than 10 pages"):
        list(client.customers())
