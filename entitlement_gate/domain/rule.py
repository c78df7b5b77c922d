"""The rule: from all grants of a customer and an instant to a decision. One pure function and its parts.

``docs/explanation/the-rule.md`` explains it. It knows nothing of freshness and outages, and remembers nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from entitlement_gate.domain.decisions import Decision, Outcome, Reason, common_type, decide_by
from entitlement_gate.domain.grants import EntitlementType, Grant, Snapshot
from entitlement_gate.domain.numbers import difference, total

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from entitlement_gate.domain.requirements import Requirement

__all__ = ["Burden", "PerName", "Terms", "canonical_uuid", "counted_under", "decide", "live_metered", "rows_named"]

PerName = str | Mapping[str, str]
"""One word for every entitlement, or ``{"name": word, "*": word}``."""

Burden = Callable[[str, Sequence[Grant]], Decimal | None]
"""What is held and used up here, and not yet in billing's numbers: (entitlement id, its live rows) → how much.

None where it could not be learned."""

_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
_ZERO = Decimal(0)
_MOST = Decimal("inf")
_STANDING = {"draft": Reason.DRAFT, "voided": Reason.VOIDED, "expired": Reason.EXPIRED}
_CLOSENESS = {reason: rank for rank, reason in enumerate(Reason)}
_INSUFFICIENT = (Reason.INSUFFICIENT_QUANTITY, Reason.INSUFFICIENT_CREDITS)


@dataclass(frozen=True, slots=True)
class Terms:
    """What the application decided about the rule.

    Attributes:
        aliases: the name in code → the name or entitlement id in billing.
        on_exhausted: ``deny``, or ``allow`` to let overage through.
        null_quantity: ``deny``, or ``unlimited``: what a metered grant without any number means.
    """

    aliases: Mapping[str, str] = field(default_factory=dict)
    on_exhausted: PerName = "deny"
    null_quantity: PerName = "deny"

    def word_for(self, setting: PerName, entitlement: str, rows: Iterable[Grant] = (), default: str = "deny") -> str:
        """Return the word that ``setting`` has for an entitlement: as asked, as billing names its rows, or ``*``."""
        if isinstance(setting, str):
            return setting
        billed = (self.aliases.get(entitlement, entitlement), *sorted({row.name for row in rows}))
        return next((setting[name] for name in (entitlement, *billed, "*") if name in setting), default)


def _no_burden(entitlement_id: str, rows: Sequence[Grant]) -> Decimal:  # noqa: ARG001 - as every `Burden`
    return _ZERO


class _Candidate(NamedTuple):
    """Rows that could answer, and what they would say."""

    reason: Reason
    rows: tuple[Grant, ...]
    remaining: Decimal | None = None
    unlimited: bool = False

    @property
    def rank(self) -> tuple[bool, int, Decimal, tuple[str, ...]]:
        """Closest first, then the most left, then ids: the order of rows never matters."""
        balance = _MOST if self.unlimited else self.remaining or _ZERO
        balance = balance.copy_negate()  # unary minus would round to 28 digits
        # What is not known might allow: it comes before every denial.
        closeness = -1 if self.reason.outcome is Outcome.UNKNOWN else _CLOSENESS[self.reason]
        ids = tuple(sorted(row.id for row in self.rows))
        return self.reason.outcome is not Outcome.ALLOWED, closeness, balance, ids


def canonical_uuid(text: str) -> str | None:
    """Return hyphenated UUID text in lower case, or None when it is none."""
    return text.lower() if _UUID.fullmatch(text) else None


def decide(
    snapshot: Snapshot,
    requirement: Requirement,
    now: datetime,
    terms: Terms,
    *,
    burden: Burden = _no_burden,
    named: Sequence[Grant] | None = None,
) -> Decision:
    """Return the decision about one entitlement (a leaf) at the instant ``now`` (aware).

    Judges the rows again at every call: nothing about "live" is remembered from the fetch. ``named`` are those that
    the entitlement stands for, where they were looked up before.
    """
    requested = requirement.requested
    if not snapshot.is_found:
        closest = _Candidate(Reason.CUSTOMER_NOT_FOUND, ())
    else:
        named = rows_named(snapshot, requirement.entitlement, terms) if named is None else named
        rows = named if requested is None else _metered_or_all(named)
        candidates = list(_candidates(rows, requirement, now, terms, burden=burden))
        candidates = candidates or [_Candidate(Reason.NOT_ENTITLED, ())]
        closest = candidates[0] if len(candidates) == 1 else min(candidates, key=attrgetter("rank"))
    return decide_by(
        closest.reason,
        requirement.entitlement,
        rows=closest.rows,
        customer_id=snapshot.customer_id,
        requested=requested,
        remaining=closest.remaining,
        unlimited=closest.unlimited,
    )


def live_metered(grants: Iterable[Grant], now: datetime) -> dict[str, list[Grant]]:
    """Return the rows whose balances count at ``now`` (aware), by the id they are counted under."""
    live: dict[str, list[Grant]] = {}
    for row in grants:
        if row.is_metered and _standing(row, None, now) is Reason.ALLOWED:
            live.setdefault(counted_under(row), []).append(row)
    return live


def rows_named(snapshot: Snapshot, entitlement: str, terms: Terms) -> Sequence[Grant]:
    """Return the rows that a name, alias or entitlement id stands for; names match exactly."""
    name = terms.aliases.get(entitlement, entitlement)
    entitlement_id = canonical_uuid(name)
    return (snapshot.rows_of_id(entitlement_id) if entitlement_id else ()) or snapshot.rows_of_name(name)


def _metered_or_all(rows: Sequence[Grant]) -> Sequence[Grant]:
    """Return the rows that answer where a quantity is asked for: only the metered ones, where there are any."""
    return [row for row in rows if row.is_metered and not row.is_malformed] or rows


def _candidates(
    rows: Sequence[Grant], requirement: Requirement, now: datetime, terms: Terms, *, burden: Burden
) -> Iterator[_Candidate]:
    """Yield what rows of one standing and one entitlement id say together: ids are never mixed."""
    groups: dict[tuple[Reason, bool, str], list[Grant]] = {}
    requested = requirement.requested
    for row in rows:
        reason = _standing(row, requested, now)
        key = reason, row.is_metered, counted_under(row)
        groups.setdefault(key, []).append(row)
    for (reason, is_metered, entitlement_id), alike in groups.items():
        if reason is Reason.ALLOWED and is_metered:
            yield _balance(tuple(alike), requirement, terms, burden(entitlement_id, alike))
        else:
            yield _Candidate(reason, tuple(alike))


def counted_under(row: Grant) -> str:
    """Return the entitlement id; a row without one is alone."""
    return row.entitlement_id or f"row {row.id}"


def _standing(row: Grant, requested: Decimal | None, now: datetime) -> Reason:
    """Return what keeps this row alone from allowing; ``ALLOWED`` when only a balance could."""
    if row.is_malformed:
        return Reason.MALFORMED
    if row.type is EntitlementType.FEATURE and requested is not None:
        return Reason.TYPE_MISMATCH
    if row.status not in (None, "active"):
        return _STANDING.get(row.status or "", Reason.INACTIVE)
    if row.active_from is not None and now < row.active_from:
        return Reason.NOT_STARTED
    if row.expires_at is not None and now >= row.expires_at:
        return Reason.EXPIRED
    return _kind(row, requested)


def _kind(row: Grant, requested: Decimal | None) -> Reason:
    """Return what the type of a live row says."""
    if row.type is EntitlementType.FEATURE:
        return Reason.FEATURE_DISABLED if row.is_disabled else Reason.ALLOWED
    if row.is_metered:
        return Reason.ALLOWED
    is_asked_without_type = row.type is None and requested is not None
    return Reason.QUANTITY_UNKNOWN if is_asked_without_type else Reason.TYPE_UNKNOWN


def _balance(rows: tuple[Grant, ...], requirement: Requirement, terms: Terms, burden: Decimal | None) -> _Candidate:
    """Judge live metered rows of one entitlement id, summed with their signs, less what is used up here."""
    numbers = [row.remaining for row in rows if row.remaining is not None]
    if len(numbers) < len(rows) and terms.word_for(terms.null_quantity, requirement.entitlement, rows) == "unlimited":
        return _Candidate(Reason.ALLOWED, rows, unlimited=True)
    if not numbers:
        return _Candidate(Reason.QUANTITY_UNKNOWN, rows)
    remaining = total(numbers) if not burden else difference(total(numbers), burden)
    requested = requirement.requested
    enough = remaining > 0 if requested is None else remaining >= requested
    overage = terms.word_for(terms.on_exhausted, requirement.entitlement, rows) == "allow"
    if enough and (burden is not None or overage):
        return _Candidate(Reason.ALLOWED, rows, remaining)
    if enough:  # by billing alone, and what was used up here is not known
        return _Candidate(Reason.UNAVAILABLE, rows)
    if overage:
        return _Candidate(Reason.OVERAGE, rows, remaining)
    return _Candidate(_INSUFFICIENT[common_type(rows) is EntitlementType.CREDITS], rows, remaining)
