"""What a gate asks for: one entitlement, or several joined by ``&``, ``|`` and ``~``."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from entitlement_gate.domain.decisions import Decision, Outcome, Reason, RequestFault
from entitlement_gate.domain.numbers import valid_quantity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Requirement", "as_requirement"]

_CLOSENESS: dict[str, int] = {reason: rank for rank, reason in enumerate((*Reason, *RequestFault))}


@dataclass(frozen=True, slots=True)
class Requirement:
    """An entitlement, optionally with a quantity; combines with ``&`` (all), ``|`` (any) and ``~`` (not).

    >>> Requirement("reports") & ~Requirement("trial") | Requirement("seats", 3)
    Requirement('reports') & ~Requirement('trial') | Requirement('seats', '3')

    Attributes:
        requested: the quantity asked for, exact.

    Raises:
        TypeError: the entitlement is no text.
        ValueError: it is empty, or the quantity is none (see ``valid_quantity``).
    """

    entitlement: str
    quantity: Decimal | int | float | str | None = None
    operator: Literal["", "&", "|", "~"] = field(default="", kw_only=True)
    parts: tuple[Requirement, ...] = field(default=(), kw_only=True)
    requested: Decimal | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.entitlement, str):
            raise TypeError(f"an entitlement is a name, an alias or an id as text, not {self.entitlement!r}")
        if not (self.entitlement or self.operator):
            raise ValueError("an entitlement needs a name: the text is empty")
        if self.quantity is not None:
            object.__setattr__(self, "requested", valid_quantity(self.quantity))
            object.__setattr__(self, "quantity", self.requested)

    def __and__(self, other: Requirement | str) -> Requirement:
        return _join("&", self, other)

    def __or__(self, other: Requirement | str) -> Requirement:
        return _join("|", self, other)

    def __rand__(self, other: str) -> Requirement:
        return _join("&", as_requirement(other), self)

    def __ror__(self, other: str) -> Requirement:
        return _join("|", as_requirement(other), self)

    def __invert__(self) -> Requirement:
        return Requirement("", operator="~", parts=(self,))

    def leaves(self) -> Iterator[Requirement]:
        """Yield every single requirement in it, in the order written."""
        if not self.operator:
            yield self
        for part in self.parts:
            yield from part.leaves()

    def judge(self, decide: Callable[[Requirement], Decision]) -> Decision:
        """Return the decision of the whole, which is that of the leaf that decided.

        ``decide`` answers one leaf, without any failure policy. Three values: a denial decides ``&``, an
        allowance decides ``|``, and unknown is returned only where neither did.
        """
        if not self.operator:
            return decide(self)
        decisions = [part.judge(decide) for part in self.parts]
        if self.operator == "~":
            return _negate(decisions[0])
        deciding = Outcome.DENIED if self.operator == "&" else Outcome.ALLOWED
        for outcome in (deciding, Outcome.UNKNOWN):
            for decision in decisions:
                if decision.outcome is outcome:
                    return decision
        choose = max if self.operator == "&" else min  # of all allowed: the overage; of all denied: the closest
        return choose(decisions, key=lambda decision: _CLOSENESS[decision.reason])

    def without(self, free: Callable[[str], bool], *, is_wanted: bool = True) -> Requirement | None:
        """Return what is still asked for where each name that is ``free`` is as it has to be; None for nothing."""
        if not self.operator:
            return None if free(self.entitlement) else self
        if self.operator == "~":
            rest = self.parts[0].without(free, is_wanted=not is_wanted)
            return rest and ~rest
        parts = [part.without(free, is_wanted=is_wanted) for part in self.parts]
        remaining = tuple(part for part in parts if part is not None)
        one_is_enough = (self.operator == "|") is is_wanted  # of what is not wanted, it is the other way round
        if not remaining or (one_is_enough and len(remaining) < len(parts)):
            return None
        return remaining[0] if len(remaining) == 1 else Requirement("", operator=self.operator, parts=remaining)

    def __repr__(self) -> str:
        if self.operator == "~":
            return f"~{_within('~', self.parts[0])}"
        if self.operator:
            return f" {self.operator} ".join(_within(self.operator, part) for part in self.parts)
        quantity = "" if self.quantity is None else f", {str(self.quantity)!r}"
        return f"Requirement({self.entitlement!r}{quantity})"


def as_requirement(entitlement: str | Requirement, quantity: object = None) -> Requirement:
    """Return what a check asks for as a requirement.

    Raises:
        ValueError: the quantity is none, or is given beside a requirement that states its own.
    """
    if not isinstance(entitlement, Requirement):
        return Requirement(entitlement, quantity)  # type: ignore[arg-type]  # validated by the requirement
    if quantity is None:
        return entitlement
    if entitlement.operator or entitlement.quantity is not None:
        raise ValueError("give the quantity inside the Requirement, not beside it")
    return Requirement(entitlement.entitlement, quantity)  # type: ignore[arg-type]  # as above


def _within(operator: str, part: Requirement) -> str:
    loose = {"~": ("&", "|"), "&": ("|",)}.get(operator, ())
    return f"({part!r})" if part.operator in loose else repr(part)


def _join(operator: Literal["&", "|"], left: Requirement, right: Requirement | str) -> Requirement:
    if not isinstance(right, (Requirement, str)):
        return NotImplemented
    sides = (left, as_requirement(right))
    parts = (part for side in sides for part in (side.parts if side.operator == operator else (side,)))
    return Requirement("", operator=operator, parts=tuple(parts))


def _negate(decision: Decision) -> Decision:
    if decision.outcome is Outcome.UNKNOWN or decision.reason in _ABOUT_THE_CUSTOMER:
        return decision
    reason = Reason.NOT_ENTITLED if decision.outcome is Outcome.ALLOWED else Reason.ALLOWED
    return Decision.of(reason, decision.entitlement, customer_id=decision.customer_id)


# "Not entitled" to something is no praise for a customer that does not exist: those stay denied under `~`.
_ABOUT_THE_CUSTOMER = frozenset({Reason.NO_CUSTOMER, Reason.INVALID_CUSTOMER, Reason.CUSTOMER_NOT_FOUND, *RequestFault})
