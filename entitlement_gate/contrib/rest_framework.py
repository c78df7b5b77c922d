"""Django REST framework: gates among its permissions, a throttle, refusals as problem details, their documentation.

``permission_classes = [IsAuthenticated, HasEntitlement.of("reports")]``

The framework's own ``&``, ``|`` and ``~`` lose the reason of a refusal, and its ``~`` would let in a customer whose
entitlements are unknown. A composition with a permission of this module is therefore a ``_ComposedPermission``, which
has three answers and shows the refusal that decided.

A permission may be asked more than once: for the forms of the browsable API, for ``OPTIONS``, for a schema. So asking
it uses nothing up. ``consume=True`` reserves around the handler of the request, by the guard that decorators use too,
after all permissions and throttles have let the request in; or, where an ``|`` is decided at an object, inside the
handler.

Checks are made in ``guard``, problem details in ``responses``.
"""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial, wraps
from http import HTTPMethod
from typing import TYPE_CHECKING, Any, NamedTuple

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import ImproperlyConfigured

from entitlement_gate.conf import get_settings
from entitlement_gate.decorators import marks_of_permission, requirements_of
from entitlement_gate.domain.decisions import Decision, Outcome, Reason, RequestFault
from entitlement_gate.domain.errors import EntitlementDenied, EntitlementUnavailable
from entitlement_gate.domain.requirements import Requirement
from entitlement_gate.guard import Guard, note_refusal
from entitlement_gate.refusals import CACHE_CONTROL, PROBLEM, VARY, documented_refusals, retry_after_of
from entitlement_gate.resilience.effects import run_sync
from entitlement_gate.resolvers import find_request, mark_private
from entitlement_gate.responses import detail_of, keep_private, problem_of, status_of, with_refusal_headers
from entitlement_gate.url_rules import methods_of
from entitlement_gate.waiting import Invocation, run_beside_loop
from entitlement_gate.zenskar.client_options import is_texts

try:
    from rest_framework import exceptions
    from rest_framework.permissions import AND, NOT, OR, BasePermission, OperandHolder, SingleOperandHolder
    from rest_framework.response import Response
    from rest_framework.throttling import BaseThrottle
except ImportError as error:
    raise ImportError(
        f"Django REST framework is not here: install entitlement_gate[rest-framework]: {error}"
    ) from error

try:  # adrf, where it is installed, has operators of its own
    from adrf.permissions import AsyncBasePermissionMetaClass, AsyncOperandHolder, AsyncSingleOperandHolder
except ImportError:
    from rest_framework.permissions import BasePermissionMetaclass

    _OPERANDS: tuple[type, ...] = (BasePermissionMetaclass, OperandHolder, SingleOperandHolder)
else:
    _OPERANDS = (AsyncBasePermissionMetaClass, AsyncOperandHolder, AsyncSingleOperandHolder)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from django.http import HttpRequest


__all__ = [
    "DocumentedRefusals",
    "EntitlementAutoSchema",  # noqa: F822 - made on first use, by `__getattr__`
    "EntitlementRefused",
    "EntitlementThrottle",
    "HasEntitlement",
    "answering_refusals",
    "exception_handler",
]

_REFUSALS = "_entitlement_refusals"
_HANDLER_RUNS = "_entitlement_handler_runs"
_BY_BALANCE = (Reason.INSUFFICIENT_QUANTITY, Reason.INSUFFICIENT_CREDITS)
_CLOSENESS: dict[str, int] = {reason: rank for rank, reason in enumerate((*Reason, *RequestFault))}


class EntitlementRefused(exceptions.APIException):
    """A request is refused, with the status of its reason: 402, 403 or 503, unless ``STATUS_CODES`` says otherwise.

    Attributes:
        decision: the reason. Made of a text, as a task queue does, it is the decision of that text.
    """

    def __init__(self, decision: Decision | str, message: Any = None) -> None:
        error: EntitlementDenied | EntitlementUnavailable = EntitlementUnavailable(decision)
        if error.decision.reason != str(decision).rpartition(": ")[2]:
            error = EntitlementDenied(decision)
        super().__init__(message or detail_of(error.decision), code=str(error.decision.reason))
        self.args = error.args  # reports of errors show them: no customer's number
        self.decision = error.decision
        self.message = message
        self.status_code = status_of(error.decision)
        self.wait = retry_after_of(error.decision)


