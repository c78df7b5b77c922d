"""The guard of a view, which decorator, mixin and middleware share.

What it asks for, what it does with a refusal, and how what is used up is counted.

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
back when it is rolled back.

Never here: how a refusal looks (``responses``), or how a ledger counts.
"""

from __future__ import annotations

import dataclasses
import logging
import weakref
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urljoin, urlsplit

from asgiref.sync import iscoroutinefunction
from django.core.signals import got_request_exception
from django.http import HttpResponseBase
from django.utils.http import escape_leading_slashes

from entitlement_gate.api import default_gate
from entitlement_gate.conf import get_settings
from entitlement_gate.domain.decisions import Decision, Outcome
from entitlement_gate.domain.requirements import Requirement, as_requirement
from entitlement_gate.engine.entitlements import required
from entitlement_gate.engine.reservations import order
from entitlement_gate.request_entitlements import entitlements_of
from entitlement_gate.resilience.effects import Effects, run_async, run_sync
from entitlement_gate.resolvers import aresolved, resolved
from entitlement_gate.responses import address_of, is_page, redirection
from entitlement_gate.transactions import Transactions
from entitlement_gate.waiting import Called, is_awaitable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from django.http import HttpRequest

    from entitlement_gate.engine.reservations import Reservation

__all__ = [
    "Guard",
    "acounted",
    "awaited",
    "counted",
    "expecting_answer",
    "is_answered",
    "refusal",
    "settling_answered",
    "settling_replaced",
]


_logger = logging.getLogger("entitlement_gate")


