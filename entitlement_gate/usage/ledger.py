"""The ledger in the project's database, PostgreSQL or SQLite, and the outbox that it is.

Each verb is one transaction: lock the customer's row, read its book, run the verb that every store in Python runs
(``ledger.book``), write what changed. Never here: transactions (``connection``), where usage events go.
"""

from __future__ import annotations

import json
import time
from copy import copy
from typing import TYPE_CHECKING, Any, TypeVar

from django.apps import apps
from django.db import router

from entitlement_gate.ledger.balances import Share, Tally
from entitlement_gate.ledger.book import Book, Record, set_apart
from entitlement_gate.ledger.protocol import (
    DeadLetter,
    LedgerUnavailable,
    State,
    UsageEvent,
    UsageTarget,
    checked_actual,
    checked_demands,
    checked_key,
    checked_ttl,
    checked_word,
    examined,
)
from entitlement_gate.usage.connection import NOW, OwnConnections
from entitlement_gate.usage.models import Account, Charge, Event, Hold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from entitlement_gate.ledger.balances import Row
    from entitlement_gate.ledger.protocol import Charges, Demand, Receipt, Refusal
    from entitlement_gate.usage.connection import Rows, Statement

__all__ = ["DatabaseLedger"]

Result = TypeVar("Result")

_RUN_OUT_AT_ONCE = 1_000  # some 20 ms
_FORGOTTEN_AT_ONCE = 32

# Table names are constants of the models, never input; every value is a parameter.
_ACCOUNT, _CHARGE, _HOLD, _EVENT = (model._meta.db_table for model in (Account, Charge, Hold, Event))  # noqa: SLF001 - the documented way to it

# Waits for whoever has the row, and is evaluated when it is had: the statements behind it see what was written.
_LOCK = f"""
    INSERT INTO {_ACCOUNT} (customer_id, version) VALUES (%s, 1)
    ON CONFLICT (customer_id) DO UPDATE SET version = {_ACCOUNT}.version + 1 RETURNING {{now}}
"""
_TALLIES = f"""
    SELECT entitlement_id, row_id, baseline, committed, held, seen, refunded, ticket
    FROM {_CHARGE} WHERE customer_id = %s
"""
_FIELDS = '"key", wants, shares, state, expires_at, until, is_overage, is_late, owner, purpose, is_lone'
_RECORD = f'SELECT {_FIELDS} FROM {_HOLD} WHERE customer_id = %s AND "key" = %s'
_ALL_RUN_OUT = f"""
    SELECT {_FIELDS} FROM {_HOLD} WHERE customer_id = %s AND state = 'held' AND until <= {{now}}
    ORDER BY until LIMIT %s
"""
_RUN_OUT = f"SELECT 1 FROM {_HOLD} WHERE customer_id = %s AND state = 'held' AND until <= {{now}} LIMIT 1"
_PUT_TALLY = f"""
    INSERT INTO {_CHARGE}
        (customer_id, entitlement_id, row_id, baseline, committed, held, seen, refunded, ticket)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (customer_id, entitlement_id, row_id) DO UPDATE SET
        baseline = excluded.baseline, committed = excluded.committed, held = excluded.held,
        seen = excluded.seen, refunded = excluded.refunded, ticket = excluded.ticket
"""
_DROP_TALLY = f"DELETE FROM {_CHARGE} WHERE customer_id = %s AND entitlement_id = %s AND row_id = %s"
_PUT_RECORD = f"""
    INSERT INTO {_HOLD}
        (customer_id, {_FIELDS})
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (customer_id, "key") DO UPDATE SET
        wants = excluded.wants, shares = excluded.shares, state = excluded.state, expires_at = excluded.expires_at,
        until = excluded.until, is_overage = excluded.is_overage, is_late = excluded.is_late, owner = excluded.owner,
        purpose = excluded.purpose, is_lone = excluded.is_lone
"""
_LET_RUN_OUT = f"UPDATE {_HOLD} SET state = 'expired', until = %s WHERE customer_id = %s AND \"key\" IN ({{keys}})"
# Of anybody's keys, for their customer may never come back. Nobody waits: what another verb is about is passed over.
_FORGET = f"""
    WITH old AS MATERIALIZED (
        SELECT id FROM {_HOLD} WHERE NOT (state = 'held') AND until <= %s ORDER BY until LIMIT %s {{lock}}
    )
    DELETE FROM {_HOLD} WHERE id IN (SELECT id FROM old)
"""
_PUT_EVENT = f"""
    INSERT INTO {_EVENT} (customer_id, "key", slug, field, quantity, at, due, attempts, why)
    SELECT %s, CASE WHEN EXISTS (SELECT 1 FROM {_EVENT} WHERE customer_id = %s AND "key" = %s) THEN %s ELSE %s END,
        %s, %s, %s, %s, %s, 0, ''
"""
_COLUMNS = '"key", customer_id, slug, field, quantity, at, attempts'
_WHICH = 'customer_id = %s AND "key" = %s'
_TAKE = f"""
    WITH taken AS MATERIALIZED (
        SELECT id FROM {_EVENT} WHERE why = '' AND due <= {{now}} ORDER BY id LIMIT %s {{lock}}
    )
    UPDATE {_EVENT} SET due = {{now}} + %s, attempts = attempts + 1
    WHERE id IN (SELECT id FROM taken) AND why = '' RETURNING {_COLUMNS}
"""
_DELIVERED = f"DELETE FROM {_EVENT} WHERE why = '' AND {_WHICH}"
_POSTPONE = f"UPDATE {_EVENT} SET due = {{now}} + %s WHERE why = '' AND {_WHICH}"
_BURY = f"UPDATE {_EVENT} SET why = %s WHERE why = '' AND {_WHICH}"
_REVIVE = f"UPDATE {_EVENT} SET why = '', attempts = 0, due = {{now}} WHERE why <> '' AND {_WHICH}"
_PENDING = f"SELECT COUNT(*) FROM {_EVENT} WHERE why = ''"
_BURIED = f"SELECT COUNT(*) FROM {_EVENT} WHERE why <> ''"
_DEAD = f"SELECT {_COLUMNS}, why FROM {_EVENT} WHERE why <> '' ORDER BY id LIMIT %s"
_PATIENCE = 30.0  # seconds: a shipper is no request
_SKIP_LOCKED = {"sqlite": "", "postgresql": "FOR UPDATE SKIP LOCKED"}


