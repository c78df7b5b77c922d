"""Bytes of a page → what a gate decides on, against the least that pydantic would do with the same bytes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from pydantic import BaseModel

from benchmarks.rounds import COMPUTING, compared, interleaved, walk
from benchmarks.tables import Table, micros, times
from benchmarks.world import ASKED, NAMES, World, snapshot_from
from entitlement_gate.domain.requirements import as_requirement
from entitlement_gate.domain.rule import Terms, decide

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.effort import Effort

__all__ = ["BarePage", "tables"]

BARE = "pydantic, 7 fields a row"
Page = tuple[bytes, str]


class BareRow(BaseModel):
    """The fewest fields that a decision could rest on."""

    name: str
    entitlement: str
    status: str
    active_from: datetime | None
    expiry_at: datetime | None
    quantity: Decimal | None
    quantity_remaining: Decimal | None


class BarePage(BaseModel):
    """A page of them."""

    results: list[BareRow]
    next: str | None


def tables(effort: Effort) -> list[Table]:
    """Measure pages of 20 rows with every documented field."""
    world = World(50)
    pages = [(world.page(customer), customer) for customer in world.customers]
    seconds, rounds = effort.alone
    batches = {
        BARE: _bare,
        "bytes → snapshot": _snapshot,
        "the same, and one decision": _decision,
        "`json.loads`": _json,
    }
    timers = {name: walk(batch, pages, seconds=seconds, clock=COMPUTING) for name, batch in batches.items()}
    samples = compared(interleaved(timers, rounds), BARE)
    how = f"20 rows of 22 fields, {len(pages[0][0]):,} bytes; against {BARE}."
    table = Table("Decode and compile", how, ["work", "ratio", "a page", "a row"])
    table.rows = [[name, times(s.ratio), micros(s.seconds), micros(s.seconds / 20)] for name, s in samples.items()]
    return [table]


def _bare(pages: Sequence[Page]) -> Page | None:
    for page in pages:
        if len(BarePage.model_validate_json(page[0]).results) != len(NAMES):
            return page
    return None


def _snapshot(pages: Sequence[Page]) -> Page | None:
    for page in pages:
        if len(snapshot_from(*page).grants) != len(NAMES):
            return page
    return None


def _decision(pages: Sequence[Page]) -> Page | None:
    terms, leaf, at = Terms({}, "deny", "deny"), as_requirement(ASKED, None), datetime.now(UTC)
    for page in pages:
        if not decide(snapshot_from(*page), leaf, at, terms).allowed:
            return page
    return None


def _json(pages: Sequence[Page]) -> Page | None:
    for page in pages:
        if len(json.loads(page[0])["results"]) != len(NAMES):
            return page
    return None
