"""What is held for a request while it is answered, and when it counts.

What a view gives back without raising counts, unless it says that it failed: a response with a status of 400 or more,
the refusal of another gate, or a pair ``(status, body)`` of Django Ninja. An answer that is not written yet, or of
which somebody is still to make a response, is settled where it ends:

=============================  =======================================  ================================
the answer                     counts when                              is given back when
=============================  =======================================  ================================
a template response            it is rendered                           rendering it fails
a streaming response           its body was read to the end             its body fails, or is closed before
either, replaced by another    the request ends                         the request ends in an exception
what is no response            its response has a status below 400      that has 400 or more, or nothing comes of it
=============================  =======================================  ================================

Within a transaction, ``ATOMIC_REQUESTS`` or ``atomic`` around the view, it counts when that is committed, and is given
back when it is rolled back. What a rule holds is settled by the middleware, in the same way, by the response that it
gets: a transaction around the view has ended by then.

What is reserved, and of whom, is decided in ``guard``.
"""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from asgiref.sync import iscoroutinefunction
from django.core.signals import got_request_exception
from django.db import connections
from django.http import HttpResponseBase

from entitlement_gate.resilience.effects import Effects, run_async, run_sync
from entitlement_gate.waiting import await_result, is_awaitable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.http import HttpRequest

    from entitlement_gate.engine.reservations import Reservation

__all__ = [
    "RequestHold",
    "Transactions",
    "abandoning",
    "expect_response",
    "has_holds",
    "is_held_by",
    "mark_refusal",
    "releasing",
    "settling_operation",
    "settling_response",
]

_FAILED = 400  # the first status that is no success
_STATUSES = range(100, 600)
_BODILESS = (204, 304)  # no server sends the body of such a response, nor that of an answer to HEAD
_EXPECTED = "_entitlement_response_expected"
_REFUSAL = "_is_entitlement_refusal"


class RequestHold:
    """What is held for a request. Whoever first knows how that ended concludes it; if nobody does, it is released.

    Args:
        reservation: what is held.
        by: the rule that it is held for; None for a gate around a view.
    """

    def __init__(self, reservation: Reservation, by: object = None) -> None:
        self._open = [reservation]  # of several threads one takes it
        self._by = by
        self._response: Callable[[], object] = lambda: None
        self._transactions: Transactions | None = None
        self._is_due_with_them = False

    def run(self, request: HttpRequest, view: Callable[[], Any]) -> Any:
        """Return what the view answers, by which this is settled."""
        try:
            response = view()
        except BaseException:
            self.conclude(has_failed=True)
            raise
        run_sync(self.settling(request, response, is_in_thread=True))
        return response

    async def arun(self, request: HttpRequest, view: Callable[[], Any]) -> Any:
        """Return the same in an event loop; a client that leaves cancels the view, which releases."""
        try:
            response = await await_result(view())
        except BaseException as error:
            await run_async(self.abandoning(error))
            raise
        await run_async(self.settling(request, response))
        return response

    def settling(self, request: HttpRequest, response: Any, *, is_in_thread: bool = False) -> Effects[None]:
        """Settle by what was answered: now, or where its body, or the transactions around this thread, end."""
        has_failed = _has_failed(request, response)
        is_in_transactions = is_in_thread and self._watch_transactions() and not has_failed
        if not has_failed and self._is_left_to_its_end(request, response):
            return
        if is_in_transactions:
            self._is_due_with_them = True
            self.wait_for(request, response)
        else:
            yield from self.concluding(has_failed=has_failed)

    def concluding(self, *, has_failed: bool) -> Effects[None]:
        """Commit or release, once, whoever cancels meanwhile; release where a transaction was rolled back."""
        reservation = self._take()
        if reservation is not None:
            is_undone = self._transactions is not None and self._transactions.is_one_undone
            yield from reservation.concluding(has_failed=has_failed or is_undone)

    def conclude(self, *, has_failed: bool) -> None:
        """Do so on this thread."""
        run_sync(self.concluding(has_failed=has_failed))

    async def aconclude(self, *, has_failed: bool) -> None:
        """Do so in this event loop."""
        await run_async(self.concluding(has_failed=has_failed))

    def abandoning(self, error: BaseException) -> Effects[None]:
        """Release, once, because of an error; of a coroutine that is destroyed, without waiting."""
        reservation = self._take()
        if reservation is not None:
            yield from reservation.abandoning(error)

    def wait_for(self, request: HttpRequest, response: Any = None) -> None:
        """Leave the conclusion to the end of the response or, where another takes its place, of the request."""
        if isinstance(response, HttpResponseBase):  # a framework makes one of anything else
            self._response = weakref.ref(response)
        end = vars(request).get("close")
        if not isinstance(end, _RequestEnd):
            end = _RequestEnd(request)
            request.close = end  # type: ignore[method-assign]  # Django closes a request after its last response
        if self not in end.holds:
            end.holds.append(self)

    def is_left_to_transactions(self) -> bool:
        """Leave the conclusion to the transactions around the view; return whether one is still open."""
        self._is_due_with_them = self._transactions is not None and self._transactions.are_open
        return self._is_due_with_them

    def is_of(self, response: HttpResponseBase | None) -> bool:
        """Whether it waits for the end of this response."""
        return response is not None and self._response() is response

    def is_by(self, by: object) -> bool:
        """Whether it is still held, for this rule."""
        return self._by == by and bool(self._open)

    @property
    def is_by_rule(self) -> bool:
        """Whether a rule holds it, which sees of a view nothing but what becomes of the request."""
        return self._by is not None

    def _watch_transactions(self) -> bool:
        """Watch the transactions around the view; return whether there are any."""
        self._transactions = Transactions(self._conclude_when_due)
        return self._transactions.are_open

    def _conclude_when_due(self) -> None:
        if self._is_due_with_them:
            self.conclude(has_failed=False)

    def _is_left_to_its_end(self, request: HttpRequest, response: Any) -> bool:
        """Whether it is settled later: at the end of what is not written yet."""
        is_response = isinstance(response, HttpResponseBase)
        if not is_response:
            is_left = _is_response_to_come(request)
        elif getattr(response, "streaming", False):
            is_left = request.method != "HEAD" and response.status_code not in _BODILESS
            if is_left:
                body = _AsyncStreamedBody if response.is_async else _StreamedBody
                response.streaming_content = body(response.streaming_content, _Closed(self))
        else:
            is_left = not getattr(response, "is_rendered", True)
            if is_left:
                response.render = _render_and_settle(response, self)
        if is_left:
            self.wait_for(request, response)
        return is_left

    def _take(self) -> Reservation | None:
        try:
            return self._open.pop()
        except IndexError:
            return None

    def __del__(self) -> None:
        reservation = self._take()
        if reservation is not None:  # a client left between the view and its answer, which nobody closed
            reservation.give_back_elsewhere()


