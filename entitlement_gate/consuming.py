"""A view that uses something up: held before it runs, committed once its answer is sent, released if it fails.

What a view gives back without raising counts, unless it says that it failed: a response with a status of 400 or more,
or a pair ``(status, body)`` of Django Ninja. An answer that is not written yet is settled where it ends:

=============================  =======================================  ================================
the answer                     counts when                              is given back when
=============================  =======================================  ================================
a template response            it is rendered                           rendering it fails
a streaming response           its body was read to the end             its body fails, or is closed before
either, replaced by another    the request ends                         the request ends in an exception
=============================  =======================================  ================================

Within a transaction, ``ATOMIC_REQUESTS`` or ``atomic`` around the view, it counts when that is committed, and is given
back when it is rolled back. Never here: whether it may be held (``guarding``), or how a ledger counts (``ledger``).
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Self

from asgiref.sync import iscoroutinefunction
from django.core.signals import got_request_exception
from django.http import HttpResponseBase

from entitlement_gate.marks import operations_of
from entitlement_gate.runtime.steps import Steps, drive, drive_async
from entitlement_gate.transactions import Transactions
from entitlement_gate.waiting import is_awaitable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from django.http import HttpRequest

    from entitlement_gate.guarding import Guard
    from entitlement_gate.runtime.reservation import Reservation

__all__ = ["acounted", "awaited", "counted", "settling_replaced"]

_FAILED = 400  # the first status that is no success
_STATUSES = range(100, 600)
_BODILESS = (204, 304)  # no server sends the body of such a response, nor that of an answer to HEAD


def counted(guard: Guard, request: HttpRequest, view: Callable[[], Any]) -> Any:
    """Return what the view answers, or what a refused request is answered."""
    refused, reservation = drive(guard.holding(request))
    if reservation is None:
        return view() if refused is None else refused
    hold = _Hold(reservation)
    try:
        response = view()
    except BaseException:
        hold.conclude(has_failed=True)
        raise
    has_failed = _has_failed(request, response)
    is_in_transactions = hold.heed_transactions() and not has_failed
    if _is_left_to_its_end(hold, request, response):
        return response
    if is_in_transactions:
        hold.wait_for_transactions(request, response)
    else:
        hold.conclude(has_failed=has_failed)
    return response


async def acounted(guard: Guard, request: HttpRequest, view: Callable[[], Any]) -> Any:
    """Return the same in an event loop; a client that leaves cancels the view, which releases."""
    refused, reservation = await drive_async(guard.holding(request))
    if reservation is None:
        return refused if refused is not None else await awaited(view())
    hold = _Hold(reservation)
    try:
        response = await awaited(view())
    except BaseException as error:
        await hold.agive_back(error)
        raise
    if not _is_left_to_its_end(hold, request, response):
        await hold.aconclude(has_failed=_has_failed(request, response))
    return response


async def awaited(response: Any) -> Any:
    """Return what an async view gives; a decorator that took an async ``dispatch`` for a sync one may give it plain."""
    return await response if is_awaitable(response) else response


def settling_replaced(request: HttpRequest, response: HttpResponseBase | None) -> Steps[None]:
    """Settle what waits for the end of a response that this one took the place of; without one, a client has left."""
    for hold in _waiting_holds(request):
        if response is None or not hold.is_of(response):
            yield from hold.concluding(has_failed=response is None or response.status_code >= _FAILED)


def _has_failed(request: HttpRequest, answer: Any) -> bool:
    """Whether this is no answer that a customer would pay for."""
    status = getattr(answer, "status_code", None)  # a response; Ninja's `Status` too
    if status is None and isinstance(answer, tuple) and len(answer) == len(("status", "body")):
        status = answer[0]
    if isinstance(status, int) and status in _STATUSES:
        return status >= _FAILED
    # Django and Django REST framework fail on a view that forgets its response; Ninja answers for the operation.
    is_forgotten = answer is None and not operations_of(getattr(request.resolver_match, "func", None))
    return is_forgotten or is_awaitable(answer)  # which nobody awaits: the view looked sync


def _is_left_to_its_end(hold: _Hold, request: HttpRequest, response: Any) -> bool:
    """Whether what is held is settled later: at the end of what is not written yet."""
    if _has_failed(request, response):
        return False
    if getattr(response, "streaming", False):
        if request.method == "HEAD" or response.status_code in _BODILESS:
            return False
        hold.wait_for(request, response)
        body = _AsyncBody if response.is_async else _Body
        response.streaming_content = body(response.streaming_content, _Closed(hold))
        return True
    if not getattr(response, "is_rendered", True):
        hold.wait_for(request, response)
        response.render = _rendering(response, hold)
        return True
    return False


class _Hold:
    """What is held for a request. Whoever first knows how that ended concludes it; else it returns."""

    def __init__(self, reservation: Reservation) -> None:
        self._open = [reservation]  # of several threads one takes it
        self._response: Callable[[], object] = lambda: None
        self._transactions: Transactions | None = None
        self._is_due_with_them = False

    def concluding(self, *, has_failed: bool) -> Steps[None]:
        """Commit or release, once, whoever cancels meanwhile; what was rolled back failed, whatever was answered."""
        reservation = self._take()
        if reservation is not None:
            is_undone = self._transactions is not None and self._transactions.is_one_undone
            yield from reservation.concluding(has_failed=has_failed or is_undone)

    def conclude(self, *, has_failed: bool) -> None:
        """Do so on this thread."""
        drive(self.concluding(has_failed=has_failed))

    async def aconclude(self, *, has_failed: bool) -> None:
        """Do so in this event loop."""
        await drive_async(self.concluding(has_failed=has_failed))

    async def agive_back(self, error: BaseException) -> None:
        """Release, once, because of an error; of a coroutine that is destroyed, without waiting."""
        reservation = self._take()
        if reservation is not None:
            await drive_async(reservation.abandoning(error))

    def wait_for(self, request: HttpRequest, response: Any) -> None:
        """Leave the conclusion to the end of the response or, where another takes its place, of the request."""
        if isinstance(response, HttpResponseBase):  # a framework makes one of anything else
            self._response = weakref.ref(response)
        end = vars(request).get("close")
        if not isinstance(end, _RequestEnd):
            end = _RequestEnd(request)
            request.close = end  # type: ignore[method-assign]  # Django closes a request after its last response
        end.holds.append(self)

    def heed_transactions(self) -> bool:
        """Let what becomes of the transactions around the view count; return whether there are any."""
        self._transactions = Transactions(self._kept)
        return self._transactions.are_open

    def wait_for_transactions(self, request: HttpRequest, response: Any) -> None:
        """Leave the conclusion to them or, where they are rolled back or go on, to the end of the request."""
        self._is_due_with_them = True
        self.wait_for(request, response)

    def _kept(self) -> None:
        if self._is_due_with_them:
            self.conclude(has_failed=False)

    def is_of(self, response: HttpResponseBase) -> bool:
        """Whether it waits for the end of this response."""
        return self._response() is response

    def _take(self) -> Reservation | None:
        try:
            return self._open.pop()
        except IndexError:
            return None

    def __del__(self) -> None:
        reservation = self._take()
        if reservation is not None:  # a client left between the view and its answer, which nobody closed
            reservation.give_back_elsewhere()


class _RequestEnd:
    """Stands for ``request.close``, and settles what nothing else did.

    Of a response that another took the place of, nobody tells: it is neither rendered, sent nor closed.
    """

    def __init__(self, request: HttpRequest | None = None) -> None:
        self._request = weakref.ref(request) if request is not None else lambda: None
        self.holds: list[_Hold] = []

    def __call__(self) -> None:
        request = self._request()
        if request is not None:
            type(request).close(request)
        self.settle(has_failed=False)

    def settle(self, *, has_failed: bool) -> None:
        for hold in self.holds:
            hold.conclude(has_failed=has_failed)

    def __reduce__(self) -> tuple[Any, ...]:
        return _RequestEnd, ()  # a request is pickled without what is held for it


def _waiting_holds(request: HttpRequest) -> list[_Hold]:
    end = vars(request).get("close")
    return end.holds if isinstance(end, _RequestEnd) else []


def _fail(*, request: HttpRequest | None = None, **_: Any) -> None:
    """Give back what a request holds that ends in an exception: what the view answered was not sent."""
    for hold in _waiting_holds(request) if request is not None else ():
        hold.conclude(has_failed=True)


got_request_exception.connect(_fail, dispatch_uid="entitlement_gate.consuming")


def _rendering(response: Any, hold: _Hold) -> Callable[[], Any]:
    """Return what renders a template response and concludes: no callback of Django's hears that rendering failed."""
    original = response.render

    def begin() -> Any:
        vars(response).pop("render", None)  # a response that is cached is pickled
        return original()

    def has_failed(rendered: Any) -> bool:
        return bool(getattr(rendered, "status_code", _FAILED) >= _FAILED)

    def render() -> Any:
        try:
            rendered = begin()
        except BaseException:
            hold.conclude(has_failed=True)
            raise
        hold.conclude(has_failed=has_failed(rendered))
        return rendered

    async def render_async() -> Any:
        try:
            rendered = await begin()
        except BaseException as error:
            await hold.agive_back(error)
            raise
        await hold.aconclude(has_failed=has_failed(rendered))
        return rendered

    return render_async if iscoroutinefunction(original) else render


