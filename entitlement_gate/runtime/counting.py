"""What a gate asks its ledger, from either door, and what it makes of one that cannot be reached.

Never here: the rule of using up and its stores (``ledger``), or whether a customer may (``judging``).
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from importlib import import_module
from typing import TYPE_CHECKING, Any

from entitlement_gate.domain.rule import Burden, live_metered
from entitlement_gate.ledger.memory import MemoryLedger
from entitlement_gate.ledger.protocol import Charges, LedgerOverflow, LedgerUnavailable
from entitlement_gate.ledger.rule import burden, quantity_of, rows_of
from entitlement_gate.runtime.breaker import Breaker
from entitlement_gate.runtime.reporting import FailureLog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from entitlement_gate.domain.grants import Grant, Snapshot
    from entitlement_gate.ledger.protocol import Ledger
    from entitlement_gate.runtime.options import GateOptions
    from entitlement_gate.runtime.steps import Steps
    from entitlement_gate.zenskar.flow import Clock

__all__ = ["NOTHING", "NOT_READ", "Asked", "Counting", "burdened"]

NOTHING: Charges = {}
"""Nothing held, nothing used up."""

NOT_READ: Charges = {}
"""The ledger was not asked yet; known by identity."""

_ZERO = Decimal(0)


class Asked:
    """A call that blocks for a moment: made here by a thread, and beside the loop by a coroutine."""

    __slots__ = ("_args", "_call", "_keywords")

    def __init__(self, call: Callable[..., Any], *args: Any, **keywords: Any) -> None:
        self._call = call
        self._args = args
        self._keywords = keywords

    def wait(self) -> Any:
        """Call on this thread."""
        return self._call(*self._args, **self._keywords)

    async def wait_async(self) -> Any:
        """Call on a thread of the loop's."""
        return await asyncio.to_thread(self._call, *self._args, **self._keywords)


class Counting:
    """A gate's ledger.

    Attributes:
        ledger: the store, or None where nothing is counted here.
        is_local: asking it costs no I/O.
    """

    def __init__(self, options: GateOptions, clock: Clock) -> None:
        self.ledger: Ledger | None = _made(options, clock)
        self._clock = clock
        self._breaker = Breaker(clock)
        self._log = FailureLog(clock)
        self.is_local = self.ledger is None or self.ledger.is_local

    def remake(self) -> None:
        """Make locks anew, as after a fork."""
        self._breaker.remake()
        self._log.remake()

    def is_untouched(self, customer_id: str) -> bool:
        """Whether a decision of this customer stands until its grants change, whatever is used up elsewhere."""
        if self.ledger is None:
            return True
        return self.is_local and isinstance(self.ledger, MemoryLedger) and not self.ledger.has_charged(customer_id)

    def learn(self, customer_id: str) -> Charges | None:
        """Return what is held and used up, on this thread; None where it could not be learned."""
        if self.ledger is None or self.is_untouched(customer_id):
            return NOTHING
        charges: Charges | None = self.try_to(self.ledger.charges, customer_id)
        return charges

    def learning(self, customer_id: str) -> Steps[Charges | None]:
        """Return what ``learn`` does, as a step where that costs I/O."""
        if self.is_local:
            return self.learn(customer_id)
        charges: Charges | None = yield Asked(self.learn, customer_id)
        return charges

    def trying_to(self, verb: Callable[..., Any], *args: Any, **keywords: Any) -> Steps[Any]:
        """Return what a verb of the ledger does, as a step where that costs I/O; None where it is out of reach."""
        if self.is_local:
            return self.try_to(verb, *args, **keywords)
        return (yield Asked(self.try_to, verb, *args, **keywords))

    def try_to(self, verb: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        """Return what a verb returns, or None where the ledger is out of reach; nobody waits for one that hangs."""
        if not self._breaker.admit():
            return None
        try:
            result = verb(*args, **keywords)
        except LedgerOverflow as error:
            self._breaker.answered()
            self._log.note_ledger(error, *_texts(args, keywords))
            return None
        except LedgerUnavailable as error:
            self._breaker.failed()
            self._log.note_ledger(error, *_texts(args, keywords))
            return None
        except BaseException:
            self._breaker.answered()
            raise
        self._breaker.succeeded()
        return result

    def adopt(self, snapshot: Snapshot) -> None:
        """Tell the ledger what billing says now; one that is out of reach learns it from the next fetch."""
        if self.ledger is None:
            return
        live = live_metered(snapshot.grants, datetime.fromtimestamp(self._clock.time(), UTC))
        rows = {entitlement_id: rows_of(some) for entitlement_id, some in live.items()}
        if not rows or self.is_untouched(snapshot.customer_id):
            return
        try:
            self.try_to(self.ledger.adopt_upstream, snapshot.customer_id, rows, snapshot.fetched_at)
        except Exception as error:  # noqa: BLE001 - a ledger is anybody's code, and a fetch must land
            self._log.note_ledger(error)

    def close(self) -> None:
        """Let the ledger's connections go."""
        if self.ledger is not None:
            self.ledger.close()


def burdened(charges: Charges | None) -> Burden:
    """Return what the rule subtracts, from what a ledger says."""

    def burden_of(entitlement_id: str, rows: Sequence[Grant]) -> Decimal | None:
        if charges is None:
            return None
        tallies = charges.get(entitlement_id)
        return quantity_of(burden(rows_of(rows), tallies)) if tallies else _ZERO

    return burden_of


def _texts(args: tuple[Any, ...], keywords: Mapping[str, Any]) -> list[str]:
    """Return what of a call's arguments an error may quote: customer id and key."""
    return [value for value in (*args, *keywords.values()) if isinstance(value, str)]


def _made(options: GateOptions, clock: Clock) -> Ledger | None:
    ledger = options.ledger
    if ledger == "memory":
        return MemoryLedger(clock=clock)
    made: Ledger
    # Imported on use, because they need what not everybody has installed.
    if ledger == "redis":
        try:
            made = import_module("entitlement_gate.ledger.redis").RedisLedger(options.redis_url)
        except ImportError as error:
            raise ValueError(f"ledger: install entitlement_gate[redis]: {error}") from error
        return made
    if ledger == "database":
        made = import_module("entitlement_gate.usage.ledger").DatabaseLedger()
        return made
    return ledger  # type: ignore[return-value]  # a ledger or None: the options refuse other words
