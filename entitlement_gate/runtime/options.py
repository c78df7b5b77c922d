"""What a gate is made with, refused early where it cannot work. Never here: reading Django's settings."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TypedDict

from entitlement_gate.domain.rule import PerName, Terms

__all__ = ["GateKeywords", "GateOptions"]


class GateKeywords(TypedDict, total=False):
    """The keyword arguments of ``EntitlementGate``; their meaning stands at ``GateOptions``."""

    ttl: float
    stale_while_revalidate: float
    stale_if_error: float
    denial_max_age: float
    max_customers: int
    deadline: float
    max_concurrency: int
    on_unavailable: PerName
    on_exhausted: PerName
    null_quantity: PerName
    aliases: Mapping[str, str]
    shadow: bool | Collection[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOptions:
    """How fresh answers are, how long a check may wait, and what happens where the truth is not known.

    Attributes:
        ttl: seconds that data is fresh (± 10 %, so that customers fetched together part ways).
        stale_while_revalidate: seconds after that in which it is served while one fetch renews it.
        stale_if_error: age in seconds up to which data is served when fetching fails.
        denial_max_age: seconds after which data is fetched again before it denies.
        max_customers: customers held; the least recently refreshed leave first.
        deadline: seconds that a check may wait.
        max_concurrency: fetches at a time.
        on_unavailable: ``deny`` or ``allow`` where the truth could not be learned, or ``{name: …, "*": …}``.
        on_exhausted: ``deny``, or ``allow`` (overage) where the balance is too small, or the same by name.
        null_quantity: ``deny``, or ``unlimited``, for a metered grant without a number, or the same by name.
        aliases: the name in code → the name or entitlement id in billing.
        shadow: allow what would be denied and mark it, for all (True) or for a set of names.

    Raises:
        ValueError: an option cannot work; the message names it.
    """

    ttl: float = 60
    stale_while_revalidate: float = 60
    stale_if_error: float = 3600
    denial_max_age: float = 5
    max_customers: int = 10_000
    deadline: float = 3.0
    max_concurrency: int = 16
    on_unavailable: PerName = "deny"
    on_exhausted: PerName = "deny"
    null_quantity: PerName = "deny"
    aliases: Mapping[str, str] = field(default_factory=dict)
    shadow: bool | Collection[str] = False

    def __post_init__(self) -> None:
        for name in ("ttl", "stale_while_revalidate", "stale_if_error", "denial_max_age", "deadline"):
            _check_seconds(name, getattr(self, name))
        for name in ("max_customers", "max_concurrency"):
            _check_at_least_one(name, getattr(self, name))
        _check_words("on_unavailable", self.on_unavailable, ("deny", "allow"))
        _check_words("on_exhausted", self.on_exhausted, ("deny", "allow"))
        _check_words("null_quantity", self.null_quantity, ("deny", "unlimited"))
        _check_names(self.aliases, self.shadow)

    @property
    def terms(self) -> Terms:
        """The part of the options that the rule itself needs."""
        return Terms(self.aliases, self.on_exhausted, self.null_quantity)

    def is_shadowed(self, entitlement: str) -> bool:
        """Whether a refusal of this entitlement is only noted."""
        if isinstance(self.shadow, bool):
            return self.shadow
        return entitlement in self.shadow


def _check_seconds(name: str, value: object) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 <= value < float("inf") or (name == "deadline" and value == 0):  # type: ignore[operator]  # a number, by the line above
        raise ValueError(f"{name}: seconds, a number of at least 0 (a deadline: above 0), not {value!r}")


def _check_at_least_one(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}: a whole number of at least 1, not {value!r}")


def _check_words(name: str, value: object, words: tuple[str, str]) -> None:
    said = value.values() if isinstance(value, Mapping) else (value,)
    if not all(isinstance(word, str) and word in words for word in said):
        raise ValueError(
            f'{name}: "{words[0]}" or "{words[1]}", or a dict of name (or "*") to one of them, not {value!r}'
        )


def _check_names(aliases: object, shadow: object) -> None:
    if not isinstance(aliases, Mapping) or not all(isinstance(t, str) for pair in aliases.items() for t in pair):
        raise ValueError(f"aliases: a dict of the name in code to the name or id in billing, not {aliases!r}")
    if isinstance(shadow, str) or not isinstance(shadow, (bool, Collection)):
        raise ValueError(f"shadow: True, False or a set of names, not {shadow!r}")
