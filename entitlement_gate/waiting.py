"""Calling what a project plugged in, sync or async, from either door. Never here: what is called.

Django's rule holds: in an event loop a plain function runs in the thread where database connections live.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Called"]


class Called:
    """A call to wait for. ``twin`` is the same thing written for an event loop, where there is one."""

    __slots__ = ("_args", "_call", "_twin")

    def __init__(self, call: Callable[..., Any], *args: Any, twin: Callable[..., Any] | None = None) -> None:
        self._call = call
        self._args = args
        self._twin = twin

    def wait(self) -> Any:
        """Call on this thread."""
        if iscoroutinefunction(self._call):
            return async_to_sync(self._call)(*self._args)
        return self._call(*self._args)

    async def wait_async(self) -> Any:
        """Await what is async, and run what is not beside the loop."""
        if self._twin is not None:
            return await self._twin(*self._args)
        if iscoroutinefunction(self._call):
            return await self._call(*self._args)
        return await sync_to_async(self._call)(*self._args)
