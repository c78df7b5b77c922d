import gzip
import time
import tracemalloc
import zlib

import pytest

from entitlement_gate.domain.errors import CustomerNotFound, SourceMalformed, SourceRejected, SourceUnavailable
from entitlement_gate.resilience.clock import Deadline
from entitlement_gate.zenskar.network import hide_secrets, read_body
from tests.zenskar.scripted import CUSTOMER, HEAD, PROMPTLY, a_page, a_row, reply, took

MEGABYTE = 1 << 20


def test_a_body_is_its_pieces():
    assert read_body([b"a", b"", b"bc"], "", Deadline(5, time), max_bytes=3) == b"abc"


def test_a_body_that_outlasts_the_deadline_is_none():
    assert read_body([b"a"], "", Deadline(-1, time), max_bytes=3) is None


def test_no_further_piece_is_asked_for_once_it_is_too_long():
    asked = iter([b"abc", b"d", b"never"])

    with pytest.raises(SourceMalformed, match="longer than 3 bytes"):
        read_body(asked, "", Deadline(5, time), max_bytes=3)
    assert next(asked) == b"never"


def test_secrets_are_blotted_out():
    headers = {"x-api-key": "k1", "organisation": "o1"}

    assert hide_secrets(b"k1 of o1, k1", headers) == b"*** of ***, ***"
    assert hide_secrets(b"k1", {}) == b"k1"


def endless(head, piece=b"x" * 65536, max_bytes=64 * MEGABYTE):
    def send(connection):
        connection.sendall(head)
        send.sent = 0
        while send.sent < max_bytes:
            connection.sendall(piece)
            send.sent += len(piece)

    send.sent = 0
    return send


def test_a_body_that_is_too_long_is_refused_early(serve, connect):
    answer = endless(HEAD + b"content-length: %d\r\n\r\n" % (64 * MEGABYTE))
    server = serve(answer)
    _, error = took(lambda: connect(server).fetch(CUSTOMER))

    assert isinstance(error, SourceMalformed)
    assert server.gone.wait(PROMPTLY)
    assert answer.sent < 16 * MEGABYTE
    assert len(server.seen) == 1


@pytest.mark.parametrize("length", [999, 1000, 1001])
def test_a_body_may_be_as_long_as_was_said(serve, connect, length):
    page = a_page(a_row())
    server = serve(reply(200, page + b" " * (length - len(page))))
    client = connect(server, max_body_bytes=1000)

    if length > 1000:
        assert "longer than 1000 bytes" in str(took(lambda: client.fetch(CUSTOMER))[1])
    else:
        assert client.fetch(CUSTOMER)


def test_a_gzip_bomb_stays_small(serve, connect):
    packer = zlib.compressobj(level=9, wbits=31)
    bomb = b"".join(packer.compress(b" " * MEGABYTE) for _ in range(200)) + packer.flush()
    assert len(bomb) < 210_000
    server = serve(reply(200, bomb, content_encoding="gzip"))
    client = connect(server)
    tracemalloc.start()
    try:
        _, error = took(lambda: client.fetch(CUSTOMER))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert isinstance(error, SourceMalformed)
    assert peak < 20 * MEGABYTE


def empty_blocks():
    packer = zlib.compressobj(wbits=31)
    return packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH), packer.flush(
        zlib.Z_FULL_FLUSH
    ) or b"\x00\x00\x00\xff\xff"


@pytest.mark.parametrize("kind", ["empty blocks", "bytes after the end"])
def test_a_compressed_body_that_inflates_to_nothing_for_ever_is_refused(serve, connect, kind):
    start, block = empty_blocks() if kind == "empty blocks" else (gzip.compress(b"{}"), b"\x00" * 5)
    answer = endless(HEAD + b"content-encoding: gzip\r\n\r\n" + start, block * 13_000)
    server = serve(answer)
    _, error = took(lambda: connect(server).fetch(CUSTOMER))

    assert isinstance(error, SourceMalformed)
    assert "longer than" in str(error)
    assert answer.sent < 16 * MEGABYTE


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", " x-gzip"])
def test_a_compressed_body_is_read(serve, connect, encoding):
    server = serve(reply(200, gzip.compress(a_page(a_row())), content_encoding=encoding))

    assert connect(server).fetch(CUSTOMER).grants


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (reply(200, gzip.compress(a_page(a_row()))[:-9], content_encoding="gzip"), "ends early"),
        (reply(200, b"", content_encoding="gzip"), "ends early"),
        (reply(200, a_page(a_row()), content_encoding="gzip"), "no gzip"),
        (reply(200, gzip.compress(a_page(a_row()))[:-8] + b"12345678", content_encoding="gzip"), "no gzip"),
        (reply(200, a_page(a_row()), content_encoding="br"), "encoded as 'br'"),
        (reply(200, a_page(a_row()), content_encoding="gzip, gzip"), "encoded as 'gzip, gzip'"),
        (reply(200, a_page(a_row()), content_encoding="x" * 500), "encoded as 'xxxxxxxxxxxxxxxxxxxx'"),
    ],
)
def test_a_compressed_body_that_cannot_be_read_is_no_answer(serve, connect, answer, why):
    server = serve(answer)
    _, error = took(lambda: connect(server).fetch(CUSTOMER))

    assert isinstance(error, SourceMalformed)
    assert why in str(error)


def test_identity_is_no_encoding(serve, connect):
    server = serve(reply(200, a_page(a_row()), content_encoding="identity"))

    assert connect(server).fetch(CUSTOMER).grants


@pytest.mark.parametrize(
    ("status", "error"), [(503, SourceUnavailable), (401, SourceRejected), (404, CustomerNotFound)]
)
def test_a_status_stands_without_its_body(serve, connect, status, error):
    server = serve(reply(status, b"\x00" * 100, content_encoding="gzip"))

    assert isinstance(took(lambda: connect(server).fetch(CUSTOMER))[1], error)


def test_a_status_stands_beside_a_body_that_is_too_long(serve, connect):
    server = serve(reply(503, b"x" * 2000))

    assert isinstance(took(lambda: connect(server, max_body_bytes=1000).fetch(CUSTOMER))[1], SourceUnavailable)
