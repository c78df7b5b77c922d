"""One implementation, two doors: work written as a generator of waits, driven by a thread or by an event loop.

A generator yields something that can be waited for in both ways and is sent what came of it. Never here: what is
waited for.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Protocol, TypeVar

__all__ = ["Steps", "Waitable", "drive", "drive_async"]

T = TypeVar("T")


class Waitable(Protocol):
    """Something to wait for."""

    def wait(self) -> Any:
        """Block this thread until it is there."""

    async def wait_async(self) -> Any:
        """Leave the loop free until it is there."""


Steps = Generator[Waitable, Any, T]


def drive(steps: Steps[T]) -> T:
    """Run the steps on this thread."""
    told = None
    while True:
        try:
            waitable = steps.send(told)
        except StopIteration as end:
            result: T = end.value
            return result
        told = waitable.wait()


async def drive_async(steps: Steps[T]) -> T:
    """Run the steps in this event loop."""
    told = None
    while True:
        try:
            waitable = steps.send(told)
        except StopIteration as end:
            result: T = end.value
            return result
        told = await waitable.wait_async()
