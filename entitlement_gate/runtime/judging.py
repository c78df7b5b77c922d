"""From an entry to the decision that is served: the rule, what was worked out before, and the policies.

Never here: fetching, waiting.
"""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from entitlement_gate.domain.decisions import Decision, Outcome, Reason
from entitlement_gate.domain.rule import decide, rows_named
from entitlement_gate.runtime.cache import Answer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from entitlement_gate.domain.grants import Grant
    from entitlement_gate.domain.requirements import Requirement
    from entitlement_gate.runtime.cache import Entry
    from entitlement_gate.runtime.options import GateOptions
    from entitlement_gate.runtime.views import View
    from entitlement_gate.zenskar.flow import Clock

__all__ = ["Judge"]


class Judge:
    """Decides by the options of one gate."""

    def __init__(self, options: GateOptions, clock: Clock) -> None:
        self._options = options
        self._terms = options.terms
        self._clock = clock

    def decide(self, requirement: Requirement, view: View) -> Decision:
        """Return the decision as served from this view."""
        if view.entry is None:
            return self.refuse(requirement, view.failure or Reason.UNAVAILABLE, view.customer_id)
        answer = self._answer(requirement, view.entry)
        return answer.decision.served(view.source, view.entry.age(self._clock))

    def refuse(self, requirement: Requirement, reason: Reason, customer_id: str | None) -> Decision:
        """Return the decision where nothing is known of the customer; unknown is left to the failure policy."""
        leaf = next(requirement.leaves())
        decision = Decision.of(reason, leaf.entitlement, customer_id=customer_id, requested=leaf.requested)
        return self.settle(requirement, decision)

    def named(self, name: str, grants: Iterable[Grant]) -> tuple[Grant, ...]:
        """Return the grants that a name, alias or entitlement id stands for."""
        return tuple(rows_named(grants, name, self._terms))

    def settle(self, requirement: Requirement, decision: Decision) -> Decision:
        """Return the decision under the failure policy and shadow mode."""
        if decision.outcome is Outcome.UNKNOWN:
            policy = self._options.on_unavailable
            words = (self._terms.word_for(policy, leaf.entitlement) for leaf in requirement.leaves())
            allowed = all(word == "allow" for word in words)
            decision = dataclasses.replace(decision, allowed=allowed, source="fallback")
        if not decision.allowed and self._options.is_shadowed(decision.entitlement):
            decision = dataclasses.replace(decision, allowed=True, shadow=True)
        return decision

    def _answer(self, requirement: Requirement, entry: Entry) -> Answer:
        now = self._clock.time()
        asked = requirement if requirement.operator or requirement.quantity else requirement.entitlement
        known = entry.answers.get(asked)
        if known is not None and known.since <= now < known.steady_until:
            return known
        answer = self._worked_out(requirement, entry, now)
        entry.keep(asked, answer)
        return answer

    def _worked_out(self, requirement: Requirement, entry: Entry, now: float) -> Answer:
        at = datetime.fromtimestamp(now, UTC)
        judged = requirement.judge(lambda leaf: decide(entry.snapshot, leaf, at, self._terms))
        # Around the instant that was judged, which is `now` rounded to a microsecond.
        since, until = entry.snapshot.steady_span(at.timestamp())
        good_for = entry.fresh_for
        if judged.outcome is Outcome.DENIED:
            good_for = min(good_for, self._options.denial_max_age)
        decision = self.settle(requirement, judged)
        return Answer(
            since=since,
            until=min(until, entry.fetched_wall + good_for),
            fresh_until=entry.fetched_at + good_for,
            allowed=decision.allowed,
            decision=decision,
            steady_until=until,
            fetched_at=entry.fetched_at,
            fetched_wall=entry.fetched_wall,
        )
