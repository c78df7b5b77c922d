"""The snapshots held in memory: read without a lock, written under one.

A ``dict.get`` is atomic, so the read path takes no lock (a lock alone costs as much as a whole warm check).
cachetools orders the evictions and is touched by writers only: an entry in use is refreshed every TTL, so "least
recently refreshed" is "least recently used" at that grain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from cachetools import LRUCache

from entitlement_gate.domain.decisions import Verdict
from entitlement_gate.resilience.clock import LONG_AGO

if TYPE_CHECKING:
    from collections.abc import Hashable

    from entitlement_gate.domain.grants import Snapshot
    from entitlement_gate.resilience.clock import Clock
    from entitlement_gate.shared.records import Stamp

__all__ = ["Answer", "Entry", "SnapshotCache", "key_of"]

_MOST_ANSWERS = 64


def key_of(customer: object, entitlement: Hashable, quantity: object) -> Hashable:
    """Return the key of a check among the cached answers; None where it has none, and is worked out each time.

    Text stands for itself. A UUID hashes and compares in Python, its number does not, so that stands for it. Only exact
    types have keys: True equals 1, and a subclass of ``str`` may compare as it likes.
    """
    kind = type(customer)
    if kind is UUID:
        customer = customer.int  # type: ignore[attr-defined]  # of a UUID
    elif kind is not str:
        return None
    if quantity is None:
        return customer, entitlement
    return (customer, entitlement, quantity) if type(quantity) is int else None


@dataclass(frozen=True, slots=True)
class Answer:
    """A verdict worked out from an entry, and the span in which it needs no second look.

    Attributes:
        entry: whose it is.
        fetched_at: the entry's: before it, the clock went back, and nobody knows how old the entry is. A copy: to read
            it from the entry is a miss of the processor's cache, a fifth of a warm check on 10,000 customers.
        since: wall clock, POSIX seconds: before it, a grant may not have started.
        until: wall clock: from it on, a grant ends or the entry is no longer fresh (or too old to deny).
        fresh_until: monotonic clock: from it on, the entry is no longer fresh (or too old to deny).
        allowed: the decision's.
        verdict: ready to be served.
        steady_until: wall clock: from it on, a grant starts or ends; till then the verdict stands, fresh or not.
    """

    entry: Entry
    fetched_at: float
    since: float
    until: float
    fresh_until: float
    allowed: bool
    verdict: Verdict
    steady_until: float


class Entry:
    """A snapshot and when it was fetched; beside it, what was tried since, and the keys of the answers made from it.

    Attributes:
        snapshot: never changes.
        fetched_at: monotonic clock when the fetch began.
        fetched_wall: wall clock, POSIX seconds, at the same time.
        fresh_for: seconds from then; none where it was invalidated.
        fresh_until: monotonic clock: when that is over. One number for all answers, which hold it too.
        fresh_until_wall: wall clock: the same.
        keys: of the cache's answers that were worked out from it.
        denial_tried_at: monotonic clock when a fetch was last begun for the sake of a denial.
        failed_at: monotonic clock when a fetch last failed since.
        failures: how many have failed since; one that made somebody wait counts as several.
        stamp: names the fetch among those of all processes; None where they share nothing.
    """

    __slots__ = (
        "denial_tried_at",
        "failed_at",
        "failures",
        "fetched_at",
        "fetched_wall",
        "fresh_for",
        "fresh_until",
        "fresh_until_wall",
        "keys",
        "snapshot",
        "stamp",
    )

    def __init__(
        self,
        snapshot: Snapshot,
        fetched_at: float,
        fetched_wall: float,
        fresh_for: float,
        *,
        stamp: Stamp | None = None,
    ) -> None:
        self.snapshot = snapshot
        self.fetched_at = fetched_at
        self.fetched_wall = fetched_wall
        self.fresh_for = fresh_for
        self.fresh_until = fetched_at + fresh_for
        self.fresh_until_wall = fetched_wall + fresh_for
        self.stamp = stamp
        self.denial_tried_at = LONG_AGO
        self.failed_at = LONG_AGO
        self.failures = 0
        self.keys: tuple[Hashable, ...] = ()

    @property
    def has_failed(self) -> bool:
        """Whether fetching newer data was tried in vain."""
        return self.failed_at != LONG_AGO

    @property
    def is_invalidated(self) -> bool:
        """Whether somebody said that billing knows better by now."""
        return self.fresh_for == LONG_AGO

    def age(self, clock: Clock) -> float:
        """Return seconds since the fetch began: by the monotonic clock, or the wall clock where that says more.

        The monotonic clock stands still while a machine is suspended; the wall clock can be set back. Never negative,
        also where both went back.
        """
        return max(0.0, clock.monotonic() - self.fetched_at, clock.time() - self.fetched_wall)

    def is_older_than(self, seconds: float, clock: Clock) -> bool:
        """Return whether it is so old, or its age is unknown: by now its fetch began in the future."""
        return clock.monotonic() < self.fetched_at or self.age(clock) >= seconds

    def is_fresh(self, clock: Clock) -> bool:
        """Return whether it serves without a look at newer data."""
        return self.fetched_at <= clock.monotonic() < self.fresh_until and clock.time() < self.fresh_until_wall

    def expired(self) -> Entry:
        """Return the same data as no longer fresh: served again only if fetching fails."""
        return Entry(self.snapshot, self.fetched_at, self.fetched_wall, LONG_AGO, stamp=self.stamp)


class SnapshotCache:
    """At most ``most`` entries by customer. Anybody may read; writers hold the gate's lock.

    Customers without a single grant leave before any other: ids made up by a client never push those out who pay.

    Attributes:
        entries: by customer.
        answers: of all entries, by customer and what was asked, and by what ``key_of`` returns: a warm check takes one
            look-up. By way of the entry, or of a dictionary for each customer, it would take a third more on 10,000
            customers, all of it misses of the processor's cache.
        blanks: customers without a grant, the one refreshed longest ago first.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.entries: dict[str, Entry] = {}
        self.answers: dict[Hashable, Answer] = {}
        self.blanks: dict[str, None] = {}
        self.remake()

    def remake(self) -> None:
        """Order the entries anew: a fork may have caught another thread in the middle of that."""
        self._order = _Order(self._most, self)
        self.blanks.clear()
        keys = [key for entry in self.entries.values() for key in entry.keys]
        answers = {key: self.answers[key] for key in keys if key in self.answers}
        self.answers.clear()
        self.answers.update(answers)
        for entry in sorted(self.entries.values(), key=lambda entry: entry.fetched_at):
            self._put(entry)

    def put(self, entry: Entry) -> None:
        """Hold an entry, and evict the one refreshed longest ago where there are too many."""
        try:
            self._put(entry)
        except BaseException:  # an exception struck in the middle of it: what is held is put in order again
            self.remake()
            raise

    def _put(self, entry: Entry) -> None:
        customer_id = entry.snapshot.customer_id
        self.blanks.pop(customer_id, None)
        self._order[customer_id] = None
        if not entry.snapshot.grants:
            self.blanks[customer_id] = None
        self._replace(customer_id, entry)

    def expire(self, customer_id: str) -> None:
        """Make the customer's data no longer fresh."""
        entry = self.entries.get(customer_id)
        if entry is not None:
            self._replace(customer_id, entry.expired())

    def drop(self, customer_id: str) -> None:
        """Evict the customer."""
        self.blanks.pop(customer_id, None)
        entry = self.entries.pop(customer_id, None)
        if entry is not None:
            self.forget(entry)

    def remember(self, entry: Entry, question: Hashable, answer: Answer) -> None:
        """Remember an answer, unless its entry was replaced: it would never be dropped.

        Names come from code, so the bound only guards against names made of input.
        """
        customer_id = entry.snapshot.customer_id
        if self.entries.get(customer_id) is not entry:
            return
        self._keep(entry, (customer_id, question), answer)

    def alias(self, entry: Entry, question: Hashable, key: Hashable) -> None:
        """Keep an answer under another key too, the form in which it was asked for; it is dropped with the rest."""
        customer_id = entry.snapshot.customer_id
        answer = self.answers.get((customer_id, question))
        if answer is not None and self.entries.get(customer_id) is entry:
            self._keep(entry, key, answer)
            self._keep(entry, (customer_id, question), answer)  # where that made room for itself

    def forget(self, entry: Entry) -> None:
        """Drop all answers that were worked out from an entry."""
        for key in entry.keys:
            self.answers.pop(key, None)
        entry.keys = ()

    def _keep(self, entry: Entry, key: Hashable, answer: Answer) -> None:
        if key not in entry.keys:
            if len(entry.keys) >= _MOST_ANSWERS:
                self.forget(entry)
            entry.keys += (key,)  # first: what serves is forgotten, whatever strikes between the two
        self.answers[key] = answer

    def _replace(self, customer_id: str, entry: Entry) -> None:
        """Hold an entry in place of another, whose answers are dropped first: later they could not be found."""
        previous = self.entries.get(customer_id)
        if previous is not None and previous is not entry:
            self.forget(previous)
        self.entries[customer_id] = entry


class _Order(LRUCache[str, None]):
    """Keys by last write; a key that is evicted leaves the cache's dictionaries too."""

    def __init__(self, most: int, cache: SnapshotCache) -> None:
        super().__init__(most)
        self._cache = cache

    def popitem(self) -> tuple[str, None]:
        blank = next(iter(self._cache.blanks), None)
        customer_id, nothing = super().popitem() if blank is None else (blank, self.pop(blank))
        self._cache.drop(customer_id)
        return customer_id, nothing
