"""Whose snapshots are shared, and proof that one of us wrote them. Never here: what is written (``records``)."""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import Protocol

__all__ = ["Seal", "Sealing", "joined"]

_PURPOSE = b"entitlement_gate: shared snapshots"
_SCOPE_DIGITS = 32


class Seal:
    """Signs records with a key derived from a secret that all who share know.

    >>> ours = Seal("api key", "organisation", "https://api.example.com")
    >>> ours.is_genuine(b"record", ours.sign(b"record"))
    True
    >>> ours
    Seal(***)

    Args:
        secret: what whoever can write to Redis does not know: the API key.
        *parts: what makes two answers about one customer different: organisation, base URL and the like.

    Attributes:
        scope: names the parts without telling them; the same in every process that shares.
    """

    __slots__ = ("_key", "scope")

    def __init__(self, secret: str, *parts: str) -> None:
        self._key = hmac.digest(secret.encode(), _PURPOSE, "sha256")
        self.scope = sha256(joined(*parts)).hexdigest()[:_SCOPE_DIGITS]

    def __repr__(self) -> str:
        return "Seal(***)"

    def __reduce__(self) -> str:
        raise TypeError("a seal is not pickled: it holds a key")

    def sign(self, text: bytes) -> bytes:
        """Return the signature, in hexadecimal."""
        return hmac.new(self._key, text, "sha256").hexdigest().encode()

    def is_genuine(self, text: bytes, signature: bytes) -> bool:
        """Return whether the signature was made of this text by somebody with the key."""
        return hmac.compare_digest(self.sign(text), signature)


class Sealing(Protocol):
    """A source whose snapshots may be shared."""

    def seal(self) -> Seal:
        """Return the seal of now; credentials may change. May block, and raise."""


def joined(*parts: str) -> bytes:
    """Return the parts with their lengths before them, so that no two lists look the same.

    >>> joined("ab", "c") == joined("a", "bc")
    False
    """
    return b"".join(b"%d:%b" % (len(part), part) for part in (text.encode() for text in parts))
