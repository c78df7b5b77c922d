"""Connections of the ledger's own, borrowed for a verb, outside whatever transaction a view is in.

On the view's connection a reservation would be undone with the view, and would keep every other request of the
customer waiting until the view ends (``ATOMIC_REQUESTS``). Every transaction says what it needs: how much isolation,
whatever the role or database defaults to, and how long anything in it may take.
"""

from __future__ import annotations

import math
import os
import socket
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

from django.core import mail
from django.db import Error, InterfaceError, OperationalError, connections
from django.db.backends.base.creation import TEST_DATABASE_PREFIX
from django.db.migrations.executor import MigrationExecutor

from entitlement_gate.domain.errors import EntitlementGateError
from entitlement_gate.ledger.protocol import LedgerUnavailable
from entitlement_gate.resilience.clock import Deadline
from entitlement_gate.resilience.fork_safety import Lock, PerProcess, abandon, chance, remake_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["NOW", "OwnConnections", "Rows", "Statement"]

Statement = tuple[str, "Sequence[Any]"]
"""SQL, and its parameters."""

Rows = list[tuple[Any, ...]]
Result = TypeVar("Result")

# The row lock keeps verbs of one customer apart; all that a stricter isolation does besides is to refuse some of them.
_BEGIN = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "BEGIN ISOLATION LEVEL READ COMMITTED"}
_LIMIT = {  # milliseconds; of PostgreSQL's for the transaction alone: a pooler lends the connection to others
    "sqlite": "PRAGMA busy_timeout = {all}",
    "postgresql": "SET LOCAL lock_timeout = {lock}; SET LOCAL statement_timeout = {all}",
}
_FOR_A_LOCK = 2 / 3  # of the time there is: the rest is for the work
_OUT_OF_PATIENCE = {"55P03", "57014"}  # lock_not_available, query_canceled
# What ends by itself when somebody else is done: serialization_failure, deadlock_detected, and SQLite's locks, of which
# those of a shared cache have no time-out, and some others are told of at once too.
_CONFLICTS = ("40001", "40P01", "SQLITE_BUSY", "SQLITE_LOCKED")
_READ_ONLY = "25006"  # a server that was demoted, or a role or database that is kept from writing
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.1  # seconds
_SQLITES_OWN = 5.0  # seconds that Python's driver waits for a lock, unless told otherwise
_LONGEST_LIMIT = 86_400.0  # seconds: a deadline may stand for "never", and the drivers count in 32 bits
_GRACE = 1.0  # seconds after its time for a server to say that the time is up
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

    Args:
        alias: of the database.
        deadline: seconds that a verb may take, waiting for a connection and trying again included.
    """

    MOST = 16
    _places: PerProcess[_Places] = PerProcess()
    _idle: PerProcess[list[BaseDatabaseWrapper]] = PerProcess()
    _conversations: PerProcess[_Conversations] = PerProcess()

    def __init__(self, alias: str, deadline: float = 3.0) -> None:
        self.alias = alias
        self.vendor = connections[alias].vendor
        if self.vendor not in _BEGIN:
            raise ValueError(f"ledger: the database's needs PostgreSQL or SQLite, not {self.vendor}")
        self._deadline = deadline
        own = connections[alias].settings_dict["OPTIONS"].get("timeout", _SQLITES_OWN)
        self._most = own if self.vendor == "sqlite" else math.inf
        self._is_joining = _takes_many(self.vendor)
        self.remake()
        remake_after_fork(self)

    def remake(self) -> None:
        """Forget the connections, as in a process just forked: they are the parent's."""
        abandon(vars(self).get("_idle"))
        self._places = _Places(self.MOST)
        self._idle = []
        self._conversations = _Conversations()

    def ask(self, *statements: Statement, seconds: float | None = None) -> list[Rows]:
        """Return the rows of each statement, within ``seconds`` or the deadline. Raises ``LedgerUnavailable``.

        Done over where the connection broke, so statements must be idempotent.
        """

        def ask_all(cursor: Any, limit: Statement) -> list[Rows]:
            if self.vendor == "sqlite":  # each is a transaction of its own
                return self._execute_all(cursor, [limit, *statements])[-len(statements) :]
            rows = self._execute_all(cursor, [(_BEGIN[self.vendor], ()), limit, *statements, ("COMMIT", ())])
            return rows[-1 - len(statements) : -1]

        return self._run(ask_all, seconds)

    def change(
        self, reads: Sequence[Statement], work: Callable[[list[Rows]], tuple[Result, list[Statement]]]
    ) -> Result:
        """Read, work, and write what the work says, in one transaction: two round trips to PostgreSQL.

        Raises:
            LedgerUnavailable: the database could not do it.
        """

        def transaction(cursor: Any, limit: Statement) -> Result:
            begin = _BEGIN[self.vendor], ()
            with self._rolling_back(cursor):
                answers = self._execute_all(
                    cursor, [*((limit, begin) if self.vendor == "sqlite" else (begin, limit)), *reads]
                )
                result, writes = work(answers[-len(reads) :])
                self._execute_all(cursor, [*writes, ("COMMIT", ())])
            return result

        return self._run(transaction)

    def is_migrated(self, app_label: str) -> bool:
        """Return whether every migration of an app was applied."""
        with self.borrowed() as connection:
            executor = MigrationExecutor(connection)
            return not executor.migration_plan(executor.loader.graph.leaf_nodes(app_label))

    @contextmanager
    def borrowed(self, deadline: Deadline | None = None) -> Iterator[BaseDatabaseWrapper]:
        """Lend a connection; the one that came back last, which is the likeliest to be alive.

        Raises:
            LedgerUnavailable: all are lent, until the deadline or for as long as a verb may take.
        """
        places, idle, place = self._places, self._idle, _Place()
        try:
            if not places.take(place, deadline or Deadline(self._deadline, time)):
                raise LedgerUnavailable(f"{self.vendor}: all {self.MOST} connections of the ledger are in use")
            try:
                connection = idle.pop()
            except IndexError:
                connection = self._make_connection()
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
            places.give_back(place)

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

    def _run(self, work: Callable[[Any, Statement], Result], seconds: float | None = None) -> Result:
        """Run the work; again, while there is time, where others were in the way; once where the connection broke."""
        deadline = Deadline(min(self._deadline if seconds is None else seconds, self._most), time)
        pauses, has_reconnected = _pauses(), False
        while True:
            try:
                return self._run_once(work, deadline)
            except Error as error:
                pause = next(pauses) if _is_conflict(error) else None
                if pause is None and _is_broken(error) and not has_reconnected:
                    pause, has_reconnected = 0.0, True
                    _close_all(self._idle)  # what broke one has broken them all
                if pause is None or pause >= deadline.remaining():
                    # Not chained: what PostgreSQL says quotes values, and the statement with its values.
                    raise LedgerUnavailable(
                        f"{self.vendor}: {type(error).__name__} {_describe(error)}".rstrip()
                    ) from None
            deadline.pause(pause)

    def _run_once(self, work: Callable[[Any, Statement], Result], deadline: Deadline) -> Result:
        with self.borrowed(deadline) as connection:
            connection.ensure_connection()
            due = time.monotonic() + deadline.remaining()
            with self._conversations.until(due, connection), connection.cursor() as cursor:
                return work(cursor, self._limit(deadline))

    def _limit(self, deadline: Deadline) -> Statement:
        """Return what lets nothing in a transaction take longer."""
        milliseconds = round(1_000 * min(max(0.001, deadline.remaining()), _LONGEST_LIMIT))
        return _LIMIT[self.vendor].format(all=milliseconds, lock=math.ceil(_FOR_A_LOCK * milliseconds)), ()

    @contextmanager
    def _rolling_back(self, cursor: Any) -> Iterator[None]:
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

    def _execute_all(self, cursor: Any, statements: Sequence[Statement]) -> list[Rows]:
        if not self._is_joining:
            return [_execute(cursor, *statement) for statement in statements]
        parameters = [value for _, values in statements for value in values]
        rows = [_execute(cursor, "; ".join(sql for sql, _ in statements), parameters)]
        while cursor.nextset():
            rows.append(_fetch_rows(cursor))
        return rows

    def _make_connection(self) -> BaseDatabaseWrapper:
        connection = connections.create_connection(self.alias)
        connection.inc_thread_sharing()  # one thread at a time, but any
        if self.vendor == "postgresql":
            options = {**connection.settings_dict["OPTIONS"], **_keepalive_options(self._deadline)}
            if self._is_joining:  # parameters sent apart would allow one statement at a time
                options |= {"server_side_binding": False, "pool": False}
            connection.settings_dict = {**connection.settings_dict, "OPTIONS": options}
        return connection