class _Refusal(NamedTuple):
    """Why a permission refuses: a decision, or the message and code of another package's permission."""

    decision: Decision | None = None
    message: Any = None
    code: Any = None

    @property
    def is_unknown(self) -> bool:
        return self.decision is not None and self.decision.outcome is Outcome.UNKNOWN

    @property
    def rank(self) -> tuple[bool, int, bool]:
        """The refusal of lowest rank is shown: unknown first, then closest to allowing, then one with a message."""
        closeness = len(_CLOSENESS) if self.decision is None else _CLOSENESS[self.decision.reason]
        return not self.is_unknown, closeness, self.message is None


class _PermissionMeta(*_OPERANDS):  # type: ignore[misc]  # one of two sets of bases
    """The class of this module's permission classes, which composes them.

    A subclass of whatever may stand to the left of an operator, so that Python calls the right operand first.
    """

    __init__, __call__, __eq__, __hash__ = type.__init__, type.__call__, type.__eq__, type.__hash__

    def __and__(self, other: Any) -> Any:
        return _compose(self, other, is_any=False)

    def __or__(self, other: Any) -> Any:
        return _compose(self, other, is_any=True)

    def __rand__(self, other: Any) -> Any:
        return _compose(other, self, is_any=False)

    def __ror__(self, other: Any) -> Any:
        return _compose(other, self, is_any=True)

    def __invert__(self) -> Any:
        return self.invert()


class _GatePermission(BasePermission, metaclass=_PermissionMeta):
    """A permission that keeps the reason of its refusal."""

    entitlement_consume = False

    def has_permission(self, request: Any, view: Any) -> bool:
        """Let the request in, or raise ``EntitlementRefused``; False where a permission of others decided."""
        refusal = self.refusal(request, view)
        return refusal is None or self._apply(refusal, request, view)

    def has_object_permission(self, request: Any, view: Any, obj: Any) -> bool:
        """Let the request reach the object, or raise, as above. An entitlement is about no object."""
        vars(request)[_HANDLER_RUNS] = True
        refusal = self.object_refusal(request, view, obj)
        return refusal is None or self._apply(refusal, request, view)

    def refusal(self, request: Any, view: Any) -> _Refusal | None: ...

    def object_refusal(self, request: Any, view: Any, obj: Any) -> _Refusal | None:  # noqa: ARG002 - see above
        return None

    def _apply(self, refusal: _Refusal, request: Any, view: Any) -> bool:
        if refusal.decision is not None:
            _refuse(request, view, refusal.decision, refusal.message)
        self.message, self.code = refusal.message, refusal.code  # which the framework reads of who refused
        return False


