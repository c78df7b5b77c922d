"""HTTP to billing: one request with its credentials, and the bytes that come back.

A body is bounded in length, and in time while it is inflated. Credentials reach the wire through httpx's auth hook: no
frame, message or attribute of ours holds their text, and no error of httpx, whose frames do, is chained to the errors
raised from here.

Never here: what an answer means.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, TypeVar

import httpx

from entitlement_gate import __version__
from entitlement_gate.domain.errors import AnswerTooLate, BodyTooLong, SourceMalformed, SourceUnavailable
from entitlement_gate.resilience.fork_safety import PerProcess
from entitlement_gate.resilience.lock import Lock
from entitlement_gate.zenskar.options import SANDBOX
from entitlement_gate.zenskar.retry import Failure, Reply
from entitlement_gate.zenskar.transport import DEADLINE, DeadlineTransport, environment_proxy

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from entitlement_gate.resilience.clock import Deadline
    from entitlement_gate.zenskar.options import ClientOptions, Credentials

__all__ = ["Request", "Sender", "read_body", "without_secrets"]


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


def _too_long(most: int) -> BodyTooLong:
    return BodyTooLong(f"the body is longer than {most} bytes")


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
            return Failure(f"no answer within {deadline.seconds} s", AnswerTooLate, may_retry=False)
        try:
            with self._connected().stream(
                request.method,
                request.path,
                params=dict(request.params),
                headers=dict(request.headers),
                content=request.body,
                timeout=httpx.Timeout(left, connect=min(left, self.options.connect_timeout)),
                extensions={DEADLINE: deadline},
            ) as response:
                return self._reply(response, deadline)
        except httpx.TimeoutException as error:
            return Failure(f"no answer in time ({type(error).__name__})", AnswerTooLate)
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
            return Failure(f"the answer took longer than {deadline.seconds} s", AnswerTooLate, may_retry=False)
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

    def _connected(self) -> httpx.Client:
        with self._lock:
            if self._is_closed:
                raise SourceUnavailable("the client is closed")
            if self._http is None:
                self._http = self._connect()
            return self._http

    def _connect(self) -> httpx.Client:
        """Make the one ``httpx.Client`` of this process: its TLS context costs 22 ms."""
        base_url = self.options.base_url
        headers = {"accept": "application/json", "accept-encoding": "gzip", "user-agent": _USER_AGENT}
        if self.options.api_version is not None:
            headers["apiversion"] = self.options.api_version
        http = httpx.Client(
            base_url="http://sandbox" if base_url.startswith(SANDBOX) else base_url,
            headers=headers,
            auth=_Auth(self._credentials),
            transport=self._transport or self._make_transport(),
            trust_env=False,
            follow_redirects=False,
            event_hooks={"response": [_stay]},
        )
        http.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=()))  # one customer's are not another's
        return http

    def _make_transport(self) -> DeadlineTransport:
        options = self.options
        return DeadlineTransport(
            max_connections=options.max_concurrency,
            proxy=environment_proxy(options.base_url) if options.trust_env else None,
            ssl_context=httpx.create_ssl_context(trust_env=options.trust_env),
        )


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
