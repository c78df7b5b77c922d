"""HTTP to billing: one request with its credentials, over connections with a deadline, and the bytes that come back.

httpx bounds each read and not their sum: a server that drips a byte a second holds a thread for hours, already in the
headers. So each read and write has what is left of the deadline, and a body is bounded in length and in time while it
is inflated. Credentials reach the wire through httpx's auth hook: no frame, message or attribute of ours holds their
text, and no error of httpx, whose frames do, is chained to the errors raised from here.

Never here: what an answer means.
"""

from __future__ import annotations

import re
import socket
import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

from entitlement_gate import __version__
from entitlement_gate.domain.errors import SourceMalformed, SourceUnavailable
from entitlement_gate.resilience.fork_safety import PerProcess
from entitlement_gate.resilience.lock import Lock
from entitlement_gate.zenskar.flow import Failure, Reply
from entitlement_gate.zenskar.options import SANDBOX

if TYPE_CHECKING:
    import ssl
    from collections.abc import Generator, Iterable, Iterator

    from entitlement_gate.zenskar.flow import Deadline
    from entitlement_gate.zenskar.options import ClientOptions, Credentials

__all__ = [
    "DeadlineTransport",
    "Request",
    "Sender",
    "environment_proxy",
    "read_body",
    "without_secrets",
]


Text = TypeVar("Text", bytes, str)


def read_body(chunks: Iterable[bytes], encoding: str, deadline: Deadline, *, most: int) -> bytes | None:
    """Return the whole body, or None when the deadline passes first. Holds ``most`` bytes and one piece at a time.

    Raises:
        SourceMalformed: longer than ``most`` bytes, compressed or not, or not in an encoding that was asked for.
    """
    body = bytearray()
    for piece in _decoded(_bounded(chunks, most), encoding, most):
        body += piece
        if deadline.remaining() <= 0:
            return None
        if len(body) > most:
            raise _too_long(most)
    return bytes(body)


def without_secrets(told: Text, headers: Mapping[str, str], *others: str) -> Text:
    """Blot out the credentials and others, which some servers quote: an answer ends up in logs and on error pages."""
    for secret in (headers.get("x-api-key"), headers.get("organisation"), *others):
        if secret:
            told = told.replace(secret.encode(), b"***") if isinstance(told, bytes) else told.replace(secret, "***")
    return told


def _bounded(chunks: Iterable[bytes], most: int) -> Iterator[bytes]:
    """Refuse also what inflates to nothing for ever: empty blocks, or bytes after the end."""
    received = 0
    for chunk in chunks:
        received += len(chunk)
        if received > most:
            raise _too_long(most)
        yield chunk


def _decoded(chunks: Iterable[bytes], encoding: str, most: int) -> Iterator[bytes]:
    encoding = encoding.strip().lower()
    if encoding in {"", "identity"}:
        return iter(chunks)
    if encoding in {"gzip", "x-gzip"}:
        return _inflated(chunks, most)
    raise SourceMalformed(f"the body is encoded as {encoding[:20]!r}, which was not asked for")


def _inflated(chunks: Iterable[bytes], most: int) -> Iterator[bytes]:
    """Yield never more than ``most`` bytes and one at a time: a gzip bomb stays small."""
    inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        for chunk in chunks:
            yield b"" if inflate.eof else inflate.decompress(chunk, most + 1)
    except zlib.error:
        raise SourceMalformed("the body is no gzip") from None
    if not inflate.eof:
        raise SourceMalformed("the compressed body ends early")


def _too_long(most: int) -> SourceMalformed:
    return SourceMalformed(f"the body is longer than {most} bytes")


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


