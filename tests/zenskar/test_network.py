import contextlib
import socket
import ssl
import subprocess
import sys
import threading
import time
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor

import httpcore
import httpx
import pytest

from entitlement_gate.resilience.clock import Deadline
from entitlement_gate.zenskar import network
from entitlement_gate.zenskar.network import DEADLINE, DeadlineTransport, environment_proxy
from tests.zenskar.scripted import CUSTOMER, GOOD, PROMPTLY, ScriptedServer, drip, hang, reply


@pytest.fixture
def transport():
    with DeadlineTransport() as transport:
        yield transport


@pytest.fixture
def patient(monkeypatch):
    """Keep idle connections for longer than any machine is busy."""
    monkeypatch.setattr(network, "_KEEPALIVE_SECONDS", 600.0)


def sent(transport, url, *, deadline=None, **timeouts):
    timeout = {"connect": 60.0, "read": 60.0, "write": 60.0, "pool": 60.0, **timeouts}
    extensions = {"timeout": timeout, **({DEADLINE: Deadline(deadline, time)} if deadline is not None else {})}
    response = transport.handle_request(httpx.Request("GET", url, extensions=extensions))
    with contextlib.closing(response):
        response.read()
    return response


def test_without_a_deadline_the_timeouts_alone_bound(serve, transport):
    assert sent(transport, serve(reply(200, b"{}")).url).content == b"{}"


def test_a_deadline_bounds_what_timeouts_do_not(serve, transport):
    began = time.monotonic()

    with pytest.raises(httpx.ReadTimeout):
        sent(transport, serve(drip(b"HTTP/1.1 200 OK\r\nx: ")).url, deadline=2, read=None)
    assert time.monotonic() - began < PROMPTLY


def test_the_shorter_of_deadline_and_timeout_counts(serve, transport):
    began = time.monotonic()

    with pytest.raises(httpx.ReadTimeout):
        sent(transport, serve(hang).url, deadline=60, read=0.1)
    assert time.monotonic() - began < PROMPTLY


def test_a_deadline_that_has_passed_connects_to_nothing(serve, transport):
    server = serve(hang)

    with pytest.raises(httpx.ConnectTimeout, match="deadline of -1 s has passed"):
        sent(transport, server.url, deadline=-1)
    assert not server.connections


def test_a_deadline_ends_with_its_request(serve, transport):
    server = serve(reply(200, b"{}"))
    sent(transport, server.url, deadline=60)
    with pytest.raises(httpx.TimeoutException):
        sent(transport, server.url, deadline=-1)

    assert sent(transport, server.url).content == b"{}"


def test_a_connection_is_kept_for_the_next_request(serve, patient):
    server = serve(reply(200, b"{}"))
    with DeadlineTransport() as transport:
        for _ in range(3):
            sent(transport, server.url, deadline=60)

    assert len(server.connections) == 1


def test_no_more_connections_are_open_than_are_allowed(serve):
    server = serve(hang)
    with DeadlineTransport(max_connections=1) as transport, ThreadPoolExecutor(1) as threads:
        first = threads.submit(sent, transport, server.url)
        while not server.seen:
            time.sleep(0.005)
        with pytest.raises(httpx.PoolTimeout):
            sent(transport, server.url, pool=0.05)
        server.stop()
        assert isinstance(first.exception(timeout=PROMPTLY), httpx.TransportError)
    assert len(server.connections) == 1


def test_every_error_of_httpcore_has_its_namesake_in_httpx():
    kinds = [kind for name in httpcore.__all__ if isinstance(kind := getattr(httpcore, name), type)]
    errors = {kind for kind in kinds if issubclass(kind, Exception)} - {httpcore.ConnectionNotAvailable}

    assert all(issubclass(kind, network._ERRORS) for kind in errors)
    assert all(issubclass(getattr(httpx, kind.__name__), httpx.TransportError) for kind in errors)


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
    began = time.monotonic()

    with pytest.raises(httpx.ConnectTimeout):
        sent(transport, f"http://many.test:{port}", deadline=0.5, connect=0.4)
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


