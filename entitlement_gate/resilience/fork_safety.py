"""What must not outlive a fork: locks, threads and connections are made anew in the child.

An ``httpx.Client`` that two processes share hands one process the other's answers, and a lock that another thread of
the parent held as it forked is never released in the child.

Two ways lead to ``remake()``. Python's own ``os.fork`` runs it at once. A server that forks from C, as uWSGI does,
tells Python nothing: so whoever reads a ``PerProcess`` attribute looks at the process's id first. Everything that
belongs to one process is such an attribute; what is answered from memory reads none.
"""

from __future__ import annotations

import os
import random
import weakref
from functools import cache
from typing import Any, Generic, Protocol, TypeVar

from entitlement_gate.resilience.lock import Lock, members

__all__ = ["Locked", "PerProcess", "Remade", "abandon", "chance", "notice_fork", "remake_after_fork"]

Value = TypeVar("Value")

chance = random.SystemRandom()
"""What spreads load: ``random`` itself says the same in every child of a fork that Python was not told of."""


class Remade(Protocol):
    """Something that can be put back to its first state."""

    def remake(self) -> None:
        """Replace locks, threads and connections, touching none of the old ones."""


class PerProcess(Generic[Value]):
    """An attribute that ``remake()`` sets: who reads it has noticed a fork, and finds what is of this process."""

    def __set_name__(self, _: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, _: type | None = None) -> Value:
        if os.getpid() != _Process.pid:  # `notice_fork`, written out: this is read at each use of a lock
            notice_fork()
        value: Value = instance.__dict__[self._name]
        return value

    def __set__(self, instance: Any, value: Value) -> None:
        instance.__dict__[self._name] = value


class Locked:
    """Something of which a lock is all that belongs to one process."""

    _lock: PerProcess[Lock] = PerProcess()

    def __init__(self) -> None:
        self.remake()
        remake_after_fork(self)

    def remake(self) -> None:
        """Make the lock anew, as in a process just forked."""
        self._lock = Lock()


class _Process:
    """The process that everything alive was made, or made anew, for.

    Attributes:
        pid: its id.
        heir: the id of a process that is taking over; 0 where none is.
    """

    pid = os.getpid()
    heir = 0


_alive: weakref.WeakSet[Remade] = weakref.WeakSet()
_abandoned: list[object] = []
_takeovers: dict[int, Lock] = {}  # by process


def remake_after_fork(thing: Remade) -> None:
    """Call ``thing.remake()`` in every child process, for as long as the thing lives."""
    notice_fork()
    _watch_forks()
    _alive.add(thing)


def abandon(connections: object) -> None:
    """Keep connections of the parent, untouched: to let go of one is to close it, and the parent still uses it.

    PostgreSQL ends the session that both share when one says goodbye; SQLite's file is not to be closed from a child
    at all (see its "How To Corrupt An SQLite Database File").
    """
    _abandoned.append(connections)


def notice_fork() -> None:
    """Make anew what came over a fork, unless that was done; else it costs a look at the process's id."""
    pid = os.getpid()
    if pid != _Process.pid:
        _take_over(pid)


def _take_over(pid: int) -> None:
    """Remake everything, once, whichever threads of the process come first; the others wait until it is done."""
    with _takeovers.setdefault(pid, Lock()):  # made in this process: no thread of the parent holds it
        if pid in {_Process.pid, _Process.heir}:  # another thread did it, or this one is doing it
            return
        _Process.heir = pid
        try:
            for thing in members(_alive):
                thing.remake()
            _Process.pid = pid
        finally:
            _Process.heir = 0
    _takeovers.clear()


@cache  # a registration cannot be taken back: one for the life of the process
def _watch_forks() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_be_a_child)


def _be_a_child() -> None:
    _Process.pid = _Process.heir = 0  # whatever the child's id: in a namespace of its own it may be the parent's
    notice_fork()
