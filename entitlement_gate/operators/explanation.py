"""Why a decision is what it is: the part of each row in it, what would have to change, which name was meant. Pure.

Each row is judged alone by ``domain.rule.decide``, so that the rule is not written a second time.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from entitlement_gate.domain.decisions import Decision, Outcome, Reason
from entitlement_gate.domain.grants import Grant, Snapshot
from entitlement_gate.domain.numbers import difference
from entitlement_gate.domain.requirements import as_requirement
from entitlement_gate.domain.rule import decide, rows_named

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from decimal import Decimal

    from entitlement_gate.domain.requirements import Requirement
    from entitlement_gate.domain.rule import Terms

__all__ = [
    "Explanation",
    "Facts",
    "RowStanding",
    "ask_did_you_mean",
    "describe_reason",
    "explain",
    "find_nearest",
    "format_day",
    "format_moment",
    "format_number",
]

Part = Literal["counted", "closest", "none"]

_MEANINGS = {
    Reason.ALLOWED: "billing grants it",
    Reason.OVERRIDE: "an override says so",
    Reason.OVERAGE: "used up; ON_EXHAUSTED lets it through",
    Reason.INSUFFICIENT_QUANTITY: "not enough is left",
    Reason.INSUFFICIENT_CREDITS: "not enough credits are left",
    Reason.QUANTITY_UNKNOWN: "billing gives no number",
    Reason.FEATURE_DISABLED: "its option switches it off",
    Reason.TYPE_MISMATCH: "a Feature has no quantity to ask for",
    Reason.TYPE_UNKNOWN: "its type is unknown",
    Reason.NOT_STARTED: "it has not started",
    Reason.EXPIRED: "it has ended",
    Reason.DRAFT: "it is a draft",
    Reason.INACTIVE: "its status is unknown",
    Reason.VOIDED: "it was voided",
    Reason.MALFORMED: "its row could not be read",
    Reason.NOT_ENTITLED: "billing gives the customer nothing of this name",
    Reason.CUSTOMER_NOT_FOUND: "billing does not know the customer",
    Reason.INVALID_CUSTOMER: "the customer id is no hyphenated UUID",
    Reason.NO_CUSTOMER: "there is no customer",
    Reason.UNAVAILABLE: "billing could not be reached",
    Reason.REJECTED: "billing rejects our requests",
    Reason.MALFORMED_RESPONSE: "billing's answer could not be read",
}
_CHANGES = {
    Reason.QUANTITY_UNKNOWN: "Give the row a quantity in billing, or read none as no limit: NULL_QUANTITY.",
    Reason.FEATURE_DISABLED: "Give the row another feature_option_value in billing.",
    Reason.TYPE_MISMATCH: "Ask without a quantity: a Feature is there or not.",
    Reason.TYPE_UNKNOWN: "Give the entitlement the type Feature, Quantity or Credits in billing.",
    Reason.NOT_STARTED: "Let it start earlier in billing.",
    Reason.DRAFT: "Confirm the draft in billing.",
    Reason.INACTIVE: "Set the row's status to active in billing.",
    Reason.VOIDED: "Grant it anew in billing: what is voided stays so.",
    Reason.MALFORMED: "Correct the row in billing: a field that decides cannot be read.",
    Reason.NOT_ENTITLED: "Grant it to the customer in billing, or correct the name.",
    Reason.CUSTOMER_NOT_FOUND: "Correct the customer id, or create the customer in this organisation.",
    Reason.INVALID_CUSTOMER: "Give the customer's Zenskar id, a hyphenated UUID.",
    Reason.NO_CUSTOMER: "Let the resolver find a customer.",
    Reason.UNAVAILABLE: "Ask again when billing answers; `doctor` says what keeps it from doing so.",
    Reason.REJECTED: "Correct the credentials or parameters: run `doctor`.",
    Reason.MALFORMED_RESPONSE: "Check that BASE_URL is the billing API: run `doctor`.",
}
_BY_BALANCE = (Reason.ALLOWED, Reason.OVERAGE, Reason.INSUFFICIENT_QUANTITY, Reason.INSUFFICIENT_CREDITS)


@dataclass(frozen=True, slots=True)
class Facts:
    """What an explanation starts from.

    Attributes:
        decision: what the gate says.
        grants: all grants that it said it from.
        overlooked: rows that billing has and ``STATUS_FILTER`` does not ask for.
    """

    decision: Decision
    grants: tuple[Grant, ...] = ()
    overlooked: tuple[Grant, ...] = ()


@dataclass(frozen=True, slots=True)
class RowStanding:
    """One row's part in the decision.

    Attributes:
        grant: the row.
        part: ``counted`` (live, and decided), ``closest`` (not live, and gave the reason of the denial) or ``none``.
        standing: the reason that the row alone gives.
        why: the same for people.
    """

    grant: Grant
    part: Part
    standing: Reason
    why: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision and why. ``change`` is what would have to change; ``near`` are the names perhaps meant."""

    decision: Decision
    rows: tuple[RowStanding, ...]
    change: str
    near: tuple[str, ...] = ()

    @property
    def hint(self) -> str:
        """The question about the name, or nothing."""
        return ask_did_you_mean(self.near)


