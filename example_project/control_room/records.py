"""What happened lately: every check, every fetch, and every move of whoever plays billing.

Kept in memory, or in Redis where several processes share one, so that each tells what all of them saw. The oldest
records leave first. Beside them are the lines that the log has of an outage, so that one process alone writes each.
"""

import json
import logging
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any, Protocol

from django.dispatch import receiver

from entitlement_gate import Decision, Snapshot
from entitlement_gate.api import default_gate
from entitlement_gate.signals import entitlement_checked, entitlements_refreshed, source_failed

_MOST = 1_000
_KEY = "fieldnotes:records"
_LINES_KEY = "fieldnotes:said"
_OF_AN_OUTAGE = ("a fetch of entitlements failed", "billing rejects our requests")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Record:
    """Something that happened.

    Attributes:
        kind: ``checked``, ``fetched``, ``failed`` (a fetch) or ``played``.
        text: what came of a move, or the class of the error.
        entitlement, outcome, reason, source, age: of a check, as its ``Decision`` has them.
        at: POSIX seconds.
    """

    kind: str
    customer_id: str
    text: str = ""
    entitlement: str = ""
    outcome: str = ""
    reason: str = ""
    source: str = ""
    age: float | None = None
    at: float = field(default_factory=time.time)


class _Store(Protocol):
    def add(self, record: Record) -> None: ...
    def all(self) -> Iterable[Record]: ...
    def is_first(self, text: str) -> bool: ...
    def forget_lines(self) -> bool: ...


class _Memory:
    def __init__(self) -> None:
        self._records: deque[Record] = deque(maxlen=_MOST)
        self._lines: set[str] = set()

    def add(self, record: Record) -> None:
        self._records.append(record)

    def all(self) -> Iterable[Record]:
        return list(self._records)

    def is_first(self, text: str) -> bool:
        """Return whether this line of the log is new since lines were last forgotten, and remember it."""
        is_first = text not in self._lines
        self._lines.add(text)
        return is_first

    def forget_lines(self) -> bool:
        """Forget every line; return whether there was one."""
        had_lines, self._lines = bool(self._lines), set()
        return had_lines


class _Redis:
    """Without its Redis nothing is noted, and the checks go on."""

    def __init__(self, url: str) -> None:
        from redis import Redis, RedisError  # noqa: PLC0415 - installed where it is asked for

        self._redis = Redis.from_url(url, socket_timeout=1)
        self._error = RedisError

    def add(self, record: Record) -> None:
        with suppress(self._error), self._redis.pipeline() as steps:
            steps.rpush(_KEY, json.dumps(asdict(record)))
            steps.ltrim(_KEY, -_MOST, -1)
            steps.execute()

    def all(self) -> Iterable[Record]:
        with suppress(self._error):
            return [Record(**json.loads(text)) for text in self._redis.lrange(_KEY, 0, -1)]
        return []

    def is_first(self, text: str) -> bool:
        with suppress(self._error):
            return bool(self._redis.sadd(_LINES_KEY, text))
        return True

    def forget_lines(self) -> bool:
        with suppress(self._error):
            return bool(self._redis.delete(_LINES_KEY))
        return False


@cache
def _store() -> _Store:
    url = default_gate().options.redis_url
    return _Redis(url) if url else _Memory()


def note(kind: str, customer_id: str, **what: Any) -> None:
    _store().add(Record(kind=kind, customer_id=customer_id, **what))


def recent(customer_id: str, since: float) -> list[Record]:
    """Return what happened to a customer since then, oldest first."""
    records = [record for record in _store().all() if record.customer_id == customer_id and record.at >= since]
    return sorted(records, key=lambda record: record.at)


@receiver(entitlement_checked)
def note_check(decision: Decision, **_: Any) -> None:
    fields = {name: str(getattr(decision, name)) for name in ("entitlement", "outcome", "reason", "source")}
    note("checked", decision.customer_id or "", age=decision.age, **fields)


@receiver(entitlements_refreshed)
def note_fetch(snapshot: Snapshot, **_: Any) -> None:
    note("fetched", snapshot.customer_id)
    if _store().forget_lines():
        _logger.info("billing answers again")


@receiver(source_failed)
def note_failure(customer_id: str, error: BaseException, **_: Any) -> None:
    note("failed", customer_id, text=type(error).__name__)


class OncePerOutage(logging.Filter):
    """Lets each line about failed fetches pass once, until billing has answered: the library repeats it each minute."""

    def filter(self, record: logging.LogRecord) -> bool:
        text, _, _attempts = record.getMessage().partition(" (")  # of which there is one while the breaker is open
        return not text.startswith(_OF_AN_OUTAGE) or _store().is_first(text)
