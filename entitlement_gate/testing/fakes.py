"""``FakeSource``, for a gate in a unit test, and a clock that a test moves. Neither needs Django."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal
from uuid import NAMESPACE_OID, UUID, uuid5

from entitlement_gate.domain.errors import (
    CustomerNotFound,
    SourceError,
    SourceMalformed,
    SourceRejected,
    SourceUnavailable,
)
from entitlement_gate.domain.grants import EntitlementType, Grant, Snapshot, aware
from entitlement_gate.domain.numbers import given_number
from entitlement_gate.domain.rule import canonical_uuid
from entitlement_gate.resilience.fork_safety import Locked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from entitlement_gate.resilience.clock import Clock

__all__ = ["FakeSource", "MovableClock", "canonical_customer"]

Kind = Literal["unavailable", "rejected", "malformed_response"]

_FAILURES: Mapping[str, SourceError] = {
    "unavailable": SourceUnavailable("the test said so"),
    "rejected": SourceRejected(401, "the test said so"),
    "malformed_response": SourceMalformed("the test said so"),
}


class FakeSource(Locked):
    """A source for ``EntitlementGate`` that answers from memory. Thread-safe.

    >>> from entitlement_gate import EntitlementGate
    >>> source = FakeSource()
    >>> source.grant("10000000-0000-4000-8000-000000000001", "seats", 5)
    >>> with EntitlementGate(source) as gate:
    ...     gate.has("10000000-0000-4000-8000-000000000001", "seats", 5)
    True

    The gate holds what it fetched: after a change, ``gate.invalidate(customer)`` or ask with ``refresh=True``.

    Attributes:
        fetched: the customer ids asked for, in order.
    """

    def __init__(self, *, clock: Clock = time) -> None:
        self.fetched: list[str] = []
        self._clock = clock
        super().__init__()
        self._grants: dict[str, tuple[Grant, ...]] = {}
        self._grant_count = 0
        self._failure: BaseException | None = None

    def grant(self, customer: UUID | str, name: str, quantity: object = None, **fields: Any) -> None:
        """Give a customer a grant: live and a Feature, or a Quantity when there is one; ``fields`` are a ``Grant``'s.

        Raises:
            ValueError: the quantity is no number, or the customer no UUID.
            TypeError: a field is none of a ``Grant``'s.
        """
        customer_id, number = canonical_customer(customer), _read_quantity(quantity)
        kind = EntitlementType.FEATURE if number is None else EntitlementType.QUANTITY
        own_id = str(uuid5(NAMESPACE_OID, name))
        defaults: dict[str, Any] = {"entitlement_id": own_id, "type": kind, "status": "active", "quantity": number}
        with self._lock:
            self._grant_count += 1
            row = Grant(name=name, **{"id": f"grant-{self._grant_count}", **defaults, **fields})
            self._grants[customer_id] = (*self._grants.get(customer_id, ()), row)

    def revoke(self, customer: UUID | str, name: str) -> None:
        """Take every grant of a name away; the customer stays known."""
        customer_id = canonical_customer(customer)
        with self._lock:
            grants = self._grants.get(customer_id, ())
            self._grants[customer_id] = tuple(grant for grant in grants if grant.name != name)

    def fail(self, kind: Kind | BaseException = "unavailable") -> None:
        """Fail every fetch from now on, with the reason that decisions shall give, or with an exception of yours.

        Raises:
            ValueError: there is no such reason.
        """
        if not isinstance(kind, BaseException) and kind not in _FAILURES:
            raise ValueError(f"one of {', '.join(_FAILURES)} or an exception, not {kind!r}")
        self._failure = kind if isinstance(kind, BaseException) else _FAILURES[kind]

    def recover(self) -> None:
        """Answer again."""
        self._failure = None

    def fetch(self, customer_id: str) -> Snapshot:
        """Return the customer's grants, or raise what ``fail`` set.

        Raises:
            CustomerNotFound: nothing was ever granted to the customer.
        """
        with self._lock:
            self.fetched.append(customer_id)
            grants = self._grants.get(customer_id)
        if self._failure is not None:
            raise self._failure
        if grants is None:
            raise CustomerNotFound("the test granted this customer nothing")
        return Snapshot(customer_id, grants, self._clock.time())

    def __repr__(self) -> str:
        return f"<FakeSource of {len(self._grants)} customers>"


def canonical_customer(customer: object) -> str:
    """Return the canonical id of a ``uuid.UUID`` or its text, or raise ``ValueError``."""
    canonical = canonical_uuid(str(customer)) if isinstance(customer, (UUID, str)) else None
    if canonical is None:
        raise ValueError(f"a customer is a UUID or its hyphenated text, not {customer!r}")
    return canonical


def _read_quantity(quantity: object) -> Any:
    if quantity is None:
        return None
    number = given_number(quantity)
    if number is None:
        raise ValueError(f"a quantity is a finite number, not {quantity!r}")
    return number


class MovableClock(Locked):
    """A clock, wall and monotonic, that runs with the machine's until a test freezes or moves it."""

    def __init__(self) -> None:
        super().__init__()
        self._shift = 0.0
        self._frozen: tuple[float, float] | None = None

    def time(self) -> float:
        """Seconds since 1970."""
        return self._read()[0]

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return self._read()[1]

    def freeze(self, at: datetime | None = None) -> None:
        """Stand still, now or at an instant (a naive one is UTC)."""
        with self._lock:
            wall, tick = self._read()
            self._frozen = (wall if at is None else aware(at).timestamp(), tick)

    def advance(self, by: float | timedelta) -> None:
        """Let time pass at once, frozen or not.

        Raises:
            ValueError: time would go back.
        """
        seconds = by.total_seconds() if isinstance(by, timedelta) else by
        if seconds < 0:
            raise ValueError(f"time goes forward only, not by {by!r}")
        with self._lock:
            if self._frozen is None:
                self._shift += seconds
            else:
                wall, tick = self._frozen
                self._frozen = (wall + seconds, tick + seconds)

    def _read(self) -> tuple[float, float]:
        return self._frozen or (time.time() + self._shift, time.monotonic() + self._shift)
