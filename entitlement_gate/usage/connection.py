"""A connection of the ledger's own, one a thread, outside whatever transaction a view is in.

On the view's connection a reservation would be undone with the view, and would keep every other request of the
customer waiting until the view ends (``ATOMIC_REQUESTS``). Never here: what is asked over it.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import Error, InterfaceError, OperationalError, connections
from django.db.migrations.executor import MigrationExecutor

from entitlement_gate.forking import remake_after_fork
from entitlement_gate.ledger.protocol import LedgerUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["NOW", "OwnConnections", "Rows", "Statement"]

Statement = tuple[str, "Sequence[Any]"]
"""SQL, and its parameters."""

Rows = list[tuple[Any, ...]]
Result = TypeVar("Result")

# A verb that waits for the customer's row longer than this is not done at all; SQLite's own limit is 5 s.
_PATIENCE = "SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '5s'"
_BEGIN = {"sqlite": "BEGIN IMMEDIATE", "postgresql": f"BEGIN; {_PATIENCE}"}
_OUT_OF_PATIENCE = {"55P03", "57014", "SQLITE_BUSY"}  # lock_not_available, query_canceled
NOW = {
    "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
    "postgresql": "EXTRACT(EPOCH FROM clock_timestamp())::double precision",
}


class OwnConnections:
    """Runs statements on this thread's own connection to one of the project's databases.

    A round trip costs more than a statement: psycopg 3 gets many statements at once, SQLite and psycopg 2 one by one.
    """

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.vendor = connections[alias].vendor
        if self.vendor not in _BEGIN:
            raise ValueError(f"a database ledger needs PostgreSQL or SQLite, not {self.vendor}")
        self._is_joining = _takes_many(self.vendor)
        self.remake()
        remake_after_fork(self)

    def remake(self) -> None:
        """Forget the connections, as in a process just forked: they are the parent's."""
        self._local = threading.local()
        self._lock = threading.Lock()
        self._open: list[BaseDatabaseWrapper] = []

    def ask(self, *statements: Statement) -> list[Rows]:
        """Return the rows of each statement, each a transaction of its own. Raises ``LedgerUnavailable``.

        Done over where the connection broke, so statements must be idempotent.
        """
        return self._done(lambda cursor: self._asked(cursor, statements))

    def change(
        self, reads: Sequence[Statement], work: Callable[[list[Rows]], tuple[Result, list[Statement]]]
    ) -> Result:
        """Read, work, and write what the work says, in one transaction: two round trips to PostgreSQL.

        Raises:
            LedgerUnavailable: the database could not do it.
        """

        def transaction(cursor: Any) -> Result:
            with self._undone(cursor):
                read = self._asked(cursor, [(_BEGIN[self.vendor], ()), *reads])
                result, writes = work(read[-len(reads) :])
                self._asked(cursor, [*writes, ("COMMIT", ())])
            return result

        return self._done(transaction)

    def is_migrated(self, app_label: str) -> bool:
        """Return whether every migration of an app was applied."""
        executor = MigrationExecutor(self._own())
        return not executor.migration_plan(executor.loader.graph.leaf_nodes(app_label))

    def close(self) -> None:
        """Close the connections of every thread; a later verb makes new ones."""
        with self._lock:
            opened, self._open = self._open, []
        for connection in opened:
            connection.close()
        self._local = threading.local()

    def _done(self, work: Callable[[Any], Result]) -> Result:
        try:
            try:
                return self._done_once(work)
            except (OperationalError, InterfaceError) as error:
                if _code(error) in _OUT_OF_PATIENCE:
                    raise
                self._own().close()
                return self._done_once(work)
        except Error as error:
            self._own().close()  # which ends the transaction
            raise LedgerUnavailable(f"{self.vendor}: {type(error).__name__}: {error}") from error

    def _done_once(self, work: Callable[[Any], Result]) -> Result:
        with self._own().cursor() as cursor:
            return work(cursor)

    @contextmanager
    def _undone(self, cursor: Any) -> Iterator[None]:
        """Leave no transaction behind, whatever ends it early."""
        try:
            yield
        except Error:
            raise  # the connection is closed
        except Exception:  # what a verb refuses, and numbers that a driver cannot send
            cursor.execute("ROLLBACK")
            raise
        except BaseException:  # an interrupt: nobody knows how far the conversation got
            self._own().close()
            raise

    def _asked(self, cursor: Any, statements: Sequence[Statement]) -> list[Rows]:
        if not self._is_joining:
            return [_executed(cursor, *statement) for statement in statements]
        every = [value for _, values in statements for value in values]
        rows = [_executed(cursor, "; ".join(sql for sql, _ in statements), every)]
        while cursor.nextset():
            rows.append(_fetched(cursor))
        return rows

    def _own(self) -> BaseDatabaseWrapper:
        connection: BaseDatabaseWrapper | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._made()
            connection.inc_thread_sharing()  # so that any thread may close it
            with self._lock:
                self._open.append(connection)
        return connection

    def _made(self) -> BaseDatabaseWrapper:
        connection = connections.create_connection(self.alias)
        if self._is_joining:  # parameters sent apart would allow one statement at a time
            options = {**connection.settings_dict["OPTIONS"], "server_side_binding": False}
            connection.settings_dict = {**connection.settings_dict, "OPTIONS": options}
        return connection


def _executed(cursor: Any, sql: str, values: Sequence[Any]) -> Rows:
    cursor.execute(sql, values)
    return _fetched(cursor)


def _fetched(cursor: Any) -> Rows:
    rows: Rows = cursor.fetchall() if cursor.description else []
    return rows


def _code(error: Error) -> str | None:
    """Return what PostgreSQL or SQLite calls an error."""
    cause = error.__cause__
    code: str | None = getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorname", None)
    return code


def _takes_many(vendor: str) -> bool:
    """Return whether statements can be sent many at once: psycopg 3 alone gives the rows of each."""
    if vendor != "postgresql":
        return False
    from django.db.backends.postgresql.psycopg_any import is_psycopg3  # noqa: PLC0415 - imports a driver

    return bool(is_psycopg3)
