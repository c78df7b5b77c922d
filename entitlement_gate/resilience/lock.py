"""A lock that nobody holds who has left its block, however that was; and weak sets that several threads use.

A time limit, a signal handler or ``PyThreadState_SetAsyncExc`` may raise between any two instructions: after a lock
was taken and before the block that would give it back, or on the way out of that block. A lock of ``threading`` then
stays held for the life of the process, and with it everything that it guards. Here whoever takes the lock leaves the
frame of its block, and Python knows of every frame whether it still runs.
"""

from __future__ import annotations

import sys
import time
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from weakref import WeakSet

__all__ = ["Lock", "has_ended", "members"]

_LONGEST_PAUSE = 0.001  # seconds between two looks whether the lock is free
_LONGER = 0.00005

_Turn = tuple[FrameType, dict[None, Any]]
"""Whose block it is, and who follows where that was left without giving the lock back."""


class Lock:
    """Lets one thread at a time into a ``with`` block, and into blocks within that or further down in what it calls.

    For blocks of a few statements in plain functions: the frame of a generator that waits looks as if it had ended.
    To take the lock is one ``dict.setdefault``, to give it back one ``dict.clear``: there is no instant at which it is
    held and nobody knows by whom.
    """

    __slots__ = ("_inner", "_turn")

    def __init__(self) -> None:
        self._turn: dict[None, _Turn] = {}
        self._inner: list[FrameType] = []  # the blocks further down

    def __enter__(self) -> None:
        turn: _Turn = sys._getframe(1), {}  # noqa: SLF001 - the block's frame; `inspect` has no quick way to it
        if self._turn.setdefault(None, turn) is not turn:
            self._wait(turn)

    def __exit__(self, *_: object) -> None:
        if self._inner and self._inner[-1] is sys._getframe(1):  # noqa: SLF001 - as above
            self._inner.pop()
        else:
            self._inner.clear()
            self._turn.clear()

    def _wait(self, turn: _Turn) -> None:
        pause = 0.0  # gives way to the holder first, who needs no more than that as a rule
        while (holder := self._taken(turn)) is not turn:
            if _is_within(holder[0], turn[0]):
                self._inner.append(turn[0])
                return
            time.sleep(pause)
            pause = min(pause + _LONGER, _LONGEST_PAUSE)

    def _taken(self, turn: _Turn) -> _Turn:
        """Return whose turn it is: the given one's, where the lock is free or nobody is there to give it back."""
        first = holder = self._turn.setdefault(None, turn)
        while holder is not turn and has_ended(holder[0]):
            holder = holder[1].setdefault(None, turn)
        # A holder that has ended may have given the lock back just before: then it is not this one's to inherit.
        return holder if self._turn.get(None) is first else first


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


def members(some: WeakSet[Member]) -> tuple[Member, ...]:
    """Return who is in a set now; others may come meanwhile, on which Python gives up walking it."""
    while True:
        try:
            return tuple(some)
        except RuntimeError:
            continue
