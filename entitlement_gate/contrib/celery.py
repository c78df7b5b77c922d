"""Celery: ``@consumes_entitlement`` below ``@app.task`` counts what a task does once, however often it is run.

The quantity is held before the body, and what is done with it then depends on how that run ends:

- It returns: the quantity counts.
- It raises (an error, a soft time limit, ``Retry``, ``Reject``, ``Ignore``, ``self.replace(…)``): the quantity is given
  back, and another try holds it anew.
- It is killed (a hard time limit, ``revoke(terminate=True)``) or its worker is lost: the quantity stays held until the
  task is delivered again, which goes on with it, or until its time is up.

The key is made of the task's name and id, which Celery keeps over retries and redeliveries: a run that comes after one
that counted, or beside one that still runs, counts nothing more. All runs of a task own what one of them holds, so that
the last one gives back what one that was killed left.
"""

from __future__ import annotations

from contextlib import suppress
from functools import wraps
from inspect import Parameter, isasyncgenfunction, iscoroutinefunction, isgeneratorfunction, signature
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar
from uuid import NAMESPACE_OID, uuid5

from entitlement_gate.api import default_gate
from entitlement_gate.domain.errors import EntitlementGateError
from entitlement_gate.domain.requirements import Requirement, as_requirement
from entitlement_gate.engine.entitlements import required
from entitlement_gate.engine.reservations import countable, order
from entitlement_gate.ledger.protocol import LONGEST_KEY, State, checked_ttl
from entitlement_gate.resilience.effects import run_sync

try:
    from celery import Task, current_task
except ImportError as error:
    raise ImportError(f"Celery is not here: install entitlement_gate[celery]: {error}") from error

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal
    from inspect import Signature

    from entitlement_gate.engine.gate import EntitlementGate
    from entitlement_gate.engine.reservations import Reservation

__all__ = ["consumes_entitlement"]

P = ParamSpec("P")
R = TypeVar("R")

_TTL = 3600.0  # of a task without a hard time limit: as long as Redis waits before it delivers a message again
_NO_BODIES = (iscoroutinefunction, isgeneratorfunction, isasyncgenfunction)


