"""GrowthBook: rules evaluated in the process. One instance a customer, as its documentation has one a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from growthbook import GrowthBook

from benchmarks.contestants import Contestant
from benchmarks.world import ASKED, NAMES, World

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["make"]


def make(world: World) -> Contestant:
    """Return ``is_on``; making the instance, which a request would pay for, is not timed."""
    rule = {"condition": {"plan": {"$in": ["pro"]}}, "force": True}
    features = {name: {"defaultValue": False, "rules": [rule]} for name in NAMES}

    def subject(customer: str) -> GrowthBook:
        return GrowthBook(attributes={"id": customer, "plan": world.plan_of(customer)}, features=features)

    def batch(books: Sequence[GrowthBook]) -> GrowthBook | None:
        for book in books:
            if not book.is_on(ASKED):
                return book
        return None

    return Contestant(
        "GrowthBook", batch, lambda book, name: book.is_on(name), subject=subject, does="one rule over attributes"
    )
