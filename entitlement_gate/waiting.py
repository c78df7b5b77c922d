"""Calling a project's code, sync or async, from sync and async code.

Django's rule holds: in an event loop a plain function runs in the thread where database connections live. A sync
call on the thread of a running loop blocks that loop; what is async is then awaited on another thread.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from inspect import signature
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async

from entitlement_gate.resilience.database_connections import closing_connections

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.views import View

__all__ = ["Invocation", "await_result", "is_async_class", "is_awaitable", "run_beside_loop", "takes"]

_colours: WeakKeyDictionary[type, bool] = WeakKeyDictionary()


class Invocation:
    """A call to wait for. ``twin`` is the same thing written for an event loop, where there is one."""

    __slots__ = ("_args", "_call", "_twin")

    def __init__(self, call: Callable[..., Any], *args: Any, twin: Callable[..., Any] | None = None) -> None:
        self._call = call
        self._args = args
        self._twin = twin

    def wait(self) -> Any:
        """Call on this thread; what is async, and what only looked sync, has its own loop."""
        result = self._call(*self._args)
        return run_beside_loop(async_to_sync(await_result), result) if is_awaitable(result) else result

    async def wait_async(self) -> Any:
        """Await what is async, and run what is not beside the loop."""
        call = self._twin or self._call
        is_async = iscoroutinefunction(call) or iscoroutinefunction(type(call).__call__)
        return await await_result(await (call if is_async else sync_to_async(call))(*self._args))


async def await_result(result: Any) -> Any:
    """Return what a call gave, awaited where it is to be: a plain wrapper of async code looks sync.

    What gives another awaitable is awaited too: both doors come to the same.
    """
    while is_awaitable(result):
        result = await result
    return result


def takes(call: Callable[..., Any], count: int) -> bool:
    """Return whether a call can be made with so many arguments, as far as that can be known before.

    A decorator's ``@wraps`` shows the signature of what it wraps, and may pass on other arguments than it takes.
    """
    try:
        signature(call, follow_wrapped=False).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # what is not written in Python may have no signature
        return True
    return True


def run_beside_loop(call: Callable[..., Any], *args: Any) -> Any:
    """Return what a call gives: called here, or on a thread of its own where a loop runs on this one.

    There it has a loop of its own, and waits for nothing of the one that stands still meanwhile.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return call(*args)
    with ThreadPoolExecutor(1, thread_name_prefix="entitlement_gate-beside-loop") as thread:
        return thread.submit(copy_context().run, closing_connections, partial(call, *args)).result()


def is_awaitable(result: object) -> bool:
    """Whether to wait for what a call gave; ``inspect.isawaitable`` asks abstract classes too, at thrice the time."""
    return hasattr(result, "__await__")


def is_async_class(view_class: type[View]) -> bool:
    """Whether a view class is async; looked up once, as by ``as_view()``: Django's own look costs 5 us a request."""
    is_async = _colours.get(view_class)
    if is_async is None:
        is_async = _colours[view_class] = bool(view_class.view_is_async)
    return is_async