class DatabaseLedger:
    """Counts for every process that shares a database: a ledger and its outbox in one.

    Time is the database's. Verbs of one customer queue at its row; those of others do not wait, on PostgreSQL.

    Args:
        alias: which of ``DATABASES``; by default the one the routers write ``entitlement_usage`` to.
        deadline: seconds that a verb may take; those of the outbox, for which nobody waits, may take longer.

    Every method may raise ``LedgerUnavailable``.

    Raises:
        ValueError: its app is not installed, so there are no tables.
    """

    is_local = False

    def __init__(self, alias: str | None = None, *, deadline: float = 3.0) -> None:
        if not apps.is_installed("entitlement_gate.usage"):
            raise ValueError('ledger: the database\'s is an app: add "entitlement_gate.usage" to INSTALLED_APPS')
        self._connections = OwnConnections(alias or router.db_for_write(Charge), deadline)
        self._deadline = deadline
        self._now = NOW[self._connections.vendor]
        self._lock = _SKIP_LOCKED[self._connections.vendor]

    def __repr__(self) -> str:
        return f"<DatabaseLedger in {self._connections.alias!r}>"

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
        ttl, owner, purpose = checked_ttl(ttl), checked_word(owner), checked_word(purpose)

        def reserve(book: Book, now: float) -> Receipt | Refusal:
            return book.reserve(demands, key, ttl, now, owner=owner, purpose=purpose, is_lone=is_lone)

        return self._run_verb(customer_id, checked_key(key), reserve)

    def consume(
        self, customer_id: str, demands: Sequence[Demand], *, key: str, purpose: str = "", is_lone: bool = False
    ) -> Receipt | Refusal:
        """See ``Ledger.consume``."""
        checked_demands(demands)
        checked_word(purpose)

        def consume(book: Book, now: float) -> Receipt | Refusal:
            return book.consume(demands, key, now, purpose=purpose, is_lone=is_lone)

        return self._run_verb(customer_id, checked_key(key), consume)

    def commit(self, customer_id: str, key: str, *, actual: int | None = None, late: bool = True) -> Receipt:
        """See ``Ledger.commit``."""
        actual = actual if actual is None else checked_actual(actual)
        return self._run_verb(customer_id, checked_key(key), lambda book, now: book.commit(key, now, actual, late=late))

    def release(self, customer_id: str, key: str, *, owner: str = "") -> Receipt:
        """See ``Ledger.release``."""
        owner = checked_word(owner)
        return self._run_verb(customer_id, checked_key(key), lambda book, now: book.release(key, now, owner=owner))

    def extend(self, customer_id: str, key: str, ttl: float) -> Receipt:
        """See ``Ledger.extend``."""
        ttl = checked_ttl(ttl)
        return self._run_verb(customer_id, checked_key(key), lambda book, now: book.extend(key, ttl, now))

    def adopt_upstream(self, customer_id: str, rows: Mapping[str, Sequence[Row]], ticket: float) -> None:
        """See ``Ledger.adopt_upstream``; a customer who never used anything up costs one read."""
        if self.charges(customer_id):
            self._run_verb(customer_id, "", lambda book, now: book.adopt(rows, ticket, now))

    def charges(self, customer_id: str) -> Charges:
        """See ``Ledger.charges``; a hold that ran out and is still counted is given back first."""
        statements = [(_RUN_OUT.format(now=self._now), (customer_id,)), (_TALLIES, (customer_id,))]
        has_run_out, charges = self._connections.ask(*statements)
        if has_run_out:
            self._run_verb(customer_id, "", lambda *_: None)
            _, charges = self._connections.ask(*statements)
        return _tallies_of(charges)

    def take(self, limit: int, *, lease: float = 60.0) -> tuple[UsageEvent, ...]:
        """See ``Outbox.take``."""
        rows = self._run(_TAKE, limit, lease)
        return tuple(sorted(map(_event, rows), key=lambda event: event.at))

    def delivered(self, event: UsageEvent) -> None:
        """See ``Outbox.delivered``."""
        self._run(_DELIVERED, event.customer_id, event.key)

    def postpone(self, event: UsageEvent, seconds: float) -> None:
        """See ``Outbox.postpone``."""
        self._run(_POSTPONE, seconds, event.customer_id, event.key)

    def bury(self, event: UsageEvent, why: str) -> None:
        """See ``Outbox.bury``."""
        self._run(_BURY, why or "refused", event.customer_id, event.key)

    def revive(self, event: UsageEvent) -> None:
        """See ``Outbox.revive``."""
        self._run(_REVIVE, event.customer_id, event.key)

    def pending(self) -> int:
        """See ``Outbox.pending``."""
        return int(self._run(_PENDING)[0][0])

    def dead_letters(self, limit: int = 100) -> tuple[DeadLetter, ...]:
        """See ``Outbox.dead_letters``."""
        return tuple(DeadLetter(_event(row[:-1]), row[-1]) for row in self._run(_DEAD, limit))

    def health(self) -> dict[str, Any]:
        """Return what there is to know of the store, in plain types of JSON. Raises nothing."""
        return examined("database", self._look, vendor=self._connections.vendor, migrated=None)

    def close(self) -> None:
        """Close the connections; a later verb makes new ones."""
        self._connections.close()

    def _run_verb(self, customer_id: str, key: str, verb: Callable[[Book, float], Result]) -> Result:

        def work(answers: list[Rows]) -> tuple[list[Result], list[Statement]]:
            book, before, now = _book_of(customer_id, answers)
            # More holds may have run out than were read: what is available is not known before all are.
            is_behind = len(answers[-1]) == _RUN_OUT_AT_ONCE
            forget = _FORGET.format(lock=self._lock), (now, _FORGOTTEN_AT_ONCE)
            return [] if is_behind else [verb(book, now)], [*_to_write(book, before), forget]

        due = time.monotonic() + self._deadline
        while True:
            results = self._connections.change(_to_read(self._now, customer_id, key), work)
            if results:
                return results[0]
            if time.monotonic() >= due:
                raise LedgerUnavailable("more holds ran out than are given back at once; the next verb goes on")

    def _look(self, report: dict[str, Any]) -> None:
        self._run("SELECT 1")
        report["reachable"] = True
        report["migrated"] = self._connections.is_migrated(Event._meta.app_label)  # noqa: SLF001 - as above
        if report["migrated"]:
            report.update(pending=self.pending(), dead_letters=int(self._run(_BURIED)[0][0]))

    def _run(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        statement = sql.format(now=self._now, lock=self._lock)
        return self._connections.ask((statement, values), seconds=_PATIENCE)[0]


def _to_read(now: str, customer_id: str, key: str) -> list[Statement]:
    """Return what locks the customer's book, says what time it is then, and reads it: see ``_book_of``."""
    return [
        (_LOCK.format(now=now), (customer_id,)),
        (_TALLIES, (customer_id,)),
        (_RECORD, (customer_id, key)),
        (_ALL_RUN_OUT.format(now=now), (customer_id, _RUN_OUT_AT_ONCE)),
    ]


def _book_of(customer_id: str, answers: Sequence[Rows]) -> tuple[Book, dict[str, Record], float]:
    """Return the book with the key's record, after every hold that ran out; the records as they were read; the time."""
    lock, charges, own, run_out = answers
    now = float(lock[0][0])
    book = Book(customer_id)
    book.tallies = _tallies_of(charges)
    book.records = dict(map(_record, [*own, *run_out]))
    before = {name: copy(record) for name, record in book.records.items()}
    for name in before:
        book.expire(name, now)
    return book, before, now


def _tallies_of(charges: Rows) -> dict[str, dict[str, Tally]]:
    """Return a customer's tallies by entitlement id and row id."""
    tallies: dict[str, dict[str, Tally]] = {}
    for entitlement_id, row_id, *numbers in charges:
        tallies.setdefault(entitlement_id, {})[row_id] = Tally(*numbers)
    return tallies


def _to_write(book: Book, before: Mapping[str, Record]) -> list[Statement]:
    """Return what keeps all that changed in a book."""
    return [*_changed_tallies(book), *_changed_records(book, before), *map(_to_put, book.events)]


def _changed_tallies(book: Book) -> Iterator[Statement]:
    for entitlement_id, row_id in sorted(book.changed):
        name = (book.customer_id, entitlement_id, row_id)
        tally = book.tallies[entitlement_id].get(row_id)
        if tally is None:
            yield _DROP_TALLY, name
        else:
            numbers = (tally.baseline, tally.committed, tally.held, tally.seen, tally.refunded, tally.ticket)
            yield _PUT_TALLY, (*name, *numbers)


def _changed_records(book: Book, before: Mapping[str, Record]) -> Iterator[Statement]:
    run_out: dict[float, list[str]] = {}
    for key, record in book.records.items():
        if record.state is State.EXPIRED and record != before.get(key):
            run_out.setdefault(record.until, []).append(key)
        elif record != before.get(key):
            yield _PUT_RECORD, (book.customer_id, key, *_fields(record))
    for until, keys in run_out.items():
        yield _LET_RUN_OUT.format(keys=", ".join(["%s"] * len(keys))), (until, book.customer_id, *keys)


def _to_put(event: UsageEvent) -> Statement:
    target, other_key = event.target, set_apart(event).key
    names = (event.customer_id, event.customer_id, event.key, other_key, event.key)
    return _PUT_EVENT, (*names, target.slug, target.field, event.quantity, event.at, event.at)


def _record(fields: tuple[Any, ...]) -> tuple[str, Record]:
    key, wants, shares, state, *rest = fields
    expires_at, until, is_overage, is_late, owner, purpose, is_lone = rest
    return key, Record(
        wants=tuple((name, quantity, target and UsageTarget(*target)) for name, quantity, target in json.loads(wants)),
        shares=tuple(Share(*share) for share in json.loads(shares)),
        state=State(state),
        expires_at=expires_at,
        until=until,
        is_overage=bool(is_overage),
        is_late=bool(is_late),
        owner=owner,
        purpose=purpose,
        is_lone=bool(is_lone),
    )


def _fields(record: Record) -> list[Any]:
    wants = [(name, quantity, target and (target.slug, target.field)) for name, quantity, target in record.wants]
    shares = [(share.entitlement_id, share.row_id, share.amount) for share in record.shares]
    settlement = [record.expires_at, record.until, record.is_overage, record.is_late]
    origin = [record.owner, record.purpose, record.is_lone]
    return [json.dumps(wants), json.dumps(shares), str(record.state), *settlement, *origin]


def _event(row: tuple[Any, ...]) -> UsageEvent:
    key, customer_id, slug, field, quantity, at, attempts = row
    target = UsageTarget(slug, field)
    return UsageEvent(key=key, customer_id=customer_id, target=target, quantity=quantity, at=at, attempts=attempts)
