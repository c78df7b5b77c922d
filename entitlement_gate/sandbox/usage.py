"""Usage events: checked, kept exactly once per key, and answered.

Never here: balances. In billing they move at an invoice, not when usage arrives.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

from entitlement_gate.resilience.fork_safety import Locked
from entitlement_gate.sandbox import exact
from entitlement_gate.sandbox.messages import Refusal, Reply, invalid

__all__ = ["UsageBook", "UsageEvent"]

_REMEMBERED = 86_400.0


@dataclass(frozen=True, slots=True)
class UsageEvent:
    """One event that was accepted; ``key`` is the request's ``Idempotency-Key``."""

    slug: str
    customer_id: str
    timestamp: str
    data: Mapping[str, Any]
    key: str | None


class UsageBook(Locked):
    """The events received, and the answers given to each key within 24 hours."""

    def __init__(self, slugs: Collection[str]) -> None:
        self._slugs = frozenset(slugs)
        super().__init__()
        self._events: list[UsageEvent] = []
        self._answers: dict[str, tuple[float, bytes, Reply]] = {}

    @property
    def events(self) -> list[UsageEvent]:
        """The events accepted so far, in order."""
        with self._lock:
            return list(self._events)

    def post(self, slug: str, body: bytes, key: str | None, now: float) -> Reply:
        """Take one event or a list of them, or replay the answer the key was given before.

        Raises:
            Refusal: The body is malformed, or the key was used for another body.
        """
        with self._lock:
            self._forget(now)
            seen = sha256(slug.encode() + b"\0" + body).digest()
            if key in self._answers:
                return _replayed(self._answers[key], seen)
            events = [_event(slug, item, at, key) for at, item in _items(body)]
            reply = self._accept(slug, events)
            if key:
                self._answers[key] = (now + _REMEMBERED, seen, reply)
            return reply

    def _forget(self, now: float) -> None:
        self._answers = {key: kept for key, kept in self._answers.items() if now < kept[0]}

    def _accept(self, slug: str, events: list[UsageEvent]) -> Reply:
        if slug not in self._slugs:
            return Reply.json(None)
        self._events.extend(events)
        return Reply.json({"status": "accepted", "count": len(events)})


def _replayed(kept: tuple[float, bytes, Reply], seen: bytes) -> Reply:
    if kept[1] != seen:
        raise Refusal(Reply.json({"detail": "Idempotency-Key was used with another body"}, 400))
    return kept[2]


def _items(body: bytes) -> list[tuple[list[str | int], Any]]:
    try:
        payload = exact.loads(body)
    except ValueError:
        raise invalid(["body"], "body is not valid JSON", "value_error.jsondecode") from None
    if not isinstance(payload, list):
        return [(["body"], payload)]
    if not payload:
        raise invalid(["body"], "list has no items", "value_error.list.min_items")
    return [(["body", index], item) for index, item in enumerate(payload)]


def _event(slug: str, item: Any, at: list[str | int], key: str | None) -> UsageEvent:
    if not isinstance(item, Mapping):
        raise invalid(at, "value is not a valid object", "type_error.dict")
    for name, is_good in (("customer_id", _is_text), ("timestamp", _is_date), ("data", _is_object)):
        if name not in item:
            raise invalid([*at, name], "field required", "value_error.missing")
        if not is_good(item[name]):
            raise invalid([*at, name], "value is not valid", "type_error")
    return UsageEvent(slug, item["customer_id"], item["timestamp"], item["data"], key)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_date(value: Any) -> bool:
    try:
        return bool(datetime.fromisoformat(value))
    except (TypeError, ValueError):
        return False
