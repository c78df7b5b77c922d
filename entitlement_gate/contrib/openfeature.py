"""OpenFeature: a gate as the provider behind the standard's clients.

>>> from openfeature import api
>>> from openfeature.evaluation_context import EvaluationContext
>>> api.set_provider_and_wait(EntitlementProvider(gate))  # doctest: +SKIP - needs billing
>>> client = api.get_client()  # doctest: +SKIP - as above
>>> client.get_boolean_value("reports", False, EvaluationContext(customer_id))  # doctest: +SKIP - as above
True

A flag is an entitlement, its key a name, an alias or an id. The table of values, reasons, error codes and metadata is
in ``docs/how-to/openfeature.md``.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from entitlement_gate.domain.decisions import Decision, Outcome, Reason, rows_behind
from entitlement_gate.engine.observers import Fetch, Observer
from entitlement_gate.resilience.fork_safety import Locked

try:
    from openfeature.event import ProviderEvent, ProviderEventDetails
    from openfeature.exception import (
        ErrorCode,
        FlagNotFoundError,
        GeneralError,
        InvalidContextError,
        OpenFeatureError,
        ProviderFatalError,
        TargetingKeyMissingError,
        TypeMismatchError,
    )
    from openfeature.flag_evaluation import FlagResolutionDetails
    from openfeature.flag_evaluation import Reason as FlagReason
    from openfeature.provider import AbstractProvider, Metadata
except ImportError as error:
    raise ImportError(f"OpenFeature is not here: install entitlement_gate[openfeature]: {error}") from error

if TYPE_CHECKING:
    from collections.abc import Callable

    from openfeature.evaluation_context import EvaluationContext

    from entitlement_gate.engine.gate import EntitlementGate

    Context = EvaluationContext | None

__all__ = ["UNLIMITED", "EntitlementProvider"]

UNLIMITED = 2**63 - 1
"""What an integer flag says of an entitlement without a limit: the most that every language's SDK can hold."""

Value = TypeVar("Value")

_METADATA = Metadata("entitlement_gate")
_REASONS = {
    "cache": FlagReason.CACHED,
    "shared": FlagReason.CACHED,
    "stale": FlagReason.STALE,
    "fallback": FlagReason.DEFAULT,
    "override": FlagReason.STATIC,
}
_NOTHING = Decimal(0)
_ERRORS = {
    Reason.INVALID_CUSTOMER: (ErrorCode.INVALID_CONTEXT, "the targeting key is no customer id, which is a UUID"),
    Reason.UNAVAILABLE: (ErrorCode.GENERAL, "billing, or the ledger, could not be asked"),
    Reason.REJECTED: (ErrorCode.GENERAL, "billing refuses our requests: check the credentials"),
    Reason.MALFORMED_RESPONSE: (ErrorCode.PARSE_ERROR, "billing's answer could not be read"),
}
_UNCOUNTED = (Reason.FEATURE_DISABLED, Reason.TYPE_MISMATCH)


def _read_allowed(decision: Decision) -> bool:
    """Return whether the customer may."""
    return decision.allowed


def _read_reason(decision: Decision) -> str:
    """Return the reason."""
    return decision.reason.value


def _read_integer(decision: Decision) -> int:
    """Return how much is left, rounded down; ``UNLIMITED`` where there is no limit."""
    return UNLIMITED if decision.unlimited else math.floor(_read_remaining(decision))


def _read_float(decision: Decision) -> float:
    """Return how much is left; infinity where there is no limit."""
    return math.inf if decision.unlimited else float(_read_remaining(decision))


def _read_remaining(decision: Decision) -> Decimal:
    """Return what is left; 0 where the entitlement is denied."""
    if decision.remaining is not None:
        return decision.remaining
    if decision.outcome is Outcome.UNKNOWN:
        raise GeneralError("what is left could not be learned")
    if decision.outcome is Outcome.DENIED and decision.reason not in _UNCOUNTED:
        return _NOTHING
    raise TypeMismatchError("this entitlement is not counted: ask for a boolean")


