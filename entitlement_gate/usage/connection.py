"""Connections of the ledger's own, borrowed for a verb, outside whatever transaction a view is in.

On the view's connection a reservation would be undone with the view, and would keep every other request of the
customer waiting until the view ends (``ATOMIC_REQUESTS``). Never here: what is asked over it.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from django.core import mail
from django.db import Error, InterfaceError, OperationalError, connections
from django.db.backends.base.creation import TEST_DATABASE_PREFIX
from django.db.migrations.executor import MigrationExecutor

from entitlement_gate.domain.errors import EntitlementGateError
from entitlement_gate.forking import PerProcess, abandon, remake_after_fork
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
# Classes of PostgreSQL's errors whose first line names tables, limits and locks at most.
_QUOTING_NO_VALUE = {"08", "25", "28", "3D", "40", "42", "53", "55", "57"}
NOW = {
    "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
    "postgresql": "EXTRACT(EPOCH FROM clock_timestamp())::double precision",
}


class OwnConnections:
    """Runs statements on connections of its own to one of the project's databases: ``MOST`` of them, for all threads.

    Not one a thread, as Django's are: a server that has a thread for each request would leave one behind with each.
    A round trip costs more than a statement: psycopg 3 gets many statements at once, SQLite and psycopg 2 one by one.
    """

    MOST = 16
    PATIENCE = 5.0  # seconds that a verb waits for one
    _places: PerProcess[threading.BoundedSemaphore] = PerProcess()
    _idle: PerProcess[list[BaseDatabaseWrapper]] = PerProcess()

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
        abandon(vars(self).get("_idle"))
        self._places = threading.BoundedSemaphore(self.MOST)
        self._idle = []

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
        with self.borrowed() as connection:
            executor = MigrationExecutor(connection)
            return not executor.migration_plan(executor.loader.graph.leaf_nodes(app_label))

    @contextmanager
    def borrowed(self) -> Iterator[BaseDatabaseWrapper]:
        """Lend a connection; the one that came back last, which is the likeliest to be alive.

        Raises:
            LedgerUnavailable: all are lent, for as long as anybody waits.
        """
        places, idle = self._places, self._idle
        if not places.acquire(timeout=self.PATIENCE):
            raise LedgerUnavailable(f"{self.vendor}: all {self.MOST} connections of the ledger are in use")
        try:
            try:
                connection = idle.pop()
            except IndexError:
                connection = self._made()
            try:
                yield connection
            except (EntitlementGateError, ValueError):
                raise  # what a verb refuses
            except BaseException:
                connection.close()  # an interrupt, a time limit: nobody knows how far the conversation got
                raise
            finally:
                self._take_back(connection, idle)
        finally:
            places.release()

    def close(self) -> None:
        """Close the connections; one that is lent now is closed when it comes back. A later verb makes new ones."""
        idle, self._idle = self._idle, []
        _close_all(idle)

    def _take_back(self, connection: BaseDatabaseWrapper, idle: list[BaseDatabaseWrapper]) -> None:
        """Keep a connection for the next verb; not where tests run: no test database could be dropped beside it."""
        if _is_for_tests(connection):
            connection.close()
            return
        idle.append(connection)
        if idle is not self._idle:  # the ledger was closed meanwhile
            _close_all(idle)

    def _done(self, work: Callable[[Any], Result]) -> Result:
        with self.borrowed() as connection:
            try:
                try:
                    return _done_once(connection, work)
                except (OperationalError, InterfaceError) as error:
                    if _code(error) in _OUT_OF_PATIENCE:
                        raise
                    connection.close()
                    return _done_once(connection, work)
            except Error as error:
                connection.close()  # which ends the transaction
                # Nor are they chained: what PostgreSQL says quotes values, and the statement with its values.
                raise LedgerUnavailable(f"{self.vendor}: {type(error).__name__} {_told(error)}".rstrip()) from None

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
            cursor.db.close()
            raise

    def _asked(self, cursor: Any, statements: Sequence[Statement]) -> list[Rows]:
        if not self._is_joining:
            return [_executed(cursor, *statement) for statement in statements]
        every = [value for _, values in statements for value in values]
        rows = [_executed(cursor, "; ".join(sql for sql, _ in statements), every)]
        while cursor.nextset():
            rows.append(_fetched(cursor))
        return rows

    def _made(self) -> BaseDatabaseWrapper:
        connection = connections.create_connection(self.alias)
        connection.inc_thread_sharing()  # one thread at a time, but any
        if self._is_joining:  # parameters sent apart would allow one statement at a time
            options = {**connection.settings_dict["OPTIONS"], "server_side_binding": False, "pool": False}
            connection.settings_dict = {**connection.settings_dict, "OPTIONS": options}
        return connection


def _close_all(idle: list[BaseDatabaseWrapper]) -> None:
    with suppress(IndexError):  # several may be at it
        while True:
            idle.pop().close()


def _done_once(connection: BaseDatabaseWrapper, work: Callable[[Any], Result]) -> Result:
    with connection.cursor() as cursor:
        return work(cursor)


def _is_for_tests(connection: BaseDatabaseWrapper) -> bool:
    """Whether this is a database that a test run made and will drop."""
    if not hasattr(mail, "outbox"):  # which Django sets up for tests, and only for them
        return False
    name = str(connection.settings_dict["NAME"])
    given = connection.settings_dict.get("TEST", {}).get("NAME")
    return name == given or name.startswith(TEST_DATABASE_PREFIX) or "memorydb" in name


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


def _told(error: Error) -> str:
    """Return what an error says where it quotes no value: of the connection, of SQLite, or of a statement as such."""
    code, diagnosis = _code(error), getattr(error.__cause__, "diag", None)
    if code is not None and diagnosis is not None:
        return f"{diagnosis.message_primary} ({code})" if code[:2] in _QUOTING_NO_VALUE else code
    return str(error).partition("\n")[0] if isinstance(error, (OperationalError, InterfaceError)) else ""


def _takes_many(vendor: str) -> bool:
    """Return whether statements can be sent many at once: psycopg 3 alone gives the rows of each."""
    if vendor != "postgresql":
        return False
    from django.db.backends.postgresql.psycopg_any import is_psycopg3  # noqa: PLC0415 - imports a driver

    return bool(is_psycopg3)
