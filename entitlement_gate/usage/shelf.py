"""From tables to books and back: the statements of the ledger. Never here: transactions, the verbs."""

from __future__ import annotations

import json
from copy import copy
from typing import TYPE_CHECKING, Any

from entitlement_gate.ledger.book import Book, Record
from entitlement_gate.ledger.protocol import State, UsageTarget
from entitlement_gate.ledger.rule import Share, Tally
from entitlement_gate.usage.models import Account, Charge, Event, Hold

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["has_run_out", "lock", "read", "tallies", "write"]

# Table names are constants of the models, never input; every value is a parameter.
_ACCOUNT, _CHARGE, _HOLD, _EVENT = (model._meta.db_table for model in (Account, Charge, Hold, Event))  # noqa: SLF001 - the documented way to it

_OPEN = f"INSERT INTO {_ACCOUNT} (customer_id, version) VALUES (%s, 0) ON CONFLICT DO NOTHING"  # noqa: S608 - as above
_LOCK = f"UPDATE {_ACCOUNT} SET version = version + 1 WHERE customer_id = %s RETURNING {{now}}"  # noqa: S608 - as above
_TALLIES = f"""
    SELECT entitlement_id, row_id, baseline, committed, held, seen, refunded, ticket
    FROM {_CHARGE} WHERE customer_id = %s
"""  # noqa: S608 - as above
_RECORDS = f"""
    SELECT "key", wants, shares, state, expires_at, until, is_overage, is_late
    FROM {_HOLD} WHERE customer_id = %s AND ("key" = %s OR until <= %s)
"""  # noqa: S608 - as above
_RUN_OUT = f"SELECT 1 FROM {_HOLD} WHERE customer_id = %s AND state = 'held' AND until <= {{now}} LIMIT 1"  # noqa: S608 - as above
_PUT_TALLY = f"""
    INSERT INTO {_CHARGE}
        (customer_id, entitlement_id, row_id, baseline, committed, held, seen, refunded, ticket)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (customer_id, entitlement_id, row_id) DO UPDATE SET
        baseline = excluded.baseline, committed = excluded.committed, held = excluded.held,
        seen = excluded.seen, refunded = excluded.refunded, ticket = excluded.ticket
"""  # noqa: S608 - as above
_DROP_TALLY = f"DELETE FROM {_CHARGE} WHERE customer_id = %s AND entitlement_id = %s AND row_id = %s"  # noqa: S608 - as above
_PUT_RECORD = f"""
    INSERT INTO {_HOLD}
        (customer_id, "key", wants, shares, state, expires_at, until, is_overage, is_late)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (customer_id, "key") DO UPDATE SET
        wants = excluded.wants, shares = excluded.shares, state = excluded.state, expires_at = excluded.expires_at,
        until = excluded.until, is_overage = excluded.is_overage, is_late = excluded.is_late
"""  # noqa: S608 - as above
_DROP_RECORD = f'DELETE FROM {_HOLD} WHERE customer_id = %s AND "key" = %s'  # noqa: S608 - as above
_PUT_EVENT = f"""
    INSERT INTO {_EVENT} (customer_id, "key", slug, field, quantity, at, due, attempts, why)
    VALUES (%s, %s, %s, %s, %s, %s, %s, 0, '')
"""  # noqa: S608 - as above


def lock(cursor: Any, now: tuple[str, float], customer_id: str) -> float:
    """Let the customer's other verbs wait until this transaction ends; return the database's time by then."""
    sql, shift = now
    cursor.execute(_LOCK.format(now=sql), [customer_id])
    row = cursor.fetchone()
    if row is None:
        cursor.execute(_OPEN, [customer_id])
        cursor.execute(_LOCK.format(now=sql), [customer_id])
        row = cursor.fetchone()
    return float(row[0]) + shift


def read(cursor: Any, customer_id: str, key: str, now: float) -> tuple[Book, dict[str, Record]]:
    """Return the book with the key's record, after every hold that ran out; and the records as they are kept."""
    book = Book(customer_id)
    book.tallies = tallies(cursor, customer_id)
    cursor.execute(_RECORDS, [customer_id, key, now])
    book.records = dict(map(_record, cursor.fetchall()))
    before = {name: copy(record) for name, record in book.records.items()}
    for name in before:
        book.expire(name, now)
    return book, before


def tallies(cursor: Any, customer_id: str) -> dict[str, dict[str, Tally]]:
    """Return the customer's tallies by entitlement id and row id."""
    cursor.execute(_TALLIES, [customer_id])
    read: dict[str, dict[str, Tally]] = {}
    for entitlement_id, row_id, *numbers in cursor.fetchall():
        read.setdefault(entitlement_id, {})[row_id] = Tally(*numbers)
    return read


def has_run_out(cursor: Any, now: tuple[str, float], customer_id: str) -> bool:
    """Return whether a hold of the customer ran out and is still counted."""
    sql, shift = now
    cursor.execute(_RUN_OUT.format(now=f"{sql} + %s"), [customer_id, shift])
    return cursor.fetchone() is not None


def write(cursor: Any, book: Book, before: Mapping[str, Record]) -> None:
    """Keep what changed in a book."""
    for entitlement_id, row_id in sorted(book.changed):
        name = [book.customer_id, entitlement_id, row_id]
        tally = book.tallies[entitlement_id].get(row_id)
        if tally is None:
            cursor.execute(_DROP_TALLY, name)
        else:
            numbers = (tally.baseline, tally.committed, tally.held, tally.seen, tally.refunded, tally.ticket)
            cursor.execute(_PUT_TALLY, [*name, *numbers])
    for key in before.keys() - book.records.keys():
        cursor.execute(_DROP_RECORD, [book.customer_id, key])
    for key, record in book.records.items():
        if record != before.get(key):
            cursor.execute(_PUT_RECORD, [book.customer_id, key, *_fields(record)])
    for event in book.events:
        to = event.target
        cursor.execute(
            _PUT_EVENT, [event.customer_id, event.key, to.slug, to.field, event.quantity, event.at, event.at]
        )


def _record(fields: tuple[Any, ...]) -> tuple[str, Record]:
    key, wants, shares, state, *rest = fields
    expires_at, until, is_overage, is_late = rest
    return key, Record(
        wants=tuple((name, quantity, to and UsageTarget(*to)) for name, quantity, to in json.loads(wants)),
        shares=tuple(Share(*share) for share in json.loads(shares)),
        state=State(state),
        expires_at=expires_at,
        until=until,
        is_overage=bool(is_overage),
        is_late=bool(is_late),
    )


def _fields(record: Record) -> list[Any]:
    wants = [(name, quantity, to and (to.slug, to.field)) for name, quantity, to in record.wants]
    shares = [(share.entitlement_id, share.row_id, share.amount) for share in record.shares]
    times = [record.expires_at, record.until]
    return [json.dumps(wants), json.dumps(shares), str(record.state), *times, record.is_overage, record.is_late]
