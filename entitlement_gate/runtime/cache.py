"""The snapshots held in memory: read without a lock, written under one. Never here: fetching or deciding.

A ``dict.get`` is atomic, so the read path takes no lock (a lock alone costs as much as a whole warm check).
cachetools orders the evictions and is touched by writers only: an entry in use is refreshed every TTL, so "least
recently refreshed" is "least recently used" at that grain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cachetools import LRUCache

if TYPE_CHECKING:
    from collections.abc import Hashable

    from entitlement_gate.domain.decisions import Decision
    from entitlement_gate.domain.grants import Snapshot
    from entitlement_gate.zenskar.flow import Clock

__all__ = ["Answer", "Entry", "SnapshotCache"]

_MOST_ANSWERS = 256
_LONG_AGO = float("-inf")


class Answer(NamedTuple):
    """A decision worked out from an entry, and the span in which it needs no second look.

    Attributes:
        since: wall clock, POSIX seconds: before it, a grant may not have started.
        until: wall clock: from it on, a grant ends or the entry is no longer fresh.
        fresh_until: monotonic clock: from it on, the entry is no longer fresh (or too old to deny).
        decision: ready to be served.
    """

    since: float
    until: float
    fresh_until: float
    decision: Decision


class Entry:
    """A snapshot and when it was fetched; beside it, what was worked out from it and tried since.

    Attributes:
        snapshot: never changes.
        fetched_at: monotonic clock when the fetch began.
        fetched_wall: wall clock, POSIX seconds, at the same time.
        fresh_for: seconds from then.
        answers: what was asked → what was worked out.
        denial_tried_at: monotonic clock when a fetch was last begun for the sake of a denial.
        is_renewal_failing: the last fetch since then failed.
    """

    __slots__ = (
        "answers",
        "denial_tried_at",
        "fetched_at",
        "fetched_wall",
        "fresh_for",
        "is_renewal_failing",
        "snapshot",
    )

    def __init__(self, snapshot: Snapshot, fetched_at: float, fetched_wall: float, fresh_for: float) -> None:
        self.snapshot = snapshot
        self.fetched_at = fetched_at
        self.fetched_wall = fetched_wall
        self.fresh_for = fresh_for
        self.denial_tried_at = _LONG_AGO
        self.is_renewal_failing = False
        self.answers: dict[Hashable, Answer] = {}

    def age(self, clock: Clock) -> float:
        """Return seconds since the fetch began: by the monotonic clock, or the wall clock where that says more.

        The monotonic clock stands still while a machine is suspended; the wall clock can be set back.
        """
        return max(clock.monotonic() - self.fetched_at, clock.time() - self.fetched_wall)

    def keep(self, asked: Hashable, answer: Answer) -> None:
        """Remember an answer; names come from code, so the bound only guards against names made of input."""
        if len(self.answers) >= _MOST_ANSWERS:
            self.answers = {}
        self.answers[asked] = answer

    def expired(self) -> Entry:
        """Return the same data as no longer fresh: served again only if fetching fails."""
        return Entry(self.snapshot, self.fetched_at, self.fetched_wall, _LONG_AGO)


class SnapshotCache:
    """At most ``most`` entries by customer. ``entries`` may be read by anybody; writers hold the gate's lock."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.entries: dict[str, Entry] = {}
        self.remake()

    def remake(self) -> None:
        """Order the entries anew: a fork may have caught another thread in the middle of that."""
        self._order = _Order(self._most, self.entries)
        for customer_id in tuple(self.entries):
            self._order[customer_id] = None

    def put(self, entry: Entry) -> None:
        """Hold an entry, and let the one refreshed longest ago go where there are too many."""
        customer_id = entry.snapshot.customer_id
        self._order.pop(customer_id, None)
        self._order[customer_id] = None
        self.entries[customer_id] = entry

    def expire(self, customer_id: str) -> None:
        """Make the customer's data no longer fresh."""
        entry = self.entries.get(customer_id)
        if entry is not None:
            self.entries[customer_id] = entry.expired()


class _Order(LRUCache[str, None]):
    """Keys by last write; a key that is evicted leaves the dictionary of entries too."""

    def __init__(self, most: int, entries: dict[str, Entry]) -> None:
        super().__init__(most)
        self._entries = entries

    def popitem(self) -> tuple[str, None]:
        customer_id, nothing = super().popitem()
        self._entries.pop(customer_id, None)
        return customer_id, nothing