def _make_resolvers(read: Callable[[Decision], Any]) -> tuple[Any, Any]:
    """Return the method of the provider that answers with what ``read`` takes of a decision, and its async twin."""

    def resolve(
        self: EntitlementProvider, flag_key: str, default_value: Any, evaluation_context: Context = None
    ) -> FlagResolutionDetails[Any]:
        return _make_details(self._check(flag_key, evaluation_context), default_value, read)

    async def resolve_async(
        self: EntitlementProvider, flag_key: str, default_value: Any, evaluation_context: Context = None
    ) -> FlagResolutionDetails[Any]:
        return _make_details(await self._acheck(flag_key, evaluation_context), default_value, read)

    resolve.__doc__ = resolve_async.__doc__ = read.__doc__
    return resolve, resolve_async


class EntitlementProvider(Locked, Observer, AbstractProvider):
    """Answers flags from a gate: sync and async, with the same answers.

    Args:
        gate: whose answers; by default the gate of the Django settings.
        quantity: the attribute of the evaluation context that holds how much is needed now.
        close_gate: close the gate at ``shutdown``. A gate that others use too is better left open.

    Raises:
        ValueError: the gate of the settings cannot be closed here; or ``quantity`` is no name.
    """

    def __init__(
        self, gate: EntitlementGate | None = None, *, quantity: str = "quantity", close_gate: bool = False
    ) -> None:
        if close_gate and gate is None:
            raise ValueError("close_gate: the gate of the Django settings is everybody's: pass a gate of your own")
        if not (isinstance(quantity, str) and quantity):
            raise ValueError(f"quantity: the name of an attribute of the evaluation context, not {quantity!r}")
        super().__init__()
        self._gate = gate
        self._quantity = quantity
        self._close_gate = close_gate
        self._watched: EntitlementGate | None = None
        self._last_event = ProviderEvent.PROVIDER_READY

    def get_metadata(self) -> Metadata:
        """Return the provider's name."""
        return _METADATA

    def initialize(self, evaluation_context: EvaluationContext) -> None:  # noqa: ARG002 - there is no customer yet
        """Be ready: without any I/O, as the first check fetches.

        Raises:
            ProviderFatalError: the settings describe no gate.
        """
        from django.core.exceptions import ImproperlyConfigured  # noqa: PLC0415 - only for the gate of the settings

        self._last_event = ProviderEvent.PROVIDER_READY
        try:
            self._get_gate()
        except ImproperlyConfigured as error:
            raise ProviderFatalError(str(error)) from error

    def shutdown(self) -> None:
        """Emit no more events until initialized again; harmless when repeated."""
        with self._lock:
            self._stop_watching()
        if self._close_gate and self._gate is not None:
            self._gate.close()

    resolve_boolean_details, resolve_boolean_details_async = _make_resolvers(_read_allowed)
    resolve_string_details, resolve_string_details_async = _make_resolvers(_read_reason)
    resolve_integer_details, resolve_integer_details_async = _make_resolvers(_read_integer)
    resolve_float_details, resolve_float_details_async = _make_resolvers(_read_float)
    resolve_object_details, resolve_object_details_async = _make_resolvers(Decision.as_dict)

    def _check(self, name: str, context: Context) -> Decision:
        customer, quantity = self._read_context(name, context)
        try:
            return self._get_gate().check(customer, name, quantity)
        except ValueError as error:
            raise InvalidContextError(f"{self._quantity}: {error}") from error

    async def _acheck(self, name: str, context: Context) -> Decision:
        customer, quantity = self._read_context(name, context)
        try:
            return await self._get_gate().acheck(customer, name, quantity)
        except ValueError as error:
            raise InvalidContextError(f"{self._quantity}: {error}") from error

    def _read_context(self, name: str, context: Context) -> tuple[str, Any]:
        """Return the customer and the quantity."""
        if not name:
            raise FlagNotFoundError("a flag's key is the name of an entitlement: the text is empty")
        if context is None or not context.targeting_key:
            raise TargetingKeyMissingError("the targeting key is the customer id, and there is none")
        return context.targeting_key, context.attributes.get(self._quantity)

    def _get_gate(self) -> EntitlementGate:
        """Return the gate, watched; that of the settings is another one whenever they change."""
        gate = self._gate
        if gate is None:
            from entitlement_gate.api import default_gate  # noqa: PLC0415 - not without Django settings

            gate = default_gate()
        if gate is not self._watched:
            self._watch(gate)
        return gate

    def _watch(self, gate: EntitlementGate) -> None:
        with self._lock:  # to the end: of two threads that change gates at once, neither leaves its own watched
            self._stop_watching()
            gate.observe(self)
            self._watched = gate

    def _stop_watching(self) -> None:
        if self._watched is not None:
            self._watched.unobserve(self)
            self._watched = None

    def fetch(self, fetch: Fetch) -> None:
        """Emit an event where the state changes: see the table of events."""
        gate = self._watched
        if gate is None:  # shut down meanwhile
            return
        event = ProviderEvent.PROVIDER_READY if fetch.has_succeeded else _choose_failure_event(gate)
        with self._lock:
            if event is not None and event is not self._last_event:
                self._last_event = event
                self.emit(event, _make_event_details(event, fetch))