def test_a_tls_handshake_is_bounded(serve, transport):
    server = serve(hang)
    began = time.monotonic()

    with pytest.raises((httpx.ConnectTimeout, httpx.ReadTimeout)):
        sent(transport, server.url.replace("http:", "https:"), deadline=0.3)
    assert time.monotonic() - began < PROMPTLY


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A key and a certificate for localhost that nobody signed."""
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*made, *names], check=True, capture_output=True)
    return certificate, key


class TLSServer(ScriptedServer):
    def __init__(self, certificate, key, *script):
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        super().__init__(*script)

    def _serve(self, connection):
        with contextlib.suppress(OSError), self._context.wrap_socket(connection, server_side=True) as secured:
            super()._serve(secured)


@pytest.fixture
def serve_tls(certificate):
    with contextlib.ExitStack() as stack:

        def serve_tls(*script):
            server = TLSServer(*certificate, *script)
            stack.callback(server.stop)
            return server

        yield serve_tls


@pytest.fixture
def trusting(certificate):
    return ssl.create_default_context(cafile=certificate[0])


def test_a_certificate_that_nobody_signed_is_refused(serve_tls, transport):
    server = serve_tls(reply(200, b"{}"))

    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        sent(transport, f"https://localhost:{server.port}")
    assert not server.seen


def test_the_deadline_bounds_what_comes_over_tls(serve_tls, trusting, patient):
    server = serve_tls(reply(200, b"{}"), drip(b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n"))
    with DeadlineTransport(ssl_context=trusting) as transport:
        assert sent(transport, f"https://localhost:{server.port}", deadline=60).content == b"{}"
        began = time.monotonic()
        with pytest.raises(httpx.ReadTimeout):
            sent(transport, f"https://localhost:{server.port}", deadline=2, read=None)
        assert time.monotonic() - began < PROMPTLY
    assert len(server.connections) == 1


def pump(one, other):
    """Pass on what one socket says to the other, until it ends."""
    with contextlib.suppress(OSError):
        while told := one.recv(65536):
            other.sendall(told)
    with contextlib.suppress(OSError):
        other.shutdown(socket.SHUT_RDWR)


def tunnel_to(port, greeting):
    """Connect a client to a port of this machine, after a greeting, until either side ends."""

    def send(connection):
        with socket.create_connection(("127.0.0.1", port)) as other:
            connection.sendall(greeting)
            back = threading.Thread(target=pump, args=(other, connection), daemon=True)
            back.start()
            pump(connection, other)
            back.join(PROMPTLY)

    return send


def test_a_proxy_is_asked_with_the_whole_url_and_its_own_credentials(serve):
    proxy = serve(reply(200, b"{}"))
    with DeadlineTransport(proxy=f"http://me:a%20word@127.0.0.1:{proxy.port}") as transport:
        assert sent(transport, "http://billing.test/customers?limit=1", deadline=60).content == b"{}"

    (seen,) = proxy.seen
    assert seen.target == "http://billing.test/customers?limit=1"
    assert seen.headers["proxy-authorization"] == f"Basic {b64encode(b'me:a word').decode()}"


def test_tls_goes_through_a_proxy_and_is_verified_behind_it(serve, serve_tls, trusting):
    server = serve_tls(reply(200, b"{}"))
    proxy = serve(tunnel_to(server.port, b"HTTP/1.1 200 OK\r\n\r\n"))
    with DeadlineTransport(proxy=proxy.url, ssl_context=trusting) as trusting_transport:
        assert sent(trusting_transport, f"https://localhost:{server.port}/x", deadline=60).content == b"{}"
    with DeadlineTransport(proxy=proxy.url) as verifying, pytest.raises(httpx.ConnectError, match="VERIFY_FAILED"):
        sent(verifying, f"https://localhost:{server.port}/x", deadline=60)

    assert [seen.method for seen in proxy.seen] == ["CONNECT", "CONNECT"]
    assert [seen.target for seen in server.seen] == ["/x"]


def test_a_proxy_that_refuses_is_a_proxy_error(serve):
    with (
        DeadlineTransport(proxy=serve(reply(407)).url) as transport,
        pytest.raises(httpx.ProxyError, match="407"),
    ):
        sent(transport, "https://localhost:1")


def test_the_deadline_bounds_a_proxy_too(serve):
    began = time.monotonic()
    with DeadlineTransport(proxy=serve(hang).url) as transport, pytest.raises(httpx.ReadTimeout):
        sent(transport, "https://localhost:1", deadline=2, read=None)
    assert time.monotonic() - began < PROMPTLY


class SOCKSServer(ScriptedServer):
    """Lets everybody in, to one port of this machine."""

    def __init__(self, port):
        self._to = port
        super().__init__()

    def _serve(self, connection):
        with connection, contextlib.suppress(OSError):
            connection.recv(262)  # version and methods
            connection.sendall(b"\x05\x00")
            self.seen.append(connection.recv(262))
            tunnel_to(self._to, b"\x05\x00\x00\x01" + bytes(6))(connection)


def test_a_socks_proxy_works_too(serve):
    server = serve(reply(200, b"{}"))
    proxy = SOCKSServer(server.port)
    try:
        with DeadlineTransport(proxy=f"socks5://127.0.0.1:{proxy.port}") as transport:
            assert sent(transport, "http://billing.test/x", deadline=60).content == b"{}"
    finally:
        proxy.stop()

    assert b"billing.test" in proxy.seen[0]
    assert [seen.target for seen in server.seen] == ["/x"]


def test_a_socks_proxy_says_what_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "socksio", None)
    with pytest.raises(ImportError, match=r"httpx\[socks\]"):
        DeadlineTransport(proxy="socks5://127.0.0.1:1")


def test_a_proxy_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="Unknown scheme for proxy URL"):
        DeadlineTransport(proxy="ftp://127.0.0.1:1")


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


def test_a_client_uses_the_proxy_of_the_environment_only_where_it_may(serve, connect, monkeypatch):
    proxy, server = serve(GOOD), serve(GOOD)
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", "")
    connect(server).fetch(CUSTOMER)
    assert (len(proxy.seen), len(server.seen)) == (0, 1)

    connect(server, trust_env=True).fetch(CUSTOMER)
    assert (len(proxy.seen), len(server.seen)) == (1, 1)
    assert proxy.seen[0].target.startswith(server.url)


def test_a_response_tells_what_its_socket_is(serve, transport):
    server = serve(reply(200, b"{}"))
    stream = sent(transport, server.url).extensions["network_stream"]

    assert stream.get_extra_info("server_addr") == ("127.0.0.1", server.port)
