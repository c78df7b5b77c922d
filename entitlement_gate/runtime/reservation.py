"""A quantity held for a customer, to be committed or released. Never here: whether it may be held (``reserving``)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Self

from entitlement_gate.domain.errors import EntitlementGateError
from entitlement_gate.domain.numbers import valid_quantity
from entitlement_gate.ledger.protocol import State
from entitlement_gate.ledger.rule import micro_units, quantity_of
from entitlement_gate.runtime.reporting import text_to_log
from entitlement_gate.runtime.steps import Steps, drive, drive_async

if TYPE_CHECKING:
    from decimal import Decimal

    from entitlement_gate.domain.decisions import Decision
    from entitlement_gate.ledger.protocol import Receipt
    from entitlement_gate.runtime.counting import Counting

__all__ = ["Reservation"]

_logger = logging.getLogger("entitlement_gate")


class Reservation:
    """What was reserved. As a ``with`` or ``async with`` block it commits on success and releases on an error.

    >>> with gate.reserve(customer, "api_calls", 5) as reservation:  # doctest: +SKIP - needs billing
    ...     done = work()
    ...     reservation.commit(done)  # less or more than was reserved; without it the block commits all 5

    Nothing is held where there is nothing to count, or where a policy let in who could not be counted (an outage
    under ``ON_UNAVAILABLE="allow"``, shadow mode): then every verb does nothing.

    Attributes:
        decision: why it was granted; ``remaining`` is what is left beside it.
        key: names it to the ledger; the same key never counts twice.
    """

    def __init__(
        self, decision: Decision, key: str, counting: Counting | None = None, held: Receipt | None = None
    ) -> None:
        self.decision = decision
        self.key = key
        self._counting = counting
        self._receipt = held

    @property
    def state(self) -> State:
        """``held``, ``committed``, ``released`` or ``expired``, as last heard from the ledger."""
        return self._receipt.state if self._receipt else State.RELEASED

    @property
    def quantity(self) -> Decimal | None:
        """What is held, or was committed; None where nothing is counted."""
        return quantity_of(self._receipt.quantity) if self._receipt else None

    @property
    def is_late(self) -> bool:
        """Whether it was committed after its time had run out: counted all the same, perhaps beyond the balance."""
        return self._receipt is not None and self._receipt.is_late

    def commit(self, actual: object = None) -> None:
        """Count what was held or, of a single entitlement, the ``actual`` quantity. Again with the same is harmless.

        Raises:
            ValueError: ``actual`` is no quantity, or several entitlements are held.
            ReservationConflict: it was released, or committed with another quantity.
            LedgerUnavailable: the ledger did not answer by the deadline; it may count it still. Try again: the key
                never counts twice.
        """
        drive(self.committing(actual))

    async def acommit(self, actual: object = None) -> None:
        """Count what was held; see ``commit``."""
        await drive_async(self.committing(actual))

    def release(self) -> None:
        """Give back what is held. Again is harmless. Raises as ``commit`` does."""
        drive(self.releasing())

    async def arelease(self) -> None:
        """Give back what is held; see ``release``."""
        await drive_async(self.releasing())

    def extend(self, ttl: float) -> None:
        """Let it run out ``ttl`` seconds from now. Raises ``ReservationExpired`` where it has run out."""
        drive(self._doing("extend", ttl))

    async def aextend(self, ttl: float) -> None:
        """Let it run out ``ttl`` seconds from now; see ``extend``."""
        await drive_async(self._doing("extend", ttl))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        drive(self.ending(has_failed=kind is not None))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        await drive_async(self.ending(has_failed=kind is not None))

    def __repr__(self) -> str:
        what = "nothing" if self._receipt is None else f"{self.quantity} of {self.decision.entitlement!r}, {self.state}"
        return f"<Reservation {self.key!r}: {what}>"

    def committing(self, actual: object = None) -> Steps[None]:
        """Commit, as a part of other steps."""
        given = None if actual is None else micro_units(valid_quantity(actual))
        yield from self._doing("commit", actual=given)

    def releasing(self) -> Steps[None]:
        """Release, as a part of other steps."""
        yield from self._doing("release")

    def ending(self, *, has_failed: bool) -> Steps[None]:
        """Commit or release what is still held; what went wrong before is never hidden by a ledger out of reach."""
        if has_failed:
            yield from self.concluding(has_failed=True)
        elif self.state is State.HELD:
            yield from self.committing()

    def concluding(self, *, has_failed: bool) -> Steps[None]:
        """Commit or release what is still held; a ledger that does not do it is told of in the log."""
        if self.state is not State.HELD:
            return
        try:
            yield from self.releasing() if has_failed else self.committing()
        except EntitlementGateError as error:
            why = text_to_log(error, self.decision.customer_id, self.key)
            if has_failed:
                _logger.warning("a reservation was not released and returns when its time is up: %s", why)
            else:
                name = self.decision.entitlement
                _logger.error("usage was not counted: %s of %s: %s", self.quantity, name, why)  # noqa: TRY400 - see `why`

    def _doing(self, verb: str, *args: Any, **keywords: Any) -> Steps[None]:
        if self._counting is None or self._receipt is None:
            return
        call = getattr(self._counting.ledger, verb)
        self._receipt = yield from self._counting.settling(call, self.decision.customer_id, self.key, *args, **keywords)
