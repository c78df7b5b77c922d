"""What a gate asks its ledger, from either door, and what it makes of one that cannot be reached."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from entitlement_gate.domain.errors import ReservationError, text_to_log
from entitlement_gate.domain.rule import Burden, live_metered
from entitlement_gate.engine.observers import LedgerCall
from entitlement_gate.engine.options import LEDGER_THREADS
from entitlement_gate.engine.validation import vetted_charges, vetted_outcome
from entitlement_gate.ledger.balances import burden, quantity_of, rows_of
from entitlement_gate.ledger.memory import MemoryLedger
from entitlement_gate.ledger.protocol import Charges, LedgerOverflow, LedgerUnavailable, Receipt, State
from entitlement_gate.resilience.circuit_breaker import CircuitBreaker
from entitlement_gate.resilience.effects import run_sync
from entitlement_gate.resilience.failure_log import FailureLog
from entitlement_gate.resilience.worker_pool import PoolCall, WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Future

    from entitlement_gate.domain.grants import Grant, Snapshot
    from entitlement_gate.engine.observers import Observers
    from entitlement_gate.engine.options import GateOptions
    from entitlement_gate.engine.reservations import ReservationRequest
    from entitlement_gate.ledger.protocol import Demand, Ledger, Refusal
    from entitlement_gate.resilience.clock import Clock
    from entitlement_gate.resilience.effects import Effects

__all__ = ["NOTHING", "NOT_READ", "LedgerClient", "burdened"]

NOTHING: Charges = {}
"""Nothing held, nothing used up."""

NOT_READ: Charges = {}
"""The ledger was not asked yet; compared by identity."""

_ZERO = Decimal(0)
Result = TypeVar("Result")
# A verb has its own time-outs; one that has been up for so many seconds, and for 2 deadlines, is taken for hung.
_PATIENCE = 10.0
_REFUSALS = (LedgerUnavailable, ReservationError, ValueError)  # what a verb may raise
_STRIPES = 1024  # customers of one stripe are counted together: no number for each is kept for ever
_NEWS = 0.5  # of the deadline, for telling the ledger what was fetched: who waits for the fetch waits for this too


class LedgerClient:
    """A gate's ledger: in memory asked inline, elsewhere on threads of its own, by a deadline, from either door.

    Attributes:
        ledger: the store, or None where nothing is counted here.
        is_local: asking it costs no I/O.
    """

    def __init__(self, options: GateOptions, clock: Clock, observers: Observers) -> None:
        self.ledger: Ledger | None = _make_ledger(options, clock)
        self.is_local = self.ledger is None or self.ledger.is_local
        self._is_ours = self.ledger is None or type(self.ledger) is MemoryLedger
        self._clock = clock
        self._deadline = options.deadline
        self._observers = observers
        self._uses = [0] * _STRIPES
        self._breaker = CircuitBreaker(clock)
        self._log = FailureLog(clock)
        # Apart from those that fetch: what stands still on one side starves nothing on the other.
        self._workers = WorkerPool(LEDGER_THREADS, clock, max(_PATIENCE, 2 * options.deadline))

    def remake(self) -> None:
        """Make the threads anew, as after a fork."""
        self._workers.remake()

    def is_untouched(self, customer_id: str) -> bool:
        """Whether a decision of this customer stands until its grants change, whatever is used up elsewhere."""
        if self.ledger is None:
            return True
        return self.is_local and isinstance(self.ledger, MemoryLedger) and not self.ledger.has_charged(customer_id)

    def uses_of(self, customer_id: str | None) -> int:
        """Return a number that changes whenever something of the customer's is used up through this gate."""
        return self._uses[hash(customer_id) % _STRIPES]

    def at_hand(self, customer_id: str) -> Charges | None:
        """Return what is held and used up where knowing it costs no I/O; None where it could not be learned.

        Raises:
            RuntimeError: it costs I/O. A decision waits for nothing: what it rests on is read before, by ``learning``.
        """
        if self.ledger is None or self.is_untouched(customer_id):
            return NOTHING
        if not self.is_local:
            raise RuntimeError("a decision rests on a ledger that was not read before")
        try:
            return vetted_charges(self.ledger.charges(customer_id))
        except Exception as error:  # a ledger is anybody's code
            if self._is_ours and not isinstance(error, LedgerUnavailable):
                raise  # ours cannot fail in memory: a time limit of the caller's struck here
            self._log_failure(error)
            return None

    def learning(self, customer_id: str, due: float) -> Effects[Charges | None]:
        """Return what is held and used up, as a step where that costs I/O; None where it could not be learned."""
        if self.ledger is None or self.is_local:
            return self.at_hand(customer_id)
        try:
            look = partial(_call_and_vet, vetted_charges, self.ledger.charges)
            charges: Charges | None = yield from self.trying_to(look, customer_id, due=due)
        except _REFUSALS as error:  # of which none is an answer here
            self._log_failure(error)
            return None
        return charges

    def trying_to(
        self,
        verb: Callable[..., Any],
        *args: Any,
        due: float,
        undo: Callable[[Any], None] | None = None,
        **keywords: Any,
    ) -> Effects[Any]:
        """Return what a verb of the ledger does, as a step where that costs I/O; None where it is out of reach.

        While the breaker is open nothing is asked. ``undo`` is given what the verb returned too late, after ``due``.
        """
        if self._is_ours:  # in this process: never out of reach, and what it gives is what it promised
            return (yield from self._call(verb, partial(verb, *args, **keywords), due))
        has_time = self.is_local or self._clock.monotonic() < due
        if not has_time or not self._breaker.admit():
            return None
        try:
            result = yield from self._call(verb, partial(verb, *args, **keywords), due, undo=undo)
        except LedgerUnavailable as error:
            self._record_failure(error, *_texts_in(args, keywords))
            return None
        except Exception:  # a conflict, or a bug: the ledger was reached
            self._breaker.record_answer()
            raise
        self._breaker.record_success()
        return result

    def demanding(
        self, order: ReservationRequest, customer_id: str, demands: Sequence[Demand], *, due: float
    ) -> Effects[Receipt | Refusal | None]:
        """Hold what is demanded for the order, or use it up where that has no ``ttl``; None where it is not known.

        What is held too late, after ``due``, is given back. What was used up by then a retry learns by its key.

        Raises:
            ReservationConflict: the key was used for something else.
        """
        ledger: Any = self.ledger
        keywords = {"purpose": order.purpose, "is_lone": order.is_lone}
        verb, undo = partial(ledger.consume, **keywords), None
        if order.ttl is not None:
            verb = partial(ledger.reserve, ttl=order.ttl, owner=order.owner, **keywords)
            undo = partial(self._give_back, order, customer_id)
        if not self._is_ours:
            verb = partial(_call_and_vet, partial(vetted_outcome, demands=demands), verb)
        outcome: Receipt | Refusal | None
        try:
            outcome = yield from self.trying_to(verb, customer_id, demands, key=order.key, due=due, undo=undo)
        finally:
            self._note_use(customer_id)
        return outcome

    def settling(self, verb: Callable[..., Any], customer_id: str | None, *args: Any) -> Effects[Any]:
        """Return what a verb does to what is held, or raise what it raises; tried whatever failed before.

        Raises:
            LedgerUnavailable: no answer within the deadline; it is done all the same if the ledger comes back.
        """
        try:
            due = self._clock.monotonic() + self._deadline
            receipt = yield from self._call(verb, partial(verb, customer_id, *args), due, is_owed=True)
            if not isinstance(receipt, Receipt):
                raise LedgerUnavailable("the ledger gave no receipt")  # noqa: TRY301 - noted in one place
        except LedgerUnavailable as error:
            self._record_failure(error, *_texts_in((customer_id, *args), {}))
            raise
        finally:
            self._note_use(customer_id)
        return receipt

    def adopt(self, snapshot: Snapshot) -> None:
        """Tell the ledger what billing says now; one that is out of reach learns it from the next fetch."""
        if self.ledger is None:
            return
        try:
            live = live_metered(snapshot.grants, datetime.fromtimestamp(self._clock.time(), UTC))
            rows = {entitlement_id: rows_of(some) for entitlement_id, some in live.items()}
            if rows and not self.is_untouched(snapshot.customer_id):
                due = self._clock.monotonic() + _NEWS * self._deadline
                adopt, customer_id = self.ledger.adopt_upstream, snapshot.customer_id
                run_sync(self.trying_to(adopt, customer_id, rows, snapshot.fetched_at, due=due))
        except BaseException as error:  # noqa: BLE001 - a ledger is anybody's code, and a fetch must land
            self._log_failure(error)

    def close(self) -> None:
        """Let the ledger's connections go; what is held can still be settled."""
        if self.ledger is not None:
            self.ledger.close()

    def _call(
        self,
        verb: Callable[..., Any],
        call: Callable[[], Any],
        due: float,
        *,
        undo: Callable[[Any], None] | None = None,
        is_owed: bool = False,
    ) -> Effects[Any]:
        """Return what a verb of the ledger returns, or raise what it raises, once that was reported to observers.

        ``LedgerUnavailable`` from ``due`` on.
        """
        began = self._clock.monotonic()
        try:
            if self.is_local:
                result = call() if self._is_ours else _call_inline(call)
            else:
                seconds = min(max(0.0, due - began), self._deadline)
                result = _result_of((yield PoolCall(self._workers, call, seconds, undo=undo, is_owed=is_owed)))
        except Exception as error:  # whatever it is, observers hear of it, and so does the caller
            if self._observers.all:
                self._tell(verb, error, began)
            raise
        if self._observers.all:
            self._tell(verb, result, began)
        return result

    def _tell(self, verb: Callable[..., Any], result: object, began: float) -> None:
        self._observers.ledger(LedgerCall.of(_name_of(verb), result, max(0.0, self._clock.monotonic() - began)))

    def _give_back(self, order: ReservationRequest, customer_id: str, outcome: Receipt | Refusal) -> None:
        """Give back what was held too late for its caller; on a thread of the ledger's."""
        if not isinstance(outcome, Receipt) or outcome.state is not State.HELD:
            return  # nothing is held
        try:
            self.ledger.release(customer_id, order.key, owner=order.owner)  # type: ignore[union-attr]  # it was this ledger's
        except Exception as error:  # noqa: BLE001 - a ledger is anybody's code; it returns when its time is up
            self._log_failure(error, order.key)

    def _note_use(self, customer_id: str | None) -> None:
        self._uses[hash(customer_id) % _STRIPES] += 1

    def _log_failure(self, error: BaseException, *hidden: str) -> None:
        """Log that the ledger could not be asked; ``hidden`` is blotted out."""
        why = text_to_log(error, *hidden)
        self._log.note_error("ledger", "the ledger is out of reach, so nothing that it counts is admitted: %s", why)

    def _record_failure(self, error: LedgerUnavailable, *hidden: str) -> None:
        if isinstance(error, LedgerOverflow):
            self._breaker.record_answer()
        else:
            self._breaker.record_failure()
        self._log_failure(error, *hidden)