def explain(facts: Facts, requirement: Requirement, now: datetime, terms: Terms) -> Explanation:
    """Explain a decision about one entitlement at the instant ``now``."""
    decision = facts.decision
    rows = rows_named(_make_snapshot(facts.grants), requirement.entitlement, terms)
    overlooked = rows_named(_make_snapshot(facts.overlooked), requirement.entitlement, terms)
    standings = [_judge_row(row, decision, _judge_alone(row, requirement, now, terms)) for row in rows]
    for row in overlooked:
        alone = _judge_alone(row, requirement, now, terms)
        standings.append(
            RowStanding(row, "none", alone, f"{_describe_standing(row, alone)}; STATUS_FILTER does not ask for it")
        )
    by_all_rows = decision
    if decision.outcome is Outcome.DENIED and overlooked:
        by_all_rows = decide(_make_snapshot((*rows, *overlooked)), requirement, now, terms)
    near: tuple[str, ...] = ()
    if not standings and decision.reason is Reason.NOT_ENTITLED:
        target = terms.aliases.get(requirement.entitlement, requirement.entitlement)
        near = find_nearest(target, {*terms.aliases, *(grant.name for grant in (*facts.grants, *facts.overlooked))})
    return Explanation(decision, tuple(standings), _describe_change(by_all_rows), near)


def describe_reason(reason: Reason) -> str:
    """Return what a reason means, for operators."""
    return _MEANINGS[reason]


def format_moment(instant: datetime) -> str:
    """Return an instant for people, to the minute."""
    return f"{instant:%Y-%m-%d %H:%M} {instant.tzname()}"


def format_day(instant: datetime | None) -> str:
    """Return an instant for people, to the day; nothing for none."""
    return "" if instant is None else f"{instant:%Y-%m-%d}"


def format_number(value: Decimal | None, units: str | None = None) -> str:
    """Return an exact number for people; nothing for none."""
    if value is None:
        return ""
    return f"{value:f} {units}" if units else f"{value:f}"


def _make_snapshot(grants: Iterable[Grant]) -> Snapshot:
    return Snapshot("", tuple(grants), 0.0)


def _judge_alone(row: Grant, requirement: Requirement, now: datetime, terms: Terms) -> Reason:
    """Return what the rule says of this row if there were no other."""
    by_name = as_requirement(row.name, requirement.requested)
    return decide(_make_snapshot((row,)), by_name, now, _make_terms(terms, requirement.entitlement, row)).reason


