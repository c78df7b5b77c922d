"""The gate: the questions that may be asked, and what is done for each.

Each question is one generator of waits, run by the sync and the async door alike (``resilience.effects``). A warm check
takes neither lock nor generator: one look-up and a comparison of clocks.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self, Unpack
from uuid import UUID

from entitlement_gate.domain.decisions import Decision, Outcome, Reason, RequestFault, serve
from entitlement_gate.domain.errors import ReservationConflict
from entitlement_gate.domain.requirements import Requirement, as_requirement
from entitlement_gate.domain.rule import canonical_uuid
from entitlement_gate.engine.cache import key_of
from entitlement_gate.engine.entitlements import CustomerEntitlements, required
from entitlement_gate.engine.evaluation import Evaluator, remembered_as
from entitlement_gate.engine.ledger_client import NOT_READ, LedgerClient
from entitlement_gate.engine.observers import Observers, everywhere
from entitlement_gate.engine.options import GateKeywords, GateOptions
from entitlement_gate.engine.reservations import Reservation, Reserver, countable, order
from entitlement_gate.engine.snapshots import SnapshotStore, View
from entitlement_gate.ledger.memory import MemoryLedger
from entitlement_gate.ledger.protocol import checked_ttl
from entitlement_gate.resilience.effects import run_async, run_sync
from entitlement_gate.resilience.fork_safety import Lock, PerProcess, remake_after_fork

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from entitlement_gate.domain.grants import Snapshot
    from entitlement_gate.engine.cache import Answer, Entry
    from entitlement_gate.engine.fetcher import SnapshotSource
    from entitlement_gate.engine.observers import Fetch, Observer
    from entitlement_gate.engine.reservations import ReservationRequest
    from entitlement_gate.ledger.protocol import Charges, Ledger
    from entitlement_gate.resilience.clock import Clock
    from entitlement_gate.resilience.effects import Effects

__all__ = ["EntitlementGate"]


class EntitlementGate:
    """Answers whether a customer may do something now. Thread-safe, usable from any event loop.

    >>> gate = EntitlementGate(ZenskarClient("key", "organisation"))  # doctest: +SKIP - needs billing
    >>> gate.has("20000000-0000-4000-8000-000000000002", "reports")  # doctest: +SKIP - as above
    True

    In every method ``customer`` is a ``uuid.UUID`` or its hyphenated text, ``entitlement`` a name, an alias, an
    entitlement id or a ``Requirement``, ``quantity`` a positive number (see ``domain.numbers``), and ``refresh``
    asks for data fetched after the call. None of them raises because billing fails; all raise ``ValueError`` for
    what is no quantity, before any work.

    Args:
        source: where snapshots come from; anything with ``fetch(customer_id) -> Snapshot``.
        clock: has ``time()`` and ``monotonic()``; the ``time`` module by default.
        **options: see ``GateOptions``.

    Raises:
        ValueError: the source or an option cannot work; the message names it.
    """

    _lock: PerProcess[Lock] = PerProcess()

    def __init__(self, source: SnapshotSource, *, clock: Clock = time, **options: Unpack[GateKeywords]) -> None:
        if isinstance(source, type) or not callable(getattr(source, "fetch", None)):
            raise ValueError(f"source: an object with fetch(customer_id), not {source!r}")
        self.source = source
        self.options = GateOptions(**options)
        self._clock = clock
        self._lock = Lock()
        self._observers = Observers(clock)
        self._ledger_client = LedgerClient(self.options, clock, self._observers)
        self._snapshots = SnapshotStore(source, self.options, clock, self)
        self._evaluator = Evaluator(self.options, clock, self._ledger_client, self._snapshots)
        self._reserver = Reserver(self.options, self._evaluator, self._snapshots, self._ledger_client)
        # What a warm `has` and a warm check read; empty where they have to take a longer way each time.
        self._answers: Mapping[Any, Answer] = self._snapshots.answers
        self._decided: Mapping[Any, Answer] = self._snapshots.answers
        self._health = self._snapshots.health
        remake_after_fork(self)  # before others know of it: one that is half made at a fork is made anew, too
        everywhere.gates.add(self)
        self.mind_observers()
        if isinstance(self.ledger, MemoryLedger):
            self.ledger.watchers.add(self)

    def remake(self) -> None:
        """Make locks, threads and calls anew, as in a process just forked; data stays."""
        self._lock = Lock()
        self._snapshots.remake()
        self._ledger_client.remake()

    def observe(self, observer: Observer) -> None:
        """Add an observer of this gate: it is called inline, so be quick (see ``entitlement_gate.metrics``)."""
        with self._lock:
            self._observers.add(observer)
            self.mind_observers()

    def unobserve(self, observer: Observer) -> None:
        """Remove an observer."""
        with self._lock:
            self._observers.discard(observer)
            self.mind_observers()

    def mind_observers(self) -> None:
        """Look again to whom checks are reported: while somebody is there, `has` takes the way that reports each."""
        with self._lock:  # of two that look at once, the second has seen whatever made the first look
            self._observers.renew()
            self._is_observed = bool(self._observers.of_checks)
            sends_checks = self._has_listeners()
            self.is_heard = self._is_observed or sends_checks
            self._answers = {} if self.is_heard else self._snapshots.answers
            self._decided = {} if sends_checks else self._snapshots.answers

    def _has_listeners(self) -> bool:
        """Whether a check takes steps more to be reported; to report it to observers takes none."""
        return False

    @property
    def customers_held(self) -> int:
        """How many snapshots are in memory."""
        return len(self._snapshots.entries)

    @property
    def ledger(self) -> Ledger | None:
        """What counts here; None where nothing is counted."""
        return self._ledger_client.ledger

    def has(
        self, customer: object, entitlement: str | Requirement, quantity: object = None, *, refresh: bool = False
    ) -> bool:
        """Return whether the customer may."""
        if not refresh:  # `_warm`, written out: its call would cost a fifth of this one
            try:
                if quantity is None and type(customer) is str:  # `key_of`, written out
                    answer = self._answers[customer, entitlement]
                else:
                    answer = self._answers[key_of(customer, entitlement, quantity)]
            except (KeyError, TypeError):
                pass
            else:
                clock = self._clock
                tick = clock.monotonic()
                if tick < answer.fresh_until and tick >= answer.fetched_at:  # chained, both take longer: 6 % of it all
                    now = clock.time()
                    if now < answer.until and now >= answer.since:
                        self._health.hits += 1
                        return answer.allowed
        return self.check(customer, entitlement, quantity, refresh=refresh).allowed

    async def ahas(
        self, customer: object, entitlement: str | Requirement, quantity: object = None, *, refresh: bool = False
    ) -> bool:
        """Return whether the customer may."""
        return (await self.acheck(customer, entitlement, quantity, refresh=refresh)).allowed

    def check(
        self, customer: object, entitlement: str | Requirement, quantity: object = None, *, refresh: bool = False
    ) -> Decision:
        """Return the decision."""
        warm = None if refresh else self._warm(customer, entitlement, quantity)
        if warm is not None:
            return warm
        return run_sync(self._checking(customer, entitlement, quantity, refresh=refresh))

    async def acheck(
        self, customer: object, entitlement: str | Requirement, quantity: object = None, *, refresh: bool = False
    ) -> Decision:
        """Return the decision."""
        warm = None if refresh else self._warm(customer, entitlement, quantity)
        if warm is not None:
            return warm
        return await run_async(self._checking(customer, entitlement, quantity, refresh=refresh))

    def require(
        self, customer: object, entitlement: str | Requirement, quantity: object = None, *, refresh: bool = False
    ) -> Decision:
        """Return the decision, or raise ``EntitlementDenied`` or ``EntitlementUnavailable``."""
        return required(self.check(customer, entitlement, quantity, refresh=refresh))

    async def arequire(
        self, customer: object, entitlement: str | Requirement, quantity: object = None, *, refresh: bool = False
    ) -> Decision:
        """Return the decision, or raise ``EntitlementDenied`` or ``EntitlementUnavailable``."""
        return required(await self.acheck(customer, entitlement, quantity, refresh=refresh))

    def get(self, customer: object) -> CustomerEntitlements:
        """Return all of the customer's entitlements, from one snapshot; its checks fetch before an old denial."""
        entitlements = run_sync(self._getting(customer))

        def conclude(requirement: Requirement, decision: Decision) -> Decision:
            return run_sync(self.concluding(requirement, decision, entitlements))[0]

        return entitlements.concluded_by(conclude)

    async def aget(self, customer: object) -> CustomerEntitlements:
        """Return all of the customer's entitlements, from one snapshot.

        Reading it costs no I/O, so its denials are as old as that: ``acheck`` looks once more before it denies.
        """
        entitlements = await run_async(self._getting(customer))
        return entitlements.concluded_by(lambda _, decision: run_sync(self.telling(decision)))

    def inspect(self, customer: object) -> CustomerEntitlements:
        """Return what ``get`` does, for who looks and is not the customer: its checks are not reported."""
        entitlements = run_sync(self._getting(customer))

        def conclude(requirement: Requirement, decision: Decision) -> Decision:
            return run_sync(self._reconsidering(requirement, decision, entitlements, self.due()))[0]

        return entitlements.concluded_by(conclude)

    def reserve(
        self,
        customer: object,
        entitlement: str | Requirement,
        quantity: object = 1,
        *,
        key: str | None = None,
        ttl: float = 60,
    ) -> Reservation:
        """Hold a quantity for ``ttl`` seconds; best in a ``with`` block, see ``Reservation``.

        Args:
            customer: whose.
            entitlement: of what. Of an ``&`` all is held or nothing, of an ``|`` the first side that is there.
            quantity: how much; of a combined requirement each part says itself.
            key: names it, 1 to 200 characters, from the application and never from a client: the same key with the
                same quantity is held once, however often it is tried. By default a new one.
            ttl: seconds after which it returns, unless committed or released before.

        Raises:
            EntitlementDenied: the customer may not, or has not so much left.
            EntitlementUnavailable: billing or the ledger could not be asked.
            ReservationConflict: the key stands for something else.
            ReservationError: ``ledger`` is None.
            ValueError: what is no quantity, key or time; more digits than millionths.
        """
        return run_sync(self._granting(customer, order(countable(entitlement, quantity), key, checked_ttl(ttl))))

    async def areserve(
        self,
        customer: object,
        entitlement: str | Requirement,
        quantity: object = 1,
        *,
        key: str | None = None,
        ttl: float = 60,
    ) -> Reservation:
        """Hold a quantity for ``ttl`` seconds; see ``reserve``."""
        return await run_async(self._granting(customer, order(countable(entitlement, quantity), key, checked_ttl(ttl))))

    def consume(
        self, customer: object, entitlement: str | Requirement, quantity: object = 1, *, key: str | None = None
    ) -> Decision:
        """Use a quantity up at once; ``remaining`` is what is left then. Raises as ``reserve`` does.

        It counts before signals are sent. Whoever is cancelled, or struck by a time limit, does not learn
        whether it counted: try again with the same ``key``, which never counts twice.
        """
        return run_sync(self._granting(customer, order(countable(entitlement, quantity), key, None))).decision

    async def aconsume(
        self, customer: object, entitlement: str | Requirement, quantity: object = 1, *, key: str | None = None
    ) -> Decision:
        """Use a quantity up at once; see ``consume``."""
        return (await run_async(self._granting(customer, order(countable(entitlement, quantity), key, None)))).decision

    def invalidate(self, customer: object) -> None:
        """Invalidate the customer's cached snapshot: the next check fetches."""
        run_sync(self._invalidating(customer))

    async def ainvalidate(self, customer: object) -> None:
        """Invalidate the customer's cached snapshot: the next check fetches."""
        await run_async(self._invalidating(customer))

    def health(self) -> dict[str, Any]:
        """Return how the gate fares, in plain JSON types and without any I/O.

        ``breaker`` (``closed``, ``open``, ``half_open``), ``customers`` held, ``last_success_age`` and
        ``last_failure_age`` in seconds or None, ``last_failure`` (the name of the error class, never its text), and
        how often questions were answered from fresh data (``hits``), from data older than it should be (``stale``), and
        after a fetch or not at all (``misses``). A snapshot that a request has, or that ``get`` gave, counts once,
        whatever it answers, and each renewal before a denial once more. With a ``redis_url`` also ``shared``, the
        breaker of the way to Redis. The counts are approximate: see ``Health``.
        """
        return self._snapshots.report()

    def close(self) -> None:
        """Start no further fetch and close the source; at once, and as often as you like."""
        self._snapshots.close()
        self._ledger_client.close()
        close = getattr(self.source, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} over {self.source!r}>"

    def _warm(self, customer: object, entitlement: str | Requirement, quantity: object) -> Decision | None:
        """Return the decision by a cached answer that is fresh, where the check has one in the same form."""
        try:
            if quantity is None and type(customer) is str:
                answer = self._decided[customer, entitlement]
            else:
                answer = self._decided[key_of(customer, entitlement, quantity)]
        except (KeyError, TypeError):
            return None
        clock = self._clock
        tick, now = clock.monotonic(), clock.time()
        if answer.fetched_at <= tick < answer.fresh_until and answer.since <= now < answer.until:
            self._health.hits += 1
            age, by_wall = tick - answer.fetched_at, now - answer.entry.fetched_wall
            age = age if age >= by_wall else by_wall  # noqa: FURB136 - max() costs thrice as much
            decision = serve(answer.verdict, "cache", age)
            if self._is_observed:
                self._observers.check(decision, 0.0)
            return decision
        return None

    def _checking(
        self, customer: object, entitlement: str | Requirement, quantity: object, *, refresh: bool
    ) -> Effects[Decision]:
        requirement = as_requirement(entitlement, quantity)
        customer_id = yield from self._identifying(customer)
        due = self.due()  # all that follows shares one deadline
        entitlements = yield from self.knowing(customer_id, due, refresh=refresh)
        decision, entitlements = yield from self.deciding(requirement, entitlements, due)
        self.tally(entitlements)
        if entitlements.view is not None:
            self.remember_form(entitlements.view, requirement, key_of(customer, entitlement, quantity))
        yield from self.announcing(decision, due)
        return decision

    def remember_form(self, view: View, requirement: Requirement, key: Hashable) -> None:
        """Cache the answer under the form in which it was asked for, too; see ``key_of``."""
        if key is None or view.entry is None:
            return
        question, answers = remembered_as(requirement), self._snapshots.answers
        if answers.get(key) is not answers.get((view.customer_id, question)):
            self._snapshots.alias(view.entry, question, key)

    def find_answer(self, key: Hashable) -> Answer | None:
        """Return the cached answer that is fresh, where no check is to be reported; see ``key_of``."""
        answer = self._answers.get(key)
        if answer is None:
            return None
        clock = self._clock
        is_fresh = answer.fetched_at <= clock.monotonic() < answer.fresh_until
        return answer if is_fresh and answer.since <= clock.time() < answer.until else None

    def entitlements_in(self, entry: Entry) -> CustomerEntitlements:
        """Return what ``get`` would by a snapshot that was fresh a moment ago."""
        return CustomerEntitlements(View(entry.snapshot.customer_id, entry, "cache"), self._evaluator)

    def count_hit(self) -> None:
        """Count a question that was answered from fresh data."""
        self._health.hits += 1

    def due(self) -> float:
        """Return when a question that begins now is to have an answer, by the monotonic clock."""
        return self._clock.monotonic() + self.options.deadline

    def _identifying(self, customer: object) -> Effects[str | Reason]:
        """Return the customer's id, or why there is none. A gate that knows requests resolves them here."""
        yield from ()
        return self.identify(customer)

    def identify(self, customer: object) -> str | Reason:
        """Return the canonical id of a UUID or its text, or the reason why there is none."""
        if isinstance(customer, UUID):
            return str(customer)
        if isinstance(customer, str):  # a lazy text is one, too
            return canonical_uuid(str(customer)) or Reason.INVALID_CUSTOMER
        return Reason.NO_CUSTOMER if customer is None else Reason.INVALID_CUSTOMER

    def knowing(self, customer_id: str | Reason, due: float, *, refresh: bool = False) -> Effects[CustomerEntitlements]:
        """Return a customer's entitlements, or without a customer those that refuse for this reason."""
        if isinstance(customer_id, Reason):
            return CustomerEntitlements(None, self._evaluator, customer_id)
        view = yield from self._snapshots.view(customer_id, due, refresh=refresh)
        return CustomerEntitlements(view, self._evaluator)

    def deciding(
        self, requirement: Requirement, entitlements: CustomerEntitlements, due: float
    ) -> Effects[tuple[Decision, CustomerEntitlements]]:
        """Return the decision, and the entitlements it rests on: newer ones where these are too old to deny."""
        view = entitlements.view
        if view is None:
            return entitlements.decide(requirement), entitlements
        decision = yield from self._evaluating(requirement, view, entitlements.charges, due)
        if decision.outcome is not Outcome.DENIED:
            return decision, entitlements
        newer = yield from self._snapshots.for_denial(view, due)
        if newer is view:
            return decision, entitlements
        entitlements = CustomerEntitlements(newer, self._evaluator)
        if newer.entry is view.entry:  # as stale: a fetch has failed
            return self._evaluator.served(decision, newer), entitlements
        # Another view may need the ledger where the first did not, or have brought it a credit note.
        return (yield from self._evaluating(requirement, newer, NOT_READ, due)), entitlements

    def _evaluating(
        self, requirement: Requirement, view: View, charges: Charges | None, due: float
    ) -> Effects[Decision]:
        """Return the decision by one view, once the ledger was read where that costs I/O and has a say in it."""
        is_far = charges is NOT_READ and not self._ledger_client.is_local
        if is_far and self._evaluator.needs_ledger(requirement, view):
            charges = yield from self._ledger_client.learning(view.customer_id, due)
        return self._evaluator.decide(requirement, view, charges)

    def _getting(self, customer: object) -> Effects[CustomerEntitlements]:
        customer_id = yield from self._identifying(customer)
        due = self.due()
        entitlements = yield from self.knowing(customer_id, due)
        self.tally(entitlements)
        return (yield from self.counted(entitlements, due))

    def tally(self, entitlements: CustomerEntitlements) -> None:
        """Count where what answered a question came from."""
        if entitlements.view is not None:
            self._health.count(entitlements.view.source)

    def counted(self, entitlements: CustomerEntitlements, due: float) -> Effects[CustomerEntitlements]:
        """Return the same with what is used up elsewhere, so that reading it costs no I/O."""
        view = entitlements.view
        entry = view.entry if view else None
        if entry is None or self._ledger_client.is_local or not any(row.is_metered for row in entry.snapshot.grants):
            return entitlements
        charges = yield from self._ledger_client.learning(entry.snapshot.customer_id, due)
        return CustomerEntitlements(view, self._evaluator, charges=charges)

    def concluding(
        self, requirement: Requirement, decision: Decision, entitlements: CustomerEntitlements
    ) -> Effects[tuple[Decision, CustomerEntitlements]]:
        """Make the decision of a check of what ``get`` gave final, and report it; return also what it rests on."""
        due = self.due()
        decision, entitlements = yield from self._reconsidering(requirement, decision, entitlements, due)
        yield from self.announcing(decision, due)
        return decision, entitlements

    def _reconsidering(
        self, requirement: Requirement, decision: Decision, entitlements: CustomerEntitlements, due: float
    ) -> Effects[tuple[Decision, CustomerEntitlements]]:
        """Return a denial by what ``get`` gave only where that is not too old to deny."""
        if decision.outcome is not Outcome.DENIED or entitlements.view is None:
            return decision, entitlements
        without_charges = CustomerEntitlements(entitlements.view, self._evaluator).kept()  # the ledger is asked anew
        decision, newer = yield from self.deciding(requirement, without_charges, due)
        if newer is without_charges:
            return decision, entitlements
        self.tally(newer)
        return decision, newer

    def _granting(self, customer: object, request: ReservationRequest) -> Effects[Reservation]:
        decision, reservation = yield from self.holding(customer, request)
        if reservation is None:
            required(decision)
        return reservation  # type: ignore[return-value]  # a refusal was raised in the line above

    def refusing(self, requirement: Requirement, fault: RequestFault) -> Effects[Decision]:
        """Refuse a request whatever its customer has; allowed all the same in shadow mode."""
        return self.telling(self._evaluator.refuse(requirement, fault, None))

    def admitting(self, customer: object, request: ReservationRequest) -> Effects[tuple[Decision, Reservation | None]]:
        """Return what ``holding`` does; of a key that stands for something else a refusal: for gates before a view."""
        try:
            return (yield from self.holding(customer, request))
        except ReservationConflict:
            return (yield from self.refusing(request.requirement, RequestFault.KEY_CONFLICT)), None

    def holding(self, customer: object, request: ReservationRequest) -> Effects[tuple[Decision, Reservation | None]]:
        """Reserve as a part of other steps: return the decision, and the reservation where it allows."""
        customer_id = yield from self._identifying(customer)
        due = self.due()
        if isinstance(customer_id, Reason):
            decision = self._evaluator.refuse(request.requirement, customer_id, None)
            reservation = Reservation(decision, request.key) if decision.allowed else None
        else:
            decision, reservation = yield from self._reserving(request, customer_id, due)
        try:
            yield from self.announcing(decision, due)
        except BaseException as error:  # a receiver's time limit, a client that left while it ran
            if reservation is not None:
                yield from reservation.abandoning(error)
            raise
        return decision, reservation

    def _reserving(
        self, request: ReservationRequest, customer_id: str, due: float
    ) -> Effects[tuple[Decision, Reservation | None]]:
        decision, reservation, view = yield from self._reserver.reserving(request, customer_id, due)
        self._health.count(view.source)
        return decision, reservation

    def announcing(self, decision: Decision, due: float | None = None) -> Effects[None]:
        """Report a decision, which had until ``due``, or was cached (None). Subclasses report to others, too."""
        if self._is_observed:
            self.tell_observers(decision, due)
        yield from ()

    def telling(self, decision: Decision, due: float | None = None) -> Effects[Decision]:
        """Report a decision and return it."""
        yield from self.announcing(decision, due)
        return decision

    def tell_observers(self, decision: Decision, due: float | None) -> None:
        """Report a decision to observers, without a step; see ``announcing``."""
        deadline = self.options.deadline
        seconds_left = deadline if due is None else due - self._clock.monotonic()
        self._observers.check(decision, max(0.0, deadline - seconds_left))

    def _invalidating(self, customer: object) -> Effects[None]:
        customer_id = yield from self._identifying(customer)
        if not isinstance(customer_id, Reason):
            yield from self._snapshots.invalidating(customer_id)

    def fetching(self) -> None:
        """Hear that a fetch begins. For gates that send signals."""

    def fetched(self, fetch: Fetch) -> None:
        """Tell observers how a fetch went, on the thread that did it."""
        self._observers.fetch(fetch)

    def adopting(self, snapshot: Snapshot) -> None:
        """Tell the ledger what a fetch brought, on the thread that did it, before any check sees it."""
        self._ledger_client.adopt(snapshot)

    def first_charged(self, customer_id: str) -> None:
        """Hear that a customer begins to use up: no answer worked out without that stands any more."""
        self._snapshots.forget(self._snapshots.entries.get(customer_id))

    def refreshed(self, snapshot: Snapshot) -> None:
        """Hear of a fetch, on the thread that did it. For gates that send signals."""

    def failed(self, customer_id: str, error: BaseException) -> None:
        """Hear of a fetch that failed, on the thread that tried. For gates that send signals."""
