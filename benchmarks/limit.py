"""The practical limit: the least that any check with an age and a window has to do."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["practical_limit"]


def practical_limit(customers: Iterable[str], names: Iterable[str]) -> Callable[[str, str], bool]:
    """Return a check over a dictionary: two look-ups and both clocks, no class, no misses, no reasons."""
    names, end = tuple(names), float("inf")
    fresh = time.monotonic() + 3600
    cache = {customer: (fresh, dict.fromkeys(names, (True, end))) for customer in customers}
    monotonic, wall = time.monotonic, time.time
    empty: tuple[float, dict[str, tuple[bool, float]]] = (end, {})
    no = (False, end)

    def may(customer: str, name: str) -> bool:
        fresh_until, answers = cache.get(customer, empty)
        allowed, until = answers.get(name, no)
        return monotonic() < fresh_until and wall() < until and allowed

    return may
