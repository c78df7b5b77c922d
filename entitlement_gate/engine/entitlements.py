"""A customer's entitlements as a mapping, all from one snapshot."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from entitlement_gate.domain.decisions import Decision, Outcome, Reason
from entitlement_gate.domain.errors import EntitlementDenied, EntitlementUnavailable
from entitlement_gate.domain.grants import EntitlementType, Grant
from entitlement_gate.domain.requirements import Requirement, as_requirement
from entitlement_gate.engine.ledger_client import NOT_READ

if TYPE_CHECKING:
    from datetime import datetime
    from decimal import Decimal

    from entitlement_gate.engine.evaluation import Evaluator
    from entitlement_gate.engine.snapshots import View
    from entitlement_gate.ledger.protocol import Charges

__all__ = ["CustomerEntitlements", "Entitlement", "required"]

Conclude = Callable[[Requirement, Decision], Decision]
"""Takes a requirement and the decision by the snapshot, and returns the decision that is final."""


@dataclass(frozen=True, slots=True)
class Entitlement:
    """One entitlement of a customer: what a check without a quantity says of it, and its rows. Truthy when allowed."""

    name: str
    decision: Decision
    grants: tuple[Grant, ...]

    def __bool__(self) -> bool:
        return self.decision.allowed

    @property
    def allowed(self) -> bool:
        """Whether a check without a quantity allows."""
        return self.decision.allowed

    @property
    def reason(self) -> Reason:
        """Why, or why not."""
        return self.decision.reason

    @property
    def type(self) -> EntitlementType | None:
        """Feature, Quantity or Credits; None when billing did not say."""
        return self.decision.type

    @property
    def units(self) -> str | None:
        """What is counted, for people."""
        return self.decision.units

    @property
    def limit(self) -> Decimal | None:
        """Granted in total."""
        return self.decision.limit

    @property
    def used(self) -> Decimal | None:
        """Gone."""
        return self.decision.used

    @property
    def remaining(self) -> Decimal | None:
        """Left; None for a Feature, and where it is unknown or unlimited."""
        return self.decision.remaining

    @property
    def unlimited(self) -> bool:
        """No quantity is given, which the settings read as "no limit"."""
        return self.decision.unlimited

    @property
    def active_from(self) -> datetime | None:
        """Earliest start."""
        return self.decision.active_from

    @property
    def expires_at(self) -> datetime | None:
        """Latest end."""
        return self.decision.expires_at


class CustomerEntitlements(Mapping[str, Entitlement]):
    """Name in billing → entitlement; a look-up takes aliases and entitlement ids too.

    Every answer comes from one snapshot, judged again at each call by the clock and by what is used up here: in memory
    as of then, in a shared ledger as of when the snapshot was asked for. Read as a mapping it stays that snapshot;
    ``check``, ``has`` and ``require`` of what ``get`` gave read the ledger again before they deny, and deny by newer
    data where it is too old to deny. Where the truth could not be learned, they answer by the failure policy and
    reading it as a mapping raises ``EntitlementUnavailable``: an outage must not look like a customer without
    entitlements.
    """

    def __init__(
        self,
        view: View | None,
        evaluator: Evaluator,
        refusal: Reason | None = None,
        *,
        charges: Charges | None = NOT_READ,
    ) -> None:
        self.view = view
        self._evaluator = evaluator
        self._refusal = refusal
        self.charges = charges
        self._conclude: Conclude | None = None

    def concluded_by(self, conclude: Conclude) -> Self:
        """Return the same, where ``conclude`` makes each check's decision final and reports it."""
        entitlements = copy.copy(self)
        entitlements._conclude = conclude  # noqa: SLF001 - of the same class
        return entitlements

    @property
    def customer_id(self) -> str | None:
        """Canonical UUID text, or None when there was no usable id."""
        return self.view.customer_id if self.view else None

    def check(self, entitlement: str | Requirement, quantity: object = None) -> Decision:
        """Return the decision. Raises ``ValueError`` for what is no quantity."""
        requirement = as_requirement(entitlement, quantity)
        decision = self.decide(requirement)
        return decision if self._conclude is None else self._conclude(requirement, decision)

    def decide(self, requirement: Requirement) -> Decision:
        """Return the decision by the one snapshot."""
        if self.view is None:
            return self._evaluator.refuse(requirement, self._refusal or Reason.NO_CUSTOMER, None)
        return self._evaluator.decide(requirement, self.view, self.charges)

    def kept(self) -> Self:
        """Return the same for a later check, which may fetch again before it denies by data that is too old then.

        A fetch that failed for this is not tried again.
        """
        if self.view is None or not self.view.was_tried or self.view.source not in ("live", "shared"):
            return self
        entitlements = copy.copy(self)
        entitlements.view = self.view._replace(was_tried=False)
        return entitlements

    def has(self, entitlement: str | Requirement, quantity: object = None) -> bool:
        """Return whether the customer may."""
        requirement = as_requirement(entitlement, quantity)
        if self.view is None or self._conclude is not None:
            return self.check(requirement).allowed
        return self._evaluator.allows(requirement, self.view, self.charges)

    def require(self, entitlement: str | Requirement, quantity: object = None) -> Decision:
        """Return the decision, or raise ``EntitlementDenied`` or ``EntitlementUnavailable``."""
        return required(self.check(entitlement, quantity))

    def as_dict(self) -> dict[str, Any]:
        """Return all of it in plain JSON types, numbers as exact text; raises as reading it as a mapping does."""
        return {"customer_id": self.customer_id, "entitlements": [_to_dict(self[name]) for name in self]}

    def __getitem__(self, name: str) -> Entitlement:
        if not (isinstance(name, str) and name):
            raise KeyError(name)
        decision = self.decide(as_requirement(name))
        if decision.outcome is Outcome.UNKNOWN:
            raise EntitlementUnavailable(decision)
        entry = self.view.entry if self.view else None
        named = self._evaluator.named(name, entry.snapshot) if entry else ()
        if not named:
            raise KeyError(name)
        return Entitlement(name, decision, tuple(named))

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({grant.name for grant in self._get_grants()}))

    def __len__(self) -> int:
        return len({grant.name for grant in self._get_grants()})

    def __repr__(self) -> str:
        return f"<CustomerEntitlements of {self.customer_id}>"

    @property
    def _grants(self) -> tuple[Grant, ...]:
        return self.view.entry.snapshot.grants if self.view and self.view.entry else ()

    def _get_grants(self) -> tuple[Grant, ...]:
        if self.view is not None and self.view.entry is None:
            raise EntitlementUnavailable(self.decide(as_requirement("*")))
        return self._grants


_FIELDS = ("allowed", "reason", "type", "units", "limit", "used", "remaining", "unlimited", "active_from", "expires_at")


def _to_dict(entitlement: Entitlement) -> dict[str, Any]:
    plain = entitlement.decision.as_dict()
    return {"name": entitlement.name, **{name: plain[name] for name in _FIELDS}}


def required(decision: Decision) -> Decision:
    """Return the decision when it allows, or raise the error that stands for it."""
    if decision.allowed:
        return decision
    raise EntitlementUnavailable(decision) if decision.outcome is Outcome.UNKNOWN else EntitlementDenied(decision)
