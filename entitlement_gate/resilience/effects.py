"""One implementation, two doors: work written as a generator of waits, driven by a thread or by an event loop.

A generator yields something that can be waited for in both ways and is sent what came of it. What a wait raises, a
cancellation too, is raised where the generator waits, which may have something to give back. Never here: what is
waited for.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Protocol, TypeVar

__all__ = [
    "Effects",
    "Waitable",
    "run_async",
    "run_sync",
]


T = TypeVar("T")


class Waitable(Protocol):
    """Something to wait for."""

    def wait(self) -> Any:
        """Block this thread until it is there."""

    async def wait_async(self) -> Any:
        """Leave the loop free until it is there."""


Effects = Generator[Waitable, Any, T]


def run_sync(steps: Effects[T]) -> T:
    """Run the steps on this thread."""
    try:
        waitable = next(steps)
        while True:
            try:
                told = waitable.wait()
            except BaseException as error:  # noqa: BLE001 - the steps let it go on, once they know
                waitable = steps.throw(error)
            else:
                waitable = steps.send(told)
    except StopIteration as end:
        result: T = end.value
        return result


async def run_async(steps: Effects[T]) -> T:
    """Run the steps in this event loop."""
    try:
        waitable = next(steps)
        while True:
            try:
                told = await waitable.wait_async()
            except BaseException as error:  # noqa: BLE001 - as above
                waitable = steps.throw(error)
            else:
                waitable = steps.send(told)
    except StopIteration as end:
        result: T = end.value
        return result
