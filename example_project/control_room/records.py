"""What happened lately, kept in memory: every check, every fetch, and every move of whoever plays billing.

Each process keeps its own. The oldest records leave first.
"""

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from django.dispatch import receiver

from entitlement_gate import Decision, Snapshot
from entitlement_gate.signals import entitlement_checked, entitlements_refreshed, source_failed

_MOST = 4_000


@dataclass(frozen=True)
class Record:
    """Something that happened to a customer, or to all of them where ``customer_id`` is None."""

    customer_id: str | None
    at: float = field(default_factory=time.monotonic, kw_only=True)

    def concerns(self, customer_id: str) -> bool:
        return self.customer_id in {customer_id, None}


@dataclass(frozen=True)
class Checked(Record):
    """A check was answered."""

    decision: Decision


@dataclass(frozen=True)
class Fetched(Record):
    """Billing was asked. ``error`` is the class of what went wrong, or empty."""

    error: str = ""


@dataclass(frozen=True)
class Played(Record):
    """Somebody in the control room did something."""

    said: str


_records: deque[Record] = deque(maxlen=_MOST)


def note(record: Record) -> None:
    _records.append(record)


def recent(customer_id: str, since: float) -> list[Record]:
    """Return what concerns a customer since an instant of ``time.monotonic``, oldest first."""
    found = [record for record in list(_records) if record.at >= since and record.concerns(customer_id)]
    return sorted(found, key=lambda record: record.at)


@receiver(entitlement_checked)
def note_check(decision: Decision, **_: Any) -> None:
    if decision.customer_id is not None:
        note(Checked(decision.customer_id, decision))


@receiver(entitlements_refreshed)
def note_fetch(snapshot: Snapshot, **_: Any) -> None:
    note(Fetched(snapshot.customer_id))


@receiver(source_failed)
def note_failure(customer_id: str, error: BaseException, **_: Any) -> None:
    note(Fetched(customer_id, type(error).__name__))