class _Place:
    """Whoever has one of the connections."""


class _Places:
    """So many places for those who have a connection; whoever is gone has none.

    A time limit or an interrupt may strike between any two lines, also on the way out: a semaphore that was not told
    would be short of a place for the life of the process.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._holders: WeakSet[_Place] = WeakSet()
        self._lock = Lock()

    def take(self, place: _Place, deadline: Deadline) -> bool:
        """Return whether there is room, now or until the deadline."""
        while not self._admit(place):
            if not deadline.remaining():
                return False
            deadline.pause(_FIRST_PAUSE)
        return True

    def give_back(self, place: _Place) -> None:
        """Make room for another; again, or for who has no place, is harmless."""
        self._holders.discard(place)

    def _admit(self, place: _Place) -> bool:
        with self._lock:
            if len(self._holders) < self._most:
                self._holders.add(place)
        return place in self._holders


class _Conversations:
    """Conversations with a server that are going on: one that outlasts its time by far is cut.

    A server that takes what it is sent and never answers, or a pooler that holds everything up, breaks no connection:
    its thread would never come back.
    """

    def __init__(self) -> None:
        self._sockets: dict[object, tuple[float, int]] = {}

    @contextmanager
    def until(self, due: float, connection: BaseDatabaseWrapper) -> Iterator[None]:
        """Have a conversation, after cutting those of others that are overdue."""
        self._cut_overdue()
        name, fileno = object(), getattr(connection.connection, "fileno", None)
        if fileno is not None:  # of the same socket, and of no other that may get its number later
            self._sockets[name] = due + _GRACE, os.dup(fileno())
        try:
            yield
        finally:
            _, descriptor = self._sockets.pop(name, (due, None))
            if descriptor is not None:
                os.close(descriptor)

    def _cut_overdue(self) -> None:
        now = time.monotonic()
        for name, (until, _) in tuple(self._sockets.items()):
            _, descriptor = self._sockets.pop(name, (until, None)) if now > until else (until, None)
            if descriptor is not None:
                with socket.socket(fileno=descriptor) as overdue, suppress(OSError):  # it may have broken meanwhile
                    overdue.shutdown(socket.SHUT_RDWR)


def _keepalive_options(deadline: float) -> dict[str, int]:
    """Return options by which libpq notices that a server is gone, about when nobody waits any longer."""
    seconds = math.ceil(min(deadline, _LONGEST_LIMIT))
    idle = {"keepalives_idle": seconds, "keepalives_interval": 1, "keepalives_count": 3}
    return {"connect_timeout": seconds, "tcp_user_timeout": 1_000 * seconds, **idle}


def _close_all(idle: list[BaseDatabaseWrapper]) -> None:
    with suppress(IndexError):  # several may be at it
        while True:
            idle.pop().close()


def _pauses() -> Iterator[float]:
    """Yield how long to wait before the next try, so that those who got into each other's way part."""
    longest = _FIRST_PAUSE
    while True:
        yield chance.uniform(longest / 2, longest)
        longest = min(2 * longest, _LONGEST_PAUSE)


