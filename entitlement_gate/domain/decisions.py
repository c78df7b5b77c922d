"""The answer to a check: a decision, its outcome and its reason."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn, cast

from entitlement_gate.domain.grants import EntitlementType, Grant, showable
from entitlement_gate.domain.numbers import total

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "Decision",
    "Outcome",
    "Reason",
    "RequestFault",
    "RowSummary",
    "Source",
    "Verdict",
    "common_type",
    "decide_by",
    "revise",
    "rows_behind",
    "serve",
    "verdict_of",
]

Source = Literal["live", "cache", "shared", "stale", "fallback", "override"]


class Outcome(StrEnum):
    """What the truth is, as far as it could be learned."""

    ALLOWED = "allowed"
    DENIED = "denied"
    UNKNOWN = "unknown"


class Reason(StrEnum):
    """Why. The order below is the order of closeness: of several refusals the first one listed is reported."""

    ALLOWED = "allowed"
    """A live grant allows."""
    OVERRIDE = "override"
    """Kept for tests that say so."""
    OVERAGE = "overage"
    """Beyond the balance, which ``ON_EXHAUSTED`` allows."""
    INSUFFICIENT_QUANTITY = "insufficient_quantity"
    """Less is left than is needed."""
    INSUFFICIENT_CREDITS = "insufficient_credits"
    """The same, of Credits."""
    QUANTITY_UNKNOWN = "quantity_unknown"
    """A counted grant without a number."""
    FEATURE_DISABLED = "feature_disabled"
    """A Feature that carries a false-like option."""
    TYPE_MISMATCH = "type_mismatch"
    """A quantity was asked of a Feature."""
    TYPE_UNKNOWN = "type_unknown"
    """The grant has no type that is known, and no number."""
    NOT_STARTED = "not_started"
    """The grant starts later."""
    EXPIRED = "expired"
    """The grant has ended."""
    DRAFT = "draft"
    """The grant is a draft."""
    INACTIVE = "inactive"
    """The grant has a status that is not known."""
    VOIDED = "voided"
    """The grant was voided."""
    MALFORMED = "malformed"
    """The row could not be read."""
    NOT_ENTITLED = "not_entitled"
    """There is no grant of that name."""
    CUSTOMER_NOT_FOUND = "customer_not_found"
    """Billing does not know the customer."""
    INVALID_CUSTOMER = "invalid_customer"
    """The id is no UUID; billing was not asked."""
    NO_CUSTOMER = "no_customer"
    """The request is made for nobody."""
    UNAVAILABLE = "unavailable"
    """Network, timeout, 408, 425, 429 or 5xx after retries, or billing is left alone for a while."""
    REJECTED = "rejected"
    """Billing refuses the request: key, permissions or parameters."""
    MALFORMED_RESPONSE = "malformed_response"
    """The answer could not be read, or holds only other customers' rows."""

    @cached_property
    def outcome(self) -> Outcome:
        """The outcome every decision with this reason has."""
        if self in _ALLOWING:
            return Outcome.ALLOWED
        return Outcome.UNKNOWN if self in _UNKNOWING else Outcome.DENIED


_ALLOWING = frozenset({Reason.ALLOWED, Reason.OVERRIDE, Reason.OVERAGE})
_UNKNOWING = frozenset({Reason.UNAVAILABLE, Reason.REJECTED, Reason.MALFORMED_RESPONSE})


class RequestFault(StrEnum):
    """Why a gate refuses a request whatever the customer has. Stands where a reason does; no check gives it."""

    INVALID_QUANTITY = "invalid_quantity"
    """The function that a gate has for ``quantity`` gave none: zero, a negative number, what is no number."""
    KEY_CONFLICT = "key_conflict"
    """Under this ``key`` another quantity, or another entitlement, was used up."""

    @property
    def outcome(self) -> Outcome:
        """The outcome of every decision with it."""
        return Outcome.DENIED