def expect_response(request: HttpRequest, *, is_expected: bool = True) -> bool:
    """Leave what views give back to who makes a response of it, and settles by that: see ``settling_operation``.

    Return whether that was so before.
    """
    before: bool = getattr(request, _EXPECTED, False)
    setattr(request, _EXPECTED, is_expected)
    return before


def settling_operation(request: HttpRequest, response: HttpResponseBase | None) -> Effects[None]:
    """Settle by the response that a framework made of what a view gave back; without one, it has failed.

    What did not fail is left to a transaction that is still open.
    """
    has_failed = _is_failure(response)
    for hold in _waiting_holds(request):
        is_another = not (hold.is_by_rule or hold.is_of(response))
        if is_another and not (hold.is_left_to_transactions() and not has_failed):
            yield from hold.concluding(has_failed=has_failed)


def settling_response(request: HttpRequest, response: HttpResponseBase, *, is_in_thread: bool = False) -> Effects[None]:
    """Settle what rules hold, and what waits for the end of a response that this one took the place of."""
    for hold in _waiting_holds(request):
        if hold.is_by_rule:
            yield from hold.settling(request, response, is_in_thread=is_in_thread)
        elif not hold.is_of(response):
            yield from hold.concluding(has_failed=_is_failure(response))


def abandoning(request: HttpRequest, error: BaseException) -> Effects[None]:
    """Give back what waits for the end of a request that has none: a client has left, a worker is told to exit."""
    for hold in _waiting_holds(request):
        yield from hold.abandoning(error)


def releasing(request: HttpRequest) -> Effects[None]:
    """Give back what rules hold: the view has raised, whatever somebody answers then."""
    for hold in _waiting_holds(request):
        if hold.is_by_rule:
            yield from hold.concluding(has_failed=True)


def has_holds(request: HttpRequest) -> bool:
    """Return whether something is held for the request that may not be settled yet."""
    return isinstance(vars(request).get("close"), _RequestEnd)


def is_held_by(request: HttpRequest, by: object) -> bool:
    """Return whether something is still held for this rule and request."""
    return any(hold.is_by(by) for hold in _waiting_holds(request))


