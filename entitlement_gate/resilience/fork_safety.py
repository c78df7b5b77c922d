"""What neither an exception nor a fork may leave behind: a lock that nobody gives back, a connection that two share.

A time limit, a signal handler or ``PyThreadState_SetAsyncExc`` may raise between any two instructions: after a lock
was taken and before the block that would give it back, or on the way out of that block. A lock of ``threading`` then
stays held for the life of the process, and with it everything that it guards. A ``Lock`` of ours holds the frame of the
block that took it, and Python knows of every frame whether it still runs.

An ``httpx.Client`` that two processes share hands one process the other's answers, and a lock that another thread of
the parent held as it forked is never released in the child.

Two ways lead to ``remake()``. Python's own ``os.fork`` runs it at once. A server that forks from C, as uWSGI does,
tells Python nothing: so whoever reads a ``PerProcess`` attribute looks at the process's id first. Everything that
belongs to one process is such an attribute; what is answered from memory reads none.
"""

from __future__ import annotations

import os
import random
import sys
import time
import weakref
from functools import cache
from types import FrameType
from typing import Any, Generic, Protocol, TypeVar

__all__ = [
    "Lock",
    "Locked",
    "PerProcess",
    "Remade",
    "abandon",
    "chance",
    "has_ended",
    "members",
    "notice_fork",
    "remake_after_fork",
]

_LONGEST_PAUSE = 0.001  # seconds between two looks whether the lock is free
_LONGER = 0.00005

_Claim = tuple[FrameType, dict[None, Any]]
"""The frame whose block it is, and the claim that follows where the block was left without giving the lock back."""


class Lock:
    """Lets one thread at a time into a ``with`` block, and into blocks within that or further down in what it calls.

    For blocks of a few statements in plain functions: the frame of a generator that waits looks as if it had ended.
    To take the lock is one ``dict.setdefault``, to give it back one ``dict.clear``: there is no instant at which it is
    held and nobody knows by whom.
    """

    __slots__ = ("_claims", "_inner")

    def __init__(self) -> None:
        self._claims: dict[None, _Claim] = {}
        self._inner: list[FrameType] = []  # the blocks further down

    def __enter__(self) -> None:
        claim: _Claim = sys._getframe(1), {}  # noqa: SLF001 - the block's frame; `inspect` has no quick way to it
        if self._claims.setdefault(None, claim) is not claim:
            self._wait(claim)

    def __exit__(self, *_: object) -> None:
        if self._inner and self._inner[-1] is sys._getframe(1):  # noqa: SLF001 - as above
            self._inner.pop()
        else:
            self._inner.clear()
            self._claims.clear()

    def _wait(self, claim: _Claim) -> None:
        pause = 0.0  # gives way to the holder first, who needs no more than that as a rule
        while (holder := self._find_holder(claim)) is not claim:
            if _is_within(holder[0], claim[0]):
                self._inner.append(claim[0])
                return
            time.sleep(pause)
            pause = min(pause + _LONGER, _LONGEST_PAUSE)

    def _find_holder(self, claim: _Claim) -> _Claim:
        """Return who holds the lock: this claim, where it is free or nobody is there to give it back."""
        first = holder = self._claims.setdefault(None, claim)
        while holder is not claim and has_ended(holder[0]):
            holder = holder[1].setdefault(None, claim)
        # A holder that has ended may have given the lock back just before: then it is not this one's to inherit.
        return holder if self._claims.get(None) is first else first


def has_ended(frame: FrameType) -> bool:
    """Return whether a function was left, in whatever way; its local variables are nobody's then."""
    try:
        frame.clear()
    except RuntimeError:  # it runs, in whatever thread or greenlet
        return False
    return True


def _is_within(holder: FrameType, frame: FrameType) -> bool:
    """Whether the holder wants the lock again: by way of what it called, a signal handler say, or itself.

    Itself where it was struck on the way into a block, or out of it, and goes on all the same.
    """
    caller: FrameType | None = frame
    while caller is not None and caller is not holder:
        caller = caller.f_back
    return caller is holder


Member = TypeVar("Member")


def members(weak_set: weakref.WeakSet[Member]) -> tuple[Member, ...]:
    """Return who is in a set now; others may come meanwhile, on which Python gives up walking it."""
    while True:
        try:
            return tuple(weak_set)
        except RuntimeError:
            continue


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
