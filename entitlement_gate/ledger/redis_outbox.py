"""The usage events that commits left in Redis. Never here: how they get there (``settle.lua``), where they go."""

from __future__ import annotations

import json
from typing import Any

from entitlement_gate.forking import chance
from entitlement_gate.ledger.health import examined
from entitlement_gate.ledger.protocol import DeadLetter, UsageEvent, UsageTarget
from entitlement_gate.ledger.redis_store import BUCKETS, RedisStore

__all__ = ["RedisOutbox"]

_MICRO = 1_000_000


class RedisOutbox(RedisStore):
    """The outbox of every bucket."""

    def take(self, limit: int, *, lease: float = 60.0) -> tuple[UsageEvent, ...]:
        """See ``Outbox.take``; oldest first within a bucket."""
        taken: list[UsageEvent] = []
        for bucket in chance.sample(range(BUCKETS), BUCKETS):  # several shippers start apart
            if len(taken) < limit:
                texts = self._ask(bucket, "take", limit=limit - len(taken), seconds=lease * _MICRO)
                taken += map(_event, texts)
        return tuple(taken)

    def delivered(self, event: UsageEvent) -> None:
        """See ``Outbox.delivered``."""
        self._tell(event, "delivered")

    def postpone(self, event: UsageEvent, seconds: float) -> None:
        """See ``Outbox.postpone``."""
        self._tell(event, "postpone", seconds=seconds * _MICRO)

    def bury(self, event: UsageEvent, why: str) -> None:
        """See ``Outbox.bury``."""
        self._tell(event, "bury", why=why)

    def revive(self, event: UsageEvent) -> None:
        """See ``Outbox.revive``."""
        self._tell(event, "revive")

    def pending(self) -> int:
        """See ``Outbox.pending``."""
        return sum(self._ask(bucket, "pending") for bucket in range(BUCKETS))

    def dead_letters(self, limit: int = 100) -> tuple[DeadLetter, ...]:
        """See ``Outbox.dead_letters``."""
        letters = [json.loads(text) for bucket in range(BUCKETS) for text in self._ask(bucket, "dead")]
        return tuple(DeadLetter(_event(letter["e"]), letter["w"]) for letter in letters[:limit])

    def health(self) -> dict[str, Any]:
        """Return what there is to know of the store, in plain types of JSON. Raises nothing.

        ``lost`` says whether verbs will raise ``LedgerLost`` as far as this process knows.
        """
        unknown = {"maxmemory_policy": None, "appendonly": None, "lost": None}
        return examined("redis", self._look, **unknown)

    def _look(self, report: dict[str, Any]) -> None:
        report.update(self.server_facts(), reachable=True)
        report["lost"] = self.is_lost()
        waiting, dead = self.ask_each("ZCARD", "event-due"), self.ask_each("HLEN", "dead")
        report.update(pending=sum(waiting), dead_letters=sum(dead))

    def _tell(self, event: UsageEvent, verb: str, **asked: Any) -> None:
        self._ask(self._bucket(event.customer_id), verb, id=f"{event.customer_id}|{event.key}", **asked)

    def _ask(self, bucket: int, verb: str, **asked: Any) -> Any:
        keys = [self._key(bucket, name) for name in ("events", "event-due", "dead")]
        return self.run("outbox", keys, {"verb": verb, **asked})


def _event(text: bytes | str) -> UsageEvent:
    told = json.loads(text)
    return UsageEvent(
        key=told["k"],
        customer_id=told["c"],
        target=UsageTarget(told["s"], told["f"]),
        quantity=int(told["q"]),
        at=int(told["t"]) / _MICRO,
        attempts=int(told["a"]),
    )
