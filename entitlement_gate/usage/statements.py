"""From tables to books and back: the statements of the ledger. Never here: transactions, the verbs."""

from __future__ import annotations

import json
from copy import copy
from typing import TYPE_CHECKING, Any

from entitlement_gate.ledger.balances import Share, Tally
from entitlement_gate.ledger.book import Book, Record, set_apart
from entitlement_gate.ledger.protocol import State, UsageTarget
from entitlement_gate.usage.models import Account, Charge, Event, Hold

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from entitlement_gate.ledger.protocol import UsageEvent
    from entitlement_gate.usage.connection import Rows, Statement

__all__ = [
    "book_of",
    "forgetting",
    "is_behind",
    "looking",
    "reading",
    "tallies_of",
    "writing",
]


_RUN_OUT_AT_ONCE = 1_000  # some 20 ms
_FORGOTTEN_AT_ONCE = 32

# Table names are constants of the models, never input; every value is a parameter.
_ACCOUNT, _CHARGE, _HOLD, _EVENT = (model._meta.db_table for model in (Account, Charge, Hold, Event))  # noqa: SLF001 - the documented way to it

# Waits for whoever has the row, and is evaluated when it is had: the statements behind it see what was written.
_LOCK = f"""
    INSERT INTO {_ACCOUNT} (customer_id, version) VALUES (%s, 1)
    ON CONFLICT (customer_id) DO UPDATE SET version = {_ACCOUNT}.version + 1 RETURNING {{now}} + %s
"""  # noqa: S608 - as above
_TALLIES = f"""
    SELECT entitlement_id, row_id, baseline, committed, held, seen, refunded, ticket
    FROM {_CHARGE} WHERE customer_id = %s
"""  # noqa: S608 - as above
_FIELDS = '"key", wants, shares, state, expires_at, until, is_overage, is_late, owner, purpose, is_lone'
_RECORD = f'SELECT {_FIELDS} FROM {_HOLD} WHERE customer_id = %s AND "key" = %s'  # noqa: S608 - as above
_ALL_RUN_OUT = f"""
    SELECT {_FIELDS} FROM {_HOLD} WHERE customer_id = %s AND state = 'held' AND until <= {{now}} + %s
    ORDER BY until LIMIT %s
"""  # noqa: S608 - as above
_RUN_OUT = f"SELECT 1 FROM {_HOLD} WHERE customer_id = %s AND state = 'held' AND until <= {{now}} + %s LIMIT 1"  # noqa: S608 - as above
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
        (customer_id, {_FIELDS})
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (customer_id, "key") DO UPDATE SET
        wants = excluded.wants, shares = excluded.shares, state = excluded.state, expires_at = excluded.expires_at,
        until = excluded.until, is_overage = excluded.is_overage, is_late = excluded.is_late, owner = excluded.owner,
        purpose = excluded.purpose, is_lone = excluded.is_lone
"""  # noqa: S608 - as above
_LET_RUN_OUT = f"UPDATE {_HOLD} SET state = 'expired', until = %s WHERE customer_id = %s AND \"key\" IN ({{keys}})"  # noqa: S608 - as above
# Of anybody's keys, for their customer may never come back. Nobody waits: what another verb is about is passed over.
_FORGET = f"""
    WITH old AS MATERIALIZED (
        SELECT id FROM {_HOLD} WHERE NOT (state = 'held') AND until <= %s ORDER BY until LIMIT %s {{lock}}
    )
    DELETE FROM {_HOLD} WHERE id IN (SELECT id FROM old)
"""  # noqa: S608 - as above
_PUT_EVENT = f"""
    INSERT INTO {_EVENT} (customer_id, "key", slug, field, quantity, at, due, attempts, why)
    SELECT %s, CASE WHEN EXISTS (SELECT 1 FROM {_EVENT} WHERE customer_id = %s AND "key" = %s) THEN %s ELSE %s END,
        %s, %s, %s, %s, %s, 0, ''
"""  # noqa: S608 - as above


def reading(now: str, shift: float, customer_id: str, key: str) -> list[Statement]:
    """Return what locks the customer's book, says what time it is then, and reads it: see ``book_of``."""
    return [
        (_LOCK.format(now=now), (customer_id, shift)),
        (_TALLIES, (customer_id,)),
        (_RECORD, (customer_id, key)),
        (_ALL_RUN_OUT.format(now=now), (customer_id, shift, _RUN_OUT_AT_ONCE)),
    ]


def book_of(customer_id: str, told: Sequence[Rows]) -> tuple[Book, dict[str, Record], float]:
    """Return the book with the key's record, after every hold that ran out; the records as they are kept; the time."""
    locked, charges, own, run_out = told
    now = float(locked[0][0])
    book = Book(customer_id)
    book.tallies = tallies_of(charges)
    book.records = dict(map(_record, [*own, *run_out]))
    before = {name: copy(record) for name, record in book.records.items()}
    for name in before:
        book.expire(name, now)
    return book, before, now


def is_behind(told: Sequence[Rows]) -> bool:
    """Return whether more holds may have run out than were read: what is available is not known before all are."""
    return len(told[-1]) == _RUN_OUT_AT_ONCE


def looking(now: str, shift: float, customer_id: str) -> list[Statement]:
    """Return what says whether a hold of the customer ran out and is still counted, and reads the tallies."""
    return [(_RUN_OUT.format(now=now), (customer_id, shift)), (_TALLIES, (customer_id,))]


def tallies_of(charges: Rows) -> dict[str, dict[str, Tally]]:
    """Return a customer's tallies by entitlement id and row id."""
    tallies: dict[str, dict[str, Tally]] = {}
    for entitlement_id, row_id, *numbers in charges:
        tallies.setdefault(entitlement_id, {})[row_id] = Tally(*numbers)
    return tallies


def writing(book: Book, before: Mapping[str, Record]) -> list[Statement]:
    """Return what keeps all that changed in a book."""
    return [*_changed_tallies(book), *_changed_records(book, before), *map(_event, book.events)]


def forgetting(now: float, lock: str) -> Statement:
    """Return what drops a few of the keys that need not be remembered any more: more than a verb adds."""
    return _FORGET.format(lock=lock), (now, _FORGOTTEN_AT_ONCE)


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


def _event(event: UsageEvent) -> Statement:
    to, apart = event.target, set_apart(event).key
    names = (event.customer_id, event.customer_id, event.key, apart, event.key)
    return _PUT_EVENT, (*names, to.slug, to.field, event.quantity, event.at, event.at)


def _record(fields: tuple[Any, ...]) -> tuple[str, Record]:
    key, wants, shares, state, *rest = fields
    expires_at, until, is_overage, is_late, owner, purpose, is_lone = rest
    return key, Record(
        wants=tuple((name, quantity, to and UsageTarget(*to)) for name, quantity, to in json.loads(wants)),
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
    wants = [(name, quantity, to and (to.slug, to.field)) for name, quantity, to in record.wants]
    shares = [(share.entitlement_id, share.row_id, share.amount) for share in record.shares]
    how = [record.expires_at, record.until, record.is_overage, record.is_late]
    known = [record.owner, record.purpose, record.is_lone]
    return [json.dumps(wants), json.dumps(shares), str(record.state), *how, *known]
