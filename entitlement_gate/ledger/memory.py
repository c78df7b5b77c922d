"""The ledger of one process: books in memory."""

from __future__ import annotations

import math
import time
import weakref
from copy import copy
from dataclasses import replace
from functools import partial
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from entitlement_gate.domain.errors import ReservationNotFound
from entitlement_gate.ledger.book import Book, set_apart
from entitlement_gate.ledger.protocol import (
    LONE_RETENTION,
    Charges,
    DeadLetter,
    Demand,
    Receipt,
    Refusal,
    State,
    UsageEvent,
    checked_actual,
    checked_demands,
    checked_key,
    checked_ttl,
    checked_word,
    examined,
)
from entitlement_gate.resilience.fork_safety import Lock, PerProcess, members, remake_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from entitlement_gate.ledger.balances import Row, Tally
    from entitlement_gate.ledger.book import Record

__all__ = ["MemoryLedger"]

_NO_CHARGES: Charges = {}
_A_FEW = 32  # keys that a verb expires besides its own: more than it adds, and no wait for its caller
Result = TypeVar("Result")
Outcome = TypeVar("Outcome", Receipt, Receipt | Refusal)


class WallClock(Protocol):
    """What tells the time: the ``time`` module, or a clock of the tests' own."""

    def time(self) -> float:
        """POSIX seconds."""


class Watcher(Protocol):
    """Who wants to know which customers began to use something up."""

    def first_charged(self, customer_id: str) -> None:
        """Learn that ``has_charged`` holds from now on. Must be quick, and not mind hearing it twice."""


class _ForwardClock:
    """A clock that goes on where the wall clock is set back: a minute's hold lasts a minute."""

    def __init__(self, clock: WallClock) -> None:
        self._clock = clock
        self._latest = -math.inf
        self.ahead = 0.0

    def time(self) -> float:
        """Return seconds that never go back, POSIX seconds until the wall clock does. With the ledger's lock held."""
        now = self._clock.time() + self.ahead
        if now < self._latest:
            self.ahead += self._latest - now
        self._latest = max(now, self._latest)
        return self._latest


class _TimedBook(Book):
    """A book, and when each of its holds runs out."""

    __slots__ = ("due", "is_announced", "undo")

    def __init__(self, customer_id: str) -> None:
        super().__init__(customer_id)
        self.is_announced = False
        self.undo: Callable[[], None] | None = None
        self.due: list[tuple[float, str]] = []

    def is_blank(self) -> bool:
        """Return whether it says nothing that an empty one would not."""
        if self.records:
            return False
        return not any(tally.committed or tally.held for rows in self.tallies.values() for tally in rows.values())

    def wholly(self, key: str, work: Callable[[], Result]) -> Result:
        """Do the work on a key, or nothing of it where an exception strikes in the middle: a time limit, say.

        Meanwhile ``undo`` does that, for a process that is forked in the middle: its copy has nobody to go on.
        """
        tallies = {entitlement_id: dict(rows) for entitlement_id, rows in self.tallies.items()}
        undo = partial(self._restore, key, tallies, copy(self.records.get(key)))
        try:
            self.undo = undo
            outcome = work()
            self.undo = None
            return outcome  # noqa: TRY300 - within: what strikes here has done nothing either
        except BaseException:
            undo()
            raise

    def _restore(self, key: str, tallies: dict[str, dict[str, Tally]], record: Record | None) -> None:
        self.tallies = tallies
        self.records.pop(key, None)
        if record is not None:
            self.records[key] = record
        self.changed.clear()
        self.events.clear()
        self.undo = None


