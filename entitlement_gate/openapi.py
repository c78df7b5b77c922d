"""What a document of OpenAPI tells of the requests that a gate refuses. Never here: which views are gated."""

from __future__ import annotations

from http.client import responses
from typing import TYPE_CHECKING, Any

from entitlement_gate.domain.decisions import Decision, Outcome, Reason
from entitlement_gate.refusals import PROBLEM, retry_after_of, status_of

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["documented_refusals"]

_TEXTS = ("type", "title", "detail", "code", "entitlement", "requested", "remaining", "upgrade_url")
_PROPERTIES: dict[str, Any] = {**{name: {"type": "string"} for name in _TEXTS}, "status": {"type": "integer"}}
_ALWAYS = ["type", "title", "status", "detail", "code", "entitlement"]
_RETRY_AFTER = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}


def documented_refusals(codes: Mapping[str, int]) -> dict[int, dict[str, Any]]:
    """Return the responses to refused requests by status, which ``codes`` may change by reason: problem details."""
    by_status: dict[int, list[Decision]] = {}
    for reason in Reason:
        if reason.outcome is not Outcome.ALLOWED:
            decision = Decision.of(reason, "")
            by_status.setdefault(status_of(decision, codes), []).append(decision)
    return {status: _response(status, refused) for status, refused in sorted(by_status.items())}


def _response(status: int, refused: list[Decision]) -> dict[str, Any]:
    reasons = {"type": "string", "enum": [str(decision.reason) for decision in refused]}
    schema = {"type": "object", "properties": {**_PROPERTIES, "code": reasons}, "required": _ALWAYS}
    told = {"description": responses.get(status, "Refused"), "content": {PROBLEM: {"schema": schema}}}
    comes_again = any(retry_after_of(decision) is not None for decision in refused)
    return {**told, "headers": _RETRY_AFTER} if comes_again else told
