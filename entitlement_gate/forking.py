"""What must not outlive a fork: locks, threads and connections are made anew in the child.

Never here: what they are. An ``httpx.Client`` that two processes share hands one process the other's answers.
"""

from __future__ import annotations

import os
import weakref
from functools import cache
from typing import Protocol

__all__ = ["Remade", "remake_after_fork"]


class Remade(Protocol):
    """Something that can be put back to its first state."""

    def remake(self) -> None:
        """Replace locks, threads and connections, touching none of the old ones."""


_alive: weakref.WeakSet[Remade] = weakref.WeakSet()


def remake_after_fork(thing: Remade) -> None:
    """Call ``thing.remake()`` in every child process, for as long as the thing lives."""
    _watch_forks()
    _alive.add(thing)


@cache  # a registration cannot be taken back: one for the life of the process
def _watch_forks() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_remake_all)


def _remake_all() -> None:
    for thing in tuple(_alive):
        thing.remake()
