"""Sets that keep nobody alive, and that several threads use. Never here: who is in them, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from weakref import WeakSet

__all__ = [
    "members",
]


Member = TypeVar("Member")


def members(some: WeakSet[Member]) -> tuple[Member, ...]:
    """Return who is in a set now; others may come meanwhile, on which Python gives up walking it."""
    while True:
        try:
            return tuple(some)
        except RuntimeError:
            continue
