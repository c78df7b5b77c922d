"""The gate: answers checks from snapshots that it keeps fresh. Never here: Django, HTTP, the rule itself.

Each question is one generator of waits (``steps``), run by the sync and the async door alike. A warm check takes
neither lock nor generator: two dictionary look-ups and a comparison of clocks.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self, Unpack
from uuid import UUID

from entitlement_gate.domain.decisions import Decision, Outcome, Reason
from entitlement_gate.domain.requirements import Requirement, as_requirement
from entitlement_gate.domain.rule import canonical_uuid
from entitlement_gate.forking import remake_after_fork
from entitlement_gate.runtime.entitlements import CustomerEntitlements, required
from entitlement_gate.runtime.fetching import Fetching
from entitlement_gate.runtime.judging import Judge
from entitlement_gate.runtime.options import GateKeywords, GateOptions
from entitlement_gate.runtime.steps import Steps, drive, drive_async

if TYPE_CHECKING:
    from collections.abc import Mapping

    from entitlement_gate.domain.grants import Snapshot
    from entitlement_gate.runtime.cache import Answer
    from entitlement_gate.runtime.views import SnapshotSource, View
    from entitlement_gate.zenskar.flow import Clock

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
        ValueError: an option cannot work; the message names it.
    """

    def __init__(self, source: SnapshotSource, *, clock: Clock = time, **options: Unpack[GateKeywords]) -> None:
        self.source = source
        self.options = GateOptions(**options)
        self._clock = clock
        self._judge = Judge(self.options, clock)
        self._fetching = Fetching(source, self.options, clock, self)
        # What a warm check reads; empty for a gate that has to take the long way each time.
        self._answers: Mapping[Any, Mapping[Any, Answer]] = self._fetching.answers
        self._health = self._fetching.health
        remake_after_fork(self)

    def remake(self) -> None:
        """Make locks, threads and flights anew, as in a process just forked; data stays."""
        self._fetching.remake()

    def has(
        self, customer: object, entitlement: str | Requirement, quantity: object = None, *, refresh: bool = False
    ) -> bool:
        """Return whether the customer may."""
        if quantity is None and not refresh:  # `_warm`, written out: its call would cost a fifth of this one
            try:
                answer = self._answers[customer][entitlement]
            except (KeyError, TypeError):
                pass
            else:
                clock = self._clock
                if clock.monotonic() < answer.fresh_until and answer.since <= clock.time() < answer.until:
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
        warm = None if refresh or quantity is not None else self._warm(customer, entitlement)
        if warm is not None:
            return warm
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
        """Return all of the customer's entitlements, from one snapshot."""
        return drive(self._getting(customer))

    async def aget(self, customer: object) -> CustomerEntitlements:
        """Return all of the customer's entitlements, from one snapshot."""
        return await drive_async(self._getting(customer))

    def at_hand(self, customer: object) -> CustomerEntitlements | None:
        """Return what ``get`` would, where that needs no fetch and no look at who ``customer`` is; else None."""
        view = self._fetching.fresh(customer)
        if view is None:
            return None
        self._health.hits += 1
        return CustomerEntitlements(view, self._judge)

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
        how often checks were answered from fresh data (``hits``), from data older than it should be (``stale``), and
        after a fetch or not at all (``misses``). The counts are approximate: see ``Health``.
        """
        return self._fetching.report()

    def close(self) -> None:
        """Start no further fetch and close the source; at once, and as often as you like."""
        self._fetching.close()
        close = getattr(self.source, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} over {self.source!r}>"

    def _checking(
        self, customer: object, entitlement: str | Requirement, quantity: object, *, refresh: bool
    ) -> Steps[Decision]:
        requirement = as_requirement(entitlement, quantity)
        customer_id = yield from self._identifying(customer)
        if isinstance(customer_id, Reason):
            return self._judge.refuse(requirement, customer_id, None)
        view = yield from self._fetching.view(customer_id, refresh=refresh)
        decision, view = yield from self._deciding(requirement, view)
        self._health.count(view.source)
        return decision

    def _deciding(self, requirement: Requirement, view: View) -> Steps[tuple[Decision, View]]:
        """Return the decision, and the view it rests on: a newer one where the first was too old to deny."""
        decision = self._judge.decide(requirement, view)
        if decision.outcome is Outcome.DENIED:
            newer = yield from self._fetching.for_denial(view)
            if newer is not view:
                return self._judge.decide(requirement, newer), newer
        return decision, view

    def _getting(self, customer: object) -> Steps[CustomerEntitlements]:
        customer_id = yield from self._identifying(customer)
        if isinstance(customer_id, Reason):
            return CustomerEntitlements(None, self._judge, customer_id)
        view = yield from self._fetching.view(customer_id)
        self._health.count(view.source)
        return CustomerEntitlements(view, self._judge)

    def _renewing(
        self, requirement: Requirement, known: CustomerEntitlements
    ) -> Steps[tuple[Decision, CustomerEntitlements]]:
        """Decide by what is known, as ``_deciding`` does by a view."""
        if known.view is None:
            return known.check(requirement), known
        # A fetch that failed for this request is not tried again; one that succeeded is as old as its data.
        pinned = known.view._replace(was_tried=known.view.source != "live")
        decision, view = yield from self._deciding(requirement, pinned)
        return decision, known if view is pinned else CustomerEntitlements(view, self._judge)

    def _invalidating(self, customer: object) -> Steps[None]:
        customer_id = yield from self._identifying(customer)
        if not isinstance(customer_id, Reason):
            self._fetching.invalidate(customer_id)

    def _identifying(self, customer: object) -> Steps[str | Reason]:
        """Return the canonical customer id, or the reason why there is none."""
        resolved = yield from self._resolving(customer)
        if resolved is None:
            return Reason.NO_CUSTOMER
        if isinstance(resolved, UUID):
            return str(resolved)
        canonical = canonical_uuid(resolved) if isinstance(resolved, str) else None
        return canonical or Reason.INVALID_CUSTOMER

    def refreshed(self, snapshot: Snapshot) -> None:
        """Hear of a fetch, on the thread that did it. For gates that tell others."""

    def failed(self, customer_id: str, error: BaseException) -> None:
        """Hear of a fetch that failed, on the thread that tried. For gates that tell others."""

    def _resolving(self, customer: object) -> Steps[object]:
        """Return whom a check is about. A gate that knows requests resolves them here."""
        yield from ()
        return customer

    def _warm(self, customer: object, entitlement: str | Requirement) -> Decision | None:
        """Return what is at hand: worked out before, still fresh, and the customer given as canonical text."""
        try:
            answer = self._answers[customer][entitlement]
        except (KeyError, TypeError):
            return None
        clock = self._clock
        tick, now = clock.monotonic(), clock.time()
        if tick < answer.fresh_until and answer.since <= now < answer.until:
            self._health.hits += 1
            age, by_wall = tick - answer.fetched_at, now - answer.fetched_wall
            return answer.decision.served("cache", age if age >= by_wall else by_wall)  # noqa: FURB136 - max() costs thrice as much
        return None