class HasEntitlement(_GatePermission):
    """A permission: the request's customer has an entitlement. ``HasEntitlement.of(…)`` is the permission class.

    Attributes:
        message: what a refused request is told in place of our words; set it in a subclass.
        entitlement_requirements: what it asks for.
        entitlement_methods: the HTTP methods that it is about; empty for all.
        entitlement_actions: the actions of a view set that it is about; empty for all.
    """

    message: Any = None
    entitlement_requirements: tuple[Requirement, ...] = ()
    entitlement_methods: frozenset[str] = frozenset()
    entitlement_actions: frozenset[str] = frozenset()
    _guard: Guard
    _depends_on_request = False

    @classmethod
    def of(
        cls,
        entitlement: str | Requirement,
        quantity: Any = None,
        *,
        consume: bool = False,
        key: Callable[..., Any] | None = None,
        customer: Callable[..., Any] | None = None,
        on_unavailable: str | None = None,
        methods: Iterable[str] = (),
        actions: Iterable[str] = (),
    ) -> type[HasEntitlement]:
        """Return the permission class that asks for an entitlement.

        A request without authentication and customer is answered 401, as by any permission, and not 403.

        Args:
            entitlement: a name, an alias, an entitlement id, or a ``Requirement``.
            quantity: how much is needed; a number, or ``(request) -> number``, sync or async. The framework's request.
            consume: use it up, by default 1: held before the handler of the request, committed when the response is
                below 400, given back otherwise. ``OPTIONS`` uses nothing up, nor does whoever asks for a form or a
                schema.
            key: ``(request) -> text``, names what is used up, so that a retry of the same is counted once. From the
                application's data, never from a client's header.
            customer: ``(request) -> id`` in place of the resolver; sync or async.
            on_unavailable: ``"deny"`` or ``"allow"`` in place of ``ON_UNAVAILABLE``.
            methods: HTTP methods to ask at, GET standing for HEAD too; others are let in.
            actions: actions of a view set to ask at; others are let in.

        Raises:
            ValueError: an argument cannot work.
            TypeError: an argument is of the wrong kind.
        """
        if not is_texts(methods) or not is_texts(actions):
            raise ValueError(f"methods and actions are lists such as ['POST'] and ['create']: {methods!r}, {actions!r}")
        about = methods_of(methods)
        if not about <= {*HTTPMethod}:  # a slip of the pen would open what it was to gate
            raise ValueError(f"methods are those of HTTP, such as 'POST', not {methods!r}")
        guard = Guard.of(
            entitlement, quantity, consume=consume, key=key, customer=customer, on_unavailable=on_unavailable
        )
        return cls._make_class(guard, about, frozenset(actions))

    @classmethod
    def _make_class(cls, guard: Guard, methods: frozenset[str], actions: frozenset[str]) -> type[HasEntitlement]:
        members = {
            "__module__": cls.__module__,
            "__doc__": cls.__doc__,
            "entitlement_requirements": (guard.requirement,),
            "entitlement_methods": methods,
            "entitlement_actions": actions,
            "entitlement_consume": guard.consume,
            "_depends_on_request": not (guard.quantity is guard.customer is guard.key is None),
            "_guard": guard,
        }
        permission_class: type[HasEntitlement] = _PermissionMeta(cls.__name__, (cls,), members)
        return permission_class

    @classmethod
    def invert(cls) -> type[HasEntitlement]:
        """Return what ``~`` makes of it: who has the entitlement is refused; who cannot be checked stays refused."""
        cls.check_complete()
        guard = cls._guard
        if guard.consume or guard.quantity is not None:
            raise ValueError("~ of what uses something up, or of a quantity that only the request tells, says nothing")
        negated = dataclasses.replace(guard, requirement=~guard.requirement)
        return cls._make_class(negated, cls.entitlement_methods, cls.entitlement_actions)

    @classmethod
    def check_complete(cls) -> None:
        """Raise ``ValueError`` where this asks for nothing."""
        if not cls.entitlement_requirements:
            raise ValueError(f"{cls.__name__} asks for nothing: write {cls.__name__}.of(…) with what it is to ask for")

    def __init__(self) -> None:
        self.check_complete()

    def has_permission(self, request: Any, view: Any) -> bool:
        """Let the request in, or raise ``EntitlementRefused``."""
        # A decision that uses nothing up may be made again: not to keep it saves 1 µs of 11.
        refusal = self.refusal(request, view) if self.entitlement_consume else self._decide(request, view)
        return refusal is None or self._apply(refusal, request, view)

    def refusal(self, request: Any, view: Any) -> _Refusal | None:
        """Return why the request is refused, or None; decided once for each request."""
        refusals = vars(request).setdefault(_REFUSALS, {})
        kind = type(self)
        if kind not in refusals:
            refusals[kind] = self._decide(request, view)
        refusal: _Refusal | None = refusals[kind]
        return refusal

    def _decide(self, request: Any, view: Any) -> _Refusal | None:
        if (self.entitlement_methods or self.entitlement_actions) and not self._is_about(request, view):
            return None
        django_request, guard = _get_django_request(request), self._guard
        if self._depends_on_request:
            guard = _bind_request(guard, request)
        if guard.consume and request.method != "OPTIONS" and _is_to_be_answered(request, view):

            def refuse(_: Any, decision: Decision) -> None:
                _refuse(request, view, decision, self.message)

            guard = dataclasses.replace(guard, on_denied=refuse)
            # An `|` may ask this part first at an object: another part let the request in before.
            if _HANDLER_RUNS in vars(request):
                _hold_in_handler(guard, django_request, view, type(self))
            else:
                _hold_around_handler(guard, django_request, view)
            return None
        decision = guard.refuse(django_request)
        if decision is not None:
            return _Refusal(decision, self.message)
        mark_private(django_request)
        return None

    def _is_about(self, request: Any, view: Any) -> bool:
        if self.entitlement_methods and request.method not in self.entitlement_methods:
            return False
        if not self.entitlement_actions:
            return True
        unknown = sorted(name for name in self.entitlement_actions if not hasattr(view, name))
        if unknown:  # as of methods
            raise ImproperlyConfigured(f"{type(view).__qualname__} has no action {', '.join(unknown)} to be gated")
        action = getattr(view, "action", None)
        return action is None or action in self.entitlement_actions