class RowSummary(NamedTuple):
    """What the rows that decided say together: fields of a decision, worked out when one of them is read."""

    type: EntitlementType | None = None
    units: str | None = None
    limit: Decimal | None = None
    used: Decimal | None = None
    active_from: datetime | None = None
    expires_at: datetime | None = None
    grants: tuple[str, ...] = ()

    @classmethod
    def of(cls, rows: Sequence[Grant]) -> RowSummary:
        """Return what the rows say."""
        if not rows:
            return _NO_ROWS
        starts = [row.active_from for row in rows]
        ends = [row.expires_at for row in rows]
        return cls(
            type=common_type(rows),
            units=min((row.units for row in rows if row.units is not None), default=None),
            limit=_sum(row.quantity for row in rows),
            used=_sum(row.used for row in rows),
            active_from=None if None in starts else min(filter(None, starts)),
            expires_at=None if None in ends else max(filter(None, ends)),
            grants=tuple(sorted(row.id for row in rows if row.id)),
        )


_NO_ROWS = RowSummary()


class Verdict(NamedTuple):
    """What was decided, apart from how old the data is: shared by all decisions that are served by it.

    ``basis`` holds the rows that decided, or the summary where somebody states them.
    """

    allowed: bool
    outcome: Outcome
    reason: Reason
    entitlement: str
    customer_id: str | None = None
    requested: Decimal | None = None
    remaining: Decimal | None = None
    unlimited: bool = False
    shadow: bool = False
    basis: tuple[Grant, ...] | RowSummary = _NO_ROWS

    @property
    def summary(self) -> RowSummary:
        """What the rows say, worked out anew at each call: kept, they would be half of a customer's memory."""
        return self.basis if isinstance(self.basis, RowSummary) else RowSummary.of(self.basis)


def _field(path: str) -> Any:
    return property(attrgetter(path), _refuse_change, _refuse_change)


def _refuse_change(*_: object) -> NoReturn:
    raise dataclasses.FrozenInstanceError("a decision does not change; dataclasses.replace() gives another")


