"""Django Ninja: gates on operations and routers, problem details for refused requests, and both in OpenAPI.

>>> @api.get("/reports")  # doctest: +SKIP - needs an api
... @requires_entitlement("reports")
... def reports(request): ...

Authentication goes first (401), then throttles (429) and the arguments (422), then the gate. A refusal is problem
details, whatever the client accepts.

What settles a use by Ninja's response is in ``ninja_operations``.
"""

from __future__ import annotations

from contextlib import contextmanager
from inspect import unwrap
from typing import TYPE_CHECKING, Any, TypeVar

from entitlement_gate import decorators
from entitlement_gate.conf import get_settings
from entitlement_gate.domain.errors import EntitlementDenied, EntitlementUnavailable
from entitlement_gate.guard import refusal
from entitlement_gate.ninja_operations import follow_run
from entitlement_gate.refusals import documented_refusals
from entitlement_gate.resilience.effects import run_sync
from entitlement_gate.responses import problem_details
from entitlement_gate.waiting import run_beside_loop

try:
    from ninja import NinjaAPI, Router, router
    from ninja.utils import contribute_operation_callback
except ImportError as error:
    raise ImportError(f"Django Ninja is not here: install entitlement_gate[ninja]: {error}") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.http import HttpRequest
    from ninja.operation import Operation

    from entitlement_gate.domain.requirements import Requirement

__all__ = ["answer_refusals", "requires_entitlement"]

_REGISTERED = "_ninja_operation"  # Ninja's mark on a function that it has an operation of

TargetT = TypeVar("TargetT")  # an operation's function, or a router


def requires_entitlement(
    entitlement: str | Requirement, quantity: Any = None, **options: Any
) -> Callable[[TargetT], TargetT]:
    """Let only those call an operation, or any operation of a router, whose customer has the entitlement.

    Stands below ``@api.get(…)``. ``requires_entitlement("reports")(router)`` is about all operations of a router and of
    the routers in it, whenever they are added.

    Args:
        entitlement: as of ``entitlement_gate.requires_entitlement``.
        quantity: likewise.
        **options: likewise: ``consume``, ``key``, ``customer``, ``on_unavailable``, and ``on_denied`` in place of
            problem details.

    Raises:
        ValueError: an argument cannot work; or a router, under a Django Ninja before 1.6.
        TypeError: an argument, or what is decorated, is of the wrong kind.
    """
    gate = decorators.requires_entitlement(entitlement, quantity, **{"on_denied": problem_details, **options})

    def decorate(target: TargetT) -> TargetT:
        if isinstance(target, Router):
            _gate_router(target, gate)
            return target
        gated: Any = gate(target)  # type: ignore[type-var]  # which raises where it is no function
        contribute_operation_callback(gated, _document)
        return gated  # type: ignore[no-any-return]  # looks as what it gates

    return decorate


def answer_refusals(api: NinjaAPI) -> NinjaAPI:
    """Let an API answer ``EntitlementDenied`` and ``EntitlementUnavailable`` that an operation raises, as a gate does.

    Ninja catches what operations raise before any middleware does; by itself it answers a traceback under ``DEBUG``.
    """
    for error in (EntitlementDenied, EntitlementUnavailable):
        api.add_exception_handler(error, _answer)
    return api


def _answer(request: HttpRequest, error: Any) -> Any:
    # Ninja answers exceptions of async operations in the event loop, where `UPGRADE_URL` could not ask the database.
    return run_beside_loop(run_sync, refusal(request, error.decision, problem_details))


def _gate_router(gated: Router, gate: Callable[[Any], Any]) -> None:
    # Before, a router hands decorators down when it is mounted: what is added later would be open to all.
    if not hasattr(router, "BoundRouter"):
        raise ValueError("Django Ninja gates whole routers from 1.6 on: gate the operations, or name the URLs in RULES")

    def gate_function(function: Any) -> Any:
        with _hide_operation(function):
            return gate(function)

    gated.add_decorator(gate_function, "operation")
    gated.add_decorator(_follow_and_document, "view")


@contextmanager
def _hide_operation(function: Any) -> Iterator[None]:
    """Take Ninja's mark off a function, which a gate would refuse: of a router, Ninja uses what the gate returns."""
    operation = vars(function).pop(_REGISTERED, None)
    try:
        yield
    finally:
        if operation is not None:
            setattr(function, _REGISTERED, operation)


def _follow_and_document(run: Callable[..., Any]) -> Callable[..., Any]:
    operation = getattr(unwrap(run), "__self__", None)
    if operation is not None:  # hidden by a decorator without functools.wraps: gated, and not documented
        _document(operation)
    return follow_run(run)


def _document(operation: Operation) -> None:
    extra = operation.openapi_extra or {}
    own = extra.get("responses", {})
    if not isinstance(own, _Refusals):
        operation.openapi_extra = {**extra, "responses": _Refusals(own, operation)}


class _Refusals(dict[Any, Any]):
    """Responses of an operation: those it documents itself, and those of its gate as the settings have it by then."""

    def __init__(self, own: dict[Any, Any], operation: Operation) -> None:
        super().__init__(own)
        self._declared = {*map(str, own), *map(str, operation.response_models)}

    def __iter__(self) -> Iterator[Any]:
        yield from super().__iter__()
        yield from (status for status in _document_refusals() if str(status) not in self._declared)

    def __getitem__(self, status: Any) -> Any:
        return super().__getitem__(status) if super().__contains__(status) else _document_refusals()[status]


def _document_refusals() -> dict[int | str, dict[str, Any]]:
    return documented_refusals(get_settings().status_codes)
