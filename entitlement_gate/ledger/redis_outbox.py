"""The usage events that commits left in Redis. Never here: how they get there (``settle.lua``), where they go."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from entitlement_gate.forking import chance
from entitlement_gate.ledger.health import examined
from entitlement_gate.ledger.protocol import DeadLetter, UsageEvent, UsageTarget
from entitlement_gate.ledger.redis_store import BUCKETS, RedisStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["RedisOutbox"]

_MICRO = 1_000_000
_ROUNDS = 3  # of looking and taking, where others take at the same time


class RedisOutbox(RedisStore):
    """The outbox of every bucket."""

    def take(self, limit: int, *, lease: float = 60.0) -> tuple[UsageEvent, ...]:
        """See ``Outbox.take``; oldest first within a bucket."""
        taken: list[UsageEvent] = []
        for _ in range(_ROUNDS):
            anywhere = chance.sample(range(BUCKETS), BUCKETS)  # several shippers start apart
            wanted = self._shared_out(limit - len(taken), "due", anywhere)
            texts = self._ask_some("take", wanted, seconds=lease * _MICRO)
            taken += map(_event, texts)
            if len(taken) >= limit or len(texts) == sum(wanted.values()):
                break  # else another shipper was faster
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
        return sum(counts["waiting"] for counts in self._counts())

    def dead_letters(self, limit: int = 100) -> tuple[DeadLetter, ...]:
        """See ``Outbox.dead_letters``."""
        letters = [json.loads(text) for text in self._ask_some("dead", self._shared_out(limit, "dead", range(BUCKETS)))]
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
        counts = self._counts()
        report.update(
            pending=sum(each["waiting"] for each in counts), dead_letters=sum(each["dead"] for each in counts)
        )

    def _tell(self, event: UsageEvent, verb: str, **asked: Any) -> None:
        bucket = self._bucket(event.customer_id)
        self.run("outbox", self._keys(bucket), {"verb": verb, "id": f"{event.customer_id}|{event.key}", **asked})

    def _counts(self) -> list[dict[str, int]]:
        """Return how many events of each bucket are due, wait, and were set aside."""
        told = self._run_on(range(BUCKETS), [{"verb": "count"}] * BUCKETS)
        return [dict(zip(("due", "waiting", "dead"), counts, strict=True)) for counts in told]

    def _shared_out(self, limit: int, kind: str, buckets: Iterable[int]) -> dict[int, int]:
        """Return from which buckets to get how many, of what there is."""
        counts, wanted = self._counts(), {}
        for bucket in buckets:
            some = min(limit, counts[bucket][kind])
            if some > 0:
                wanted[bucket] = some
                limit -= some
        return wanted

    def _ask_some(self, verb: str, wanted: Mapping[int, int], **asked: Any) -> list[Any]:
        """Return what several buckets give, each as many as are wanted of it."""
        told = self._run_on(wanted, [{"verb": verb, "limit": limit, **asked} for limit in wanted.values()])
        return [text for texts in told for text in texts]

    def _run_on(self, buckets: Iterable[int], asked: Sequence[dict[str, Any]]) -> list[Any]:
        return self.run_each("outbox", [self._keys(bucket) for bucket in buckets], asked) if asked else []

    def _keys(self, bucket: int) -> list[str]:
        return [self._key(bucket, name) for name in ("events", "event-due", "dead")]


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