_PLACE = "entitlement_gate.location"
_USER_AGENT = f"entitlement_gate/{__version__}"
# An absolute URL would carry the key to another host, and `..` out of a base URL's path.
_PART = r"(?!\.{1,2}(?:/|\Z))(?:[\w.~-]|%[0-9A-Fa-f]{2})+"
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_PATH = re.compile(rf"{_PART}(?:/{_PART})*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is sent.

    Attributes:
        method: ``GET`` or ``POST``.
        path: below the base URL, its segments percent-encoded.
        params: of the query.
        headers: besides those that every request has.
        body: the bytes; None for none.

    Raises:
        ValueError: the path is not below the base URL.
    """

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not _PATH.fullmatch(self.path):
            raise ValueError(f"a path below the base URL, its parts percent-encoded, not {self.path[:60]!r}")


class Sender:
    """Sends requests over connections that are made at the first. Thread-safe."""

    _lock: PerProcess[Lock] = PerProcess()

    def __init__(self, options: ClientOptions, credentials: Credentials, transport: httpx.BaseTransport | None) -> None:
        self.options = options
        self._credentials = credentials
        self._transport = transport
        self._is_closed = False
        self.remake()

    def remake(self) -> None:
        """Forget the connections, as in a process just forked; the next request makes new ones."""
        self._lock = Lock()
        self._http: httpx.Client | None = None
        self._network: httpx.BaseTransport | None = None

    def close(self) -> None:
        """Close the connections, now. Closing again does nothing; a later request is ``SourceUnavailable``."""
        with self._lock:
            self._is_closed = True
            http, self._http = self._http, None
        if http is not None:
            http.close()

    def _send(self, request: Request, deadline: Deadline) -> Reply | Failure:
        """Return the reply, whatever its status, or why there is none; redirects are not followed."""
        left = deadline.remaining()
        if left <= 0:
            return Failure(f"no answer within {deadline.seconds} s", may_retry=False)
        http = self._connected(deadline)
        timeout = httpx.Timeout(left, connect=min(left, self.options.connect_timeout))
        given = {"params": dict(request.params), "headers": dict(request.headers), "content": request.body}
        try:
            with http.stream(request.method, request.path, timeout=timeout, **given) as response:  # type: ignore[arg-type]  # mypy joins the values' types
                return self._reply(response, deadline)
        except httpx.TimeoutException as error:
            return Failure(f"no answer in time ({type(error).__name__})")
        except httpx.LocalProtocolError:
            return Failure("the request could not be written", may_retry=False)
        except (httpx.HTTPError, RuntimeError) as error:  # RuntimeError: closed by another thread meanwhile
            return Failure(f"no connection ({type(error).__name__})")

    def _reply(self, response: httpx.Response, deadline: Deadline) -> Reply | Failure:
        status, is_good = response.status_code, response.status_code == httpx.codes.OK
        try:
            body = self._body(response, deadline)
        except (SourceMalformed, httpx.HTTPError):
            if is_good:
                raise
            body = None
        if body is None and is_good:
            return Failure(f"the answer took longer than {deadline.seconds} s", may_retry=False)
        told = {**response.headers, **response.extensions.get(_PLACE, {})}
        headers = {name.lower(): value for name, value in told.items()}
        if is_good:
            return Reply(status, headers, body or b"")
        sent = response.request.headers  # any other status stands without its body, and may quote what was sent
        whom = _ID.findall(response.request.url.path)
        headers = {name: without_secrets(value, sent, *whom) for name, value in headers.items()}
        return Reply(status, headers, without_secrets(body or b"", sent, *whom))

    def _body(self, response: httpx.Response, deadline: Deadline) -> bytes | None:
        # A scripted transport (httpx.MockTransport) hands over a body already read and decoded.
        is_read = response.is_stream_consumed
        encoding = "" if is_read else response.headers.get("content-encoding", "")
        chunks = [response.content] if is_read else response.iter_raw()
        return read_body(chunks, encoding, deadline, most=self.options.max_body_bytes)

    def _connected(self, deadline: Deadline) -> httpx.Client:
        with self._lock:
            if self._is_closed:
                raise SourceUnavailable("the client is closed")
            if self._http is None:
                self._http = self._connect()
            http = self._http
        if isinstance(self._network, DeadlineTransport):
            self._network.bound(deadline)
        return http

    def _connect(self) -> httpx.Client:
        """Make the one ``httpx.Client`` of this process: its TLS context costs 22 ms."""
        base_url = self.options.base_url
        self._network = self._transport or self._made_network()
        headers = {"accept": "application/json", "accept-encoding": "gzip", "user-agent": _USER_AGENT}
        if self.options.api_version is not None:
            headers["apiversion"] = self.options.api_version
        http = httpx.Client(
            base_url="http://sandbox" if base_url.startswith(SANDBOX) else base_url,
            headers=headers,
            auth=_Auth(self._credentials),
            transport=self._network,
            trust_env=False,
            follow_redirects=False,
            event_hooks={"response": [_stay]},
        )
        http.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=()))  # one customer's are not another's
        return http

    def _made_network(self) -> DeadlineTransport:
        many, trust_env = self.options.max_concurrency, self.options.trust_env
        limits = httpx.Limits(max_connections=many, max_keepalive_connections=many)
        proxy = environment_proxy(self.options.base_url) if trust_env else None
        return DeadlineTransport(limits=limits, trust_env=trust_env, proxy=proxy)


def _stay(response: httpx.Response) -> None:
    """Put aside where a redirect leads: httpx reads that even where it does not follow, and fails on some of it."""
    place = response.headers.pop("location", None)
    if place is not None:
        response.extensions[_PLACE] = {"location": place}


class _Auth(httpx.Auth):
    """Adds the credentials as the request leaves, after every frame that an error page could show."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        self._credentials.put_into(request.headers)
        yield request
