from base64 import b64encode
from decimal import Decimal
from urllib.parse import quote

import pytest

from entitlement_gate.sandbox.messages import (
    Delivery,
    RefusedRequest,
    Reply,
    Request,
    encode_cursor,
    read_json,
    write_json,
)


def test_headers_are_found_whatever_their_case():
    request = Request("GET", "/", {"X-Api-Key": "k"})
    assert request.header("x-API-key") == "k"
    assert request.header("organisation") is None


def test_a_quoted_slash_splits_nothing():
    assert Request("GET", "/a%2Fb/c?d=/e").segments == ("a/b", "c")


def test_a_query_keeps_blanks_and_order():
    assert Request("GET", "/?b=1&a=&b=2").query() == [("b", "1"), ("a", ""), ("b", "2")]


@pytest.mark.parametrize("query", ["a=%ff", "&".join(f"a{n}=1" for n in range(101))])
def test_a_query_that_cannot_be_read_is_refused(query):
    with pytest.raises(RefusedRequest) as caught:
        Request("GET", f"/?{query}").query()
    assert caught.value.reply.status == 422


def test_a_body_is_given_whole_in_large_pieces():
    assert [len(piece) for piece in Reply(200, body=b"x" * 100_000).pieces()] == [65_536, 34_464]


def test_a_dripping_body_is_given_in_small_pieces():
    assert list(Reply(200, body=b"abcde", delivery=Delivery(chunk=2)).pieces()) == [b"ab", b"cd", b"e"]


def test_a_truncated_body_stops_half_way():
    reply = Reply(200, body=b"abcdef", delivery=Delivery(truncate=True))
    assert b"".join(reply.pieces()) == b"abc"
    assert reply.length == 6


def test_a_reply_without_content_promises_no_length():
    assert Reply(204).length is None
    assert Reply(200).length == 0


@pytest.mark.parametrize("text", ["9007199254740993.5", "0.1", "1E+400", "123456789012345678901234567890"])
def test_a_number_comes_out_as_it_went_in(text):
    assert write_json(read_json(text)) == text


def test_a_tiny_number_may_change_its_notation_but_not_its_value():
    assert write_json(read_json("-0.000000000000000000001")) == "-1E-21"


def test_everything_else_is_plain_json():
    value = {"a": [1, True, None, "é\n", {}], "b": ()}
    assert read_json(write_json(value)) == {"a": [1, True, None, "é\n", {}], "b": []}


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "-Infinity", "", "{", b"\xff", "[" * 100_000, "1" * 5000])
def test_what_is_no_json_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"."):
        read_json(text)


def test_a_decimal_is_written_as_a_number():
    assert write_json([Decimal("54.80")]) == "[54.80]"


@pytest.fixture
def many(make_sandbox):
    return make_sandbox(*({"name": f"f{n:02}"} for n in range(25)))


@pytest.fixture
def walk(ask, many, ids):
    return lambda query: walked(ask, many, ids, query)


def walked(ask, many, ids, query):
    names, pages, cursor = [], 0, ""
    while cursor is not None:
        more = f"&cursor={quote(cursor, safe='')}" if cursor else ""
        status, page = ask(f"/entitlements/customer/{ids.FREE}?{query}{more}", to=many)
        assert status == 200
        assert page["total_count"] == 25
        names += [row["name"] for row in page["results"]]
        pages, cursor = pages + 1, page["next"]
    return names, pages


@pytest.mark.parametrize(("query", "pages"), [("", 3), ("limit=1", 25), ("limit=25", 1), ("limit=100", 1)])
def test_every_row_comes_once_whatever_the_page_size(walk, query, pages):
    assert walk(query) == ([f"f{n:02}" for n in range(25)], pages)


def test_a_page_holds_ten_rows_by_default_and_leads_back(ask, many, ids):
    _, first = ask(f"/entitlements/customer/{ids.FREE}", to=many)
    assert (len(first["results"]), first["previous"]) == (10, None)
    _, second = ask(f"/entitlements/customer/{ids.FREE}?cursor={quote(first['next'])}", to=many)
    _, again = ask(f"/entitlements/customer/{ids.FREE}?cursor={quote(second['previous'])}", to=many)
    assert again["results"] == first["results"]


def test_a_cursor_past_the_end_gives_an_empty_page(ask, many, ids):
    cursor = encode_cursor(ids.FREE, 20, 3)
    many.revoke(ids.FREE, "f00")
    for n in range(5):
        many.revoke(ids.FREE, f"f{n:02}")
    status, page = ask(f"/entitlements/customer/{ids.FREE}?cursor={quote(cursor)}", to=many)
    assert (status, page["results"], page["next"]) == (200, [], None)


def test_an_empty_cursor_is_the_first_page(ask, many, ids):
    path = f"/entitlements/customer/{ids.FREE}"
    assert ask(f"{path}?cursor=", to=many) == ask(path, to=many)


@pytest.mark.parametrize(
    "cursor",
    ["x", "V2VsbCBhcmV1IGN1cmlvdxM=", "é", b64encode(b"10.2.000000000000").decode(), "MTA=MTA=", "%00"],
)
def test_a_cursor_that_was_never_given_out_is_refused(ask, many, ids, cursor):
    status, body = ask(f"/entitlements/customer/{ids.FREE}?cursor={quote(cursor)}", to=many)
    assert (status, body["detail"][0]["loc"]) == (422, ["query", "cursor"])


def test_a_cursor_of_another_customer_is_refused(ask, many, ids):
    cursor = encode_cursor(ids.PRO, 10, 2)
    assert ask(f"/entitlements/customer/{ids.FREE}?cursor={quote(cursor)}", to=many)[0] == 422


@pytest.mark.parametrize("limit", ["0", "101", "-1", "ten", "", "1.0", "+1", "1e1", "٣", "9" * 30, "null"])
def test_a_limit_out_of_bounds_is_refused(ask, ids, limit):
    status, body = ask(f"/entitlements/customer/{ids.FREE}?limit={quote(limit)}")
    assert (status, body["detail"][0]["loc"]) == (422, ["query", "limit"])
