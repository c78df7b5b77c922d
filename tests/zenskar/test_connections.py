import os
import socket
import threading
import time

import pytest

from entitlement_gate.domain.errors import SourceUnavailable
from tests.engine.fakes import held_elsewhere
from tests.ports import free_port
from tests.zenskar.scripted import CUSTOMER, GOOD, HEAD, PROMPTLY, hang, raw, reset, took


def test_a_refused_connection_is_unavailable(connect):
    _, error = took(lambda: connect(f"http://127.0.0.1:{free_port()}").fetch(CUSTOMER))

    assert isinstance(error, SourceUnavailable)
    assert "ConnectError" in str(error)


def test_a_name_without_an_address_is_unavailable(connect, monkeypatch):
    def none(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", none)
    _, error = took(lambda: connect("http://localhost:1").fetch(CUSTOMER))

    assert isinstance(error, SourceUnavailable)


@pytest.mark.parametrize(
    "step",
    [
        reset,
        raw(b""),
        raw(b"nonsense\r\n\r\n"),
        raw(HEAD[:20]),
        raw(HEAD + b"content-length: 500\r\n\r\n{"),
        raw(HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\n{"),
        raw(HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n{"),
        raw(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000),
    ],
    ids=["reset", "closed", "nonsense", "half a head", "truncated", "half a chunk", "no chunk", "endless head"],
)
def test_a_broken_connection_is_tried_again_and_then_unavailable(serve, connect, step):
    server = serve(step)
    _, error = took(lambda: connect(server).fetch(CUSTOMER))

    assert isinstance(error, SourceUnavailable)
    assert "3 attempts" in str(error)
    assert len(server.seen) == 3


def test_a_connection_that_billing_closed_meanwhile_is_made_anew(serve, connect):
    def good_then_closed(connection):
        GOOD(connection)

    server = serve(good_then_closed)
    client = connect(server)
    client.fetch(CUSTOMER)
    assert server.gone.wait(PROMPTLY)

    assert client.fetch(CUSTOMER)
    assert len(server.connections) == 2


def test_a_closed_client_fetches_no_more(serve, connect):
    server = serve(GOOD)
    client = connect(server)
    client.fetch(CUSTOMER)
    client.close()
    client.close()

    assert server.gone.wait(PROMPTLY)
    with pytest.raises(SourceUnavailable, match="the client is closed"):
        client.fetch(CUSTOMER)


def test_a_client_that_never_connected_can_be_closed(serve, connect):
    client = connect(serve(GOOD))
    client.close()

    with pytest.raises(SourceUnavailable, match="the client is closed"):
        client.fetch(CUSTOMER)


def test_closing_ends_a_fetch_in_another_thread_as_unavailable(serve, connect):
    server, errors = serve(hang), []
    client = connect(server, deadline=4.0)

    def fetch():
        try:
            client.fetch(CUSTOMER)
        except SourceUnavailable as error:
            errors.append(error)

    thread = threading.Thread(target=fetch)
    thread.start()
    while not server.seen:
        time.sleep(0.005)
    began = time.monotonic()
    client.close()
    assert time.monotonic() - began < PROMPTLY
    thread.join(2 * PROMPTLY)

    assert [type(error) for error in errors] == [SourceUnavailable]


def test_a_client_whose_connections_are_closed_as_it_sends_is_unavailable(serve, connect):
    client = connect(serve(GOOD))
    client.fetch(CUSTOMER)
    client._http.close()

    assert isinstance(took(lambda: client.fetch(CUSTOMER))[1], SourceUnavailable)


def test_threads_share_a_client(serve, connect):
    server = serve(GOOD)
    client, found = connect(server, max_concurrency=4), []
    threads = [threading.Thread(target=lambda: found.append(client.fetch(CUSTOMER))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(found) == 16
    assert len(server.connections) < 16  # four at a time; a busy machine may see one closed and replaced


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # forking beside threads is the point
def test_a_forked_child_connects_anew_and_inherits_no_lock(serve, connect):
    server = serve(GOOD)
    client = connect(server)
    client.fetch(CUSTOMER)
    with held_elsewhere(client._lock), held_elsewhere(client._budget._tokens._lock):
        child = os.fork()
        if child == 0:  # pragma: no cover - runs in the child
            try:
                os._exit(0 if client.fetch(CUSTOMER).grants else 1)
            finally:
                os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    client.fetch(CUSTOMER)
    assert len(server.connections) == 2