def _choose_failure_event(gate: EntitlementGate) -> ProviderEvent | None:
    """Return the event that a failed fetch calls for; None while the circuit breaker is closed."""
    health = gate.health()
    if health["breaker"] == "closed":
        return None
    age = health["last_success_age"]
    has_data = age is not None and age <= gate.options.stale_if_error
    return ProviderEvent.PROVIDER_STALE if has_data else ProviderEvent.PROVIDER_ERROR


def _make_event_details(event: ProviderEvent, fetch: Fetch) -> ProviderEventDetails:
    """Return the details for handlers: of a failure its kind only."""
    if fetch.has_succeeded:
        return ProviderEventDetails(message="billing answers again")
    code = ErrorCode.GENERAL if event is ProviderEvent.PROVIDER_ERROR else None
    return ProviderEventDetails(message=f"fetches fail: {fetch.outcome}", error_code=code)


def _make_details(decision: Decision, default: Value, read: Callable[[Decision], Any]) -> FlagResolutionDetails[Value]:
    """Return what ``read`` takes of a decision, with all that OpenFeature has room for; the default where it cannot."""
    metadata = _make_metadata(decision)
    try:
        _require_answer(decision)
        by_rows = FlagReason.TARGETING_MATCH if rows_behind(decision) else FlagReason.DEFAULT
        reason = _REASONS.get(decision.source, by_rows)
        variant = "allowed" if decision.allowed else "denied"
        return FlagResolutionDetails(read(decision), reason=reason, variant=variant, flag_metadata=metadata)
    except OpenFeatureError as error:
        return FlagResolutionDetails(
            default, error.error_code, error.error_message, FlagReason.ERROR, flag_metadata=metadata
        )


def _require_answer(decision: Decision) -> None:
    if not decision.allowed and decision.reason in _ERRORS:
        raise OpenFeatureError(*_ERRORS[decision.reason])


def _make_metadata(decision: Decision) -> dict[str, bool | int | float | str]:
    """Return what of a decision costs nothing to read; the object flag has the rest."""
    metadata: dict[str, bool | int | float | str] = {
        "outcome": decision.outcome,
        "reason": decision.reason,
        "source": decision.source,
    }
    if decision.age is not None:
        metadata["age"] = decision.age
    if decision.remaining is not None:
        metadata["remaining"] = f"{decision.remaining:f}"
    if decision.unlimited:
        metadata["unlimited"] = True
    if decision.shadow:
        metadata["shadow"] = True
    return metadata
