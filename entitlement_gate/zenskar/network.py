"""One request to billing, its answer, and the connections between: an httpx transport over httpcore's pool.

Every wait on a connection ends with a deadline. httpx bounds each read and not their sum: a server that drips a byte a
second holds a thread for hours, already in the headers, where no caller of httpx looks at a clock. So connecting, the
TLS handshake, and each read and write have what is left of the deadline that a request carries. httpx's own transport
hands httpcore no network backend; this one stands in its place, and does no more than that needs.

A body is bounded in length, and in time while it is inflated. Credentials reach the wire through httpx's auth hook: no
frame, message or attribute of ours holds their text, and no error of httpx, whose frames do, is chained to the errors
raised from here.
"""

from __future__ import annotations

import re
import socket
import threading
import zlib
from contextlib import contextmanager
from http.cookiejar import DefaultCookiePolicy
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

from entitlement_gate import __version__
from entitlement_gate.domain.errors import AnswerTooLate, BodyTooLong, SourceMalformed
from entitlement_gate.zenskar.client_options import SANDBOX
from entitlement_gate.zenskar.retry import Failure, Reply

if TYPE_CHECKING:
    import ssl
    from collections.abc import Generator, Iterable, Iterator, Mapping

    from entitlement_gate.resilience.clock import Deadline
    from entitlement_gate.zenskar.client_options import ClientOptions, Credentials

__all__ = [
    "DEADLINE",
    "DeadlineTransport",
    "check_path",
    "environment_proxy",
    "hide_secrets",
    "make_http",
    "read_body",
    "read_reply",
]

DEADLINE = "entitlement_gate.deadline"
"""The extension of a request that holds its ``Deadline``."""

_KEEPALIVE_SECONDS = 5.0  # as httpx has it

# The families of httpcore's errors: every member has a namesake in httpx.
_ERRORS = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
)


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
    except _ERRORS as error:
        raise getattr(httpx, type(error).__name__)(str(error)) from error


class _ResponseStream(httpx.SyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        with _httpx_errors():
            yield from self._response.iter_stream()

    def close(self) -> None:
        self._response.close()


class _Bounded:
    """Bounds each timeout by the deadline of this thread's request."""

    def __init__(self, deadlines: threading.local) -> None:
        self._deadlines = deadlines

    def _bound(self, timeout: float | None, error: type[Exception]) -> float | None:
        deadline: Deadline | None = getattr(self._deadlines, "current", None)
        if deadline is None:
            return timeout
        seconds_left = deadline.remaining()
        if seconds_left <= 0:
            raise error(f"the deadline of {deadline.seconds} s has passed")
        return seconds_left if timeout is None else min(seconds_left, timeout)


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
            timeout_left = self._bound(timeout, httpcore.ConnectTimeout)
            try:
                inner = self._inner.connect_tcp(address, port, timeout_left, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failure:
                error = failure
            else:
                return _Stream(inner, self._deadlines)
        raise error or httpcore.ConnectError("the name has no address")


def _resolve(host: str, port: int) -> list[str]:
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # UnicodeError: a label that is empty or too long
        raise httpcore.ConnectError(str(error)) from error
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in addresses))


class _Stream(_Bounded, httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, deadlines: threading.local) -> None:
        super().__init__(deadlines)
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._bound(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._bound(timeout, httpcore.WriteTimeout))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        timeout = self._bound(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, timeout), self._deadlines)

    def close(self) -> None:
        self._inner.close()

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


Text = TypeVar("Text", bytes, str)

_LOCATION = "entitlement_gate.location"
_USER_AGENT = f"entitlement_gate/{__version__}"
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
# An absolute URL would carry the key to another host, and `..` out of a base URL's path.
_PART = r"(?!\.{1,2}(?:/|\Z))(?:[\w.~-]|%[0-9A-Fa-f]{2})+"
_PATH = re.compile(rf"{_PART}(?:/{_PART})*", re.ASCII)


def check_path(path: str) -> None:
    """Raise ``ValueError`` for a path that is not below the base URL, its segments percent-encoded."""
    if not _PATH.fullmatch(path):
        raise ValueError(f"a path below the base URL, its parts percent-encoded, not {path[:60]!r}")


def make_http(options: ClientOptions, credentials: Credentials, transport: httpx.BaseTransport) -> httpx.Client:
    """Return a client that follows no redirect, keeps no cookie, and looks at nothing in the environment."""
    headers = {"accept": "application/json", "accept-encoding": "gzip", "user-agent": _USER_AGENT}
    if options.api_version is not None:
        headers["apiversion"] = options.api_version
    http = httpx.Client(
        base_url="http://sandbox" if options.base_url.startswith(SANDBOX) else options.base_url,
        headers=headers,
        auth=_Auth(credentials),
        transport=transport,
        trust_env=False,
        follow_redirects=False,
        event_hooks={"response": [_set_location_aside]},
    )
    http.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=()))  # one customer's are not another's
    return http


