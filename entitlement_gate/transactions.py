"""Whether what a view wrote to the databases is kept: known when the transactions around it have ended, not before.

Never here: what depends on it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from django.db import connections

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["Transactions"]


class Transactions:
    """Those that are open on this thread when this is made: ``ATOMIC_REQUESTS``, or ``atomic`` around a view.

    The one that Django's ``TestCase`` puts around a test never ends, and is none.

    Args:
        kept: called once all of them have been committed; never raises.
    """

    def __init__(self, kept: Callable[[], None]) -> None:
        self._kept = kept
        self._hooks: dict[BaseDatabaseWrapper, Callable[[], None]] = {}
        for connection in connections.all(initialized_only=True):
            if _is_open(connection):
                self._hooks[connection] = hook = partial(self._committed, connection)
                connection.on_commit(hook, robust=True)

    @property
    def are_open(self) -> bool:
        """Whether some have not been committed."""
        return bool(self._hooks)

    @property
    def is_one_undone(self) -> bool:
        """Whether one was rolled back, with all that was to be done after it; one that goes on was not."""
        return not all(_is_to_come(hook, connection) for connection, hook in self._hooks.items())

    def _committed(self, connection: BaseDatabaseWrapper) -> None:
        del self._hooks[connection]
        if not self._hooks:
            self._kept()


def _is_open(connection: BaseDatabaseWrapper) -> bool:
    blocks = connection.atomic_blocks if connection.in_atomic_block else ()
    return not all(getattr(block, "_from_testcase", False) for block in blocks)


def _is_to_come(hook: Callable[[], None], connection: BaseDatabaseWrapper) -> bool:
    return any(entry[1] is hook for entry in connection.run_on_commit)