def _make_terms(terms: Terms, entitlement: str, row: Grant) -> Terms:
    """Return the terms of an alias or id, under the name of its row."""
    words: dict[str, Any] = {
        setting: terms.word_for(getattr(terms, setting), entitlement, (row,))
        for setting in ("on_exhausted", "null_quantity")
    }
    return type(terms)(aliases={row.name: row.name}, **words)


def _judge_row(row: Grant, decision: Decision, alone: Reason) -> RowStanding:
    why = _describe_standing(row, alone)
    is_live = alone in _BY_BALANCE
    if row.id in decision.grants:
        return RowStanding(row, "counted" if is_live else "closest", alone, why)
    if is_live:
        why += "; rows of another entitlement id came closer, and ids are never added"
    return RowStanding(row, "none", alone, why)


def _describe_standing(row: Grant, standing: Reason) -> str:
    if standing in _BY_BALANCE:
        remaining = format_number(row.remaining, row.units)
        return f"live, {remaining} left" if row.is_metered and remaining else "live"
    if standing is Reason.NOT_STARTED and row.active_from is not None:
        return f"starts {format_moment(row.active_from)}"
    if standing is Reason.EXPIRED and row.expires_at is not None:
        return f"ended {format_moment(row.expires_at)}"
    if standing is Reason.INACTIVE:
        return f"has the unknown status {row.status!r}"
    if standing is Reason.TYPE_UNKNOWN:
        return f"of the unknown type {row.type!r}" if row.type else "has neither a type nor a number"
    return _MEANINGS[standing]


def _describe_change(decision: Decision) -> str:
    """Return what would have to change for another answer."""
    reason = decision.reason
    if decision.outcome is Outcome.ALLOWED:
        return f"Nothing: it is allowed{_describe_limits(decision)}."
    if reason in (Reason.INSUFFICIENT_QUANTITY, Reason.INSUFFICIENT_CREDITS):
        return _describe_shortage(decision)
    if reason is Reason.NOT_STARTED and decision.active_from is not None:
        return f"Wait until {format_moment(decision.active_from)}, or let it start earlier in billing."
    if reason is Reason.EXPIRED:
        return "Renew it in billing: grant it anew, or with a later expiry."
    return _CHANGES[reason]


def _describe_limits(decision: Decision) -> str:
    ends = [f"until {format_moment(decision.expires_at)}"] if decision.expires_at else []
    balance = (
        [f"while more than 0 is left (now {format_number(decision.remaining, decision.units)})"]
        if decision.remaining
        else []
    )
    return f" {' and '.join(ends + balance)}" if ends or balance else ""


def _describe_shortage(decision: Decision) -> str:
    """Return how much is missing: to the quantity asked for, or to more than 0."""
    remaining = decision.remaining
    if remaining is None:
        return "Grant more in billing."
    if decision.requested is None:
        short = "more than " + format_number(remaining.copy_abs(), decision.units)
    else:
        short = "at least " + format_number(difference(decision.requested, remaining), decision.units)
    return f"Grant {short} more in billing, or let usage of it be taken back."


_MOST = 3
_CUTOFF = 0.6


def find_nearest(name: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return those of the names that somebody who wrote ``name`` may have meant, nearest first.

    Case, blanks, hyphens and underscores count for nothing; a name is not near to itself.
    """
    by_key: dict[str, list[str]] = {}
    for other in sorted(set(names) - {name}):
        by_key.setdefault(_fold(other), []).append(other)
    keys = difflib.get_close_matches(_fold(name), by_key, n=_MOST, cutoff=_CUTOFF)
    return tuple(other for key in keys for other in by_key[key])[:_MOST]


def ask_did_you_mean(near: Iterable[str]) -> str:
    """Return the question, or nothing where nothing is near."""
    names = " or ".join(map(repr, near))
    return f"Did you mean {names}?" if names else ""


def _fold(name: str) -> str:
    return re.sub(r"[\s_\-.:/]+", "", name).casefold()