_TTL = 60.0  # seconds in which a view answers; one that takes longer is counted late
_NOTED = "_entitlement_refusal"
_EXPECTED = "_entitlement_answer_expected"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What a gate asks for, of whom, and what it does with a refusal.

    Attributes:
        requirement: what is needed.
        quantity: how much, where it depends on the request: ``(request) -> quantity``, sync or async.
        customer: of whom, in place of the resolver: ``(request) -> id``, sync or async.
        on_unavailable: ``deny`` or ``allow`` at this gate, in place of the setting.
        on_denied: ``(request, decision) -> response``, ``raise``, or where to redirect, in place of the setting.
        consume: use it up, see ``consuming``.
        key: names what is used up: ``(request) -> text``, sync or async.
    """

    requirement: Requirement
    quantity: Callable[..., Any] | None = None
    customer: Callable[..., Any] | None = None
    on_unavailable: str | None = None
    on_denied: Callable[..., Any] | str | None = None
    consume: bool = False
    key: Callable[..., Any] | None = None

    def enter(self, request: HttpRequest) -> HttpResponseBase | None:
        """Return what ``passing`` does, on this thread; without a step where what is at hand lets the request in.

        Effects for an answer that needs no waiting cost 2 µs of 7 around a warm view.
        """
        if not self._is_plain:
            return run_sync(self.passing(request))
        known, customer = entitlements_of(request), resolved(request)
        if known.allows_at_once(self.requirement, customer):
            return None
        return run_sync(self._passing_of(request, known.checking_of(customer, self.requirement)))

    async def aenter(self, request: HttpRequest) -> HttpResponseBase | None:
        """Return what ``passing`` does, in this event loop; see ``enter``."""
        if not self._is_plain:
            return await run_async(self.passing(request))
        known, customer = entitlements_of(request), await aresolved(request)
        if known.allows_at_once(self.requirement, customer):
            return None
        return await run_async(self._passing_of(request, known.checking_of(customer, self.requirement)))

    def passing(self, request: HttpRequest) -> Effects[HttpResponseBase | None]:
        """Return None to let the request pass, or what it is answered instead."""
        return (yield from self._passing_of(request, self._checking(request)))

    def holding(self, request: HttpRequest) -> Effects[tuple[HttpResponseBase | None, Reservation | None]]:
        """Return the same, having reserved what is to be used up, and what is held of it."""
        requirement = yield from self._required(request)
        key = None if self.key is None else (yield Called(self.key, request))
        customer = request if self.customer is None else (yield Called(self.customer, request))
        asked = order(requirement, 1, key if key is None else str(key), _TTL)
        decision, held = yield from default_gate().holding(customer, asked)
        refused = yield from self._answering(request, decision)
        return refused, held if refused is None else None

    def _passing_of(self, request: HttpRequest, checking: Effects[Decision]) -> Effects[HttpResponseBase | None]:
        return (yield from self._answering(request, (yield from checking)))

    def _answering(self, request: HttpRequest, decision: Decision) -> Effects[HttpResponseBase | None]:
        decision = self._settled(decision)
        if decision.allowed:
            return None
        if self.on_denied == "raise":
            _note(request, decision)
            required(decision)
        if not isinstance(self.on_denied, str):
            return (yield from refusal(request, decision, self.on_denied))
        # An outage must not look like "not entitled".
        url = None if decision.outcome is Outcome.UNKNOWN else self._leads_to(request, self.on_denied)
        if url is None:
            return (yield from refusal(request, decision))
        _note(request, decision)
        return redirection(request, decision, url)

    def _leads_to(self, request: HttpRequest, on_denied: str) -> str | None:
        """Return where to send a refused request; None, so that it is told plainly, where that is nowhere, or here."""
        url = address_of(on_denied, "on_denied")
        if url is None or request.method not in ("GET", "HEAD"):  # what is refused to a POST may be shown to a GET
            return url
        there = urljoin(escape_leading_slashes(request.get_full_path()), url)
        is_asked_anew = self.quantity is not None and urlsplit(there).query != request.META.get("QUERY_STRING", "")
        return url if is_asked_anew or not is_page(request, there) else None

    @property
    def _is_plain(self) -> bool:
        """Whether what the settings allow the request's customer is all there is to it."""
        # What the settings' policy lets pass in an outage, a gate of its own policy may refuse: only the outcome tells.
        return self.quantity is None and self.customer is None and self.on_unavailable != "deny"

    def _required(self, request: HttpRequest) -> Effects[Requirement]:
        if self.quantity is None:
            return self.requirement
        return as_requirement(self.requirement, (yield Called(self.quantity, request)))

    def _checking(self, request: HttpRequest) -> Effects[Decision]:
        requirement = yield from self._required(request)
        if self.customer is None:
            return (yield from entitlements_of(request).checking(requirement))
        customer = yield Called(self.customer, request)
        return (yield from default_gate().checking(customer, requirement))

    def _settled(self, decision: Decision) -> Decision:
        """Return the decision under the failure policy of this gate."""
        if self.on_unavailable is None or decision.outcome is not Outcome.UNKNOWN or decision.shadow:
            return decision
        return dataclasses.replace(decision, allowed=self.on_unavailable == "allow")


def refusal(
    request: HttpRequest, decision: Decision, handler: Callable[..., Any] | None = None
) -> Effects[HttpResponseBase]:
    """Return what a refused request is answered: by the handler given, or the one of the settings.

    Raises:
        TypeError: that gave no response; going on without one would let the request in.
    """
    _note(request, decision)
    handler = handler or get_settings().load("denied_handler")
    response = yield Called(handler, request, decision)
    if not isinstance(response, HttpResponseBase):
        name = getattr(handler, "__qualname__", handler)
        raise TypeError(f"a refused request needs an HttpResponse, and {name} gave {response!r}")
    return response


def is_answered(request: HttpRequest | None) -> bool:
    """Return whether a refusal of the request was answered from here, or noted on its way out."""
    return getattr(request, _NOTED, None) is not None


def _note(request: HttpRequest, decision: Decision) -> None:
    """Log one line for each refusal, also where it is raised on the way out; whose it was stays out of it."""
    if getattr(request, _NOTED, None) is not decision:
        setattr(request, _NOTED, decision)
        nobodys = dataclasses.replace(decision, customer_id=None)
        _logger.info("refused: %s: %s", decision.entitlement, decision.reason, extra={"decision": nobodys})


_FAILED = 400  # the first status that is no success
_STATUSES = range(100, 600)
_BODILESS = (204, 304)  # no server sends the body of such a response, nor that of an answer to HEAD


