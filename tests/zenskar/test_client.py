import json
import time
from uuid import UUID

import httpx
import pytest

import entitlement_gate
from entitlement_gate.domain.errors import (
    AnswerTooLate,
    CustomerNotFound,
    SourceMalformed,
    SourceRejected,
    SourceUnavailable,
)
from entitlement_gate.zenskar.client import ZenskarClient
from tests.zenskar.scripted import (
    CUSTOMER,
    GOOD,
    KEY,
    ORGANISATION,
    PROMPTLY,
    a_page,
    a_row,
    drip,
    raw,
    reply,
    then_hang,
    took,
)


def test_a_fetch_asks_as_documented(serve, connect):
    server = serve(GOOD)
    connect(server).fetch(CUSTOMER)
    (seen,) = server.seen

    assert seen.method == "GET"
    assert seen.target.partition("?")[0] == f"/entitlements/customer/{CUSTOMER}"
    assert seen.query == {"limit": "100", "status": "active"}
    wanted = {
        "x-api-key": KEY,
        "organisation": ORGANISATION,
        "apiversion": "20240301",
        "accept": "application/json",
        "accept-encoding": "gzip",
        "user-agent": f"entitlement_gate/{entitlement_gate.__version__}",
    }
    assert {name: seen.headers.get(name) for name in wanted} == wanted


def test_without_an_api_version_no_header_is_sent(serve, connect):
    server = serve(GOOD)
    connect(server, api_version=None).fetch(CUSTOMER)

    assert "apiversion" not in server.seen[0].headers


@pytest.mark.parametrize(("statuses", "sent"), [(None, None), ((), None), (("draft", "active"), "draft,active")])
def test_the_status_filter_is_sent_where_there_is_one(serve, connect, statuses, sent):
    server = serve(GOOD)
    connect(server, status_filter=statuses, page_size=7).fetch(CUSTOMER)

    assert server.seen[0].query.get("status") == sent
    assert server.seen[0].query["limit"] == "7"


@pytest.mark.parametrize("cursor", ["a+b/c==", "a&status=voided", "a b%20#?", "\u00e9\u2603", "x" * 2000])
def test_a_cursor_arrives_as_it_was_given(serve, connect, cursor):
    server = serve(reply(200, a_page(a_row(1), cursor=cursor)), reply(200, a_page(a_row(2))))
    snapshot = connect(server).fetch(CUSTOMER)

    assert len(snapshot.grants) == 2
    assert server.seen[1].query == {"limit": "100", "status": "active", "cursor": cursor}


def test_a_base_url_may_have_a_path(serve, connect):
    server = serve(GOOD)
    connect(f"{server.url}/billing/v1").fetch(CUSTOMER)

    assert server.seen[0].target.startswith(f"/billing/v1/entitlements/customer/{CUSTOMER}?")


@pytest.mark.parametrize("customer", [UUID(CUSTOMER), CUSTOMER, CUSTOMER.upper()])
def test_a_customer_is_a_uuid_or_its_text_in_any_case(serve, connect, clock, customer):
    snapshot = connect(serve(GOOD), clock=clock).fetch(customer)

    assert (snapshot.customer_id, snapshot.fetched_at, snapshot.is_found) == (CUSTOMER, clock.now, True)
    assert [grant.name for grant in snapshot.grants] == ["api_calls"]


@pytest.mark.parametrize(
    "customer",
    ["", "cus_1", CUSTOMER.replace("-", ""), f"{CUSTOMER}/..", f" {CUSTOMER}", None, 5, CUSTOMER.encode(), "x" * 9999],
)
def test_anything_else_is_refused_before_anything_is_sent(serve, connect, customer):
    server = serve(GOOD)
    client = connect(server)

    for ask in (client.fetch, client.list_customer_entitlements):
        with pytest.raises(ValueError, match="a hyphenated UUID") as caught:
            ask(customer)
        assert len(str(caught.value)) < 120
    assert not server.connections


def test_connections_are_kept(serve, connect):
    server = serve(GOOD)
    client = connect(server)
    for _ in range(5):
        client.fetch(CUSTOMER)

    assert (len(server.seen), len(server.connections)) == (5, 1)


def test_nothing_is_connected_before_the_first_fetch(serve, connect):
    server = serve(GOOD)
    connect(server)

    assert not server.connections


def test_callables_are_asked_at_each_request(serve, connect):
    server, keys = serve(GOOD), iter(["first", "second"])
    client = connect(server, lambda: next(keys))
    client.fetch(CUSTOMER)
    client.fetch(CUSTOMER)

    assert [seen.headers["x-api-key"] for seen in server.seen] == ["first", "second"]


