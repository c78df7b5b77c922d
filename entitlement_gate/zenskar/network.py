"""One total deadline under httpx: connecting, TLS, every byte sent and received.

httpx bounds each read and not their sum: a server that drips a byte a second holds a thread for hours, already in
the headers, where no caller of httpx gets to look at a clock. Never here: what is sent.
"""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

    from entitlement_gate.zenskar.flow import Deadline

__all__ = ["DeadlineTransport", "environment_proxy"]


def environment_proxy(base_url: str) -> str | None:
    """Return the proxy that the environment names for a URL, or None."""
    parts = urlsplit(base_url)
    if proxy_bypass(parts.netloc):
        return None
    proxies = getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")


class DeadlineTransport(httpx.HTTPTransport):
    """An ``HTTPTransport`` whose thread can be given a deadline."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._deadlines = threading.local()
        # httpcore takes a network backend, httpx does not pass one on; both keep it under these names.
        self._pool._network_backend = _Backend(self._pool._network_backend, self._deadlines)  # noqa: SLF001

    def bound(self, deadline: Deadline) -> None:
        """Hold everything that this thread sends from now on to the deadline."""
        self._deadlines.current = deadline


class _Bounded:
    def __init__(self, inner: Any, deadlines: threading.local) -> None:
        self._inner = inner
        self._deadlines = deadlines

    def _left(self, timeout: float | None, error: type[Exception]) -> float | None:
        deadline: Deadline | None = getattr(self._deadlines, "current", None)
        if deadline is None:
            return timeout
        left = deadline.remaining()
        if left <= 0:
            raise error(f"the deadline of {deadline.seconds} s has passed")
        return left if timeout is None else min(left, timeout)


class _Backend(_Bounded, httpcore.NetworkBackend):
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
        for address in _addresses(host, port):
            left = self._left(timeout, httpcore.ConnectTimeout)
            try:
                inner = self._inner.connect_tcp(address, port, left, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as refused:
                error = refused
            else:
                return _Stream(inner, self._deadlines)
        raise error or httpcore.ConnectError("the name has no address")


def _addresses(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # UnicodeError: a label that is empty or too long
        raise httpcore.ConnectError(str(error)) from error
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class _Stream(_Bounded, httpcore.NetworkStream):
    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        read: bytes = self._inner.read(max_bytes, self._left(timeout, httpcore.ReadTimeout))
        return read

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._left(timeout, httpcore.WriteTimeout))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = self._left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, left), self._deadlines)

    def close(self) -> None:
        self._inner.close()

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
