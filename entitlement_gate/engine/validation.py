"""What a source or a ledger returned, in the types that it promised: both are anybody's code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from entitlement_gate.domain.errors import SourceMalformed
from entitlement_gate.domain.grants import EntitlementType, Grant, Snapshot, dedupe
from entitlement_gate.domain.numbers import exact_number, given_number
from entitlement_gate.domain.rule import canonical_uuid
from entitlement_gate.ledger.balances import Tally
from entitlement_gate.ledger.protocol import Receipt, Refusal, State

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from entitlement_gate.ledger.protocol import Charges, Demand

__all__ = ["vetted", "vetted_charges", "vetted_outcome"]

_KINDS = {kind.value.casefold(): kind for kind in EntitlementType}
_TEXT = (str, type(None))
_KIND = (EntitlementType, type(None))
_DATE = (datetime, type(None))
Value = TypeVar("Value")


def vetted(answer: object, customer_id: str, wall: float) -> Snapshot:
    """Return the snapshot of a customer in exact types, dated ``wall`` where the source gave no date that is one.

    Raises:
        SourceMalformed: it is another customer's.
        TypeError: it is no snapshot, or a field holds what it cannot; the text quotes no value.
    """
    if not isinstance(answer, Snapshot):
        raise TypeError(f"a source returns a Snapshot, not {type(answer).__name__}")
    owner: object = answer.customer_id
    if (str(owner) if isinstance(owner, UUID) else _read_text(owner)).lower() != customer_id:
        raise SourceMalformed("the source answered for another customer")
    at = answer.fetched_at
    is_dated = isinstance(at, (int, float)) and math.isfinite(at)
    grants = [grant if _is_plain(grant) else _make_plain(grant) for grant in answer.grants]
    rows = dedupe([grant for grant in grants if grant.name])
    return Snapshot(customer_id, rows, float(at) if is_dated else wall, is_found=bool(answer.is_found))


def _is_plain(grant: object) -> bool:
    """Whether nothing is to be changed in a grant, as in every one of billing's: 1 us."""
    if type(grant) is not Grant or type(grant.id) is not str or type(grant.name) is not str:
        return False
    has_texts = type(grant.entitlement_id) in _TEXT and type(grant.status) in _TEXT and type(grant.units) in _TEXT
    has_flags = type(grant.is_disabled) is bool and type(grant.is_malformed) is bool
    has_dates = type(grant.active_from) in _DATE and type(grant.expires_at) in _DATE
    if not (has_texts and has_flags and has_dates and type(grant.type) in _KIND and _is_comparable(grant)):
        return False
    return all(
        number is None or (type(number) is Decimal and number.is_finite() and _is_exact(number))
        for number in (grant.quantity, grant.used, grant.reported_remaining)
    )


def _is_comparable(grant: Grant) -> bool:
    """Whether its texts are spelled as they are compared, and it has an id or is set aside."""
    status, entitlement_id = grant.status, grant.entitlement_id
    return (
        (status is None or status == "active" or status == status.casefold())
        and (entitlement_id is None or entitlement_id == entitlement_id.lower() or not canonical_uuid(entitlement_id))
        and bool(grant.id or grant.is_malformed)
    )


@lru_cache(maxsize=4096)
def _is_exact(number: Decimal) -> bool:
    return exact_number(number) is not None


def _make_plain(grant: object) -> Grant:
    if not isinstance(grant, Grant):
        raise TypeError(f"a snapshot holds grants, not {type(grant).__name__}")
    row_id = _read_text(grant.id)
    return Grant(
        id=row_id,
        name=_read_text(grant.name),
        entitlement_id=_read_optional(_read_entitlement_id, grant.entitlement_id),
        type=_read_optional(_read_kind, grant.type),
        status=_read_optional(_fold, grant.status),
        units=_read_optional(_read_text, grant.units),
        active_from=_read_optional(_check_date, grant.active_from),
        expires_at=_read_optional(_check_date, grant.expires_at),
        quantity=_read_optional(_read_number, grant.quantity),
        used=_read_optional(_read_number, grant.used),
        reported_remaining=_read_optional(_read_number, grant.reported_remaining),
        is_disabled=bool(grant.is_disabled),
        is_malformed=bool(grant.is_malformed) or not row_id,
    )


def _read_optional(read: Callable[[object], Value], value: object) -> Value | None:
    return None if value is None else read(value)


def _read_text(value: object) -> str:
    """Return exact text: a subclass may compare and hash as it likes."""
    if not isinstance(value, str):
        raise TypeError(f"a field of a grant or snapshot is text, not {type(value).__name__}")
    return str.__str__(value)


def _read_entitlement_id(value: object) -> str:
    """UUIDs are compared without case, as on the wire."""
    text = _read_text(value)
    return canonical_uuid(text) or text


def _fold(value: object) -> str:
    return _read_text(value).casefold()


def _read_kind(value: object) -> EntitlementType | str:
    return value if isinstance(value, EntitlementType) else _KINDS.get(_fold(value), _fold(value))


def _check_date(value: object) -> datetime:
    if not isinstance(value, datetime):
        raise TypeError(f"a grant's dates are datetimes, not {type(value).__name__}")
    return value


def _read_number(value: object) -> Decimal | None:
    """Return an exact number; what is none, or too wide to reckon with, is absent, as on the wire."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal, str)):
        raise TypeError(f"a grant's amounts are numbers, not {type(value).__name__}")
    return given_number(value)


def vetted_charges(charges: object) -> Charges:
    """Return what a ledger says is held and used up.

    Raises:
        TypeError: it is no mapping of entitlement ids to mappings of row ids to tallies.
    """
    if not (isinstance(charges, Mapping) and all(_are_tallies(tallies) for tallies in charges.values())):
        raise TypeError("a ledger's charges are a mapping of mappings of tallies")
    return charges


def _are_tallies(tallies: object) -> bool:
    return isinstance(tallies, Mapping) and all(isinstance(tally, Tally) for tally in tallies.values())


def vetted_outcome(outcome: object, demands: Sequence[Demand]) -> Receipt | Refusal:
    """Return what a ledger made of demands.

    Raises:
        TypeError: it is no receipt for them, and no refusal of one of them.
    """
    if isinstance(outcome, Refusal):
        is_sound = any(outcome.entitlement_id == demand.entitlement_id for demand in demands)
        amounts: Sequence[object] = (outcome.available,)
    elif isinstance(outcome, Receipt):
        is_sound = isinstance(outcome.state, State) and len(outcome.available) in (0, len(demands))
        amounts = (*outcome.available, *(share.amount for share in outcome.shares))
    else:
        raise TypeError(f"a ledger gives a receipt or a refusal, not {type(outcome).__name__}")
    if not is_sound or not all(type(amount) is int for amount in amounts):
        raise TypeError(f"a ledger's {type(outcome).__name__} is not of what was demanded")
    return outcome