class _Auth(httpx.Auth):
    """Adds the credentials as the request leaves, after every frame that an error page could show."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        self._credentials.put_into(request.headers)
        yield request


def _set_location_aside(response: httpx.Response) -> None:
    """Hide where a redirect leads: httpx reads that even where it does not follow, and fails on some of it."""
    location = response.headers.pop("location", None)
    if location is not None:
        response.extensions[_LOCATION] = {"location": location}


def read_reply(response: httpx.Response, deadline: Deadline, max_bytes: int) -> Reply | Failure:
    """Return what came back. Any status but 200 stands without a body where that cannot be read.

    Raises:
        SourceMalformed: a good answer's body cannot be read, see ``read_body``.
    """
    status, is_good = response.status_code, response.status_code == httpx.codes.OK
    # A scripted transport (httpx.MockTransport) hands over a body already read and decoded.
    is_read = response.is_stream_consumed
    encoding = "" if is_read else response.headers.get("content-encoding", "")
    try:
        chunks = [response.content] if is_read else response.iter_raw()
        body = read_body(chunks, encoding, deadline, max_bytes=max_bytes)
    except (SourceMalformed, httpx.HTTPError):
        if is_good:
            raise
        body = None
    if body is None and is_good:
        return Failure(f"the answer took longer than {deadline.seconds} s", AnswerTooLate, may_retry=False)
    headers = {**response.headers, **response.extensions.get(_LOCATION, {})}
    headers = {name.lower(): value for name, value in headers.items()}
    if is_good:
        return Reply(status, headers, body or b"")
    secrets = response.request.headers  # which an error may quote
    customers = _ID.findall(response.request.url.path)
    headers = {name: hide_secrets(value, secrets, *customers) for name, value in headers.items()}
    return Reply(status, headers, hide_secrets(body or b"", secrets, *customers))


def hide_secrets(text: Text, headers: Mapping[str, str], *others: str) -> Text:
    """Blot out the credentials and others, which some servers quote: an answer ends up in logs and on error pages."""
    for secret in (headers.get("x-api-key"), headers.get("organisation"), *others):
        if secret:
            text = text.replace(secret.encode(), b"***") if isinstance(text, bytes) else text.replace(secret, "***")
    return text


def read_body(chunks: Iterable[bytes], encoding: str, deadline: Deadline, *, max_bytes: int) -> bytes | None:
    """Return the whole body, or None when the deadline passes first. Holds ``max_bytes`` and one piece at a time.

    Raises:
        SourceMalformed: longer than ``max_bytes``, compressed or not, or not in an encoding that was asked for.
    """
    body = bytearray()
    for piece in _decode(_limit(chunks, max_bytes), encoding, max_bytes):
        body += piece
        if deadline.remaining() <= 0:
            return None
        if len(body) > max_bytes:
            raise _too_long(max_bytes)
    return bytes(body)


def _limit(chunks: Iterable[bytes], max_bytes: int) -> Iterator[bytes]:
    """Refuse also what inflates to nothing for ever: empty blocks, or bytes after the end."""
    received = 0
    for chunk in chunks:
        received += len(chunk)
        if received > max_bytes:
            raise _too_long(max_bytes)
        yield chunk


def _decode(chunks: Iterable[bytes], encoding: str, max_bytes: int) -> Iterator[bytes]:
    encoding = encoding.strip().lower()
    if encoding in {"", "identity"}:
        return iter(chunks)
    if encoding in {"gzip", "x-gzip"}:
        return _inflate(chunks, max_bytes)
    raise SourceMalformed(f"the body is encoded as {encoding[:20]!r}, which was not asked for")


def _inflate(chunks: Iterable[bytes], max_bytes: int) -> Iterator[bytes]:
    """Yield never more than ``max_bytes`` and one at a time: a gzip bomb stays small."""
    gzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        for chunk in chunks:
            yield b"" if gzip.eof else gzip.decompress(chunk, max_bytes + 1)
    except zlib.error:
        raise SourceMalformed("the body is no gzip") from None
    if not gzip.eof:
        raise SourceMalformed("the compressed body ends early")


def _too_long(max_bytes: int) -> BodyTooLong:
    return BodyTooLong(f"the body is longer than {max_bytes} bytes")
