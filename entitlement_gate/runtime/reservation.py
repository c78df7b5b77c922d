"""A quantity held for a customer, to be committed or released. Never here: whether it may be held (``reserving``)."""

from __future__ import annotations

import dataclasses
import logging
from contextlib import suppress
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Any, Self

from entitlement_gate.domain.errors import (
    EntitlementGateError,
    ReservationConflict,
    ReservationError,
    ReservationNotFound,
)
from entitlement_gate.domain.numbers import valid_quantity
from entitlement_gate.ledger.protocol import Demand, Ledger, State
from entitlement_gate.ledger.rule import micro_units, quantity_of
from entitlement_gate.runtime.counting import Counting
from entitlement_gate.runtime.reporting import text_to_log
from entitlement_gate.runtime.steps import Steps, drive, drive_async

if TYPE_CHECKING:
    from collections.abc import Callable
    from decimal import Decimal

    from entitlement_gate.domain.decisions import Decision
    from entitlement_gate.ledger.protocol import Receipt

__all__ = ["Holding", "Reservation"]

_logger = logging.getLogger("entitlement_gate")
_RECOUNTING = 60.0  # seconds for which a forgotten reservation is held anew, to be committed at once


@dataclasses.dataclass(frozen=True, slots=True)
class Holding:
    """What the ledger is asked of one reservation; every verb blocks.

    Attributes:
        demands: what was asked for, to be counted anew where the ledger knows nothing of it any more.
        owner: tells this reservation from any other under the same key.
    """

    counting: Counting
    demands: tuple[Demand, ...]
    owner: str = ""

    def commit(self, customer_id: str, key: str, actual: int | None) -> Receipt:
        """Commit what is held. What was forgotten, or lost with the store, counts all the same: the work was done."""
        commit = partial(self._ledger.commit, customer_id, key, actual=actual)
        try:
            return commit()
        except ReservationNotFound:
            demands = [dataclasses.replace(demand, overdraw=True) for demand in self.demands]
            self._ledger.reserve(customer_id, demands, key=key, ttl=_RECOUNTING, owner=self.owner)
            return dataclasses.replace(commit(), is_late=True)

    def release(self, customer_id: str, key: str) -> Receipt:
        """Give back what is held here; what another reservation holds under the same key stays."""
        receipt = self._ledger.release(customer_id, key, owner=self.owner)
        is_another_s = receipt.state in (State.HELD, State.COMMITTED)
        return dataclasses.replace(receipt, state=State.RELEASED) if is_another_s else receipt

    def extend(self, customer_id: str, key: str, ttl: float) -> Receipt:
        """Let what is held under the key run out later, whoever holds it."""
        return self._ledger.extend(customer_id, key, ttl)

    @property
    def _ledger(self) -> Ledger:
        return self.counting.ledger  # type: ignore[return-value]  # something is held, so there is one


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
        self, decision: Decision, key: str, holding: Holding | None = None, receipt: Receipt | None = None
    ) -> None:
        self.decision = decision
        self.key = key
        self._holding = holding
        self._receipt = receipt

    @property
    def state(self) -> State:
        """``held``, ``committed``, ``released`` or ``expired``: what was done here, or last heard from the ledger."""
        return self._receipt.state if self._receipt else State.RELEASED

    @property
    def quantity(self) -> Decimal | None:
        """What is held, or was committed; None where nothing is counted."""
        return quantity_of(self._receipt.quantity) if self._receipt else None

    @property
    def is_late(self) -> bool:
        """Whether nothing was held any more when it was committed: counted all the same, perhaps beyond the balance."""
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
        """Give back what is held here. Again is harmless. Raises as ``commit`` does.

        What another reservation under the same key holds is its own to give back.
        """
        drive(self.releasing())

    async def arelease(self) -> None:
        """Give back what is held; see ``release``."""
        await drive_async(self.releasing())

    def extend(self, ttl: float) -> None:
        """Let it run out ``ttl`` seconds from now. Raises ``ReservationExpired`` where it has run out."""
        drive(self._extending(ttl))

    async def aextend(self, ttl: float) -> None:
        """Let it run out ``ttl`` seconds from now; see ``extend``."""
        await drive_async(self._extending(ttl))

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
        if self._holding is None or self._receipt is None:
            return
        if self.state is State.RELEASED:
            raise ReservationConflict("it was released: it cannot be committed")
        if self.state is not State.COMMITTED:
            self._receipt = yield from self._settling(self._holding.commit, given)
        elif given not in (None, self._receipt.quantity):
            raise ReservationConflict("it was committed with another quantity")

    def releasing(self) -> Steps[None]:
        """Release, as a part of other steps."""
        if self._holding is None or self.state is State.RELEASED:
            return
        if self.state is State.COMMITTED:
            raise ReservationConflict("it is committed: it cannot be released")
        self._receipt = yield from self._settling(self._holding.release)

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
            if not has_failed:
                name = self.decision.entitlement
                _logger.error("usage was not counted: %s of %s: %s", self.quantity, name, why)  # noqa: TRY400 - see `why`
            elif isinstance(error, ReservationError):
                _logger.info("nothing of a reservation was left to release: %s", type(error).__name__)
            else:
                _logger.warning("a reservation was not released and returns when its time is up: %s", why)

    def abandoning(self, error: BaseException) -> Steps[None]:
        """Give back what nobody will have, because of an error; where nobody can wait any more, without waiting."""
        if isinstance(error, GeneratorExit):
            self.give_back_elsewhere()
        else:
            yield from self.concluding(has_failed=True)

    def give_back_elsewhere(self) -> None:
        """Give back on a thread of its own: this one may be collecting garbage in the middle of anything."""
        with suppress(RuntimeError):  # the interpreter is about to exit: it returns when its time is up
            Thread(target=drive, args=(self.concluding(has_failed=True),), name="entitlement_gate-return").start()

    def _extending(self, ttl: float) -> Steps[None]:
        if self._holding is None:
            return
        if self.state in (State.RELEASED, State.COMMITTED):
            raise ReservationConflict(f"it is {self.state}: it cannot be extended")
        self._receipt = yield from self._settling(self._holding.extend, ttl)

    def _settling(self, verb: Callable[..., Receipt], *args: Any) -> Steps[Receipt]:
        counting: Counting = self._holding.counting  # type: ignore[union-attr]  # asked where something is held
        receipt: Receipt = yield from counting.settling(verb, self.decision.customer_id, self.key, *args)
        return receipt
