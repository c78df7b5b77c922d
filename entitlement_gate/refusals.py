"""The answer to a refused request, whatever the framework: words, status, problem details, and these in OpenAPI.

Django, languages and settings are in ``responses``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http.client import responses
from typing import Any
from urllib.parse import urlsplit

from entitlement_gate.domain.decisions import Decision, Outcome, Reason, RequestFault, revise

__all__ = [
    "CACHE_CONTROL",
    "PROBLEM",
    "VARY",
    "checked_status_codes",
    "detail_of",
    "documented_refusals",
    "log_refusal",
    "problem_of",
    "retry_after_of",
    "status_of",
    "title_of",
    "visitable",
]

_logger = logging.getLogger("entitlement_gate")

PROBLEM = "application/problem+json"
"""The media type of problem details (RFC 9457)."""

CACHE_CONTROL = "no-store, private"
"""Of every answer to a refused request: what is refused today may be paid for tomorrow."""

VARY = ("Accept", "Cookie", "Authorization")
"""What every such answer depends on, for caches that keep it all the same."""


def _(text: str) -> str:
    """Mark what ``responses`` translates."""
    return text


_UNKNOWN_TITLE = _("We cannot check your plan right now")
_UNKNOWN_DETAIL = _("This is not about your plan: our billing system did not answer. Please try again in a moment.")
_DENIED_TITLE = _("Not part of your plan")
_DENIED_DETAIL = _("Your plan does not include this.")

_TITLES: dict[str, str] = {
    RequestFault.KEY_CONFLICT: _("This was asked for before, with another quantity"),
    RequestFault.INVALID_QUANTITY: _("This is no quantity"),
    Reason.NO_CUSTOMER: _("Please sign in"),
    Reason.INSUFFICIENT_QUANTITY: _("You have used up your allowance"),
    Reason.INSUFFICIENT_CREDITS: _("You do not have enough credits"),
    Reason.EXPIRED: _("Your access has ended"),
    Reason.NOT_STARTED: _("Your access has not started yet"),
}
_DETAILS: dict[str, str] = {
    RequestFault.KEY_CONFLICT: _("What was asked for under this name was something else. Please start anew."),
    RequestFault.INVALID_QUANTITY: _("A quantity is a number above zero. Please correct it."),
    Reason.NO_CUSTOMER: _("This needs an account with a plan."),
    Reason.INVALID_CUSTOMER: _("Your account is not linked to a plan correctly. Please contact us."),
    Reason.CUSTOMER_NOT_FOUND: _("Your account is not linked to a plan yet. Please contact us."),
    Reason.INSUFFICIENT_QUANTITY: _("What remains of your allowance is not enough for this."),
    Reason.INSUFFICIENT_CREDITS: _("What remains of your credits is not enough for this."),
    Reason.QUANTITY_UNKNOWN: _("Your plan does not say how much of this it includes. Please contact us."),
    Reason.FEATURE_DISABLED: _("This is switched off in your plan."),
    Reason.NOT_STARTED: _("This becomes available when your plan starts."),
    Reason.EXPIRED: _("Your plan included this until it ended."),
    Reason.DRAFT: _("This becomes available when your plan is confirmed."),
    Reason.VOIDED: _("This was withdrawn from your plan."),
}
_REASONS = frozenset({*Reason, *RequestFault})
_ERRORS = range(400, 600)
_STATUSES: dict[str, int] = {
    Reason.INSUFFICIENT_QUANTITY: 402,
    Reason.INSUFFICIENT_CREDITS: 402,
    RequestFault.KEY_CONFLICT: 409,
    RequestFault.INVALID_QUANTITY: 400,
}
_RETRY_AFTER = 5  # seconds: how long billing is left alone once it keeps failing
_SAFE_SCHEMES = ("", "http", "https", "mailto")


def title_of(decision: Decision) -> str:
    """Return a headline."""
    if decision.outcome is Outcome.UNKNOWN:
        return _UNKNOWN_TITLE
    return _TITLES.get(decision.reason, _DENIED_TITLE)


def detail_of(decision: Decision) -> str:
    """Return a sentence."""
    if decision.outcome is Outcome.UNKNOWN:
        return _UNKNOWN_DETAIL
    return _DETAILS.get(decision.reason, _DENIED_DETAIL)


def checked_status_codes(codes: object) -> Mapping[str, int]:
    """Return what changes the statuses of refusals.

    Raises:
        ValueError: it is no dict of reasons to statuses of errors.
    """
    statuses = codes.values() if isinstance(codes, Mapping) else (None,)
    if not all(type(code) is int and code in _ERRORS for code in statuses) or codes.keys() - _REASONS:  # type: ignore[attr-defined]  # a mapping: None is no status
        raise ValueError("status_codes: a dict of reason (see the reference) to an HTTP status from 400 to 599")
    return codes  # type: ignore[return-value]  # as above


def status_of(decision: Decision, codes: Mapping[str, int]) -> int:
    """Return the HTTP status of a refusal, which ``codes`` may change by reason.

    402 where more can be bought, 503 where the truth could not be learned, 400 and 409 where the request itself is at
    fault, 403 for the rest.
    """
    if decision.reason in codes:
        return codes[decision.reason]
    if decision.outcome is Outcome.UNKNOWN:
        return 503
    return _STATUSES.get(decision.reason, 403)


def retry_after_of(decision: Decision) -> int | None:
    """Return the seconds after which to ask again; None where that would change nothing."""
    return _RETRY_AFTER if decision.outcome is Outcome.UNKNOWN else None


def problem_of(
    decision: Decision, *, status: int, title: object, detail: object, upgrade_url: str | None
) -> dict[str, Any]:
    """Return the members of problem details, numbers as exact text; what is absent is left out."""
    problem: dict[str, Any] = {
        "type": f"urn:entitlement-gate:{decision.reason}",
        "title": str(title),
        "status": status,
        "detail": str(detail),
        "code": str(decision.reason),
        "entitlement": decision.entitlement,
        "requested": None if decision.requested is None else f"{decision.requested:f}",
        "remaining": None if decision.remaining is None else f"{decision.remaining:f}",
        "upgrade_url": upgrade_url,
    }
    return {name: value for name, value in problem.items() if value is not None}


def log_refusal(decision: Decision) -> None:
    """Log one line; whose it was stays out of it."""
    nobodys = revise(decision, customer_id=None)
    _logger.info("refused: %s: %s", decision.entitlement, decision.reason, extra={"decision": nobodys})


def visitable(url: str) -> str:
    """Return an address that a browser visits.

    Raises:
        ValueError: it would run it (``javascript:``).
    """
    if urlsplit(url.strip()).scheme not in _SAFE_SCHEMES:
        raise ValueError(f"{url!r} is no address to visit")
    return url


_TEXTS = ("type", "title", "detail", "code", "entitlement", "requested", "remaining", "upgrade_url")
_PROPERTIES: dict[str, Any] = {**{name: {"type": "string"} for name in _TEXTS}, "status": {"type": "integer"}}
_ALWAYS = ["type", "title", "status", "detail", "code", "entitlement"]
_RETRY_AFTER_HEADER = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}


def documented_refusals(codes: Mapping[str, int]) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says of refused requests, by status; ``codes`` may change the status of a reason."""
    by_status: dict[int, list[Decision]] = {}
    for reason in Reason:
        if reason.outcome is not Outcome.ALLOWED:
            decision = Decision.of(reason, "")
            by_status.setdefault(status_of(decision, codes), []).append(decision)
    return {status: _make_response(status, decisions) for status, decisions in sorted(by_status.items())}


def _make_response(status: int, decisions: list[Decision]) -> dict[str, Any]:
    reasons = {"type": "string", "enum": [str(decision.reason) for decision in decisions]}
    schema = {"type": "object", "properties": {**_PROPERTIES, "code": reasons}, "required": _ALWAYS}
    response = {"description": responses.get(status, "Refused"), "content": {PROBLEM: {"schema": schema}}}
    is_temporary = any(retry_after_of(decision) is not None for decision in decisions)
    return {**response, "headers": _RETRY_AFTER_HEADER} if is_temporary else response
