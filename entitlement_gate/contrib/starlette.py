"""Starlette and FastAPI: a dependency that requires, and the middleware that answers for it. No Django settings.

>>> app = FastAPI()  # doctest: +SKIP - an extra
>>> app.add_middleware(GateMiddleware, gate=gate, customer=customer_of_request)  # doctest: +SKIP - as above
>>> @app.get("/reports", dependencies=[Depends(requires("reports"))])  # doctest: +SKIP - as above
... def reports(): ...

What is used up is settled by the answer: it counts when the last of it was sent with a status below 400, and is given
back where the status is higher, the application raises, or the client leaves before. Of a WebSocket it counts when it
is accepted. What is required later, for a message or by a background task, counts at once. What a refusal says is
in ``refusals``.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from entitlement_gate import refusals
from entitlement_gate.domain.decisions import Decision, Outcome
from entitlement_gate.domain.errors import EntitlementDenied, EntitlementUnavailable
from entitlement_gate.domain.requirements import Requirement, as_requirement
from entitlement_gate.engine.entitlements import required
from entitlement_gate.engine.gate import EntitlementGate
from entitlement_gate.engine.reservations import countable, key_of_use, order
from entitlement_gate.resilience.effects import run_async
from entitlement_gate.resilience.failure_log import traceback_to_log
from entitlement_gate.waiting import await_result

try:
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import HTTPConnection
except ImportError as error:
    raise ImportError(f"Starlette is not here: install entitlement_gate[starlette]: {error}") from error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from entitlement_gate.engine.reservations import Reservation, ReservationRequest

__all__ = ["GateMiddleware", "RequirementMiddleware", "customer_of", "requires"]

_logger = logging.getLogger("entitlement_gate")
_SCOPE = "entitlement_gate"
_GATED = ("http", "websocket")
_BODIES = ("http.response.body", "http.response.pathsend", "http.response.zerocopysend")
_TTL = 60.0  # seconds in which an application answers; one that takes longer is counted late
_FAILED = 400  # the first status that is no success
_POLICY_VIOLATION, _TRY_AGAIN_LATER = 1008, 1013  # codes of RFC 6455 and its registry


class GateMiddleware:
    """Answers refusals, and settles what is used up. Pure ASGI: it reads no body and holds none back.

    Args:
        app: what is below.
        gate: answers. Closing it is left to whoever made it.
        customer: ``(connection)`` to a UUID, its text or None for nobody; a sync one runs on a thread. Asked for once a
            request, where the first entitlement is required: whoever authenticates may stand below.
        status_codes: a reason to the HTTP status of its refusal.
        upgrade_url: where more can be had: an address, or ``(connection, decision)`` to one or None, sync or async.

    Raises:
        ValueError: an argument cannot work; the message names it.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        gate: EntitlementGate,
        customer: Callable[[HTTPConnection], Any],
        status_codes: Mapping[str, int] | None = None,
        upgrade_url: Callable[[HTTPConnection, Decision], Awaitable[str | None] | str | None] | str | None = None,
    ) -> None:
        if not isinstance(gate, EntitlementGate):
            raise ValueError(f"gate: an EntitlementGate, not {gate!r}")
        if not callable(customer):
            raise ValueError(f"customer: a function of the connection, not {customer!r}")
        if not (upgrade_url is None or callable(upgrade_url) or isinstance(upgrade_url, str)):
            raise ValueError(f"upgrade_url: an address or a function, not {upgrade_url!r}")
        self.gate = gate
        self.customer = customer
        self._app = app
        self._status_codes = refusals.checked_status_codes(status_codes or {})
        self._upgrade_url = upgrade_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or WebSocket; pass on what is neither."""
        if scope["type"] not in _GATED:
            await self._app(scope, receive, send)
            return
        conversation = scope[_SCOPE] = _Conversation(self, send)
        try:
            await self._app(scope, receive, conversation.send)
        except (EntitlementDenied, EntitlementUnavailable) as error:
            await conversation.settle(has_failed=True)
            if conversation.is_begun and scope["type"] == "http":
                raise
            await self._refuse(scope, send, error.decision, is_begun=conversation.is_begun)
        except GeneratorExit:  # the coroutine is being destroyed: nothing can be waited for
            conversation.give_back_elsewhere()
            raise
        except BaseException:  # a cancelled task too: what is held is given back
            await conversation.settle(has_failed=True)
            raise
        else:
            await conversation.settle(has_failed=True)  # what no end of an answer has settled

    async def _refuse(self, scope: Scope, send: Send, decision: Decision, *, is_begun: bool) -> None:
        refusals.log_refusal(decision)
        prefix = ""
        if scope["type"] == "websocket":
            if is_begun or "websocket.http.response" not in (scope.get("extensions") or {}):
                code = _TRY_AGAIN_LATER if decision.outcome is Outcome.UNKNOWN else _POLICY_VIOLATION
                await send({"type": "websocket.close", "code": code, "reason": str(decision.reason)})
                return
            prefix = "websocket."
        status, body = await self._problem(HTTPConnection(scope), decision)
        headers = [
            (b"content-type", refusals.PROBLEM.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", refusals.CACHE_CONTROL.encode()),
            (b"vary", ", ".join(refusals.VARY).encode()),
        ]
        retry_after = refusals.retry_after_of(decision)
        if retry_after is not None:
            headers.append((b"retry-after", str(retry_after).encode()))
        await send({"type": f"{prefix}http.response.start", "status": status, "headers": headers})
        await send({"type": f"{prefix}http.response.body", "body": body})

    async def _problem(self, connection: HTTPConnection, decision: Decision) -> tuple[int, bytes]:
        status = refusals.status_of(decision, self._status_codes)
        problem = refusals.problem_of(
            decision,
            status=status,
            title=refusals.title_of(decision),
            detail=refusals.detail_of(decision),
            upgrade_url=await self._upgrade_address(connection, decision),
        )
        return status, json.dumps(problem).encode()

    async def _upgrade_address(self, connection: HTTPConnection, decision: Decision) -> str | None:
        url = self._upgrade_url
        try:
            url = await await_result(url(connection, decision)) if callable(url) else url
            return refusals.visitable(str(url)) if url else None
        except ValueError:
            _logger.error("upgrade_url: what %r returned is no address to visit", self._upgrade_url)  # noqa: TRY400 - it may tell of whom it is
        except Exception as error:  # the application's code: a refusal without an address is still a refusal
            kind = type(error).__name__
            _logger.exception("upgrade_url: %r raised %s", self._upgrade_url, kind, exc_info=traceback_to_log(error))
        return None


Dependency = Callable[[HTTPConnection], Awaitable[Decision]]


def requires(
    entitlement: str | Requirement,
    quantity: object = None,
    *,
    consume: bool = False,
    key: Callable[[HTTPConnection], Any] | None = None,
) -> Dependency:
    """Make what a route depends on: a dependency of FastAPI, or awaited with the request in an endpoint of Starlette.

    It gives the decision, or raises ``EntitlementDenied`` or ``EntitlementUnavailable``, which the middleware answers.
    FastAPI asks each one that was made once a request: keep one that is depended on in two places.

    Args:
        entitlement: a name, an alias, an id or a ``Requirement``.
        quantity: how much is needed.
        consume: use it up, 1 where no quantity is said; ``OPTIONS`` uses nothing up.
        key: ``(connection)`` to a text that names what is used up, which never counts twice; sync or async. From the
            application, never from a client.

    Raises:
        ValueError: what is no entitlement or quantity; a key without ``consume``.
    """
    if key is not None and not (consume and callable(key)):
        raise ValueError("key: a function of the connection, and with consume=True alone")
    requirement = as_requirement(entitlement, quantity)
    counted = countable(requirement) if consume else requirement  # refuses at once what no ledger can count

    async def require(connection: HTTPConnection) -> Decision:
        conversation = _get_conversation(connection)
        customer = await conversation.customer(connection)
        if not consume or connection.scope.get("method") == "OPTIONS":
            return await conversation.middleware.gate.arequire(customer, requirement)
        use_key = None if key is None else key_of_use(await await_result(key(connection)))
        return await conversation.use_up(customer, order(counted, use_key, _TTL))

    return require


class RequirementMiddleware:
    """Requires an entitlement of whatever is below it: a ``Route``, sync or async, a ``Mount``, an application.

    >>> Route("/reports", reports, middleware=[Middleware(RequirementMiddleware, "reports")])  # doctest: +SKIP

    Takes what ``requires`` takes, and needs ``GateMiddleware`` above.
    """

    def __init__(self, app: ASGIApp, entitlement: str | Requirement, quantity: object = None, **options: Any) -> None:
        self._app = app
        self._require = requires(entitlement, quantity, **options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or WebSocket that is let in; pass on what is neither."""
        if scope["type"] in _GATED:
            await self._require(HTTPConnection(scope))
        await self._app(scope, receive, send)