def consumes_entitlement(
    entitlement: str | Requirement,
    quantity: int | Decimal | str | Callable[..., Any] = 1,
    *,
    customer: str | Callable[..., Any],
    key: str | Callable[..., Any] | None = None,
    ttl: float | None = None,
    gate: EntitlementGate | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Use up a quantity by each task: hold it before the body, count it when that returns, give it back when it raises.

    Stands below ``@app.task`` or ``@shared_task``, directly or under decorators that use ``functools.wraps``.

    "Of the arguments" means the name of one, or a callable that takes all that the function takes. A call without a
    queue, ``export(17)``, is no task: it has no id, and counts by itself.

    Args:
        entitlement: a name, an alias, an entitlement id, or a ``Requirement``.
        quantity: a number or, of the arguments, how much; of a combined requirement each part says itself.
        customer: of the arguments, the customer's id.
        key: of the arguments, text that names the work, in place of the task's id: two tasks of the same are counted
            once.
        ttl: seconds for which a run holds it; by default the task's hard time limit, and an hour without one. A run
            that takes longer counts all the same, perhaps beyond the balance.
        gate: which is asked, in place of the one that Django's settings describe.

    Raises:
        ValueError: an argument cannot work, or the function takes none of that name; all at import.
        TypeError: what is decorated is no function whose return is its end; as above.

    The task raises, before its body:
        EntitlementDenied: the customer may not, or has not so much left.
        EntitlementUnavailable: billing or the ledger could not be asked; try again.
        ReservationConflict: the key stands for something else, as a task id that was given to two tasks does.
        ValueError: what the arguments say is no quantity or key.

    And after its body ``LedgerUnavailable``, where the ledger did not answer; it may have counted. Run again, it counts
    once.
    """
    is_argument = isinstance(quantity, str) and quantity.isidentifier()
    stated = 1 if is_argument or callable(quantity) else quantity
    requirement = as_requirement(entitlement)
    countable(requirement, stated)  # refuses what no ledger could hold
    if stated is not quantity:
        as_requirement(requirement, 1)  # refuses a quantity beside one that the requirement states
    if ttl is not None:
        checked_ttl(ttl)

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        _check_function(function)
        parameters = signature(function)
        arguments = {"customer": customer, "key": key, "quantity": None if stated is quantity else quantity}
        of_arguments = {name: value for name, value in arguments.items() if value is not None}
        for name, value in of_arguments.items():
            _check_argument(name, value, parameters)
        use = _Use(requirement, stated, of_arguments, ttl, gate, parameters)

        @wraps(function)
        def run_and_count(*args: P.args, **kwargs: P.kwargs) -> R:
            with use.hold(_run_of(run_and_count, key), args, kwargs):
                return function(*args, **kwargs)

        # Celery checks the arguments of `delay()` by what it sees here, and looks through no wrapper.
        run_and_count.__signature__ = parameters  # type: ignore[attr-defined]  # inspect reads it of any function
        run_and_count.entitlement_requirements = (requirement,)  # type: ignore[attr-defined]  # as on gated views
        return run_and_count

    return decorate


def _check_function(function: Any) -> None:
    name = getattr(function, "__qualname__", repr(function))
    if isinstance(function, Task) or callable(getattr(function, "apply_async", None)):
        raise TypeError(f"@consumes_entitlement stands below @app.task, which made a task of {name} already")
    if not callable(function) or any(is_made(function) for is_made in _NO_BODIES):
        raise TypeError(f"@consumes_entitlement counts when a function returns, and {name} is none, or goes on then")
    if hasattr(function, "entitlement_requirements"):
        raise ValueError(f"{name} uses something up already: join what it needs by &")


def _check_argument(name: str, value: Any, parameters: Signature) -> None:
    if callable(value):
        return
    if not isinstance(value, str):
        raise ValueError(f"{name}: the name of an argument, or a callable that takes all of them, not {value!r}")
    parameter = parameters.parameters.get(value)
    if parameter is None or parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
        raise ValueError(f"{name}: there is no argument {value!r} in {parameters}; a callable may look it up")


class _Run(NamedTuple):
    """One run of a task: what all of its runs are known by, and for how many seconds it may last."""

    name: str
    limit: float | None


def _run_of(body: Callable[..., Any], key: object) -> _Run | None:
    """Return the task that runs; None for a call without a queue.

    Raises:
        RuntimeError: another task runs, so that this use would have no key of its own.
    """
    task = current_task._get_current_object() if current_task else None  # noqa: SLF001 - the proxy's one way out
    if task is None or task.request.id is None:
        return None
    if not _is_body(body, task):
        if key is not None:
            return None
        raise RuntimeError(
            f"{body.__qualname__} is called by the task {task.name} and is not its body: nothing would tell a retry "
            "from another use. Call the task that it is, give a key, or let decorators above it use functools.wraps"
        )
    hard, *_ = task.request.timelimit or (None,)
    return _Run(f"{task.name}:{task.request.id}", hard or task.time_limit)


def _is_body(body: Callable[..., Any], task: Task) -> bool:
    function = task.run
    while function is not None:
        if getattr(function, "__func__", function) is body:
            return True
        function = getattr(function, "__wrapped__", None)
    return False


class _Use(NamedTuple):
    """What a task uses up, and which of its arguments say how much, of whom, and under which key."""

    requirement: Requirement
    quantity: Any
    of_arguments: dict[str, Any]
    ttl: float | None
    gate: EntitlementGate | None
    parameters: Signature

    def hold(self, run: _Run | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Reservation:
        """Hold it, or go on with what an earlier run of the same holds."""
        values = self._read_arguments(args, kwargs)
        key = str(values["key"]) if "key" in values else run and _shorten(run.name)
        ttl = self.ttl or (run and run.limit) or _TTL
        request = order(countable(self.requirement, values.get("quantity", self.quantity)), key, checked_ttl(ttl))
        if run is not None:
            request = request._replace(owner=uuid5(NAMESPACE_OID, run.name).hex)
        decision, reservation = run_sync((self.gate or default_gate()).holding(values["customer"], request))
        if reservation is None:
            return required(decision)  # type: ignore[return-value]  # which raises the refusal
        if reservation.is_replay and reservation.state is State.HELD:
            with suppress(EntitlementGateError):  # another run ends just now, say: what runs out counts all the same
                reservation.extend(ttl)
        return reservation

    def _read_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return what the arguments say of customer, quantity and key."""
        bound = self.parameters.bind(*args, **kwargs)
        bound.apply_defaults()
        return {
            name: value(*args, **kwargs) if callable(value) else bound.arguments[value]
            for name, value in self.of_arguments.items()
        }


def _shorten(name: str) -> str:
    return name if len(name) <= LONGEST_KEY else uuid5(NAMESPACE_OID, name).hex
