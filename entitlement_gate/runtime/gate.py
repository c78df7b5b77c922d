"""The gate: answers checks from snapshots that it keeps fresh. Never here: Django, HTTP, the rule itself.

Each question is one generator of waits (``answering``), run by the sync and the async door alike. A warm check takes
neither lock nor generator: one look-up and a comparison of clocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from entitlement_gate.domain.decisions import serve
from entitlement_gate.ledger.checking import checked_ttl
from entitlement_gate.runtime.answering import Answering
from entitlement_gate.runtime.bidding import order
from entitlement_gate.runtime.entitlements import CustomerEntitlements, required
from entitlement_gate.runtime.steps import drive, drive_async

if TYPE_CHECKING:
    from entitlement_gate.domain.decisions import Decision
    from entitlement_gate.domain.requirements import Requirement
    from entitlement_gate.runtime.reservation import Reservation

__all__ = ["EntitlementGate"]


class EntitlementGate(Answering):
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
        ValueError: an option cannot work; the message names it.
    """

    def has(
        self, customer: object, entitlement: str | Requirement, quantity: object = None, *, refresh: bool = False
    ) -> bool:
        """Return whether the customer may."""
        if quantity is None and not refresh:  # `_warm`, written out: its call would cost a fifth of this one
            try:
                answer = self._answers[customer, entitlement]
            except (KeyError, TypeError):
                pass
            else:
                clock = self._clock
                is_fresh = answer.fetched_at <= clock.monotonic() < answer.fresh_until
                if is_fresh and answer.since <= clock.time() < answer.until:
                    self._health.hits += 1
                    return answer.allowed
        return drive(self._checking(customer, entitlement, quantity, refresh=refresh)).allowed

    async def ahas(
        self, customer: object, entitlement: str | Requirement, quantity: object = None, *, refresh: bool = False
    ) -> bool:
        """Return whether the customer may."""
        return (await self.acheck(customer, entitlement, quantity, refresh=refresh)).allowed

    def check(
        self, customer: object, entitlement: str | Requirement, quantity: object = None, *, refresh: bool = False
    ) -> Decision:
        """Return the decision."""
        if quantity is None and not refresh:  # `_warm`, written out, as in `has`
            try:
                answer = self._answers[customer, entitlement]
            except (KeyError, TypeError):
                pass
            else:
                clock = self._clock
                tick, now = clock.monotonic(), clock.time()
                if answer.fetched_at <= tick < answer.fresh_until and answer.since <= now < answer.until:
                    self._health.hits += 1
                    age, by_wall = tick - answer.fetched_at, now - answer.fetched_wall
                    age = age if age >= by_wall else by_wall  # noqa: FURB136 - max() costs thrice as much
                    return serve(answer.verdict, "cache", age)
        return drive(self._checking(customer, entitlement, quantity, refresh=refresh))

    async def acheck(
        self, customer: object, entitlement: str | Requirement, quantity: object = None, *, refresh: bool = False
    ) -> Decision:
        """Return the decision."""
        warm = None if refresh or quantity is not None else self._warm(customer, entitlement)
        if warm is not None:
            return warm
        return await drive_async(self._checking(customer, entitlement, quantity, refresh=refresh))

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
        known = drive(self._getting(customer))
        return known.concluded_by(lambda asked, decision: drive(self.concluding(asked, decision, known))[0])

    async def aget(self, customer: object) -> CustomerEntitlements:
        """Return all of the customer's entitlements, from one snapshot.

        Reading it costs no I/O, so its denials are as old as that: ``acheck`` looks once more before it denies.
        """
        known = await drive_async(self._getting(customer))
        return known.concluded_by(lambda _, decision: drive(self.telling(decision)))

    def inspect(self, customer: object) -> CustomerEntitlements:
        """Return what ``get`` does, for who looks and is not the customer: its checks are told to nobody."""
        known = drive(self._getting(customer))
        return known.concluded_by(lambda asked, decision: drive(self._reconsidering(asked, decision, known))[0])

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
        return drive(self._granted(customer, order(entitlement, quantity, key, checked_ttl(ttl))))

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
        return await drive_async(self._granted(customer, order(entitlement, quantity, key, checked_ttl(ttl))))

    def consume(
        self, customer: object, entitlement: str | Requirement, quantity: object = 1, *, key: str | None = None
    ) -> Decision:
        """Use a quantity up at once; ``remaining`` is what is left then. Raises as ``reserve`` does."""
        return drive(self._granted(customer, order(entitlement, quantity, key, None))).decision

    async def aconsume(
        self, customer: object, entitlement: str | Requirement, quantity: object = 1, *, key: str | None = None
    ) -> Decision:
        """Use a quantity up at once; see ``consume``."""
        return (await drive_async(self._granted(customer, order(entitlement, quantity, key, None)))).decision

    def at_hand(self, customer: object) -> CustomerEntitlements | None:
        """Return what ``get`` would, where that needs no fetch and no look at who ``customer`` is; else None."""
        view = self._fetching.fresh(customer)
        return None if view is None else CustomerEntitlements(view, self._judge)

    def invalidate(self, customer: object) -> None:
        """Let what is known of the customer no longer count: the next check fetches."""
        drive(self._invalidating(customer))

    async def ainvalidate(self, customer: object) -> None:
        """Let what is known of the customer no longer count: the next check fetches."""
        await drive_async(self._invalidating(customer))

    def health(self) -> dict[str, Any]:
        """Return how the gate fares, in plain JSON types and without any I/O.

        ``breaker`` (``closed``, ``open``, ``half_open``), ``customers`` held, ``last_success_age`` and
        ``last_failure_age`` in seconds or None, ``last_failure`` (the name of the error class, never its text), and
        how often questions were answered from fresh data (``hits``), from data older than it should be (``stale``), and
        after a fetch or not at all (``misses``). A snapshot that a request has, or that ``get`` gave, counts once,
        whatever it answers, and each renewal before a denial once more. With a ``redis_url`` also ``shared``, the
        breaker of the way to Redis. The counts are approximate: see ``Health``.
        """
        return self._fetching.report()

    def close(self) -> None:
        """Start no further fetch and close the source; at once, and as often as you like."""
        self._fetching.close()
        self._counting.close()
        close = getattr(self.source, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} over {self.source!r}>"

    def _warm(self, customer: object, entitlement: str | Requirement) -> Decision | None:
        """Return what is at hand: worked out before, still fresh, and the customer given as canonical text."""
        try:
            answer = self._answers[customer, entitlement]
        except (KeyError, TypeError):
            return None
        clock = self._clock
        tick, now = clock.monotonic(), clock.time()
        if answer.fetched_at <= tick < answer.fresh_until and answer.since <= now < answer.until:
            self._health.hits += 1
            age = max(tick - answer.fetched_at, now - answer.fetched_wall)
            return serve(answer.verdict, "cache", age)
        return None