class _ComposedPermission(_GatePermission):
    """Permissions joined by ``&`` or ``|``, at least one of them of this module; ``~`` is applied to single ones only.

    As for ``Requirement``, a denial decides ``&`` and an allowance ``|``; where neither does, unknown decides.
    """

    op1_class: Any  # the operands as they were given, under the framework's names for them
    op2_class: Any
    is_any = False
    parts: tuple[Callable[[], Any], ...] = ()

    def __init__(self) -> None:
        self._parts = [part() for part in self.parts]

    @classmethod
    def invert(cls) -> Any:
        """Return what ``~`` makes of it, by De Morgan's laws."""
        return _compose(~cls.op1_class, ~cls.op2_class, is_any=not cls.is_any)

    def refusal(self, request: Any, view: Any) -> _Refusal | None:
        if self.is_any:  # a part of this module may not be asked, and would have refused other customers
            mark_private(_get_django_request(request))
        return self._choose_refusal(part.refusal(request, view) for part in self._parts)

    def object_refusal(self, request: Any, view: Any, obj: Any) -> _Refusal | None:
        if not self.is_any:
            return self._choose_refusal(part.object_refusal(request, view, obj) for part in self._parts)
        # As the framework does it: the part that lets somebody in has to be the one that shows the object.
        return self._choose_refusal(
            part.refusal(request, view) or part.object_refusal(request, view, obj) for part in self._parts
        )

    def _choose_refusal(self, refusals: Iterator[_Refusal | None]) -> _Refusal | None:
        candidates = []
        for refusal in refusals:
            if refusal is None:
                if self.is_any:
                    return None
            elif self.is_any or refusal.is_unknown:
                candidates.append(refusal)
            else:
                return refusal
        return min(candidates, key=lambda refusal: refusal.rank, default=None)


class _OtherPermission:
    """Another package's permission within a composition; one of adrf's is async."""

    entitlement_consume = False

    def __init__(self, permission_class: Callable[[], Any], *, is_negated: bool) -> None:
        self._permission = permission_class()
        self._is_negated = is_negated

    def refusal(self, request: Any, view: Any) -> _Refusal | None:
        return self._make_refusal(Invocation(self._permission.has_permission, request, view).wait())

    def object_refusal(self, request: Any, view: Any, obj: Any) -> _Refusal | None:
        if self._is_negated:  # what it refuses it refuses at every object
            return None
        return self._make_refusal(Invocation(self._permission.has_object_permission, request, view, obj).wait())

    def _make_refusal(self, allows: Any) -> _Refusal | None:
        if bool(allows) is not self._is_negated:
            return None
        if self._is_negated:  # its words would say the opposite
            return _Refusal()
        return _Refusal(None, getattr(self._permission, "message", None), getattr(self._permission, "code", None))


def _compose(left: Any, right: Any, *, is_any: bool) -> Any:
    """Return the permission class of two operands.

    Raises:
        ValueError: an operand is no permission class, or both sides of an ``|`` use something up.
    """
    left, right = (HasEntitlement.of(each) if isinstance(each, Requirement) else each for each in (left, right))
    parts = [_make_part(operand) for operand in (left, right)]
    consumers = [part for part in parts if getattr(part, "entitlement_consume", False)]
    if is_any and len(consumers) > 1:
        raise ValueError(
            "which side of the | is used up? Join what is asked for instead: "
            "HasEntitlement.of(Requirement(…) | Requirement(…), consume=True)"
        )
    # The part that consumes comes last: after the handler has run no alternative could be tried.
    parts.sort(key=consumers.__contains__)
    members = {
        "__module__": __name__,
        "op1_class": left,
        "op2_class": right,
        "is_any": is_any,
        "parts": tuple(parts),
        "entitlement_consume": bool(consumers),
    }
    return _PermissionMeta(_ComposedPermission.__name__, (_ComposedPermission,), members)


def _make_part(operand: Any, *, is_negated: bool = False) -> Callable[[], Any]:
    """Return what makes a part of a composition: compositions of the framework's own are taken apart."""
    if isinstance(operand, _PermissionMeta):
        getattr(operand, "check_complete", bool)()
        part: Callable[[], Any] = ~operand if is_negated else operand
        return part
    if isinstance(operand, SingleOperandHolder) and issubclass(operand.operator_class, NOT):
        return _make_part(operand.op1_class, is_negated=not is_negated)
    if isinstance(operand, OperandHolder) and issubclass(operand.operator_class, (AND, OR)):
        left, right = operand.op1_class, operand.op2_class
        is_any = issubclass(operand.operator_class, OR) is not is_negated
        composition: Callable[[], Any] = _compose(*((~left, ~right) if is_negated else (left, right)), is_any=is_any)
        return composition
    if not callable(operand):
        raise ValueError(f"{operand!r} is no permission class; one is composed with the class, not with an instance")
    return partial(_OtherPermission, operand, is_negated=is_negated)


