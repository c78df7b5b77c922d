"""The bytes of an answer: inflated, bounded in length and in time. Never here: what they mean."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, TypeVar

from entitlement_gate.domain.errors import SourceMalformed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from entitlement_gate.zenskar.flow import Deadline

__all__ = ["read_body", "without_secrets"]

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
