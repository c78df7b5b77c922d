import pytest

from entitlement_gate.sandbox.messages import Delivery, Refusal, Reply, Request


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
    with pytest.raises(Refusal) as caught:
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