def _get_django_request(request: Any) -> HttpRequest:
    """Return Django's request in the framework's, which is noted on it while that does not know the user yet."""
    if "_user" in vars(request):  # authenticated, and put on Django's request too: no need to look again (2 µs of 9)
        wrapped: HttpRequest = request._request  # noqa: SLF001 - under this name it wraps it
        return wrapped
    django_request = find_request(request)
    if django_request is None:
        raise TypeError(f"a permission is asked of a request, not of {request!r}")
    return django_request


def _is_to_be_answered(request: Any, view: Any) -> bool:
    """Whether a permission is asked for the request itself, not for a form in its response or another method."""
    return request.method == _get_django_request(request).method and not hasattr(view, "response")


def _bind_request(guard: Guard, request: Any) -> Guard:
    """Return the guard with callables that get the framework's request in place of Django's."""
    calls = {name: getattr(guard, name) for name in ("quantity", "customer", "key")}
    bound: dict[str, Any] = {
        name: lambda _, call=call: call(request) for name, call in calls.items() if call is not None
    }
    return dataclasses.replace(guard, **bound)


def _hold_around_handler(guard: Guard, request: HttpRequest, view: Any) -> None:
    """Reserve around the handler of this request; a view object lives for one request.

    The handler is replaced on the view: the framework looks it up after all permissions and throttles.
    """
    name = (request.method or "").lower()
    handler = getattr(view, name, None) if name in view.http_method_names else None
    if handler is None:  # which is answered 405
        return

    @wraps(handler)
    def hold(*args: Any, **kwargs: Any) -> Any:
        return guard.run(request, partial(handler, *args, **kwargs))

    @wraps(handler)
    async def hold_async(*args: Any, **kwargs: Any) -> Any:
        return await guard.arun(request, partial(handler, *args, **kwargs))

    setattr(view, name, hold_async if iscoroutinefunction(handler) else hold)


def _hold_in_handler(guard: Guard, request: HttpRequest, view: Any, by: object) -> None:
    """Reserve while the handler runs already, and settle by the response of the view."""
    hold = guard.hold(request, by)
    if hold is None:
        return
    finalize = view.finalize_response

    def finalize_and_settle(*args: Any, **kwargs: Any) -> Any:
        response = finalize(*args, **kwargs)
        # adrf finalizes in the event loop, where a ledger could not be asked.
        run_beside_loop(run_sync, hold.settling(request, response, is_in_thread=True))
        return keep_private(request, response)

    view.finalize_response = finalize_and_settle


def _refuse(request: Any, view: Any, decision: Decision, message: Any = None) -> None:
    """Raise the refusal; where there is no customer and no authentication, raise what asks for that."""
    if decision.reason is Reason.NO_CUSTOMER:
        with suppress(exceptions.PermissionDenied):
            view.permission_denied(request, message=message or detail_of(decision), code=str(decision.reason))
    if _is_to_be_answered(request, view):  # else a form is not shown
        note_refusal(_get_django_request(request), decision)
    _forbid_storing(view)
    raise EntitlementRefused(decision, message)


def _forbid_storing(view: Any) -> None:
    """Set the headers on the view, which adds them to whatever response the project's handler makes of the refusal."""
    headers = getattr(view, "headers", None)
    if isinstance(headers, dict):  # none where a permission is asked by another than a view
        names = headers.get("Vary", "").replace(",", " ").split()
        headers["Cache-Control"] = CACHE_CONTROL
        headers["Vary"] = ", ".join(dict.fromkeys((*names, *VARY)))