def _call_and_vet(vet: Callable[[object], Result], verb: Callable[..., object], *args: Any, **keywords: Any) -> Result:
    """Return what a verb gives, looked at where the verb runs: what is wrong with it is an error of the verb's."""
    return vet(verb(*args, **keywords))


def _name_of(verb: Any) -> str:
    """Return what the protocol calls a verb, whatever it is wrapped in."""
    while isinstance(verb, partial):
        verb = verb.args[-1] if verb.func is _call_and_vet else verb.func
    return str(verb.__name__)


def _result_of(done: Future[Any] | None) -> Any:
    """Return what a call on the ledger's threads gave, or raise what it raised; None was not done in time."""
    if done is None:
        raise LedgerUnavailable("the ledger did not answer within the deadline")
    raised = done.exception()
    if raised is not None and not isinstance(raised, _REFUSALS):
        raise _wrap_error(raised) from None
    return done.result()


def _call_inline(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except _REFUSALS:
        raise
    except Exception as error:  # noqa: BLE001 - a ledger is anybody's code
        raise _wrap_error(error) from None


def _wrap_error(error: BaseException) -> LedgerUnavailable:
    return LedgerUnavailable(f"the ledger raised {type(error).__name__}")


def burdened(charges: Charges | None) -> Burden:
    """Return what the rule subtracts, from what a ledger says."""

    def burden_of(entitlement_id: str, rows: Sequence[Grant]) -> Decimal | None:
        if charges is None:
            return None
        tallies = charges.get(entitlement_id)
        return quantity_of(burden(rows_of(rows), tallies)) if tallies else _ZERO

    return burden_of


def _texts_in(args: tuple[Any, ...], keywords: Mapping[str, Any]) -> list[str]:
    """Return what of a call's arguments an error may quote: customer id and key."""
    return [value for value in (*args, *keywords.values()) if isinstance(value, str)]


def _make_ledger(options: GateOptions, clock: Clock) -> Ledger | None:
    ledger = options.ledger
    if ledger == "memory":
        return MemoryLedger(clock=clock)
    store: Ledger
    # Imported on use, because they need what not everybody has installed.
    if ledger == "redis":
        try:
            store = import_module("entitlement_gate.ledger.redis").RedisLedger(options.redis_url)
        except ImportError as error:
            raise ValueError(f"ledger: install entitlement_gate[redis]: {error}") from error
        return store
    if ledger == "database":
        store = import_module("entitlement_gate.usage.ledger").DatabaseLedger(deadline=options.deadline)
        return store
    return ledger  # type: ignore[return-value]  # a ledger or None: the options refuse other words