def test_proxies_of_the_environment_are_not_used(serve, connect, monkeypatch):
    server, proxy = serve(GOOD), serve(GOOD)
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)
    connect(server).fetch(CUSTOMER)

    assert (len(server.seen), proxy.connections) == (1, [])


def test_proxies_of_the_environment_are_used_when_asked_for(serve, connect, monkeypatch):
    server, proxy = serve(GOOD), serve(GOOD)
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", "")
    connect(server, trust_env=True).fetch(CUSTOMER)

    assert proxy.seen[0].target.startswith(server.url)
    assert not server.connections


def test_behind_a_proxy_the_deadline_holds_all_the_same(serve, connect, monkeypatch):
    proxy = serve(drip(b"HTTP/1.1 200 OK\r\nx: "))
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", "")
    client = connect("http://127.0.0.1:9", trust_env=True, deadline=0.3)

    assert took(lambda: client.fetch(CUSTOMER))[0] < PROMPTLY


def test_a_page_is_listed_for_people(serve, connect):
    server = serve(reply(200, a_page(a_row(), cursor="n", total_count=3)))
    page = connect(server).list_customer_entitlements(
        CUSTOMER,
        cursor="c",
        limit=5,
        sort_key="name",
        sort_type="asc",
        search="x",
        populate=["customer", "product"],
        status="draft",
    )

    assert (page.results[0].name, page.next, page.total_count) == ("api_calls", "n", 3)
    assert server.seen[0].query == {
        "cursor": "c",
        "limit": "5",
        "sort_key": "name",
        "sort_type": "asc",
        "search": "x",
        "populate": "customer,product",
        "status": "draft",
    }


def test_a_page_is_listed_without_parameters(serve, connect):
    server = serve(GOOD)
    connect(server).list_customer_entitlements(UUID(CUSTOMER))

    assert "?" not in server.seen[0].target


@pytest.mark.parametrize("status", [400, 401, 403, 409, 422])
def test_a_refusal_is_rejected_and_never_tried_again(serve, connect, status):
    server = serve(reply(status, b'{"detail": [{"loc": ["header", "x-api-key"], "msg": "wrong"}]}'))
    _, error = took(lambda: connect(server).fetch(CUSTOMER))

    assert isinstance(error, SourceRejected)
    assert (error.status, error.detail, len(server.seen)) == (status, "header.x-api-key: wrong", 1)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503])
def test_what_may_pass_is_tried_three_times(serve, connect, status):
    server = serve(reply(status, b"<html>busy</html>"))
    _, error = took(lambda: connect(server).fetch(CUSTOMER))

    assert isinstance(error, SourceUnavailable)
    assert (str(error), len(server.seen)) == (f"HTTP {status} (3 attempts)", 3)


def test_what_has_passed_is_answered(serve, connect):
    server = serve(reply(503, retry_after="0"), raw(b""), GOOD)

    assert connect(server).fetch(CUSTOMER).grants
    assert len(server.seen) == 3


def test_404_on_the_first_page_is_an_unknown_customer(serve, connect):
    server = serve(reply(404, b'{"detail": "no such customer"}'))

    assert isinstance(took(lambda: connect(server).fetch(CUSTOMER))[1], CustomerNotFound)
    assert len(server.seen) == 1


def test_404_on_a_later_page_is_a_failed_fetch(serve, connect):
    server = serve(reply(200, a_page(a_row(), cursor="n")), reply(404, b"{}"))

    assert isinstance(took(lambda: connect(server).fetch(CUSTOMER))[1], SourceMalformed)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirections_are_refused(serve, connect, status):
    elsewhere = serve(GOOD)
    server = serve(reply(status, b"", location=f"{elsewhere.url}/entitlements"))

    assert isinstance(took(lambda: connect(server).fetch(CUSTOMER))[1], SourceMalformed)
    assert not elsewhere.connections
    assert len(server.seen) == 1


@pytest.mark.parametrize("place", ["/x", "http://h:port/", "mailto:x", "http://xn--/", "//", "\xff"])
def test_where_a_redirection_leads_is_not_even_read(serve, connect, place):
    server = serve(raw(f"HTTP/1.1 302 Found\r\ncontent-length: 0\r\nlocation: {place}\r\n\r\n".encode("latin-1")))
    _, error = took(lambda: connect(server).fetch(CUSTOMER))

    assert (type(error), str(error)) == (SourceMalformed, "HTTP 302 is no answer to a list request")
    assert len(server.seen) == 1


