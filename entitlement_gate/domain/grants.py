"""What billing gives: grants, and the snapshot that holds all grants of a customer at one instant."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import MAXYEAR, MINYEAR, UTC, datetime, tzinfo
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Self

from entitlement_gate.domain.numbers import difference

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "EdgeInstant",
    "EntitlementType",
    "Grant",
    "Snapshot",
    "aware",
    "dedupe",
    "showable",
    "steady_span",
]


class EdgeInstant(datetime):
    """An instant of the first or last year there is: in a zone where it has no local time it stays as it is.

    "Never ends" is often written as the last second of the calendar, which has no local time east of Greenwich, as the
    first one has none west of it: Django turns every instant of a template into local time, and fails there with a 500.
    """

    def astimezone(self, tz: tzinfo | None = None) -> Self:
        """Return the same instant in another zone, or in this one."""
        try:
            return super().astimezone(tz)
        except (OverflowError, ValueError, OSError):  # each of them, by platform and zone
            return self


def showable(instant: datetime) -> datetime:
    """Return the same instant, such that every zone can show it.

    >>> from zoneinfo import ZoneInfo
    >>> never = showable(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
    >>> never.astimezone(ZoneInfo("Asia/Tokyo")).isoformat()
    '9999-12-31T23:59:59+00:00'
    """
    if MINYEAR < instant.year < MAXYEAR or isinstance(instant, EdgeInstant):
        return instant
    return EdgeInstant.combine(instant.date(), instant.timetz())


def aware(instant: datetime) -> datetime:
    """Return the instant with a time zone, UTC where it has none, and showable."""
    return showable(instant.replace(tzinfo=UTC) if instant.utcoffset() is None else instant)


_ZERO = Decimal(0)
_FOREVER = float("inf")
_SCANNED = 64  # rows: so many are looked through sooner than an index of them is made, and cost no memory for it
# The dates of a plan are those of many customers: one number each, in memory that a processor has at hand.
_posix = lru_cache(maxsize=4096)(datetime.timestamp)


class EntitlementType(StrEnum):
    """The three kinds of entitlement, spelled as billing spells them."""

    FEATURE = "Feature"
    QUANTITY = "Quantity"
    CREDITS = "Credits"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """One row given to a customer. Everything but ``id`` and ``name`` may be unknown.

    Attributes:
        id: the row's own id; ``""`` only on a malformed row that had none.
        name: the entitlement's name in billing.
        entitlement_id: the entitlement's id; rows that share it are summed.
        type: a known type, the lower-case text of an unknown one, or None when billing gave none.
        status: lower-case text, or None when billing gave none (then the dates alone speak).
        units: what is counted, for people.
        active_from: first instant at which the grant is live; None is "already". One without a time zone is UTC.
        expires_at: first instant at which it no longer is; None is "never". One without a time zone is UTC.
        quantity: granted.
        used: gone, as of billing's last consumption trigger.
        reported_remaining: left, as billing says it.
        is_disabled: a Feature that carries a false-like option.
        is_malformed: the row could not be read; it grants nothing and hurts no other row.
    """

    id: str
    name: str
    entitlement_id: str | None = None
    type: EntitlementType | str | None = None
    status: str | None = None
    units: str | None = None
    active_from: datetime | None = None
    expires_at: datetime | None = None
    quantity: Decimal | None = None
    used: Decimal | None = None
    reported_remaining: Decimal | None = None
    is_disabled: bool = False
    is_malformed: bool = False

    def __post_init__(self) -> None:
        for name in ("active_from", "expires_at"):
            instant = getattr(self, name)
            if isinstance(instant, datetime):
                object.__setattr__(self, name, aware(instant))

    @property
    def remaining(self) -> Decimal | None:
        """What is left: as reported, else granted less used, else unknown."""
        if self.reported_remaining is not None or self.quantity is None:
            return self.reported_remaining
        return difference(self.quantity, self.used or _ZERO)

    @property
    def is_metered(self) -> bool:
        """Whether the grant is counted: Quantity, Credits, or no type but a number."""
        if self.type is None:
            return self.remaining is not None
        return self.type in (EntitlementType.QUANTITY, EntitlementType.CREDITS)


def dedupe(grants: Iterable[Grant]) -> tuple[Grant, ...]:
    """Keep one grant per row id; rows without an id are kept as they are.

    Two versions of one row mean that the fetch straddled a change: the one that gives less is believed.
    """
    grants = tuple(grants)
    if len({grant.id for grant in grants}) == len(grants):
        return grants
    by_id: dict[object, Grant] = {}
    for position, grant in enumerate(grants):
        key = grant.id or position
        other = by_id.setdefault(key, grant)
        if other is not grant:
            by_id[key] = min(other, grant, key=_generosity)
    return tuple(by_id.values())


def _generosity(grant: Grant) -> tuple[object, ...]:
    is_active = grant.status in (None, "active")
    amount = not grant.is_metered, grant.remaining or _ZERO
    starts_at = _posix(grant.active_from) if grant.active_from else -_FOREVER
    ends_at = _posix(grant.expires_at) if grant.expires_at else _FOREVER
    return grant.is_malformed, is_active, not grant.is_disabled, *amount, ends_at, -starts_at, repr(grant)


class _Indexed:
    """Room for an index that is made when it is needed: no field, and in no copy."""

    __slots__ = ("_index",)
    _index: dict[tuple[str, str], tuple[Grant, ...]]


@dataclass(frozen=True, slots=True)
class Snapshot(_Indexed):
    """All grants of one customer, fetched at one instant, immutable.

    Attributes:
        customer_id: canonical lower-case UUID text.
        grants: one per row id, in billing's order.
        fetched_at: POSIX seconds by the wall clock when the fetch began.
        is_found: False when billing does not know the customer at all.
    """

    customer_id: str
    grants: tuple[Grant, ...]
    fetched_at: float
    is_found: bool = True

    def rows_of_name(self, name: str) -> Sequence[Grant]:
        """Return the grants of this name, in their order."""
        if len(self.grants) > _SCANNED:
            return self._indexed().get(("name", name), ())
        return [grant for grant in self.grants if grant.name == name]

    def rows_of_id(self, entitlement_id: str) -> Sequence[Grant]:
        """Return the grants of this entitlement id, in their order."""
        if len(self.grants) > _SCANNED:
            return self._indexed().get(("id", entitlement_id), ())
        return [grant for grant in self.grants if grant.entitlement_id == entitlement_id]

    def _indexed(self) -> dict[tuple[str, str], tuple[Grant, ...]]:
        if not hasattr(self, "_index"):
            index: dict[tuple[str, str], tuple[Grant, ...]] = {}
            for grant in self.grants:
                for key in (("name", grant.name), ("id", grant.entitlement_id or "")):
                    index[key] = (*index.get(key, ()), grant)
            object.__setattr__(self, "_index", index)
        return self._index


def steady_span(grants: Iterable[Grant], now: float) -> tuple[float, float]:
    """Return the span ``[since, until)`` around ``now`` in which none of the grants starts or ends.

    POSIX seconds, infinite where nothing bounds it. An answer computed at ``now`` holds for the whole span.
    """
    since, until = -_FOREVER, _FOREVER
    for grant in grants:
        for edge in (grant.active_from, grant.expires_at):
            if edge is not None:
                at = _posix(edge)
                if at <= now:
                    since = max(since, at)
                else:
                    until = min(until, at)
    return since, until
