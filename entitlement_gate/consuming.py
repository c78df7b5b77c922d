"""A view that uses something up: held before it runs, committed once its answer is sent, released if it fails.

Never here: whether it may be held (``guarding``), or how a ledger counts (``ledger``).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

from entitlement_gate.runtime.bounded import Asked
from entitlement_gate.runtime.steps import Steps, drive, drive_async
from entitlement_gate.waiting import is_awaitable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from django.http import HttpRequest

    from entitlement_gate.guarding import Guard
    from entitlement_gate.runtime.reservation import Reservation

__all__ = ["acounted", "awaited", "counted"]

_FAILED = 400  # the first status that is no success


def counted(guard: Guard, request: HttpRequest, view: Callable[[], Any]) -> Any:
    """Return what the view answers, or what a refused request is answered."""
    refused, held = drive(guard.holding(request))
    if held is None:
        return view() if refused is None else refused
    try:
        response = view()
    except BaseException:
        drive(held.concluding(has_failed=True))
        raise
    return drive(_concluded(held, response))


async def acounted(guard: Guard, request: HttpRequest, view: Callable[[], Any]) -> Any:
    """Return the same in an event loop; a client that leaves cancels the view, which releases."""
    refused, held = await _held(guard.holding(request))
    if held is None:
        return refused if refused is not None else await awaited(view())
    try:
        response = await awaited(view())
    except BaseException:
        await drive_async(held.concluding(has_failed=True))
        raise
    return await drive_async(_concluded(held, response))


async def awaited(response: Any) -> Any:
    """Return what an async view gives; a decorator that took an async ``dispatch`` for a sync one may give it plain."""
    return await response if is_awaitable(response) else response


async def _held(steps: Steps[tuple[Any, Reservation | None]]) -> tuple[Any, Reservation | None]:
    """Return what ``drive_async`` does. Of a client that leaves while a thread asks the ledger, nothing stays held.

    That thread cannot be stopped: without its answer nobody could give back what it got.
    """
    told, gone = None, None
    while True:
        try:
            waitable = steps.send(told)
        except StopIteration as end:
            return await _kept(end.value, gone)
        if isinstance(waitable, Asked):
            told, left = await _answered(waitable)
            gone = gone or left
        elif gone is None:
            told = await waitable.wait_async()
        else:
            raise gone  # what follows a refusal: nothing is held


async def _kept(
    outcome: tuple[Any, Reservation | None], gone: asyncio.CancelledError | None
) -> tuple[Any, Reservation | None]:
    """Return what came out; give it back where nobody is there any more."""
    if gone is None:
        return outcome
    if outcome[1] is not None:
        await drive_async(outcome[1].concluding(has_failed=True))
    raise gone


async def _answered(asked: Asked) -> tuple[Any, asyncio.CancelledError | None]:
    """Return what the ledger says, and why nobody wants to know any more."""
    asking = asyncio.ensure_future(asked.wait_async())
    try:
        return await asyncio.shield(asking), None
    except asyncio.CancelledError as gone:
        return await asking, gone


def _concluded(held: Reservation, response: Any) -> Steps[Any]:
    """Commit, release, or leave that to the end of what is not written yet."""
    if _has_failed(response):
        yield from held.concluding(has_failed=True)
    elif getattr(response, "streaming", False):
        body = _AsyncBody if response.is_async else _Body
        response.streaming_content = body(response.streaming_content, held)
    elif not getattr(response, "is_rendered", True):
        response.render = _Rendering(response, held)
    else:
        yield from held.concluding(has_failed=False)
    return response


def _has_failed(response: Any) -> bool:
    """Whether this is no answer that a customer would pay for; what is no response at all becomes an error."""
    return bool(getattr(response, "status_code", _FAILED) >= _FAILED)


class _Rendering:
    """Renders a template response in place of its own method, which tells nobody where it fails, and concludes."""

    def __init__(self, response: Any, held: Reservation) -> None:
        self._response = response
        self._render = response.render
        self._held = held

    def __call__(self) -> Any:
        vars(self._response).pop("render", None)  # a response that is cached is pickled
        try:
            rendered = self._render()
        except BaseException:
            drive(self._held.concluding(has_failed=True))
            raise
        drive(self._held.concluding(has_failed=_has_failed(rendered)))
        return rendered


class _Body:
    """A streaming body: commits when it is at its end, releases when it is closed before.

    Django closes it after the last part, and when a client left.
    """

    def __init__(self, parts: Iterator[bytes], held: Reservation) -> None:
        self._parts = parts
        self._held = held

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._parts)
        except StopIteration:
            drive(self._held.concluding(has_failed=False))
            raise

    def close(self) -> None:
        drive(self._held.concluding(has_failed=True))


class _AsyncBody:
    """The same for an event loop, whose responses Django closes on a thread."""

    def __init__(self, parts: AsyncIterator[bytes], held: Reservation) -> None:
        self._parts = parts
        self._held = held

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._parts)
        except StopAsyncIteration:
            await drive_async(self._held.concluding(has_failed=False))
            raise

    def close(self) -> None:
        drive(self._held.concluding(has_failed=True))
