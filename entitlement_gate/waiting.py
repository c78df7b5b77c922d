"""Calling what a project plugged in, sync or async, from either door. Never here: what is called.

Django's rule holds: in an event loop a plain function runs in the thread where database connections live.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.core.exceptions import SynchronousOnlyOperation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from django.views import View

__all__ = ["Called", "acalled", "called", "is_async_class", "is_awaitable"]

_IN_A_LOOP = "this asks something async and cannot wait for it in an event loop: await the async twin instead"
_colours: WeakKeyDictionary[type, bool] = WeakKeyDictionary()


class Called:
    """A call to wait for. ``twin`` is the same thing written for an event loop, where there is one."""

    __slots__ = ("_args", "_call", "_twin")

    def __init__(self, call: Callable[..., Any], *args: Any, twin: Callable[..., Any] | None = None) -> None:
        self._call = call
        self._args = args
        self._twin = twin

    def wait(self) -> Any:
        """Call on this thread."""
        return called(self._call, *self._args)

    async def wait_async(self) -> Any:
        """Await what is async, and run what is not beside the loop."""
        return await acalled(self._twin or self._call, *self._args)


def called(call: Callable[..., Any], *args: Any) -> Any:
    """Return what a call gives, from this thread."""
    result = call(*args)
    return _waited_for(result) if is_awaitable(result) else result


def _waited_for(result: Any) -> Any:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return async_to_sync(_awaited)(result)
    close = getattr(result, "close", None)
    if close is not None:
        close()  # or Python warns that it was never awaited
    raise SynchronousOnlyOperation(_IN_A_LOOP)


async def acalled(call: Callable[..., Any], *args: Any) -> Any:
    """Return what a call gives, from an event loop."""
    if _is_async(call):
        return await call(*args)
    result = await sync_to_async(call)(*args)
    return await result if is_awaitable(result) else result


def is_awaitable(result: object) -> bool:
    """Whether to wait for what a call gave; ``inspect.isawaitable`` asks abstract classes too, at thrice the time."""
    return hasattr(result, "__await__")


def is_async_class(view_class: type[View]) -> bool:
    """Whether a view class is async; looked up once, as by ``as_view()``: Django's own look costs 5 us a request."""
    known = _colours.get(view_class)
    if known is None:
        known = _colours[view_class] = bool(view_class.view_is_async)
    return known


def _is_async(call: Callable[..., Any]) -> bool:
    """Whether it is a coroutine function, or an object that is called like one."""
    return iscoroutinefunction(call) or iscoroutinefunction(type(call).__call__)


async def _awaited(result: Awaitable[Any]) -> Any:
    """Await what a call gave, also where the call looked sync: a plain wrapper of async code."""
    return await result