def _is_for_tests(connection: BaseDatabaseWrapper) -> bool:
    """Whether this is a database that a test run made and will drop."""
    if not hasattr(mail, "outbox"):  # which Django sets up for tests, and only for them
        return False
    name = str(connection.settings_dict["NAME"])
    test_name = connection.settings_dict.get("TEST", {}).get("NAME")
    return name == test_name or name.startswith(TEST_DATABASE_PREFIX) or "memorydb" in name


def _execute(cursor: Any, sql: str, values: Sequence[Any]) -> Rows:
    cursor.execute(sql, values)
    return _fetch_rows(cursor)


def _fetch_rows(cursor: Any) -> Rows:
    rows: Rows = cursor.fetchall() if cursor.description else []
    return rows


def _code(error: Error) -> str | None:
    """Return what PostgreSQL or SQLite calls an error."""
    cause = error.__cause__
    code: str | None = getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorname", None)
    return code


def _is_conflict(error: Error) -> bool:
    """Whether another try may succeed when somebody else is done."""
    return (_code(error) or "").startswith(_CONFLICTS)


def _is_broken(error: Error) -> bool:
    """Whether another try may succeed over another connection."""
    code = _code(error)
    return code == _READ_ONLY or (
        isinstance(error, (OperationalError, InterfaceError)) and code not in _OUT_OF_PATIENCE
    )


def _describe(error: Error) -> str:
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