class _Closed:
    """Called when Django closes a streaming response: at its end, or when the client left."""

    def __init__(self, hold: _Hold) -> None:
        self.hold = hold
        self.is_begun = False
        self.body: Callable[[], object] = lambda: None

    def __call__(self) -> None:
        # A body that is gone without having been read made room for what a middleware sent instead.
        self.hold.conclude(has_failed=self.is_begun or self.body() is not None)


class _Body:
    """A streaming body that concludes at its end: committed where it was read, released where it fails."""

    def __init__(self, parts: Iterator[bytes], closed: _Closed) -> None:
        self._parts = parts
        self.close = closed  # what Django keeps of a body, to call it: not a method, which would keep the body too
        closed.body = weakref.ref(self)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        self.close.is_begun = True
        try:
            return next(self._parts)
        except StopIteration:
            self.close.hold.conclude(has_failed=False)
            raise
        except BaseException:
            self.close.hold.conclude(has_failed=True)
            raise


class _AsyncBody:
    """The same for an event loop, whose responses Django closes on a thread."""

    def __init__(self, parts: AsyncIterator[bytes], closed: _Closed) -> None:
        self._parts = parts
        self.close = closed
        closed.body = weakref.ref(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        self.close.is_begun = True
        try:
            return await anext(self._parts)
        except StopAsyncIteration:
            await self.close.hold.aconclude(has_failed=False)
            raise
        except BaseException as error:
            await self.close.hold.agive_back(error)
            raise
