"""From an entry to the decision that is served: the rule, the cached answers and the policies."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from entitlement_gate.domain.decisions import Decision, Outcome, Reason, RequestFault, revise, serve, verdict_of
from entitlement_gate.domain.grants import steady_span
from entitlement_gate.domain.rule import decide, rows_named
from entitlement_gate.engine.cache import Answer
from entitlement_gate.engine.ledger_client import NOT_READ, burdened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from decimal import Decimal

    from entitlement_gate.domain.grants import Grant, Snapshot
    from entitlement_gate.domain.requirements import Requirement
    from entitlement_gate.engine.cache import Entry, SnapshotCache
    from entitlement_gate.engine.ledger_client import LedgerClient
    from entitlement_gate.engine.options import GateOptions
    from entitlement_gate.engine.snapshots import SnapshotStore, View
    from entitlement_gate.ledger.protocol import Charges
    from entitlement_gate.resilience.clock import Clock

__all__ = ["Evaluator", "remembered_as"]


class Evaluator:
    """Decides by the options of one gate, and caches the answers."""

    def __init__(
        self, options: GateOptions, clock: Clock, ledger_client: LedgerClient, cache: SnapshotStore | SnapshotCache
    ) -> None:
        self._options = options
        self._ledger_client = ledger_client
        self._cache = cache
        self._terms = options.terms
        self._clock = clock

    def decide(self, requirement: Requirement, view: View, charges: Charges | None = NOT_READ) -> Decision:
        """Return the decision as served from this view, less what is used up here; without any I/O.

        ``charges`` were read before where the ledger is elsewhere and ``needs_ledger``: they are an argument.
        """
        if view.entry is None:
            return self.refuse(requirement, view.failure or Reason.UNAVAILABLE, view.customer_id)
        verdict = self._answer(requirement, view.entry, charges).verdict
        source = "fallback" if verdict.outcome is Outcome.UNKNOWN else view.source
        return serve(verdict, source, view.entry.age(self._clock))

    def allows(self, requirement: Requirement, view: View, charges: Charges | None = NOT_READ) -> bool:
        """Return whether the decision allows, without making one."""
        if view.entry is None:
            return self.decide(requirement, view).allowed
        return self._answer(requirement, view.entry, charges).allowed

    def served(self, decision: Decision, view: View) -> Decision:
        """Return a settled decision with the source and age of the view it rests on."""
        if view.entry is None:
            return decision
        source = "fallback" if decision.outcome is Outcome.UNKNOWN else view.source
        return serve(verdict_of(decision), source, view.entry.age(self._clock))

    def needs_ledger(self, requirement: Requirement, view: View) -> bool:
        """Whether the decision may rest on numbers of the ledger, which only I/O brings where it is elsewhere."""
        if view.entry is None:
            return False
        snapshot = view.entry.snapshot
        return any(row.is_metered for leaf in requirement.leaves() for row in self.named(leaf.entitlement, snapshot))

    def judge_leaf(self, leaf: Requirement, entry: Entry, charges: Charges | None) -> Decision:
        """Return what is true of one entitlement now, before any policy."""
        at = datetime.fromtimestamp(self._clock.time(), UTC)
        return decide(entry.snapshot, leaf, at, self._terms, burden=burdened(charges))

    def refuse(self, requirement: Requirement, reason: Reason | RequestFault, customer_id: str | None) -> Decision:
        """Return the decision where there is no data of the customer; unknown is left to the failure policy."""
        decide_leaf = partial(_decide_by_reason, reason=reason, customer_id=customer_id)
        return self.settle(requirement, decide_leaf(requirement), decide_leaf)

    def unknown(self, requirement: Requirement, view: View) -> Decision:
        """Return what is true where there is no data, before any policy."""
        return _decide_by_reason(requirement, view.failure or Reason.UNAVAILABLE, view.customer_id)

    def may_overdraw(self, entitlement: str, rows: Iterable[Grant]) -> bool:
        """Whether the settings let overage of an entitlement, which these rows are of, through."""
        return self._terms.word_for(self._terms.on_exhausted, entitlement, rows) == "allow"

    def named(self, name: str, snapshot: Snapshot) -> Sequence[Grant]:
        """Return the grants that a name, alias or entitlement id stands for."""
        return rows_named(snapshot, name, self._terms)

    def settle(
        self, requirement: Requirement, decision: Decision, judge_leaf: Callable[[Requirement], Decision]
    ) -> Decision:
        """Return the decision under the failure policy and shadow mode; ``judge_leaf`` says what is true of a leaf."""
        if decision.outcome is Outcome.UNKNOWN:
            decision = self._by_policy(requirement, decision)
        if decision.allowed or not self._options.shadow:
            return decision
        # Only names in shadow are let through: of "a & b", a in shadow, the decision is that of b.
        enforced = self._options.enforced(requirement)
        if enforced is not None:
            enforced_decision = enforced.judge(judge_leaf)
            if enforced_decision.outcome is Outcome.UNKNOWN:
                enforced_decision = self._by_policy(enforced, enforced_decision)
            if not enforced_decision.allowed:
                return enforced_decision
        return revise(decision, allowed=True, shadow=True)

    def _by_policy(self, requirement: Requirement, decision: Decision) -> Decision:
        """Return a decision whose outcome is unknown under the failure policy."""
        policy = self._options.on_unavailable
        words = (self._terms.word_for(policy, leaf.entitlement) for leaf in requirement.leaves())
        return revise(decision, allowed=all(word == "allow" for word in words)).served("fallback", decision.age)

    def _answer(self, requirement: Requirement, entry: Entry, charges: Charges | None) -> Answer:
        """Return the cached answer where it still stands, or else work one out."""
        now = self._clock.time()
        question = remembered_as(requirement)
        customer_id = entry.snapshot.customer_id
        cached = self._cache.answers.get((customer_id, question))
        if cached is not None and cached.entry is entry and cached.since <= now < cached.steady_until:
            return cached
        answer, is_counted = self._work_out(requirement, entry, now, charges)
        if not is_counted or self._ledger_client.is_untouched(customer_id):
            self._cache.remember(entry, question, answer)
            # The first use of a customer clears the answers; one that began since the look above must not outlive it.
            if is_counted and not self._ledger_client.is_untouched(customer_id):
                self._cache.forget(entry)
        return answer

    def _work_out(
        self, requirement: Requirement, entry: Entry, now: float, charges: Charges | None
    ) -> tuple[Answer, bool]:
        """Return the answer, and whether the ledger had a say in it."""
        at = datetime.fromtimestamp(now, UTC)
        burden = _LazyBurden(self._ledger_client, entry.snapshot.customer_id, charges)
        named: list[Grant] = []

        def judge_leaf(leaf: Requirement) -> Decision:
            rows = rows_named(entry.snapshot, leaf.entitlement, self._terms)
            named.extend(rows)
            return decide(entry.snapshot, leaf, at, self._terms, burden=burden, named=rows)

        decision = requirement.judge(judge_leaf)
        # Around the instant of the decision, which is `now` rounded to a microsecond.
        since, until = steady_span(named, at.timestamp())
        fresh_until, fresh_until_wall = entry.fresh_until, entry.fresh_until_wall
        if decision.outcome is Outcome.DENIED:
            fresh_until = min(fresh_until, entry.fetched_at + self._options.denial_max_age)
            fresh_until_wall = min(fresh_until_wall, entry.fetched_wall + self._options.denial_max_age)
        decision = self.settle(requirement, decision, judge_leaf)
        answer = Answer(
            entry=entry,
            fetched_at=entry.fetched_at,
            since=since,
            until=min(until, fresh_until_wall),
            fresh_until=fresh_until,
            allowed=decision.allowed,
            verdict=verdict_of(decision),
            steady_until=until,
        )
        return answer, burden.was_asked


def remembered_as(requirement: Requirement) -> Requirement | str:
    """Return what the cache remembers the answer to a requirement by: the name, where that is all there is to it."""
    return requirement if requirement.operator or requirement.quantity else requirement.entitlement


def _decide_by_reason(requirement: Requirement, reason: Reason | RequestFault, customer_id: str | None) -> Decision:
    leaf = next(requirement.leaves())
    return Decision.of(reason, leaf.entitlement, customer_id=customer_id, requested=leaf.requested)


class _LazyBurden:
    """A burden that knows whether it was asked for, and looks into a ledger in memory no sooner."""

    def __init__(self, ledger_client: LedgerClient, customer_id: str, charges: Charges | None) -> None:
        self._ledger_client = ledger_client
        self._customer_id = customer_id
        self._charges = charges
        self.was_asked = False

    def __call__(self, entitlement_id: str, rows: Sequence[Grant]) -> Decimal | None:
        self.was_asked = True
        if self._charges is NOT_READ:
            self._charges = self._ledger_client.at_hand(self._customer_id)
        return burdened(self._charges)(entitlement_id, rows)
