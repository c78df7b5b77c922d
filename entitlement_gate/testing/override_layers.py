"""One override as data: what it says of which entitlements, and of whom. Never here: which overrides are active."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from entitlement_gate.domain.decisions import Decision, Reason
from entitlement_gate.domain.grants import EntitlementType
from entitlement_gate.domain.numbers import exact_number
from entitlement_gate.domain.rule import canonical_uuid

if TYPE_CHECKING:
    from entitlement_gate.domain.requirements import Requirement

__all__ = [
    "Layer",
    "Said",
    "canonical_customer",
    "decided",
    "read_values",
]


Said = bool | Decimal | Decision | Literal["unavailable"]
"""Yes or no, a balance, a whole decision, or an outage."""

_ZERO = Decimal(0)


@dataclasses.dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Layer:
    """One override; compared by identity, since two alike may be active at once.

    Attributes:
        values: name, alias or entitlement id → what is said of it.
        customer_id: of whom; None is everybody.
        default: what is said of every other name; None is nothing.
        stand_in: the customer of requests that are nobody's; None leaves them so.
        told: takes the decisions given while it is active; None takes none.
    """

    values: Mapping[str, Said]
    customer_id: str | None = None
    default: Said | None = None
    stand_in: str | None = None
    told: list[Decision] | None = None

    def is_about(self, customer_id: str) -> bool:
        """Whether it says anything of this customer."""
        return self.customer_id in (None, customer_id)

    def find(self, entitlement: str, billed: Callable[[str], str]) -> Said | None:
        """Return what is said of an entitlement; ``billed`` gives the name or id that billing has for a name."""
        if entitlement in self.values:
            return self.values[entitlement]
        asked = billed(entitlement)
        return next((said for name, said in self.values.items() if billed(name) == asked), self.default)


def read_values(values: object) -> dict[str, Said]:
    """Return what a user wrote, checked.

    Raises:
        TypeError: it is no mapping of names.
        ValueError: a value cannot be; the message names the entitlement.
    """
    if not isinstance(values, Mapping) or not all(isinstance(name, str) and name for name in values):
        raise TypeError(f'a dict such as {{"sso": True, "seats": 5}} is needed, not {values!r}')
    return {str(name): _read(name, value) for name, value in values.items()}


def canonical_customer(customer: object) -> str:
    """Return the canonical id of a ``uuid.UUID`` or its text, or raise ``ValueError``."""
    canonical = canonical_uuid(str(customer)) if isinstance(customer, (UUID, str)) else None
    if canonical is None:
        raise ValueError(f"a customer is a UUID or its hyphenated text, not {customer!r}")
    return canonical


def decided(said: Said, leaf: Requirement, customer_id: str) -> Decision:
    """Return the decision on one entitlement, before any policy."""
    if isinstance(said, Decision):
        known = {"customer_id": said.customer_id or customer_id, "requested": said.requested or leaf.requested}
        return dataclasses.replace(said, entitlement=leaf.entitlement, **known)  # type: ignore[arg-type]  # by name
    fields: dict[str, Any] = {"customer_id": customer_id, "requested": leaf.requested}
    if isinstance(said, Decimal):
        enough = said > 0 if leaf.requested is None else said >= leaf.requested
        reason = Reason.OVERRIDE if enough else Reason.INSUFFICIENT_QUANTITY
        fields |= {"type": EntitlementType.QUANTITY, "limit": said, "used": _ZERO, "remaining": said}
        return Decision.of(reason, leaf.entitlement, **fields)
    return Decision.of(_REASONS[said], leaf.entitlement, **fields)


_REASONS = {True: Reason.OVERRIDE, False: Reason.NOT_ENTITLED, "unavailable": Reason.UNAVAILABLE}


def _read(name: str, value: object) -> Said:
    if isinstance(value, (bool, Decision)):
        return value
    if value == "unavailable":
        return "unavailable"
    number = exact_number(float.__repr__(value) if isinstance(value, float) else value)
    if number is None:
        raise ValueError(f'{name!r}: True, False, a quantity, a Decision or "unavailable", not {value!r}')
    return number
