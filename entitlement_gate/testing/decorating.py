"""A context manager as a decorator of whatever tests are made of. Never here: what the context does.

A class carries its contexts in an attribute of its own, so that those of its bases are entered first, once, and
whichever way the class is set up.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from functools import wraps
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import TYPE_CHECKING, Any
from unittest import TestCase

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

__all__ = ["decorated"]

Context = AbstractContextManager[Any]

_OWN = "_entitlement_overrides"
_IS_ENTERED = "_entitlement_overrides_are_entered"


def decorated(context: Context, target: Any) -> Any:
    """Return the function or class with the context around each call, or around all of the class.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(target, type):
        setattr(target, _OWN, (context, *_own(target)))
        return _test_case(target) if issubclass(target, TestCase) else _pytest_class(target)
    if not callable(target):
        raise TypeError(f"decorates functions and test classes, not {target!r}")
    kinds = (
        (iscoroutinefunction, _coroutine),
        (isasyncgenfunction, _async_generator),
        (isgeneratorfunction, _generator),
    )
    wrap = next((wrap for is_kind, wrap in kinds if is_kind(target)), _function)
    return wraps(target)(wrap(context, target))


def _function(context: Context, target: Callable[..., Any]) -> Callable[..., Any]:
    def within(*args: Any, **kwargs: Any) -> Any:
        with context:
            return target(*args, **kwargs)

    return within


def _coroutine(context: Context, target: Callable[..., Any]) -> Callable[..., Any]:
    async def within(*args: Any, **kwargs: Any) -> Any:
        with context:
            return await target(*args, **kwargs)

    return within


def _generator(context: Context, target: Callable[..., Any]) -> Callable[..., Any]:
    def within(*args: Any, **kwargs: Any) -> Iterator[Any]:
        with context:
            yield from target(*args, **kwargs)

    return within


def _async_generator(context: Context, target: Callable[..., Any]) -> Callable[..., Any]:
    async def within(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        with context:
            async for item in target(*args, **kwargs):
                yield item

    return within


def _test_case(target: type[TestCase]) -> type[TestCase]:
    """Enter before ``setUpClass`` and leave after ``tearDownClass``: ``setUpTestData`` asks gates too."""
    own = vars(target).get("setUpClass")

    def set_up_class(cls: type[TestCase]) -> None:
        if _IS_ENTERED not in vars(cls):
            stack = _entered(cls)
            setattr(cls, _IS_ENTERED, True)
            stack.callback(delattr, cls, _IS_ENTERED)
            cls.addClassCleanup(stack.close)
        # Not the inherited function itself, which would skip the siblings in multiple inheritance.
        parent: Any = super(target, cls)
        own.__get__(None, cls)() if own else parent.setUpClass()

    target.setUpClass = classmethod(set_up_class)  # type: ignore[assignment,method-assign]  # the point of it
    return target


def _pytest_class(target: type) -> type:
    """Enter by an autouse fixture of the class: pytest's own ``setup_method`` and function fixtures are inside."""
    import pytest  # noqa: PLC0415 - only a project that tests with it gets here

    def overridden(request: Any) -> Iterator[None]:
        nearest = next((cls for cls in request.cls.__mro__ if _own(cls)), target)
        if nearest is not target and issubclass(request.cls, target):
            yield  # the fixture of the subclass enters these, and its own inside them
            return
        with _entered(target):
            yield

    name = f"_entitlements_of_{target.__name__}"
    # A static method: pytest deprecates fixtures of a class's scope that take `self`.
    setattr(target, name, pytest.fixture(scope="class", autouse=True, name=name)(staticmethod(overridden)))
    return target


def _entered(target: type) -> ExitStack:
    """Enter the contexts of a class: its bases' first, then from the top of its decorators down."""
    with ExitStack() as stack:
        for cls in reversed(target.__mro__):
            for context in _own(cls):
                stack.enter_context(context)
        return stack.pop_all()


def _own(target: type) -> tuple[Context, ...]:
    own: tuple[Context, ...] = vars(target).get(_OWN, ())
    return own
