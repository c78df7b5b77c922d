"""One total deadline under httpx: connecting, TLS, every byte sent and received.

httpx bounds each read and not their sum: a server that drips a byte a second holds a thread for hours, already in
the headers, where no caller of httpx gets to look at a clock. Never here: what is sent.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import httpcore
import httpx

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

    from entitlement_gate.zenskar.flow import Deadline

__all__ = ["DeadlineTransport"]


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
        left = self._left(timeout, httpcore.ConnectTimeout)
        inner = self._inner.connect_tcp(host, port, left, local_address, socket_options)
        return _Stream(inner, self._deadlines)


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
