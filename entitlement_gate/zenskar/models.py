"""One page with every documented field, for people, reports and commands. A gate never reads these.

The models are lenient: a field that cannot be read is None and is named in ``unreadable``, a field that is not
documented is kept in ``model_extra``.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from entitlement_gate.domain.errors import SourceMalformed
from entitlement_gate.domain.grants import EntitlementType
from entitlement_gate.zenskar.parsing import read_instant, read_page

__all__ = ["CustomerEntitlement", "DetailsObject", "EntitlementStatus", "Page", "SourceType"]


class SourceType(StrEnum):
    """Where a grant comes from. Never matters to a gate."""

    GRANT = "Grant"
    BILLABLE = "Billable"
    ROLLOVER = "Rollover"
    ADJUSTMENT = "Adjustment"


class EntitlementStatus(StrEnum):
    """The documented statuses of a grant."""

    DRAFT = "draft"
    ACTIVE = "active"
    EXPIRED = "expired"
    VOIDED = "voided"


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True, coerce_numbers_to_str=True)

    @classmethod
    def read(cls, fields: dict[str, Any]) -> Self:
        """Return the model; what cannot be read is left out and named in ``unreadable``."""
        fields = {name: value for name, value in fields.items() if name != "unreadable"}
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            unreadable = {str(problem["loc"][0]) for problem in error.errors() if problem["loc"]}
        readable = {name: value for name, value in fields.items() if name not in unreadable}
        return cls.model_validate({**readable, "unreadable": tuple(sorted(unreadable))})


Instant = Annotated[datetime, BeforeValidator(read_instant)]


class DetailsObject(_Lenient):
    """A customer, contract, product or invoice, when ``populate`` asks for it."""

    id: str | None = None
    name: str | None = None
    email: str | None = None


class CustomerEntitlement(_Lenient):
    """One row: the documented fields, each of which may be missing."""

    id: str | None = None
    entitlement: str | None = None
    name: str | None = None
    type: Annotated[EntitlementType | str | None, Field(union_mode="left_to_right")] = None
    source_type: Annotated[SourceType | str | None, Field(union_mode="left_to_right")] = None
    source_id: str | None = None
    units: str | None = None
    customer: str | DetailsObject | None = None
    contract: DetailsObject | None = None
    product: DetailsObject | None = None
    invoice: DetailsObject | None = None
    active_from: Instant | None = None
    expiry_at: Instant | None = None
    quantity: Decimal | None = None
    quantity_used: Decimal | None = None
    quantity_remaining: Decimal | None = None
    created_at: Instant | None = None
    contract_id: str | None = None
    event: str | None = None
    invoice_id: str | None = None
    status: Annotated[EntitlementStatus | str | None, Field(union_mode="left_to_right")] = None
    unreadable: tuple[str, ...] = ()


class Page(BaseModel):
    """One page of a customer's rows.

    Attributes:
        results: the rows that are objects.
        next: the cursor of the next page, None on the last.
        previous: the cursor of the page before, None on the first.
        total_count: rows on all pages, when billing says it.
    """

    model_config = ConfigDict(frozen=True)

    results: tuple[CustomerEntitlement, ...]
    next: str | None = None
    previous: str | None = None
    total_count: int | None = None

    @classmethod
    def read(cls, body: bytes) -> Page:
        """Return the page that a body holds.

        Raises:
            SourceMalformed: there is no list of results.
        """
        rows, cursor, page = read_page(body)
        previous, count = page.get("previous"), page.get("total_count")
        count = page.get("total") if count is None else count
        if not isinstance(previous, str | None):
            raise SourceMalformed("the previous cursor is no text")
        results = tuple(CustomerEntitlement.read(row) for row in rows if isinstance(row, dict))
        return cls(
            results=results,
            next=cursor,
            previous=previous,
            total_count=count if type(count) is int else None,
        )
