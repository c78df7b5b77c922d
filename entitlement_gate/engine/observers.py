"""Who hears what gates do: every check, every fetch, every verb of a ledger.

An observer belongs to one gate, or to all of the process, those that are yet to be made too. It is called where the
thing happened and holds it up, so it has to be quick; ``entitlement_gate.metrics`` calls yours on a thread apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol
from weakref import WeakSet

from entitlement_gate.domain.errors import (
    CustomerNotFound,
    ReservationConflict,
    ReservationExpired,
    ReservationNotFound,
    SourceMalformed,
    SourceRejected,
    SourceUnavailable,
)
from entitlement_gate.ledger.protocol import LedgerUnavailable, Refusal
from entitlement_gate.resilience.failure_log import FailureLog
from entitlement_gate.resilience.fork_safety import Locked, members

if TYPE_CHECKING:
    from collections.abc import Callable

    from entitlement_gate.domain.decisions import Decision
    from entitlement_gate.domain.grants import Snapshot
    from entitlement_gate.resilience.clock import Clock

__all__ = ["Fetch", "LedgerCall", "Observed", "Observer", "Observers", "everywhere", "log_observer_failure"]


class Fetch(NamedTuple):
    """One fetch of this process, once those who waited for it have what it brought.

    Attributes:
        customer_id: whose. For a trace at most: a metric with a label of it has no bound.
        outcome: ``found``, ``not_found``, ``unavailable``, ``rejected``, ``malformed``, or ``broken`` where the source
            raised what is none of ``SourceError``.
        seconds: how long it took, with every page and every retry.
        status: what billing rejected it with; else None.
        base_url: of the source, where that has one.
    """

    customer_id: str
    outcome: str
    seconds: float
    status: int | None = None
    base_url: str | None = None

    @property
    def has_succeeded(self) -> bool:
        """Whether billing answered: that it does not know the customer is an answer, too."""
        return self.outcome in ("found", "not_found")

    @classmethod
    def of(
        cls, customer_id: str, result: Snapshot | BaseException | None, seconds: float, base_url: str | None = None
    ) -> Fetch:
        """Return the report of a fetch that brought a snapshot, or raised."""
        if isinstance(result, BaseException):
            status = result.status if isinstance(result, SourceRejected) else None
            return cls(customer_id, _word(_FETCHES, result), seconds, status, base_url)
        word = "not_found" if result is not None and not result.is_found else "found"
        return cls(customer_id, word, seconds, base_url=base_url)


class LedgerCall(NamedTuple):
    """One question to the ledger, or one order.

    Attributes:
        verb: ``reserve``, ``consume``, ``commit``, ``release``, ``extend``, ``charges`` or ``adopt_upstream``.
        outcome: ``done``, ``refused`` (not so much is there), ``conflict``, ``expired``, ``not_found``,
            ``unavailable``, or ``broken``.
        seconds: how long whoever asked waited.
    """

    verb: str
    outcome: str
    seconds: float

    @classmethod
    def of(cls, verb: str, result: object, seconds: float) -> LedgerCall:
        """Return the report of a verb that returned, or raised, this."""
        if isinstance(result, BaseException):
            return cls(verb, _word(_CALLS, result), seconds)
        return cls(verb, "refused" if isinstance(result, Refusal) else "done", seconds)


class Observer:
    """What hears of gates. Override what you want to hear; what a method raises is logged, and breaks nothing."""

    def check(self, decision: Decision, seconds: float) -> None:
        """Hear of a check, a reservation or a use; it took ``seconds``, 0 where the decision was cached."""

    def fetch(self, fetch: Fetch) -> None:
        """Hear of a fetch, on the thread that did it and in the context of the check that began it."""

    def ledger(self, call: LedgerCall) -> None:
        """Hear of a question to the ledger."""

    @property
    def hears_checks(self) -> bool:
        """Whether it wants to hear of checks: where nobody does, a warm one takes the shortest way."""
        return type(self).check is not Observer.check

    def stands_for(self, observer: Observer) -> bool:
        """Whether this is the observer, or reports to it."""
        return self is observer


class Observed(Protocol):
    """A gate."""

    def mind_observers(self) -> None:
        """Look again who observes it."""

    @property
    def customers_held(self) -> int:
        """How many snapshots are in memory."""


class _Everywhere(Locked):
    """The observers of every gate of the process, and the gates.

    Attributes:
        observers: replaced as a whole.
        gates: those that are alive.
    """

    def __init__(self) -> None:
        super().__init__()
        self.observers: tuple[Observer, ...] = ()
        self.gates: WeakSet[Observed] = WeakSet()

    def add(self, observer: Observer) -> None:
        """Add an observer of every gate."""
        with self._lock:
            self.observers = *self.observers, observer
        self._tell()

    def discard(self, observer: Observer) -> None:
        """Remove an observer."""
        with self._lock:
            self.observers = tuple(one for one in self.observers if not one.stands_for(observer))
        self._tell()

    def _tell(self) -> None:
        for gate in members(self.gates):
            gate.mind_observers()


everywhere = _Everywhere()


class Observers:
    """Who hears of one gate, which adds, discards and renews them one at a time.

    Attributes:
        all: its own observers, and those of every gate.
        of_checks: those among them that hear of checks.
    """

    def __init__(self, clock: Clock) -> None:
        self._log = FailureLog(clock)
        self._own: tuple[Observer, ...] = ()
        self.renew()

    def add(self, observer: Observer) -> None:
        """Add an observer of this gate."""
        self._own = *self._own, observer

    def discard(self, observer: Observer) -> None:
        """Remove an observer."""
        self._own = tuple(one for one in self._own if not one.stands_for(observer))

    def renew(self) -> None:
        """Collect anew the observers of this gate and of every gate."""
        self.all: tuple[Observer, ...] = *self._own, *everywhere.observers
        self.of_checks = tuple(observer for observer in self.all if observer.hears_checks)

    def check(self, decision: Decision, seconds: float) -> None:
        """Report a check."""
        for observer in self.of_checks:
            self._notify(observer, observer.check, decision, seconds)

    def fetch(self, fetch: Fetch) -> None:
        """Report a fetch."""
        for observer in self.all:
            self._notify(observer, observer.fetch, fetch)

    def ledger(self, call: LedgerCall) -> None:
        """Report a call of the ledger."""
        for observer in self.all:
            self._notify(observer, observer.ledger, call)

    def _notify(self, observer: Observer, method: Callable[..., None], *args: object) -> None:
        try:
            method(*args)
        except Exception as error:  # noqa: BLE001 - an observer is anybody's code
            log_observer_failure(self._log, type(observer).__qualname__, error)


def log_observer_failure(log: FailureLog, name: str, error: Exception) -> None:
    """Log that an observer raised."""
    log.note_error("observer", "an observer failed: %s: %s", name, type(error).__name__, bug=error)


_FETCHES: dict[type[BaseException], str] = {
    CustomerNotFound: "not_found",
    SourceUnavailable: "unavailable",
    SourceRejected: "rejected",
    SourceMalformed: "malformed",
}
_CALLS: dict[type[BaseException], str] = {
    ReservationConflict: "conflict",
    ReservationExpired: "expired",
    ReservationNotFound: "not_found",
    LedgerUnavailable: "unavailable",
}


def _word(words: dict[type[BaseException], str], error: BaseException) -> str:
    return next((word for kind, word in words.items() if isinstance(error, kind)), "broken")