async def customer_of(connection: HTTPConnection) -> Any:
    """Return the customer as the function of the middleware gave it; a dependency, too."""
    return await _get_conversation(connection).customer(connection)


def _get_conversation(connection: HTTPConnection) -> _Conversation:
    conversation: _Conversation | None = connection.scope.get(_SCOPE)
    if conversation is None:
        raise RuntimeError("an entitlement is required, and nobody answers refusals: add GateMiddleware")
    return conversation


_UNKNOWN: Any = object()
_tasks: set[asyncio.Task[None]] = set()  # a loop keeps no task alive


class _Conversation:
    """The state of one request or WebSocket: its customer, its reservations, and how much of the answer is sent."""

    def __init__(self, middleware: GateMiddleware, send: Send) -> None:
        self.middleware = middleware
        self.reservations: list[Reservation] = []
        self.is_begun = self.is_answered = False
        self._status = 0
        self._send = send
        self._customer = _UNKNOWN
        self._looking_up = asyncio.Lock()

    async def customer(self, connection: HTTPConnection) -> Any:
        """Return the customer, which is looked up once, however many tasks ask."""
        async with self._looking_up:
            if self._customer is _UNKNOWN:
                find = self.middleware.customer
                is_async = inspect.iscoroutinefunction(find) or inspect.iscoroutinefunction(type(find).__call__)
                customer = find(connection) if is_async else await run_in_threadpool(find, connection)
                self._customer = await await_result(customer)
        return self._customer

    async def use_up(self, customer: Any, request: ReservationRequest) -> Decision:
        """Reserve until the answer settles it; raise the refusal."""
        is_late = self.is_answered
        decision, reservation = await run_async(self.middleware.gate.admitting(customer, request))
        if reservation is None:
            return required(decision)
        self.reservations.append(reservation)
        if self.is_answered:  # nothing is to come that could settle it; the answer may have come meanwhile
            await self.settle(has_failed=self._has_failed and not is_late)
        return reservation.decision

    async def send(self, message: Message) -> None:
        """Pass a message on; the last one of an answer, or the first of a WebSocket, settles."""
        kind = message["type"]
        if kind == "http.response.start":
            self.is_begun, self._status = True, message["status"]
        elif kind == "websocket.accept":
            self.is_begun = True
        await self._send(message)
        if kind == "websocket.accept" or (kind in _BODIES and not message.get("more_body", False)):
            self.is_answered = True
            await self.settle(has_failed=self._has_failed)

    @property
    def _has_failed(self) -> bool:
        return self._status >= _FAILED

    async def settle(self, *, has_failed: bool) -> None:
        """Commit or release the reservations, to the end although the caller may be cancelled."""
        reservations, self.reservations = self.reservations, []
        if reservations:
            task = asyncio.ensure_future(_conclude(reservations, has_failed=has_failed))
            _tasks.add(task)
            task.add_done_callback(_tasks.discard)
            await asyncio.shield(task)

    def give_back_elsewhere(self) -> None:
        """Release without waiting."""
        for reservation in self.reservations:
            reservation.give_back_elsewhere()


async def _conclude(reservations: list[Reservation], *, has_failed: bool) -> None:
    for reservation in reservations:
        await run_async(reservation.concluding(has_failed=has_failed))
