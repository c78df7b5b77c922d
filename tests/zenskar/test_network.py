import contextlib
import socket
import time

import httpcore
import httpx
import pytest

from entitlement_gate.zenskar.flow import Deadline
from entitlement_gate.zenskar.http import DeadlineTransport, environment_proxy
from tests.zenskar.scripted import PROMPTLY, drip, hang, reply


@pytest.fixture
def transport():
    with DeadlineTransport(trust_env=False) as transport:
        yield transport


def sent(transport, url, **timeouts):
    timeout = {"connect": 5.0, "read": 5.0, "write": 5.0, "pool": 5.0, **timeouts}
    request = httpx.Request("GET", url, extensions={"timeout": timeout})
    response = transport.handle_request(request)
    with contextlib.closing(response):
        response.read()
    return response


def within(seconds):
    return Deadline(seconds, time)


def test_without_a_deadline_the_timeouts_alone_bound(serve, transport):
    assert sent(transport, serve(reply(200, b"{}")).url).content == b"{}"


def test_a_deadline_bounds_what_timeouts_do_not(serve, transport):
    transport.bound(within(0.2))
    began = time.monotonic()

    with pytest.raises(httpx.ReadTimeout):
        sent(transport, serve(drip(b"HTTP/1.1 200 OK\r\nx: ")).url, read=None)
    assert time.monotonic() - began < PROMPTLY


def test_the_shorter_of_deadline_and_timeout_counts(serve, transport):
    transport.bound(within(60))
    began = time.monotonic()

    with pytest.raises(httpx.ReadTimeout):
        sent(transport, serve(hang).url, read=0.1)
    assert time.monotonic() - began < PROMPTLY


def test_a_deadline_that_has_passed_connects_to_nothing(serve, transport):
    server = serve(hang)
    transport.bound(within(-1))

    with pytest.raises(httpx.ConnectTimeout, match="deadline of -1 s has passed"):
        sent(transport, server.url)
    assert not server.connections


@pytest.fixture
def silent_addresses():
    """Three loopback addresses, one port, and nobody who accepts: a connection attempt hangs."""
    with contextlib.ExitStack() as stack:
        port, addresses = 0, ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
        for address in addresses:
            listener = stack.enter_context(socket.create_server((address, port), backlog=0))
            port = listener.getsockname()[1]
            for _ in range(4):
                waiting = stack.enter_context(socket.socket())
                waiting.settimeout(0)
                with contextlib.suppress(BlockingIOError):
                    waiting.connect((address, port))
        yield addresses, port


def resolving_to(monkeypatch, addresses):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *rest, **more: found if host == "many.test" else real(host, *rest, **more)
    )


def test_the_addresses_of_a_name_share_one_deadline(transport, monkeypatch, silent_addresses):
    addresses, port = silent_addresses
    resolving_to(monkeypatch, addresses)
    transport.bound(within(0.5))
    began = time.monotonic()

    with pytest.raises(httpx.ConnectTimeout):
        sent(transport, f"http://many.test:{port}", connect=0.4)
    assert 0.4 <= time.monotonic() - began < PROMPTLY


def test_the_next_address_is_tried_where_one_refuses(serve, transport, monkeypatch):
    server = serve(reply(200, b"{}"))
    resolving_to(monkeypatch, ["127.0.0.9", "127.0.0.1"])

    assert sent(transport, f"http://many.test:{server.port}").content == b"{}"


def test_a_name_without_addresses_is_a_connect_error(transport, monkeypatch):
    resolving_to(monkeypatch, [])

    with pytest.raises(httpx.ConnectError, match="no address"):
        sent(transport, "http://many.test")


@pytest.mark.parametrize("host", ["nowhere.invalid", "a..b", "x" * 64 + ".test"])
def test_a_name_that_does_not_resolve_is_a_connect_error(transport, host):
    with pytest.raises(httpx.ConnectError):
        sent(transport, f"http://{host}")


def test_tls_is_verified_and_bounded(serve, transport):
    transport.bound(within(0.3))
    server = serve(hang)
    began = time.monotonic()

    with pytest.raises((httpx.ConnectTimeout, httpx.ReadTimeout)):
        sent(transport, server.url.replace("http:", "https:"))
    assert time.monotonic() - began < PROMPTLY


@pytest.mark.parametrize(
    ("environment", "base_url", "proxy"),
    [
        ({}, "https://api.zenskar.com", None),
        ({"https_proxy": "http://p:1"}, "https://api.zenskar.com", "http://p:1"),
        ({"https_proxy": "http://p:1"}, "http://127.0.0.1:80", None),
        ({"all_proxy": "http://p:2"}, "https://api.zenskar.com", "http://p:2"),
        ({"https_proxy": "http://p:1", "no_proxy": "zenskar.com"}, "https://api.zenskar.com", None),
        ({"https_proxy": "http://p:1", "no_proxy": "example.com"}, "https://api.zenskar.com", "http://p:1"),
        ({"https_proxy": "http://p:1", "no_proxy": "*"}, "https://api.zenskar.com", None),
    ],
)
def test_the_proxy_is_the_one_that_the_environment_names(monkeypatch, environment, base_url, proxy):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert environment_proxy(base_url) == proxy


def test_the_stream_tells_what_its_socket_is(serve, transport):
    server = serve(reply(200, b"{}"))
    stream = transport._pool._network_backend.connect_tcp("127.0.0.1", server.port, 1.0)

    assert isinstance(stream, httpcore.NetworkStream)
    assert stream.get_extra_info("server_addr") == ("127.0.0.1", server.port)
    stream.close()