def mark_refusal(response: HttpResponseBase) -> HttpResponseBase:
    """Return the response, which from here on no other gate takes for what a view answered: a redirect neither."""
    setattr(response, _REFUSAL, True)
    return response


def _is_failure(response: HttpResponseBase | None) -> bool:
    return response is None or response.status_code >= _FAILED or getattr(response, _REFUSAL, False)


def _has_failed(request: HttpRequest, answer: Any) -> bool:
    """Whether this is no answer that a customer would pay for."""
    if isinstance(answer, HttpResponseBase):
        return _is_failure(answer)
    status = getattr(answer, "status_code", None)  # of Ninja's `Status`
    if status is None and isinstance(answer, tuple) and len(answer) == len(("status", "body")):
        status = answer[0]
    if isinstance(status, int) and status in _STATUSES:
        return status >= _FAILED
    is_forgotten = answer is None and not _is_response_to_come(request)
    return is_forgotten or is_awaitable(answer)  # which nobody awaits: the view looked sync


def _is_response_to_come(request: HttpRequest) -> bool:
    """Whether somebody is still to make a response of what a view gave back, which tells how the request ends.

    Ninja does, or any decorator of the project's, and it may fail: of data that does not fit its schema Ninja makes a
    500, and of ``None`` Django and Django REST framework do. Where no URL led to the view, nobody does.
    """
    return request.resolver_match is not None or getattr(request, _EXPECTED, False)


class _RequestEnd:
    """Stands for ``request.close``, and settles what nothing else did.

    Nothing else does for a response that another replaced: it is neither rendered, sent nor closed.
    """

    def __init__(self, request: HttpRequest | None = None) -> None:
        self._request = weakref.ref(request) if request is not None else lambda: None
        self.holds: list[RequestHold] = []

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


def _waiting_holds(request: HttpRequest) -> list[RequestHold]:
    end = vars(request).get("close")
    return end.holds if isinstance(end, _RequestEnd) else []


def _fail(*, request: HttpRequest | None = None, **_: Any) -> None:
    """Give back what a request holds that ends in an exception: what the view answered was not sent."""
    for hold in _waiting_holds(request) if request is not None else ():
        hold.conclude(has_failed=True)


got_request_exception.connect(_fail, dispatch_uid="entitlement_gate.holds")


def _render_and_settle(response: Any, hold: RequestHold) -> Callable[[], Any]:
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
            await run_async(hold.abandoning(error))
            raise
        await hold.aconclude(has_failed=has_failed(rendered))
        return rendered

    return render_async if iscoroutinefunction(original) else render


class _Closed:
    """What Django calls to close a streaming response: at its end, or when the client left."""

    def __init__(self, hold: RequestHold) -> None:
        self.hold = hold
        self.is_begun = False
        self.body: Callable[[], object] = lambda: None

    def __call__(self) -> None:
        # A body that was destroyed unread was replaced by what a middleware sent.
        self.hold.conclude(has_failed=self.is_begun or self.body() is not None)


class _StreamedBody:
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


class _AsyncStreamedBody:
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
            await run_async(self.close.hold.abandoning(error))
            raise


class Transactions:
    """Those that are open on this thread when this is made: ``ATOMIC_REQUESTS``, or ``atomic`` around a view.

    The one that Django's ``TestCase`` puts around a test never ends, and is not counted.

    Args:
        on_commit: called once all of them have been committed; never raises.
    """

    def __init__(self, on_commit: Callable[[], None]) -> None:
        self._on_commit = on_commit
        self._hooks: dict[BaseDatabaseWrapper, Callable[[], None]] = {}
        for connection in connections.all(initialized_only=True):
            if _is_open(connection):
                self._hooks[connection] = hook = partial(self._note_commit, connection)
                connection.on_commit(hook, robust=True)

    @property
    def are_open(self) -> bool:
        """Whether some have not been committed."""
        return bool(self._hooks)

    @property
    def is_one_undone(self) -> bool:
        """Whether one was rolled back, with all that was to be done after it; one that goes on was not."""
        return not all(_is_to_come(hook, connection) for connection, hook in self._hooks.items())

    def _note_commit(self, connection: BaseDatabaseWrapper) -> None:
        del self._hooks[connection]
        if not self._hooks:
            self._on_commit()


def _is_open(connection: BaseDatabaseWrapper) -> bool:
    blocks = connection.atomic_blocks if connection.in_atomic_block else ()
    return not all(getattr(block, "_from_testcase", False) for block in blocks)


def _is_to_come(hook: Callable[[], None], connection: BaseDatabaseWrapper) -> bool:
    return any(entry[1] is hook for entry in connection.run_on_commit)
