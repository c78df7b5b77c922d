"""One override as data, and the gate that answers while any is active, without any fetch.

Which overrides are active is in ``overrides``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from entitlement_gate.domain.decisions import Decision, Outcome, Reason
from entitlement_gate.domain.errors import EntitlementUnavailable
from entitlement_gate.domain.grants import EntitlementType
from entitlement_gate.domain.numbers import given_number
from entitlement_gate.domain.requirements import Requirement, as_requirement
from entitlement_gate.domain.rule import canonical_uuid
from entitlement_gate.engine.entitlements import CustomerEntitlements, Entitlement
from entitlement_gate.engine.reservations import Reservation
from entitlement_gate.project_gate import RequestGate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from entitlement_gate.engine.evaluation import Evaluator
    from entitlement_gate.engine.reservations import ReservationRequest
    from entitlement_gate.resilience.effects import Effects

__all__ = ["Layer", "OverridingGate", "Value", "decide_leaf", "read_values"]

Value = bool | Decimal | Decision | Literal["unavailable"]
"""Yes or no, a balance, a whole decision, or an outage."""

_ZERO = Decimal(0)


@dataclasses.dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Layer:
    """One override; compared by identity, since two alike may be active at once.

    Attributes:
        values: name, alias or entitlement id → what is said of it.
        customer_id: of whom; None is everybody.
        default: what is said of every other name; None is nothing.
        stand_in: the customer of requests that are nobody's; None leaves them so.
        decisions: takes the decisions given while it is active; None takes none.
    """

    values: Mapping[str, Value]
    customer_id: str | None = None
    default: Value | None = None
    stand_in: str | None = None
    decisions: list[Decision] | None = None

    def is_about(self, customer_id: str) -> bool:
        """Whether it says anything of this customer."""
        return self.customer_id in (None, customer_id)

    def find(self, entitlement: str, billed: Callable[[str], str]) -> Value | None:
        """Return what is said of an entitlement; ``billed`` gives the name or id that billing has for a name."""
        if entitlement in self.values:
            return self.values[entitlement]
        asked = billed(entitlement)
        return next((value for name, value in self.values.items() if billed(name) == asked), self.default)


def read_values(values: object) -> dict[str, Value]:
    """Return what a user wrote, checked.

    Raises:
        TypeError: it is no mapping of names.
        ValueError: a value cannot be; the message names the entitlement.
    """
    if not isinstance(values, Mapping) or not all(isinstance(name, str) and name for name in values):
        raise TypeError(f'a dict such as {{"sso": True, "seats": 5}} is needed, not {values!r}')
    return {str(name): _read_value(name, value) for name, value in values.items()}


def decide_leaf(value: Value, leaf: Requirement, customer_id: str) -> Decision:
    """Return the decision on one entitlement, before any policy."""
    if isinstance(value, Decision):
        known = {"customer_id": value.customer_id or customer_id, "requested": value.requested or leaf.requested}
        return dataclasses.replace(value, entitlement=leaf.entitlement, **known)  # type: ignore[arg-type]  # by name
    fields: dict[str, Any] = {"customer_id": customer_id, "requested": leaf.requested}
    if isinstance(value, Decimal):
        enough = value > 0 if leaf.requested is None else value >= leaf.requested
        reason = Reason.OVERRIDE if enough else Reason.INSUFFICIENT_QUANTITY
        fields |= {"type": EntitlementType.QUANTITY, "limit": value, "used": _ZERO, "remaining": value}
        return Decision.of(reason, leaf.entitlement, **fields)
    return Decision.of(_REASONS[value], leaf.entitlement, **fields)


_REASONS = {True: Reason.OVERRIDE, False: Reason.NOT_ENTITLED, "unavailable": Reason.UNAVAILABLE}


def _read_value(name: str, value: object) -> Value:
    if isinstance(value, (bool, Decision)):
        return value
    if value == "unavailable":
        return "unavailable"
    number = given_number(value)
    if number is None:
        raise ValueError(f'{name!r}: True, False, a quantity, a Decision or "unavailable", not {value!r}')
    return number


Layers = tuple[Layer, ...]


class OverridingGate(RequestGate):
    """Resolves customers, aliases and policies as the settings say, and decides by the overrides.

    Args:
        layers: gives the active overrides, the innermost last.
        **options: of the gate in the settings.
    """

    def __init__(self, layers: Callable[[], Layers], **options: Any) -> None:
        super().__init__(_NoSource(), **options)
        self._layers = layers

    def decide(self, requirement: Requirement, customer_id: str, layers: Layers = ()) -> Decision:
        """Return the decision by the active overrides; where none is any more, by the ones given."""
        layers = self._layers() or layers
        judge_leaf = partial(self._leaf, customer_id=customer_id, layers=layers)
        judged = requirement.judge(judge_leaf)
        # A whole decision that already allows what is unknown says more than the failure policy.
        settled = judged if judged.allowed else self._evaluator.settle(requirement, judged, judge_leaf)
        decision = dataclasses.replace(settled, source="override")
        for layer in layers:
            if layer.decisions is not None:
                layer.decisions.append(decision)
        return decision

    def list_names(self, customer_id: str, layers: Layers) -> list[str]:
        """Return the names of a customer's entitlements, as billing spells them where the settings tell."""
        layers = self._layers() or layers
        names = {self._format_name(name) for layer in layers if layer.is_about(customer_id) for name in layer.values}
        return sorted(name for name in names if self._is_held(name, customer_id, layers))

    def is_held(self, name: str, customer_id: str, layers: Layers) -> bool:
        """Whether the customer has it in any state: one that does not count is still one that is there."""
        return self._is_held(name, customer_id, self._layers() or layers)

    def identify(self, customer: object) -> str | Reason:
        """Return whose entitlements are asked for; nobody's may be those of a customer that an override names."""
        if customer is None:
            customer = next((layer.stand_in for layer in self._layers() if layer.stand_in), None)
        return super().identify(customer)

    def knowing(
        self,
        customer_id: str | Reason,
        due: float,  # noqa: ARG002 - nothing is waited for
        *,
        refresh: bool = False,  # noqa: ARG002 - nothing is ever older than the question
    ) -> Effects[CustomerEntitlements]:
        """Return what the overrides say of the customer."""
        yield from ()
        if isinstance(customer_id, Reason):
            return CustomerEntitlements(None, self._evaluator, customer_id)
        return _OverriddenEntitlements(customer_id, self._evaluator, self, self._layers())

    def deciding(
        self,
        requirement: Requirement,
        known: CustomerEntitlements,
        due: float,  # noqa: ARG002 - nothing is waited for
    ) -> Effects[tuple[Decision, CustomerEntitlements]]:
        """Decide by the overrides: what a request knew before they began does not count, whose it is does."""
        yield from ()
        if known.customer_id is None:
            return known.decide(requirement), known
        return self.decide(requirement, known.customer_id), known

    def _reserving(
        self,
        wanted: ReservationRequest,
        customer_id: str,
        due: float,  # noqa: ARG002 - nothing is waited for
    ) -> Effects[tuple[Decision, Reservation | None]]:
        # A test says what is there; how much of it is gone is for `FakeBilling` to count.
        yield from ()
        decision = self.decide(wanted.requirement, customer_id)
        return decision, Reservation(decision, wanted.key) if decision.allowed else None

    def _leaf(self, leaf: Requirement, customer_id: str, layers: Layers) -> Decision:
        for layer in reversed(layers):
            value = layer.find(leaf.entitlement, self._billed) if layer.is_about(customer_id) else None
            if value is not None:
                return decide_leaf(value, leaf, customer_id)
        return decide_leaf(False, leaf, customer_id)  # noqa: FBT003 - the value a user would write

    def _is_held(self, name: str, customer_id: str, layers: Layers) -> bool:
        return self._leaf(Requirement(name), customer_id, layers).reason is not Reason.NOT_ENTITLED

    def _billed(self, name: str) -> str:
        billed = self.options.aliases.get(name, name)
        return canonical_uuid(billed) or billed

    def _format_name(self, name: str) -> str:
        billed = self._billed(name)
        return name if canonical_uuid(billed) else billed