class MemoryLedger:
    """Counts in this process alone: for one process, for tests, and for trying things out.

    It is a ledger and its outbox in one. A process that ends takes its counts and its undelivered events along.

    Attributes:
        watchers: told of every customer whose first book is opened, before the verb that opens it counts anything.
    """

    is_local = True
    _lock: PerProcess[Lock] = PerProcess()

    def __init__(self, *, clock: WallClock = time) -> None:
        self.watchers: weakref.WeakSet[Watcher] = weakref.WeakSet()
        self._clock = _ForwardClock(clock)
        self._books: dict[str, _TimedBook] = {}
        self._visits: list[tuple[float, str, str]] = []
        self._waiting: dict[tuple[str, str], tuple[float, UsageEvent]] = {}
        self._dead: dict[tuple[str, str], DeadLetter] = {}
        self.remake()
        remake_after_fork(self)

    def __repr__(self) -> str:
        return f"<MemoryLedger of {len(self._books)} customers>"

    def remake(self) -> None:
        """Make the lock anew, as in a process just forked; what was counted stays, and nothing of it half."""
        self._lock = Lock()
        for book in tuple(self._books.values()):
            if book.undo is not None:
                book.undo()

    def reserve(
        self,
        customer_id: str,
        demands: Sequence[Demand],
        *,
        key: str,
        ttl: float,
        owner: str = "",
        purpose: str = "",
        is_lone: bool = False,
    ) -> Receipt | Refusal:
        """See ``Ledger.reserve``."""
        checked_demands(demands)
        ttl, key, owner, purpose = checked_ttl(ttl), checked_key(key), checked_word(owner), checked_word(purpose)

        def reserve(book: _TimedBook, now: float) -> Receipt | Refusal:
            return book.reserve(demands, key, ttl, now, owner=owner, purpose=purpose, is_lone=is_lone)

        return self._admit(customer_id, key, reserve)

    def consume(
        self, customer_id: str, demands: Sequence[Demand], *, key: str, purpose: str = "", is_lone: bool = False
    ) -> Receipt | Refusal:
        """See ``Ledger.consume``; a lone key is not kept at all, for no reply is lost on the way."""
        checked_demands(demands)
        checked_key(key)
        checked_word(purpose)

        def consume(book: _TimedBook, now: float) -> Receipt | Refusal:
            outcome = book.consume(demands, key, now, purpose=purpose, is_lone=is_lone)
            if key in book.records and book.records[key].is_lone:
                del book.records[key]
            return outcome

        return self._admit(customer_id, key, consume)

    def commit(self, customer_id: str, key: str, *, actual: int | None = None, late: bool = True) -> Receipt:
        """See ``Ledger.commit``."""
        actual = actual if actual is None else checked_actual(actual)
        book = self._get_book(customer_id, key)
        with self._lock:
            return self._run_verb(book, key, lambda now: book.commit(key, now, actual, late=late))

    def release(self, customer_id: str, key: str, *, owner: str = "") -> Receipt:
        """See ``Ledger.release``."""
        book, owner = self._get_book(customer_id, key), checked_word(owner)
        with self._lock:
            return self._run_verb(book, key, lambda now: book.release(key, now, owner=owner))

    def extend(self, customer_id: str, key: str, ttl: float) -> Receipt:
        """See ``Ledger.extend``."""
        ttl = checked_ttl(ttl)
        book = self._get_book(customer_id, key)
        with self._lock:
            return self._run_verb(book, key, lambda now: book.extend(key, ttl, now))

    def adopt_upstream(self, customer_id: str, rows: Mapping[str, Sequence[Row]], ticket: float) -> None:
        """See ``Ledger.adopt_upstream``."""
        if customer_id not in self._books:
            return
        with self._lock:
            book = self._books.get(customer_id)
            if book is not None:
                now = self._clock.time()
                book.ahead = self._clock.ahead
                book.wholly("", partial(book.adopt, rows, ticket, now))
                self._drop_if_blank(book)

    def has_charged(self, customer_id: str) -> bool:
        """Return whether the customer has a book, without waiting for anybody; without one ``charges()`` is empty."""
        return customer_id in self._books

    def charges(self, customer_id: str) -> Charges:
        """See ``Ledger.charges``; costs next to nothing for a customer who never used anything up."""
        book = self._books.get(customer_id)
        if book is None:
            return _NO_CHARGES
        with self._lock:
            self._sweep(book)
            return {entitlement_id: dict(tallies) for entitlement_id, tallies in book.tallies.items()}

    def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def health(self) -> dict[str, Any]:
        """Return what there is to know of the store, in plain types of JSON. Raises nothing."""

        def look(report: dict[str, Any]) -> None:
            report.update(reachable=True, pending=self.pending(), dead_letters=len(self._dead))

        return examined("memory", look)

    def take(self, limit: int, *, lease: float = 60.0) -> tuple[UsageEvent, ...]:
        """See ``Outbox.take``."""
        with self._lock:
            now = self._clock.time()
            due = [name for name, (at, _) in self._waiting.items() if at <= now][:limit]
            for name in due:
                event = self._waiting[name][1]
                self._waiting[name] = now + lease, replace(event, attempts=event.attempts + 1)
            return tuple(self._waiting[name][1] for name in due)

    def delivered(self, event: UsageEvent) -> None:
        """See ``Outbox.delivered``."""
        with self._lock:
            self._waiting.pop(_name(event), None)

    def postpone(self, event: UsageEvent, seconds: float) -> None:
        """See ``Outbox.postpone``."""
        with self._lock:
            if _name(event) in self._waiting:
                self._waiting[_name(event)] = self._clock.time() + seconds, event

    def bury(self, event: UsageEvent, why: str) -> None:
        """See ``Outbox.bury``."""
        with self._lock:
            if self._waiting.pop(_name(event), None):
                self._dead[_name(event)] = DeadLetter(event, why)

    def pending(self) -> int:
        """See ``Outbox.pending``."""
        return len(self._waiting)

    def dead_letters(self, limit: int = 100) -> tuple[DeadLetter, ...]:
        """See ``Outbox.dead_letters``."""
        with self._lock:
            return tuple(self._dead.values())[:limit]

    def revive(self, event: UsageEvent) -> None:
        """See ``Outbox.revive``."""
        with self._lock:
            letter = self._dead.pop(_name(event), None)
            if letter is not None:
                self._waiting[_name(event)] = self._clock.time(), replace(letter.event, attempts=0)

    def _admit(
        self, customer_id: str, key: str, verb: Callable[[_TimedBook, float], Receipt | Refusal]
    ) -> Receipt | Refusal:
        while True:
            book = self._open_book(customer_id)
            with self._lock:
                if self._books.get(customer_id) is book:  # which another thread may have dropped meanwhile
                    return self._run_verb(book, key, partial(verb, book))

    def _open_book(self, customer_id: str) -> _TimedBook:
        """Return the customer's book, which every watcher knows of."""
        book = self._books.get(customer_id)
        if book is None:
            with self._lock:
                book = self._books.setdefault(customer_id, _TimedBook(customer_id))
                heappush(self._visits, (self._clock.time() + LONE_RETENTION, customer_id, ""))
        if not book.is_announced:
            for watcher in members(self.watchers):
                watcher.first_charged(customer_id)
            book.is_announced = True  # not before: another thread's verb must not count unannounced either
        return book

    def _get_book(self, customer_id: str, key: str) -> _TimedBook:
        checked_key(key)
        book = self._books.get(customer_id)
        if book is None:
            raise ReservationNotFound("the customer has no reservation with this key")
        return book

    def _sweep(self, book: _TimedBook, *keys: str) -> float:
        """Expire these keys of a book, and all its holds, whose time is over; return what time it is."""
        now = self._clock.time()
        for key in keys:
            self._let_pass(book, key, now)
        while book.due and book.due[0][0] <= now:
            self._let_pass(book, book.due[0][1], now)
            heappop(book.due)  # last: what was not done is looked at again
        return now

    def _let_pass(self, book: _TimedBook, key: str, now: float) -> None:
        record = book.records.get(key)
        if record is not None and record.until <= now:
            book.wholly(key, partial(book.expire, key, now))
            self._watch(book, key)

    def _watch(self, book: _TimedBook, key: str) -> None:
        """Note when a key has to be looked at next; what was noted before is passed over then."""
        record = book.records.get(key)
        if record is None:
            return
        heappush(self._visits, (record.until, book.customer_id, key))
        if record.state is State.HELD:
            heappush(book.due, (record.until, key))

    def _visit(self, now: float) -> None:
        """Expire a few keys whose time is over, of any customer: theirs may never come back."""
        for _ in range(_A_FEW):
            if not self._visits or self._visits[0][0] > now:
                return
            _, customer_id, key = self._visits[0]
            book = self._books.get(customer_id)
            if book is not None:
                self._let_pass(book, key, now)
                if book.due and book.due[0][0] <= now:  # what was noted of a hold, which is settled by now or was here
                    self._let_pass(book, book.due[0][1], now)
                    heappop(book.due)
                self._drop_if_blank(book)
            heappop(self._visits)  # last, as above

    def _drop_if_blank(self, book: _TimedBook) -> None:
        if book.is_blank():
            del self._books[book.customer_id]

    def _run_verb(self, book: _TimedBook, key: str, verb: Callable[[float], Outcome]) -> Outcome:
        """Run a verb and queue its events, all of it or nothing; then expire a few keys of other customers."""
        now = self._sweep(book, key)
        book.ahead = self._clock.ahead
        events: list[UsageEvent] = []

        def work() -> Outcome:
            outcome = verb(now)
            if not (isinstance(outcome, Receipt) and outcome.is_replay):
                self._watch(book, key)
            events.extend(map(self._name_apart, book.events))
            for event in events:  # due by the ledger's clock, dated by the wall's
                self._waiting[_name(event)] = event.at, replace(event, at=event.at - self._clock.ahead)
            book.changed.clear()
            book.events.clear()
            return outcome

        try:
            outcome = book.wholly(key, work)
        except BaseException:
            for event in events:
                self._waiting.pop(_name(event), None)
            raise
        self._visit(now)
        return outcome

    def _name_apart(self, event: UsageEvent) -> UsageEvent:
        is_known = _name(event) in self._waiting or _name(event) in self._dead
        return set_apart(event) if is_known else event


def _name(event: UsageEvent) -> tuple[str, str]:
    return event.customer_id, event.key
