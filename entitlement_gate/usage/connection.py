"""A connection of the ledger's own, one a thread, outside whatever transaction a view is in.

On the view's connection a reservation would be undone with the view, and would keep every other request of the
customer waiting until the view ends (``ATOMIC_REQUESTS``). Never here: what is asked over it.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.db import Error, InterfaceError, OperationalError, connections

from entitlement_gate.forking import remake_after_fork
from entitlement_gate.ledger.protocol import LedgerUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["OwnConnections"]

_BEGIN = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "BEGIN"}
NOW = {
    "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
    "postgresql": "EXTRACT(EPOCH FROM clock_timestamp())::double precision",
}


class OwnConnections:
    """Runs statements on this thread's own connection to one of the project's databases."""

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.vendor = connections[alias].vendor
        if self.vendor not in _BEGIN:
            raise ValueError(f"a database ledger needs PostgreSQL or SQLite, not {self.vendor}")
        self.remake()
        remake_after_fork(self)

    def remake(self) -> None:
        """Forget the connections, as in a process just forked: they are the parent's."""
        self._local = threading.local()
        self._lock = threading.Lock()
        self._open: list[BaseDatabaseWrapper] = []

    def run(self, work: Callable[[Any], Any], *, in_transaction: bool = True) -> Any:
        """Return what ``work(cursor)`` returns; done over where the connection broke, so it must be idempotent.

        Raises:
            LedgerUnavailable: the database could not do it.
        """
        try:
            try:
                return self._run_once(work, in_transaction=in_transaction)
            except (OperationalError, InterfaceError):
                self._own().close()
                return self._run_once(work, in_transaction=in_transaction)
        except Error as error:
            self._own().close()
            raise LedgerUnavailable(f"{self.vendor}: {type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Close the connections of every thread; a later verb makes new ones."""
        with self._lock:
            opened, self._open = self._open, []
        for connection in opened:
            connection.close()
        self._local = threading.local()

    def _run_once(self, work: Callable[[Any], Any], *, in_transaction: bool) -> Any:
        with self._own().cursor() as cursor:
            if not in_transaction:
                return work(cursor)
            with self._transaction(cursor):
                return work(cursor)

    @contextmanager
    def _transaction(self, cursor: Any) -> Iterator[None]:
        cursor.execute(_BEGIN[self.vendor])
        try:
            yield
        except Error:
            raise  # the connection is closed, which ends the transaction
        except BaseException:
            cursor.execute("ROLLBACK")
            raise
        cursor.execute("COMMIT")

    def _own(self) -> BaseDatabaseWrapper:
        connection: BaseDatabaseWrapper | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = connections.create_connection(self.alias)
            connection.inc_thread_sharing()  # so that any thread may close it
            with self._lock:
                self._open.append(connection)
        return connection