class _OverriddenEntitlements(CustomerEntitlements):
    """What the overrides say of one customer; after they have ended, what they said."""

    def __init__(self, customer_id: str, judge: Evaluator, gate: OverridingGate, layers: Layers) -> None:
        super().__init__(None, judge)
        self._of = customer_id
        self._gate = gate
        self._layers = layers

    @property
    def customer_id(self) -> str:
        return self._of

    def decide(self, requirement: Requirement) -> Decision:
        return self._gate.decide(requirement, self._of, self._layers)

    def __getitem__(self, name: str) -> Entitlement:
        decision = self.decide(as_requirement(name))
        if decision.outcome is Outcome.UNKNOWN:
            raise EntitlementUnavailable(decision)
        if not self._gate.is_held(name, self._of, self._layers):
            raise KeyError(name)
        return Entitlement(name, decision, ())

    def __iter__(self) -> Iterator[str]:
        return iter(self._gate.list_names(self._of, self._layers))

    def __len__(self) -> int:
        return len(self._gate.list_names(self._of, self._layers))


class _NoSource:
    """The source of a gate that never fetches."""

    def fetch(self, customer_id: str) -> NoReturn:
        raise AssertionError(f"an override is active and {customer_id} was fetched")

    def __repr__(self) -> str:
        return "override_entitlements"
