"""The usage events that commits left in the database. Never here: how they get there (``shelf``), where they go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from entitlement_gate.ledger.health import examined
from entitlement_gate.ledger.protocol import DeadLetter, UsageEvent, UsageTarget
from entitlement_gate.usage.connection import NOW
from entitlement_gate.usage.models import Event

if TYPE_CHECKING:
    from entitlement_gate.usage.connection import OwnConnections

__all__ = ["LOCKS", "DatabaseOutbox"]

_EVENT = Event._meta.db_table  # noqa: SLF001 - the documented way to it
_COLUMNS = '"key", customer_id, slug, field, quantity, at, attempts'
_WHICH = 'customer_id = %s AND "key" = %s'
# Table names and the database's own clock are constants, never input; every value is a parameter.
_TAKE = f"""
    WITH taken AS MATERIALIZED (
        SELECT id FROM {_EVENT} WHERE why = '' AND due <= {{now}} + %s ORDER BY id LIMIT %s {{lock}}
    )
    UPDATE {_EVENT} SET due = {{now}} + %s, attempts = attempts + 1
    WHERE id IN (SELECT id FROM taken) AND why = '' RETURNING {_COLUMNS}
"""  # noqa: S608 - as above
_DELIVERED = f"DELETE FROM {_EVENT} WHERE why = '' AND {_WHICH}"  # noqa: S608 - as above
_POSTPONE = f"UPDATE {_EVENT} SET due = {{now}} + %s WHERE why = '' AND {_WHICH}"  # noqa: S608 - as above
_BURY = f"UPDATE {_EVENT} SET why = %s WHERE why = '' AND {_WHICH}"  # noqa: S608 - as above
_REVIVE = f"UPDATE {_EVENT} SET why = '', attempts = 0, due = {{now}} + %s WHERE why <> '' AND {_WHICH}"  # noqa: S608 - as above
_PENDING = f"SELECT COUNT(*) FROM {_EVENT} WHERE why = ''"  # noqa: S608 - as above
_BURIED = f"SELECT COUNT(*) FROM {_EVENT} WHERE why <> ''"  # noqa: S608 - as above
_DEAD = f"SELECT {_COLUMNS}, why FROM {_EVENT} WHERE why <> '' ORDER BY id LIMIT %s"  # noqa: S608 - as above
_PATIENCE = 30.0  # seconds: a shipper is no request
LOCKS = {"sqlite": "", "postgresql": "FOR UPDATE SKIP LOCKED"}


class DatabaseOutbox:
    """The outbox, over the ledger's own connections."""

    def __init__(self, own: OwnConnections) -> None:
        self._own = own
        self._shift = 0.0  # seconds added to the database's clock: tests pass time with it

    def take(self, limit: int, *, lease: float = 60.0) -> tuple[UsageEvent, ...]:
        """See ``Outbox.take``."""
        rows = self._run(_TAKE, self._shift, limit, self._shift + lease)
        return tuple(sorted(map(_event, rows), key=lambda event: event.at))

    def delivered(self, event: UsageEvent) -> None:
        """See ``Outbox.delivered``."""
        self._run(_DELIVERED, event.customer_id, event.key)

    def postpone(self, event: UsageEvent, seconds: float) -> None:
        """See ``Outbox.postpone``."""
        self._run(_POSTPONE, self._shift + seconds, event.customer_id, event.key)

    def bury(self, event: UsageEvent, why: str) -> None:
        """See ``Outbox.bury``."""
        self._run(_BURY, why or "refused", event.customer_id, event.key)

    def revive(self, event: UsageEvent) -> None:
        """See ``Outbox.revive``."""
        self._run(_REVIVE, self._shift, event.customer_id, event.key)

    def pending(self) -> int:
        """See ``Outbox.pending``."""
        return int(self._run(_PENDING)[0][0])

    def dead_letters(self, limit: int = 100) -> tuple[DeadLetter, ...]:
        """See ``Outbox.dead_letters``."""
        return tuple(DeadLetter(_event(row[:-1]), row[-1]) for row in self._run(_DEAD, limit))

    def health(self) -> dict[str, Any]:
        """Return what there is to know of the store, in plain types of JSON. Raises nothing."""
        return examined("database", self._look, vendor=self._own.vendor, migrated=None)

    def _look(self, report: dict[str, Any]) -> None:
        self._run("SELECT 1")
        report["reachable"] = True
        report["migrated"] = self._own.is_migrated(Event._meta.app_label)  # noqa: SLF001 - as above
        if report["migrated"]:
            report.update(pending=self.pending(), dead_letters=int(self._run(_BURIED)[0][0]))

    def _now(self) -> tuple[str, float]:
        return NOW[self._own.vendor], self._shift

    def _run(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        statement = sql.format(now=NOW[self._own.vendor], lock=LOCKS[self._own.vendor])
        return self._own.ask((statement, values), seconds=_PATIENCE)[0]


def _event(row: tuple[Any, ...]) -> UsageEvent:
    key, customer_id, slug, field, quantity, at, attempts = row
    target = UsageTarget(slug, field)
    return UsageEvent(key=key, customer_id=customer_id, target=target, quantity=quantity, at=at, attempts=attempts)
