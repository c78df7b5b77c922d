"""The rule of using up: what is available, which rows pay, and what news from billing changes. Pure.

Every number is an ``int`` of millionths (``UNIT`` of them make one): sums are exact in Python, in Lua and in SQL.
Never here: keys, time, stores.

What has been committed here and is not yet in billing's ``quantity_used`` is *uncaught*::

    available = Σ remaining - Σ held - max(0, Σ committed - (Σ quantity_used - Σ baseline))

over the live rows of one entitlement id. Rows that left take their counts with them. Baselines are noted for every
live row when one of them is first charged, because billing may take the usage from another row than we did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from entitlement_gate.domain.grants import Grant

__all__ = [
    "MOST",
    "UNIT",
    "WIDEST",
    "Row",
    "Share",
    "Tallies",
    "Tally",
    "adopt",
    "allocate",
    "available",
    "burden",
    "charge",
    "micro_units",
    "quantity_of",
    "reshare",
    "rows_of",
]

UNIT = 1_000_000
"""Millionths in one."""

MOST = 2**53
"""The largest quantity a verb may be given, and the largest number Redis keeps exactly: Lua computes with doubles."""

WIDEST = 2**60
"""The largest number of a row: sums of some of them fit into the 64 bits of a column."""

_NEVER = datetime(9999, 12, 31, tzinfo=UTC)
_ENOUGH_DIGITS = 850  # the widest number from the wire has 400 digits on either side of the point


@dataclass(frozen=True, slots=True)
class Row:
    """One live grant as billing tells it.

    Attributes:
        id: the grant's id.
        remaining: left, in millionths, rounded down; may be negative.
        used: gone, in millionths, rounded down.
    """

    id: str
    remaining: int
    used: int = 0


@dataclass(frozen=True, slots=True)
class Share:
    """What one row pays of a reservation or a commit: its provenance."""

    entitlement_id: str
    row_id: str
    amount: int


@dataclass(frozen=True, slots=True)
class Tally:
    """What a ledger knows of one row, in millionths.

    Attributes:
        baseline: billing's ``quantity_used`` when the row was first charged.
        committed: used up here, ever.
        held: reserved here, now.
        seen: billing's ``quantity_used`` in the newest snapshot that was adopted.
        refunded: by how much ``quantity_used`` has fallen since: credit notes, and rows that start anew in place.
        ticket: POSIX microseconds at which the fetch of that snapshot began.
    """

    baseline: int
    committed: int
    held: int
    seen: int
    refunded: int
    ticket: int


Tallies = Mapping[str, Tally]
"""The tallies of one entitlement id, by row id."""


def micro_units(quantity: Decimal) -> int:
    """Return a quantity in millionths.

    Raises:
        ValueError: it is not positive, is finer than a millionth, or is more than 2**53 millionths.
    """
    if not quantity.is_finite() or (parts := _parts(quantity))[1]:
        raise ValueError(f"a ledger counts in millionths: {quantity} is finer")
    if not 0 < parts[0] <= MOST:
        raise ValueError(f"a ledger counts quantities above zero and up to {quantity_of(MOST)}, not {quantity}")
    return parts[0]


def quantity_of(millionths: int) -> Decimal:
    """Return millionths as a quantity, without trailing zeros."""
    whole, rest = divmod(millionths, UNIT)
    if not rest:
        return Decimal(whole)
    with localcontext(prec=_ENOUGH_DIGITS):
        return (Decimal(millionths) / UNIT).normalize()


def rows_of(grants: Iterable[Grant]) -> tuple[Row, ...]:
    """Return live metered grants of one entitlement id as rows, those that end first in front."""
    ordered = sorted(grants, key=lambda grant: (grant.expires_at is None, grant.expires_at or _NEVER, grant.id))
    return tuple([Row(grant.id, _floor(grant.remaining), _floor(grant.used)) for grant in ordered])


def burden(rows: Sequence[Row], tallies: Tallies) -> int:
    """Return what is held and uncaught: what a check subtracts from the remaining of these rows."""
    held = uncaught = 0
    for row in rows:
        tally = tallies.get(row.id)
        if tally is not None:
            held += tally.held
            uncaught += _uncaught(row, tally)
    return held + max(0, uncaught)


def available(rows: Sequence[Row], tallies: Tallies) -> int:
    """Return how much may still be reserved; negative when more is gone than was granted."""
    return sum([row.remaining for row in rows]) - burden(rows, tallies)


def allocate(entitlement_id: str, rows: Sequence[Row], tallies: Tallies, quantity: int) -> tuple[Share, ...]:
    """Return which rows pay: those that end first, as far as each alone has room; the last one pays the rest."""
    shares = []
    for row in rows[:-1]:
        amount = min(quantity, max(0, available((row,), tallies)))
        if amount:
            shares.append(Share(entitlement_id, row.id, amount))
            quantity -= amount
    if quantity:
        shares.append(Share(entitlement_id, rows[-1].id, quantity))
    return tuple(shares)


def reshare(shares: Sequence[Share], actual: int) -> tuple[Share, ...]:
    """Return the shares of what was used in the end, less or more than was held."""
    new_shares = []
    for position, share in enumerate(shares):
        is_last = position == len(shares) - 1
        amount = actual if is_last else min(actual, share.amount)
        if amount:
            new_shares.append(replace(share, amount=amount))
            actual -= amount
    return tuple(new_shares)


def charge(rows: Sequence[Row], tallies: Tallies, ticket: int) -> dict[str, Tally]:
    """Return first tallies for the rows that have none."""
    return {row.id: Tally(row.used, 0, 0, row.used, 0, ticket) for row in rows if row.id not in tallies}


def adopt(rows: Sequence[Row], tallies: Tallies, ticket: int, last: int) -> dict[str, Tally]:
    """Return the tallies that a snapshot of billing changes; an older one than was adopted changes none.

    No ticket can be later than ``last``: one that is was written while a clock was ahead, and any is newer.

    A falling ``quantity_used`` is a credit note: what it gives back is available at once. Should billing later show
    more usage than was ever committed here, it was no credit note, and as much of the refund is reversed.
    """
    newer = {}
    for row in rows:
        tally = tallies.get(row.id)
        if tally is not None and (tally.ticket < ticket or tally.ticket > last):
            newer[row.id] = replace(tally, seen=row.used, ticket=ticket, refunded=_refunded(row, tally))
    if not newer:
        return newer
    latest = [newer.get(row.id) or tallies[row.id] for row in rows if row.id in tallies]
    if not any(tally.committed for tally in latest):
        return {row_id: replace(tally, baseline=tally.seen, refunded=0) for row_id, tally in newer.items()}
    surplus = sum(tally.seen - tally.baseline + tally.refunded - tally.committed for tally in latest)
    for row_id, tally in newer.items():
        reversal = max(0, min(tally.refunded, surplus))
        newer[row_id] = replace(tally, refunded=tally.refunded - reversal)
        surplus -= reversal
    return newer


def _refunded(row: Row, tally: Tally) -> int:
    return tally.refunded + max(0, tally.seen - row.used)


def _uncaught(row: Row, tally: Tally) -> int:
    return tally.committed - (row.used - tally.baseline + tally.refunded)


def _floor(number: Decimal | None) -> int:
    """Return millionths, rounded down, and no wider than a column."""
    return 0 if number is None else max(-WIDEST, min(WIDEST, _parts(number)[0]))


def _parts(number: Decimal) -> tuple[int, int]:
    """Return millionths, rounded down, and whether there is more: exact, whatever the context's precision."""
    numerator, denominator = number.as_integer_ratio()
    return divmod(numerator * UNIT, denominator)
