"""Connections to billing on which every wait ends with a deadline: an httpx transport over httpcore's pool.

httpx bounds each read and not their sum: a server that drips a byte a second holds a thread for hours, already in the
headers, where no caller of httpx looks at a clock. So connecting, the TLS handshake, and each read and write have what
is left of the deadline that a request carries. httpx's own transport hands httpcore no network backend; this one
stands in its place, and does no more than that needs.
"""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Iterator

    from entitlement_gate.resilience.clock import Deadline

__all__ = ["DEADLINE", "DeadlineTransport", "environment_proxy"]

DEADLINE = "entitlement_gate.deadline"
"""The extension of a request that holds its ``Deadline``."""

_KEEPALIVE_SECONDS = 5.0  # as httpx has it

# In httpcore and in httpx errors have the same names and the same family tree.
_ERRORS: dict[type[Exception], type[httpx.TransportError]] = {
    httpcore.ConnectError: httpx.ConnectError,
    httpcore.ConnectTimeout: httpx.ConnectTimeout,
    httpcore.LocalProtocolError: httpx.LocalProtocolError,
    httpcore.NetworkError: httpx.NetworkError,
    httpcore.PoolTimeout: httpx.PoolTimeout,
    httpcore.ProtocolError: httpx.ProtocolError,
    httpcore.ProxyError: httpx.ProxyError,
    httpcore.ReadError: httpx.ReadError,
    httpcore.ReadTimeout: httpx.ReadTimeout,
    httpcore.RemoteProtocolError: httpx.RemoteProtocolError,
    httpcore.TimeoutException: httpx.TimeoutException,
    httpcore.UnsupportedProtocol: httpx.UnsupportedProtocol,
    httpcore.WriteError: httpx.WriteError,
    httpcore.WriteTimeout: httpx.WriteTimeout,
}


def environment_proxy(base_url: str) -> str | None:
    """Return the proxy that the environment names for a URL, or None."""
    parts = urlsplit(base_url)
    if proxy_bypass(parts.netloc):
        return None
    proxies = getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")


class DeadlineTransport(httpx.BaseTransport):
    """Sends each request within the ``Deadline`` among its extensions, and within its timeouts. Thread-safe.

    A response is read on the thread that sent its request.

    Args:
        max_connections: at a time; as many are kept open.
        proxy: the URL of an HTTP or SOCKS proxy.
        ssl_context: by default one that verifies by certifi's authorities.

    Raises:
        ValueError: the proxy's URL is of another kind.
        ImportError: a SOCKS proxy needs a package that is not here.
    """

    def __init__(
        self, *, max_connections: int = 10, proxy: str | None = None, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        self._deadlines = threading.local()
        options: dict[str, Any] = {
            "ssl_context": ssl_context or httpx.create_ssl_context(trust_env=False),
            "max_connections": max_connections,
            "max_keepalive_connections": max_connections,
            "keepalive_expiry": _KEEPALIVE_SECONDS,
            "network_backend": _Backend(self._deadlines),
        }
        self._pool = _make_pool(proxy, options)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See ``httpx.BaseTransport``."""
        self._deadlines.current = request.extensions.get(DEADLINE)
        with _httpx_errors():
            response = self._pool.handle_request(
                httpcore.Request(
                    request.method,
                    _to_httpcore_url(request.url),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_ResponseStream(response),
            extensions=response.extensions,
        )

    def close(self) -> None:
        """Close all connections, now."""
        self._pool.close()


def _make_pool(proxy_url: str | None, options: dict[str, Any]) -> httpcore.ConnectionPool:
    if proxy_url is None:
        return httpcore.ConnectionPool(**options)
    proxy = httpx.Proxy(proxy_url)
    is_socks = proxy.url.scheme.startswith("socks")
    if is_socks and find_spec("socksio") is None:
        raise ImportError('a SOCKS proxy needs the package socksio: pip install "httpx[socks]"')
    kind = httpcore.SOCKSProxy if is_socks else httpcore.HTTPProxy
    return kind(_to_httpcore_url(proxy.url), proxy_auth=proxy.raw_auth, **options)


def _to_httpcore_url(url: httpx.URL) -> httpcore.URL:
    return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)


@contextmanager
def _httpx_errors() -> Iterator[None]:
    """Raise each error of httpcore as the one of httpx that is its namesake."""
    try:
        yield
    except tuple(_ERRORS) as error:
        kind = next(_ERRORS[kind] for kind in type(error).__mro__ if kind in _ERRORS)
        raise kind(str(error)) from error


class _ResponseStream(httpx.SyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        with _httpx_errors():
            yield from self._response.iter_stream()

    def close(self) -> None:
        self._response.close()


class _Bounded:
    """Knows what the deadline of this thread leaves of a timeout."""

    def __init__(self, deadlines: threading.local) -> None:
        self._deadlines = deadlines

    def _time_left(self, timeout: float | None, error: type[Exception]) -> float | None:
        deadline: Deadline | None = getattr(self._deadlines, "current", None)
        if deadline is None:
            return timeout
        left = deadline.remaining()
        if left <= 0:
            raise error(f"the deadline of {deadline.seconds} s has passed")
        return left if timeout is None else min(left, timeout)


class _Backend(_Bounded, httpcore.NetworkBackend):
    def __init__(self, deadlines: threading.local) -> None:
        super().__init__(deadlines)
        self._inner = httpcore.SyncBackend()

    def connect_tcp(  # noqa: PLR0917 - httpcore's own signature
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address that answers.

        Tried one by one here: the standard library gives *each* address of a name the whole timeout.
        """
        error: httpcore.ConnectError | httpcore.ConnectTimeout | None = None
        for address in _resolve(host, port):
            left = self._time_left(timeout, httpcore.ConnectTimeout)
            try:
                inner = self._inner.connect_tcp(address, port, left, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as refused:
                error = refused
            else:
                return _Stream(inner, self._deadlines)
        raise error or httpcore.ConnectError("the name has no address")


def _resolve(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # UnicodeError: a label that is empty or too long
        raise httpcore.ConnectError(str(error)) from error
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class _Stream(_Bounded, httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, deadlines: threading.local) -> None:
        super().__init__(deadlines)
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._time_left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._time_left(timeout, httpcore.WriteTimeout))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = self._time_left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, left), self._deadlines)

    def close(self) -> None:
        self._inner.close()

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
