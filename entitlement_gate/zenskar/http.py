"""One request with its credentials, and the bytes that come back.

A body is bounded in length, and in time while it is inflated. Credentials reach the wire through httpx's auth hook: no
frame, message or attribute of ours holds their text, and no error of httpx, whose frames do, is chained to the errors
raised from here.
"""

from __future__ import annotations

import re
import zlib
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, TypeVar

import httpx

from entitlement_gate import __version__
from entitlement_gate.domain.errors import AnswerTooLate, BodyTooLong, SourceMalformed
from entitlement_gate.zenskar.client_options import SANDBOX
from entitlement_gate.zenskar.retry import Failure, Reply

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping

    from entitlement_gate.resilience.clock import Deadline
    from entitlement_gate.zenskar.client_options import ClientOptions, Credentials

__all__ = ["check_path", "hide_secrets", "make_http", "read_body", "read_reply"]

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
    sent = response.request.headers  # which an error may quote
    customers = _ID.findall(response.request.url.path)
    headers = {name: hide_secrets(value, sent, *customers) for name, value in headers.items()}
    return Reply(status, headers, hide_secrets(body or b"", sent, *customers))


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
