"""What processes share of a customer, proof that one of us wrote it, and what a look for it gives.

Text whose signature is wrong is not parsed at all. What is signed names whom and what it is about (version, scope,
customer, generation, when it was fetched), so that no record can stand in for another.
"""

from __future__ import annotations

import hmac
import json
import sys
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple, Protocol

from entitlement_gate.domain.grants import EntitlementType, Grant, Snapshot

__all__ = [
    "VERSION",
    "DatedSnapshot",
    "FetchTask",
    "Need",
    "Seal",
    "Sealing",
    "SharedRecord",
    "Stamp",
    "Unreadable",
    "joined",
    "read",
    "write",
]

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


class Stamp(NamedTuple):
    """Names one fetch in the fleet.

    Attributes:
        generation: the customer's when the fetch began; an invalidation makes a new one.
        begun: microseconds by the clock of Redis, the one clock that all share, when the fetch began.
    """

    generation: str
    begun: int


class Need(NamedTuple):
    """What would do in place of a fetch.

    Attributes:
        max_age: seconds that a record must be younger than; whatever its age, one begun since the look will do.
        unlike: the stamp of data that is held already.
        patience: seconds to wait for the fetch of somebody else.
    """

    max_age: float
    unlike: Stamp | None
    patience: float


class DatedSnapshot(NamedTuple):
    """A snapshot that somebody fetched.

    Attributes:
        snapshot: as it was fetched.
        age: seconds since that fetch began, never negative.
        stamp: of that fetch.
        is_new: the fetch began after the look.
    """

    snapshot: Snapshot
    age: float
    stamp: Stamp
    is_new: bool


class FetchTask(NamedTuple):
    """Nothing will do: the caller is to fetch.

    Attributes:
        seal: None where the store could not be asked: there is nothing to keep afterwards.
        token: of the lease; empty for who fetches without one, having waited for somebody long enough.
        stamp: of the fetch that begins now.
        older: a record that does not do, but is better than nothing.
    """

    seal: Seal | None = None
    token: str = ""
    stamp: Stamp | None = None
    older: DatedSnapshot | None = None


VERSION = 1
"""Of what is written here: another one is not read. It changes with the fields of a grant and their order."""

_SIGNATURE = 64  # hexadecimal digits of SHA-256
_TYPES: dict[str | None, EntitlementType] = {kind.value: kind for kind in EntitlementType}
_LONGEST_SHARED = 32
_shared_number = lru_cache(maxsize=4096)(Decimal)


class Unreadable(Exception):
    """No record of ours, or not of what was asked for; says why, and nothing of what was read."""


class SharedRecord(NamedTuple):
    """What is shared.

    Attributes:
        snapshot: all grants of one customer.
        at: POSIX seconds by the wall clock of who fetched it, when that fetch began.
        stamp: of that fetch.
    """

    snapshot: Snapshot
    at: float
    stamp: Stamp


def write(record: SharedRecord, seal: Seal) -> bytes:
    """Return the record as text."""
    snapshot = record.snapshot
    body = {
        "version": VERSION,
        "scope": seal.scope,
        "customer": snapshot.customer_id,
        "at": record.at,
        "generation": record.stamp.generation,
        "begun": record.stamp.begun,
        "fetched_at": snapshot.fetched_at,
        "is_found": snapshot.is_found,
        "grants": [_row(grant) for grant in snapshot.grants],
    }
    text = json.dumps(body, separators=(",", ":")).encode()
    return seal.sign(text) + text


def read(record: bytes, seal: Seal, customer_id: str) -> SharedRecord:
    """Return the customer's record.

    Raises:
        Unreadable: for whatever else was there.
    """
    signature, text = record[:_SIGNATURE], record[_SIGNATURE:]
    if not seal.is_genuine(text, signature):
        raise Unreadable("a shared record is not signed with our API key")
    try:
        body = json.loads(text)
        if (body["version"], body["scope"], body["customer"]) != (VERSION, seal.scope, customer_id):
            raise Unreadable("a shared record is of another version, scope or customer")
        grants = tuple(_grant(*row) for row in body["grants"])
        snapshot = Snapshot(customer_id, grants, body["fetched_at"], is_found=body["is_found"])
        return SharedRecord(snapshot, body["at"], Stamp(body["generation"], body["begun"]))
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise Unreadable(f"a shared record cannot be read: {type(error).__name__}") from None


def _row(grant: Grant) -> list[Any]:
    dates = (_write_date(grant.active_from), _write_date(grant.expires_at))
    numbers = (_write_number(grant.quantity), _write_number(grant.used), _write_number(grant.reported_remaining))
    texts = (grant.id, grant.name, grant.entitlement_id, grant.type, grant.status, grant.units)
    return [*texts, *dates, *numbers, grant.is_disabled, grant.is_malformed]


def _grant(*row: Any) -> Grant:
    id_, name, entitlement_id, kind, status, units, *rest = row
    active_from, expires_at, quantity, used, remaining, is_disabled, is_malformed = rest
    return Grant(
        id=id_,
        name=sys.intern(name),  # thousands of customers have the same few names: held once
        entitlement_id=_intern(entitlement_id),
        type=_TYPES.get(kind, kind),
        status=_intern(status),
        units=_intern(units),
        active_from=_date(active_from),
        expires_at=_date(expires_at),
        quantity=_number(quantity),
        used=_number(used),
        reported_remaining=_number(remaining),
        is_disabled=is_disabled,
        is_malformed=is_malformed,
    )


def _intern(text: str | None) -> str | None:
    return None if text is None else sys.intern(text)


def _write_date(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()


def _date(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _write_number(number: Decimal | None) -> str | None:
    return None if number is None else str(number)


def _number(text: str | None) -> Decimal | None:
    if text is None:
        return None
    return _shared_number(text) if len(text) <= _LONGEST_SHARED else Decimal(text)
