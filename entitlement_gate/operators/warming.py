"""Fetches many customers ahead of their first check, a few at a time. Never here: files, terminals.

What is held already is not fetched: a run that was cut short is simply run again, where a shared store keeps what
was fetched; a long-lived process may call ``warm`` with its own gate at start-up.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from entitlement_gate.domain.decisions import Outcome, Reason
from entitlement_gate.domain.rule import canonical_uuid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from entitlement_gate.engine.gate import EntitlementGate

__all__ = [
    "Warmth",
    "ids_in",
    "warm",
]


Result = Literal["fetched", "held", "missing", "failed", "invalid"]
_ANY = "*"
_MARK = "\ufeff"  # a byte-order mark, also where files were joined
_AHEAD = 4  # pieces of work waiting for each thread


@dataclass(slots=True)
class Warmth:
    """What became of the ids, each list in their order.

    Attributes:
        fetched: now held.
        held: were held before.
        missing: billing does not know them.
        failed: could not be fetched now; worth another try.
        invalid: are no customer ids.
    """

    fetched: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    invalid: list[str] = field(default_factory=list)

    @property
    def done(self) -> int:
        """How many ids are dealt with."""
        return sum(map(len, (self.fetched, self.held, self.missing, self.failed, self.invalid)))

    @property
    def is_complete(self) -> bool:
        """Whether every id is held."""
        return not (self.missing or self.failed or self.invalid)

    def __str__(self) -> str:
        said = [f"{len(self.fetched)} fetched", f"{len(self.held)} held before"]
        others = {"unknown to billing": self.missing, "failed": self.failed, "no customer id": self.invalid}
        return ", ".join(said + [f"{len(ids)} {what}" for what, ids in others.items() if ids])


def ids_in(lines: Iterable[str]) -> list[str]:
    """Return the ids of a file, one a line, each once; blank lines and what follows ``#`` are left out."""
    words = (line.partition("#")[0].replace(_MARK, "").strip() for line in lines)
    return list(dict.fromkeys(word for word in words if word))


def warm(
    gate: EntitlementGate,
    customers: Iterable[str],
    *,
    concurrency: int = 8,
    progress: Callable[[Warmth], object] = lambda _: None,
) -> Warmth:
    """Fetch every customer that is not held, at most ``concurrency`` at a time; report after each."""
    warmth = Warmth()
    underway: deque[tuple[str, Future[Result]]] = deque()

    def land() -> None:
        customer, future = underway.popleft()
        getattr(warmth, future.result()).append(customer)
        progress(warmth)

    with ThreadPoolExecutor(concurrency) as threads:
        for customer in customers:
            underway.append((customer, threads.submit(_warm, gate, customer)))
            if len(underway) >= concurrency * _AHEAD:
                land()
        while underway:
            land()
    return warmth


def _warm(gate: EntitlementGate, customer: str) -> Result:
    if canonical_uuid(customer) is None:
        return "invalid"
    basis = gate.inspect(customer).check(_ANY)
    if basis.outcome is Outcome.UNKNOWN or basis.source == "stale":
        return "failed"
    if basis.reason is Reason.CUSTOMER_NOT_FOUND:
        return "missing"
    return "fetched" if basis.source == "live" else "held"