STATUSES = {401: SourceRejected, 422: SourceRejected, 404: CustomerNotFound, 302: SourceMalformed}


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("ending", [then_hang, raw], ids=["stalls", "breaks off"])
def test_a_status_stands_whatever_becomes_of_its_body(serve, connect, ending, status):
    for deadline in (1.0, 5.0, 25.0):  # the first in which this machine gets as far as the status
        server = serve(ending(f"HTTP/1.1 {status} Told\r\ncontent-length: 500\r\n\r\n{{".encode()))
        _, error = took(lambda: connect(server, deadline=deadline).fetch(CUSTOMER))  # noqa: B023 - called here
        if not isinstance(error, AnswerTooLate):
            break

    assert isinstance(error, STATUSES[status])
    assert len(server.seen) == 1


def test_the_cookies_of_one_answer_are_not_sent_with_another_customer(serve, connect):
    server = serve(reply(200, a_page(a_row()), set_cookie="seen=yes; Path=/"))
    client = connect(server)
    for _ in range(2):
        client.fetch(CUSTOMER)

    assert ["cookie" in seen.headers for seen in server.seen] == [False, False]


@pytest.mark.parametrize(
    "answer",
    [
        raw(b"HTTP/1.1 204 No Content\r\n\r\n"),
        reply(202, a_page(a_row())),
        reply(200, b""),
        reply(200, b"null"),
        reply(200, b"<html>"),
        reply(200, b'{"results": null}'),
        reply(200, b'{"data": []}'),
        reply(200, a_page(a_row(customer="22222222-2222-4222-8222-222222222222"))),
    ],
)
def test_another_success_is_no_answer(serve, connect, answer):
    server = serve(answer)

    assert isinstance(took(lambda: connect(server).fetch(CUSTOMER))[1], SourceMalformed)
    assert len(server.seen) == 1


def test_a_repeated_cursor_is_a_failed_fetch(serve, connect):
    server = serve(reply(200, a_page(a_row(), cursor="n")))

    assert "repeats a cursor" in str(took(lambda: connect(server).fetch(CUSTOMER))[1])
    assert len(server.seen) == 2


def test_too_many_pages_are_a_failed_fetch(serve, connect):
    server = serve(*(reply(200, a_page(a_row(), cursor=str(number))) for number in range(5)))

    assert "more than 4 pages" in str(took(lambda: connect(server, max_pages=4).fetch(CUSTOMER))[1])
    assert len(server.seen) == 4


def test_a_transport_takes_the_place_of_the_network(connect):
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=a_page(a_row())))

    assert connect("https://billing.invalid", transport=transport).fetch(CUSTOMER).grants


def test_a_body_that_a_transport_has_read_is_bounded_too(connect):
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=a_page(a_row())))
    client = connect("https://billing.invalid", transport=transport, max_body_bytes=10)

    assert isinstance(took(lambda: client.fetch(CUSTOMER))[1], SourceMalformed)


def test_a_body_that_takes_too_long_ends_the_fetch(connect):
    class Slow(httpx.SyncByteStream):
        def __iter__(self):
            while True:
                time.sleep(0.01)
                yield b" "

    transport = httpx.MockTransport(lambda request: httpx.Response(200, stream=Slow()))
    client = connect("https://billing.invalid", transport=transport, deadline=1)
    seconds, error = took(lambda: client.fetch(CUSTOMER))

    assert str(error) == "the answer took longer than 1 s (1 attempt)"
    assert seconds < PROMPTLY


def test_a_request_that_cannot_be_written_is_not_tried_again(connect):
    def refuse(request):
        raise httpx.LocalProtocolError("no")

    _, error = took(lambda: connect("https://billing.invalid", transport=httpx.MockTransport(refuse)).fetch(CUSTOMER))

    assert str(error) == "the request could not be written (1 attempt)"


def test_the_sandbox_runs_in_the_process():
    with ZenskarClient(base_url="sandbox:") as client:
        snapshot = client.fetch("20000000-0000-4000-8000-000000000002")

    assert snapshot.grants


def test_the_bundled_scenario_lets_everybody_in():
    with ZenskarClient("a key for production", ORGANISATION, base_url="sandbox:") as client:
        assert client.fetch("20000000-0000-4000-8000-000000000002").grants


def test_the_sandbox_takes_a_scenario_and_refuses_other_credentials(tmp_path):
    scenario = tmp_path / "scenario.json"
    scenario.write_text(json.dumps({"api_key": "a", "organisation": ORGANISATION, "customers": []}))

    with ZenskarClient(base_url=f"sandbox:{scenario}") as client:
        assert isinstance(took(lambda: client.fetch(CUSTOMER))[1], CustomerNotFound)
    with ZenskarClient("b", ORGANISATION, base_url=f"sandbox:{scenario}") as client:
        assert isinstance(took(lambda: client.fetch(CUSTOMER))[1], SourceRejected)
