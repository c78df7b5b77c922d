"""Project code on threads of ours may use Django's databases; what Django does around a request is done around it.

Django looks after the connections of the threads that answer requests. One of ours that PostgreSQL cut off, or that is
older than ``CONN_MAX_AGE``, would be used for ever. Never here: connections of ours (``usage.connection``).
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["closing_connections", "tended_connections"]

T = TypeVar("T")


@contextmanager
def tended_connections() -> Iterator[None]:
    """Close this thread's connections that are dead or have had their time, before the block and after it."""
    _ask_django("close_old_connections")
    try:
        yield
    finally:
        _ask_django("close_old_connections")


def closing_connections(target: Callable[[], T]) -> T:
    """Run a thread's target, and close the thread's connections as it ends: nobody else can."""
    try:
        return target()
    finally:
        _ask_django("connections.close_all")
        _close_those_in_memory()


def _close_those_in_memory() -> None:
    """Close what Django keeps open: its SQLite in memory, as in a test run, of which this thread had a handle."""
    for connection in _ask_django("connections.all", True) or ():  # noqa: FBT003 - Django's own order
        handle = connection.connection
        if handle is not None:
            connection.connection = None
            handle.close()


def _ask_django(call: str, *args: object) -> Any:
    # Who never imported it has no connection: this is no reason to import it, in a script without Django's settings.
    database = sys.modules.get("django.db")
    if database is None or not sys.modules["django.conf"].settings.configured:
        return None
    try:
        return attrgetter(call)(database)(*args)
    except Exception:  # noqa: BLE001 - a driver could not close: the next use of the connection says what is wrong
        return None