def counted(guard: Guard, request: HttpRequest, view: Callable[[], Any]) -> Any:
    """Return what the view answers, or what a refused request is answered."""
    refused, reservation = run_sync(guard.holding(request))
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
    refused, reservation = await run_async(guard.holding(request))
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


@contextmanager
def expecting_answer(request: HttpRequest) -> Iterator[None]:
    """Leave what views give back to who makes a response of it, and settles by that: see ``settling_answered``."""
    before = _is_answer_expected(request)
    setattr(request, _EXPECTED, True)
    try:
        yield
    finally:
        setattr(request, _EXPECTED, before)


def settling_answered(request: HttpRequest, response: HttpResponseBase | None) -> Effects[None]:
    """Settle by the response that a framework made of what a view gave back; without one, it has failed.

    A transaction that is still open has the last word on what did not fail.
    """
    has_failed = _is_failure(response)
    for hold in _waiting_holds(request):
        if not hold.is_of(response) and not (hold.is_left_to_transactions() and not has_failed):
            yield from hold.concluding(has_failed=has_failed)


def settling_replaced(request: HttpRequest, response: HttpResponseBase | None) -> Effects[None]:
    """Settle what waits for the end of a response that this one took the place of; without one, a client has left."""
    for hold in _waiting_holds(request):
        if not hold.is_of(response):
            yield from hold.concluding(has_failed=_is_failure(response))


def _is_failure(response: HttpResponseBase | None) -> bool:
    return response is None or response.status_code >= _FAILED


def _is_answer_expected(request: HttpRequest) -> bool:
    return getattr(request, _EXPECTED, False)


def _has_failed(request: HttpRequest, answer: Any) -> bool:
    """Whether this is no answer that a customer would pay for."""
    status = getattr(answer, "status_code", None)  # a response; Ninja's `Status` too
    if status is None and isinstance(answer, tuple) and len(answer) == len(("status", "body")):
        status = answer[0]
    if isinstance(status, int) and status in _STATUSES:
        return status >= _FAILED
    is_forgotten = answer is None and not _is_to_be_made(request, answer)
    return is_forgotten or is_awaitable(answer)  # which nobody awaits: the view looked sync


def _is_left_to_its_end(hold: _Hold, request: HttpRequest, response: Any) -> bool:
    """Whether what is held is settled later: at the end of what is not written yet."""
    if _has_failed(request, response):
        return False
    if _is_to_be_made(request, response):
        hold.wait_for(request, response)
        return True
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


def _is_to_be_made(request: HttpRequest, answer: Any) -> bool:
    """Whether somebody is still to make a response of the answer, which tells how the request ends.

    Of ``None`` Django and Django REST framework make an error, and others a response: Ninja, or any decorator of the
    project's. Where no URL led to the view, nobody does.
    """
    if answer is None and request.resolver_match is not None:
        return True
    return _is_answer_expected(request) and not isinstance(answer, HttpResponseBase)


class _Hold:
    """What is held for a request. Whoever first knows how that ended concludes it; else it returns."""

    def __init__(self, reservation: Reservation) -> None:
        self._open = [reservation]  # of several threads one takes it
        self._response: Callable[[], object] = lambda: None
        self._transactions: Transactions | None = None
        self._is_due_with_them = False

    def concluding(self, *, has_failed: bool) -> Effects[None]:
        """Commit or release, once, whoever cancels meanwhile; what was rolled back failed, whatever was answered."""
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

    async def agive_back(self, error: BaseException) -> None:
        """Release, once, because of an error; of a coroutine that is destroyed, without waiting."""
        reservation = self._take()
        if reservation is not None:
            await run_async(reservation.abandoning(error))

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

    def is_left_to_transactions(self) -> bool:
        """Leave the conclusion to the transactions around the view; return whether one is still open."""
        self._is_due_with_them = self._transactions is not None and self._transactions.are_open
        return self._is_due_with_them

    def is_of(self, response: HttpResponseBase | None) -> bool:
        """Whether it waits for the end of this response."""
        return response is not None and self._response() is response

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


got_request_exception.connect(_fail, dispatch_uid="entitlement_gate.guard")


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