class EntitlementThrottle(BaseThrottle):
    """A throttle by what is left of a quantity: 429, and ``Retry-After`` where the end of the grants is known.

    It uses nothing up. Whoever lacks the entitlement for any other reason is refused as by ``HasEntitlement``.
    """

    _guard: Guard
    _decision: Decision

    @classmethod
    def of(
        cls,
        entitlement: str | Requirement,
        quantity: Any = None,
        *,
        customer: Callable[..., Any] | None = None,
        on_unavailable: str | None = None,
    ) -> type[EntitlementThrottle]:
        """Return the throttle class; arguments and errors as those of ``HasEntitlement.of``."""
        guard = Guard.of(entitlement, quantity, customer=customer, on_unavailable=on_unavailable)
        return type(cls.__name__, (cls,), {"__module__": cls.__module__, "__doc__": cls.__doc__, "_guard": guard})

    def __init__(self) -> None:
        if not hasattr(self, "_guard"):
            raise ValueError(f"{type(self).__name__} asks for nothing: write {type(self).__name__}.of(…)")

    def allow_request(self, request: Any, view: Any) -> bool:
        """Return whether enough is left."""
        django_request = _get_django_request(request)
        decision = _bind_request(self._guard, request).refuse(django_request)
        if decision is None:
            mark_private(django_request)
            return True
        if decision.reason not in _BY_BALANCE:
            _refuse(request, view, decision)
        self._decision = decision
        return False

    def wait(self) -> float | None:
        """Return the seconds until what was used up ends, when a new allowance may begin; None where it never does."""
        ends = self._decision.expires_at
        return None if ends is None else max((ends - datetime.now(UTC)).total_seconds(), 1.0)


def answering_refusals(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Return an exception handler that answers refusals with problem details, and leaves all else to ``handler``.

    Refusals are those of permissions and throttles, and what a view raises: ``EntitlementDenied`` and
    ``EntitlementUnavailable``.
    """

    @wraps(handler)
    def handle(exc: Exception, context: dict[str, Any]) -> Any:
        if isinstance(exc, (EntitlementRefused, EntitlementDenied, EntitlementUnavailable)):
            return _problem(exc, context["request"])
        return handler(exc, context)

    return handle


def exception_handler(exc: Exception, context: dict[str, Any]) -> Any:
    """Answer refusals with problem details, and the rest as the framework does: for its ``EXCEPTION_HANDLER``."""
    from rest_framework.views import exception_handler as otherwise  # noqa: PLC0415 - see below

    return answering_refusals(otherwise)(exc, context)


def _problem(exc: Any, request: Any) -> Any:
    decision: Decision = exc.decision
    django_request = _get_django_request(request)
    note_refusal(django_request, decision)
    # Not at the head: the framework's views import the permissions of the settings, which import this module.
    from rest_framework.views import set_rollback  # noqa: PLC0415 - see above

    set_rollback()
    # A project's `UPGRADE_URL` may ask the database; adrf answers exceptions in the event loop.
    problem = run_beside_loop(problem_of, django_request, decision)
    message = getattr(exc, "message", None)
    if message is not None:
        problem["detail"] = str(message)
    # The browsable API, or a renderer of XML, says itself what it sends.
    is_json = getattr(getattr(request, "accepted_renderer", None), "format", None) == "json"
    response = Response(problem, status=problem["status"], content_type=PROBLEM if is_json else None)
    return with_refusal_headers(response, decision)


class DocumentedRefusals:
    """The responses of a gated view for drf-spectacular: 402, 403 and 503 with problem details. A mixin.

    ``class Schema(DocumentedRefusals, AutoSchema)``; ``EntitlementAutoSchema`` is just that.
    """

    view: Any
    method: str

    def get_operation(self, *args: Any, **kwargs: Any) -> Any:
        """Return the operation with the answers to refused requests, beside those that the view documents itself."""
        operation = super().get_operation(*args, **kwargs)  # type: ignore[misc]  # of drf-spectacular's class
        if operation is not None and self._is_gated():
            for status, refusals in documented_refusals(get_settings().status_codes).items():
                operation["responses"].setdefault(str(status), refusals)
        return operation

    def _is_gated(self) -> bool:
        view, action = self.view, getattr(self.view, "action", None)
        if requirements_of(type(view), [self.method.lower(), *filter(None, [action])]):
            return True
        return any(any(marks_of_permission(each, self.method, action)) for each in view.get_permissions())


def __getattr__(name: str) -> Any:
    """Make ``EntitlementAutoSchema`` on first use: drf-spectacular is needed for nothing else."""
    if name != "EntitlementAutoSchema":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from drf_spectacular.openapi import AutoSchema  # noqa: PLC0415 - see above
    except ImportError as error:
        raise ImportError(f"{name} needs drf-spectacular: pip install drf-spectacular") from error
    members = {"__module__": __name__, "__doc__": DocumentedRefusals.__doc__}
    return globals().setdefault(name, type(name, (DocumentedRefusals, AutoSchema), members))
