"""The ledger in the project's database, PostgreSQL or SQLite.

Each verb is one transaction: lock the customer's row, read its book, run the verb that every store in Python runs
(``ledger.book``), write what changed. Never here: the statements (``shelf``), the outbox (``outbox``).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from django.apps import apps
from django.db import router

from entitlement_gate.ledger.protocol import (
    LedgerUnavailable,
    checked_actual,
    checked_demands,
    checked_key,
    checked_ttl,
    checked_word,
)
from entitlement_gate.usage import statements
from entitlement_gate.usage.connection import OwnConnections
from entitlement_gate.usage.models import Charge
from entitlement_gate.usage.outbox import LOCKS, DatabaseOutbox

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from entitlement_gate.ledger.balances import Row
    from entitlement_gate.ledger.book import Book
    from entitlement_gate.ledger.protocol import (
        Charges,
        Demand,
        Receipt,
        Refusal,
    )
    from entitlement_gate.usage.connection import Rows, Statement

__all__ = ["DatabaseLedger"]

Result = TypeVar("Result")


class DatabaseLedger(DatabaseOutbox):
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
        super().__init__(OwnConnections(alias or router.db_for_write(Charge), deadline))
        self._deadline = deadline

    def __repr__(self) -> str:
        return f"<DatabaseLedger in {self._own.alias!r}>"

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

        return self._done(customer_id, checked_key(key), reserve)

    def consume(
        self, customer_id: str, demands: Sequence[Demand], *, key: str, purpose: str = "", is_lone: bool = False
    ) -> Receipt | Refusal:
        """See ``Ledger.consume``."""
        checked_demands(demands)
        checked_word(purpose)

        def consume(book: Book, now: float) -> Receipt | Refusal:
            return book.consume(demands, key, now, purpose=purpose, is_lone=is_lone)

        return self._done(customer_id, checked_key(key), consume)

    def commit(self, customer_id: str, key: str, *, actual: int | None = None, late: bool = True) -> Receipt:
        """See ``Ledger.commit``."""
        given = actual if actual is None else checked_actual(actual)
        return self._done(customer_id, checked_key(key), lambda book, now: book.commit(key, now, given, late=late))

    def release(self, customer_id: str, key: str, *, owner: str = "") -> Receipt:
        """See ``Ledger.release``."""
        given = checked_word(owner)
        return self._done(customer_id, checked_key(key), lambda book, now: book.release(key, now, owner=given))

    def extend(self, customer_id: str, key: str, ttl: float) -> Receipt:
        """See ``Ledger.extend``."""
        ttl = checked_ttl(ttl)
        return self._done(customer_id, checked_key(key), lambda book, now: book.extend(key, ttl, now))

    def adopt_upstream(self, customer_id: str, rows: Mapping[str, Sequence[Row]], ticket: float) -> None:
        """See ``Ledger.adopt_upstream``; a customer who never used anything up costs one read."""
        if self.charges(customer_id):
            self._done(customer_id, "", lambda book, _: book.adopt(rows, ticket))

    def charges(self, customer_id: str) -> Charges:
        """See ``Ledger.charges``; a hold that ran out and is still counted is given back first."""
        looking = statements.looking(*self._now(), customer_id)
        has_run_out, charges = self._own.ask(*looking)
        if has_run_out:
            self._done(customer_id, "", lambda *_: None)
            _, charges = self._own.ask(*looking)
        return statements.tallies_of(charges)

    def close(self) -> None:
        """Close the connections; a later verb makes new ones."""
        self._own.close()

    def _done(self, customer_id: str, key: str, verb: Callable[[Book, float], Result]) -> Result:
        lock = LOCKS[self._own.vendor]

        def work(told: list[Rows]) -> tuple[list[Result], list[Statement]]:
            book, before, now = statements.book_of(customer_id, told)
            results = [] if statements.is_behind(told) else [verb(book, now)]
            return results, [*statements.writing(book, before), statements.forgetting(now, lock)]

        due = time.monotonic() + self._deadline
        while True:
            results = self._own.change(statements.reading(*self._now(), customer_id, key), work)
            if results:
                return results[0]
            if time.monotonic() >= due:
                raise LedgerUnavailable("more holds ran out than are given back at once; the next verb goes on")