@dataclasses.dataclass(kw_only=True, init=False, eq=False, repr=False)
class Decision:
    """Whether the customer may, and why. Truthy when allowed; immutable.

    Attributes:
        allowed: what to do. Differs from ``outcome`` only by policy (``source == "fallback"``) or in shadow mode.
        outcome: what is true: ``allowed``, ``denied`` or ``unknown``.
        reason: why; the reference lists them all.
        entitlement: the name, alias or id as asked; of a combined requirement, the part that decided.
        customer_id: canonical UUID text, or None when there was no usable id.
        type: of the rows that decided, when they have a known one.
        units: what is counted, for people.
        requested: the quantity asked for, or None.
        limit: granted in total by the rows that decided.
        used: gone, as far as the rows tell.
        remaining: left; exact, may be negative.
        unlimited: no quantity is given and the settings read that as "no limit".
        active_from: earliest start among the rows that decided, None when one has none.
        expires_at: latest end among the rows that decided, None when one has none.
        grants: ids of the rows that decided, sorted.
        source: where the data came from: ``live`` (fetched for this check), ``cache``, ``shared`` (another process
            fetched it), ``stale`` (older than it should be, because fetching failed), ``fallback`` (no data; the
            failure policy answered) or ``override`` (a test said so).
        age: seconds since the data was fetched, or None when there is none.
        shadow: would have been denied; allowed because shadow mode is on.
    """

    # Stored are the verdict, which every decision served by it shares, and what differs: a copy of 18 fields for each
    # check would cost more than all else that a warm check does. To `dataclasses` all of them are fields. What they are
    # read by cannot be set: a frozen class's slots are set by calls, which make a warm check a quarter slower.
    __slots__ = ("_age", "_source", "_verdict")

    allowed: bool = _field("_verdict.allowed")
    outcome: Outcome = _field("_verdict.outcome")
    reason: Reason = _field("_verdict.reason")
    entitlement: str = _field("_verdict.entitlement")
    customer_id: str | None = _field("_verdict.customer_id")
    type: EntitlementType | None = _field("_verdict.summary.type")
    units: str | None = _field("_verdict.summary.units")
    requested: Decimal | None = _field("_verdict.requested")
    limit: Decimal | None = _field("_verdict.summary.limit")
    used: Decimal | None = _field("_verdict.summary.used")
    remaining: Decimal | None = _field("_verdict.remaining")
    unlimited: bool = _field("_verdict.unlimited")
    active_from: datetime | None = _field("_verdict.summary.active_from")
    expires_at: datetime | None = _field("_verdict.summary.expires_at")
    grants: tuple[str, ...] = _field("_verdict.summary.grants")
    source: Source = _field("_source")
    age: float | None = _field("_age")
    shadow: bool = _field("_verdict.shadow")

    def __init__(
        self,
        *,
        allowed: bool,
        outcome: Outcome,
        reason: Reason,
        entitlement: str,
        customer_id: str | None = None,
        type: EntitlementType | None = None,  # noqa: A002 - the name of the field
        units: str | None = None,
        requested: Decimal | None = None,
        limit: Decimal | None = None,
        used: Decimal | None = None,
        remaining: Decimal | None = None,
        unlimited: bool = False,
        active_from: datetime | None = None,
        expires_at: datetime | None = None,
        grants: tuple[str, ...] = (),
        source: Source = "live",
        age: float | None = None,
        shadow: bool = False,
    ) -> None:
        since, until = (instant and showable(instant) for instant in (active_from, expires_at))
        summary = RowSummary(type, units, limit, used, since, until, grants)
        self._verdict = Verdict(
            allowed, outcome, reason, entitlement, customer_id, requested, remaining, unlimited, shadow, summary
        )
        self._source = source
        self._age = age

    @classmethod
    def of(cls, reason: Reason | RequestFault, entitlement: str, **fields: Any) -> Decision:
        """Return the decision that ``reason`` alone makes, before any policy."""
        outcome = reason.outcome
        allowed = outcome is Outcome.ALLOWED
        # Only handlers of refusals see a fault; a union in the field's type would burden every other use of it.
        return cls(allowed=allowed, outcome=outcome, reason=cast("Reason", reason), entitlement=entitlement, **fields)

    def __bool__(self) -> bool:
        return self.allowed

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Decision):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        fields = zip(_NAMES, self._values(), strict=True)
        return f"Decision({', '.join(f'{name}={value!r}' for name, value in fields)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, self._values()

    def served(self, source: Source, age: float | None) -> Decision:
        """Return this decision as answered from ``source`` with data of ``age`` seconds."""
        return serve(verdict_of(self), source, age)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types: numbers as exact text, instants as ISO 8601."""
        return dict(zip(_NAMES, map(_plain, self._values()), strict=True))

    def _values(self) -> tuple[Any, ...]:
        verdict = self._verdict
        values = {**verdict._asdict(), **verdict.summary._asdict(), "source": self.source, "age": self.age}
        return tuple(values[name] for name in _NAMES)


_NAMES = tuple(field.name for field in dataclasses.fields(Decision))
_new = Decision.__new__


def decide_by(reason: Reason, entitlement: str, *, rows: tuple[Grant, ...], **fields: Any) -> Decision:
    """Return the decision that ``reason`` makes for ``rows``, before any policy; ``fields`` are those of a verdict."""
    outcome = reason.outcome
    return serve(Verdict(outcome is Outcome.ALLOWED, outcome, reason, entitlement, basis=rows, **fields), "live", None)


def serve(verdict: Verdict, source: Source, age: float | None) -> Decision:
    """Return the decision with this verdict, from ``source`` and data that is ``age`` seconds old."""
    decision = _new(Decision)
    decision._verdict = verdict  # noqa: SLF001 - this module's own slots
    decision._source = source  # noqa: SLF001 - as above
    decision._age = age  # noqa: SLF001 - as above
    return decision


def verdict_of(decision: Decision) -> Verdict:
    """Return what the decision shares with others that are served by the same verdict."""
    return decision._verdict  # noqa: SLF001 - as above


def rows_behind(decision: Decision) -> tuple[Grant, ...]:
    """Return the rows that decided; none where somebody stated what they say."""
    basis = decision._verdict.basis  # noqa: SLF001 - as above
    return () if isinstance(basis, RowSummary) else basis


def revise(decision: Decision, **changes: Any) -> Decision:
    """Return the decision with these fields of its verdict changed."""
    verdict = decision._verdict  # noqa: SLF001 - as above
    return serve(verdict._replace(**changes), decision.source, decision.age)


def _restore(*values: Any) -> Decision:
    return Decision(**dict(zip(_NAMES, values, strict=True)))


def common_type(rows: Sequence[Grant]) -> EntitlementType | None:
    """Return the one known type of the rows, or None."""
    types = {row.type for row in rows if isinstance(row.type, EntitlementType)}
    return max(types) if len(types) == 1 else None


def _sum(amounts: Iterable[Decimal | None]) -> Decimal | None:
    numbers = [amount for amount in amounts if amount is not None]
    return total(numbers) if numbers else None


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, StrEnum) else value
