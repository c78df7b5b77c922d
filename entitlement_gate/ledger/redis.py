"""The ledger in Redis, and its outbox: every verb is one Lua script, in one hash slot for each bucket of customers.

Never here: the way to Redis (``redis_client``), or the rule, which the scripts hold a second time (``balances``).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from entitlement_gate.domain.errors import ReservationConflict, ReservationExpired, ReservationNotFound
from entitlement_gate.ledger.balances import MOST, Share, Tally
from entitlement_gate.ledger.book import ticket_of
from entitlement_gate.ledger.protocol import (
    FORGOTTEN_AFTER,
    Charges,
    DeadLetter,
    Demand,
    LedgerOverflow,
    Receipt,
    Refusal,
    State,
    UsageEvent,
    UsageTarget,
    checked_actual,
    checked_demands,
    checked_key,
    checked_ttl,
    checked_word,
    examined,
)
from entitlement_gate.ledger.redis_client import BUCKETS, RedisStore
from entitlement_gate.resilience.fork_safety import chance

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from entitlement_gate.ledger.balances import Row

__all__ = ["RedisLedger", "RedisOutbox"]

_ROUNDS = 3  # of looking and taking, where others take at the same time


class RedisOutbox(RedisStore):
    """The outbox of every bucket."""

    def take(self, limit: int, *, lease: float = 60.0) -> tuple[UsageEvent, ...]:
        """See ``Outbox.take``; oldest first within a bucket."""
        events: list[UsageEvent] = []
        for _ in range(_ROUNDS):
            buckets = chance.sample(range(BUCKETS), BUCKETS)  # several shippers start apart
            limits = self._share_out(limit - len(events), "due", buckets)
            texts = self._ask_some("take", limits, seconds=lease * _MICRO)
            events += map(_event, texts)
            if len(events) >= limit or len(texts) == sum(limits.values()):
                break  # else another shipper was faster
        return tuple(events)

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
        letters = [json.loads(text) for text in self._ask_some("dead", self._share_out(limit, "dead", range(BUCKETS)))]
        return tuple(DeadLetter(_event(letter["e"]), letter["w"]) for letter in letters[:limit])

    def health(self) -> dict[str, Any]:
        """Return what there is to know of the store, in plain types of JSON. Raises nothing.

        ``lost`` says whether verbs will raise ``LedgerLost`` as far as this process knows.
        """
        return examined("redis", self._look, maxmemory_policy=None, appendonly=None, lost=None)

    def _look(self, report: dict[str, Any]) -> None:
        report.update(self.server_facts(), reachable=True)
        report["lost"] = self.is_lost()
        counts = self._counts()
        report.update(
            pending=sum(each["waiting"] for each in counts), dead_letters=sum(each["dead"] for each in counts)
        )

    def _tell(self, event: UsageEvent, verb: str, **options: Any) -> None:
        bucket = self._bucket(event.customer_id)
        self.run("outbox", self._keys(bucket), {"verb": verb, "id": f"{event.customer_id}|{event.key}", **options})

    def _counts(self) -> list[dict[str, int]]:
        """Return how many events of each bucket are due, wait, and were set aside."""
        replies = self._run_on(range(BUCKETS), [{"verb": "count"}] * BUCKETS)
        return [dict(zip(("due", "waiting", "dead"), counts, strict=True)) for counts in replies]

    def _share_out(self, limit: int, kind: str, buckets: Iterable[int]) -> dict[int, int]:
        """Return from which buckets to get how many, of what there is."""
        counts, limits = self._counts(), {}
        for bucket in buckets:
            share = min(limit, counts[bucket][kind])
            if share > 0:
                limits[bucket] = share
                limit -= share
        return limits

    def _ask_some(self, verb: str, limits: Mapping[int, int], **options: Any) -> list[Any]:
        """Return what several buckets give, each up to its limit."""
        replies = self._run_on(limits, [{"verb": verb, "limit": limit, **options} for limit in limits.values()])
        return [text for texts in replies for text in texts]

    def _run_on(self, buckets: Iterable[int], requests: Sequence[dict[str, Any]]) -> list[Any]:
        return self.run_each("outbox", [self._keys(bucket) for bucket in buckets], requests) if requests else []

    def _keys(self, bucket: int) -> list[str]:
        return [self._key(bucket, name) for name in ("events", "event-due", "dead")]


def _event(text: bytes | str) -> UsageEvent:
    fields = json.loads(text)
    return UsageEvent(
        key=fields["k"],
        customer_id=fields["c"],
        target=UsageTarget(fields["s"], fields["f"]),
        quantity=int(fields["q"]),
        at=int(fields["t"]) / _MICRO,
        attempts=int(fields["a"]),
    )


_MICRO = 1_000_000
_EVENTS = ("events", "event-due", "dead")
_REFUSED = 2
_TOO_WIDE = "a ledger in Redis counts up to 2**53 millionths a row: the database counts further"
_STATES = {str(state): state for state in State}
_FAILURES: dict[str, tuple[type[Exception], str]] = {
    "unknown": (ReservationNotFound, "the customer has no reservation with this key"),
    "conflict": (ReservationConflict, "the key was used for another quantity or entitlement"),
    "released": (ReservationConflict, "the reservation was released"),
    "committed": (ReservationConflict, "the reservation is committed"),
    "expired": (ReservationExpired, "the reservation ran out before it was committed or extended"),
    "several": (ValueError, "a reservation of several entitlements is committed as it was held"),
    "range": (LedgerOverflow, _TOO_WIDE),
}


class RedisLedger(RedisOutbox):
    """Counts for every process that shares one Redis: a ledger and its outbox in one.

    Time is the server's. A verb is one round trip; taking events out is two, and founding a ledger fewer than ten,
    however many buckets there are. A server that is silent is given up after 0.25 s, 0.5 s where a connection broke and
    was made anew; one whose answer trickles in may take longer, and whoever asks by a gate waits until the gate's
    ``deadline`` at most. What is kept must never be evicted: a server with another ``maxmemory-policy`` than
    ``noeviction`` is refused, and one that lost what it held admits nothing until ``accept_loss()`` is called.

    Args:
        server: ``redis://`` URL, or a client of redis-py (also ``RedisCluster``) with time-outs of your own.
        prefix: in front of every key.
        must_exist: never found a new ledger: a server without one counts as lost.

    Every method may raise ``LedgerUnavailable`` or ``LedgerLost``.
    """

    is_local = False

    def reserve(
        self,
        customer_id: str,
        demands: Sequence[Demand],
        *,
        key: str,
        ttl: float,
        owner: str = "",
        purpose: str = "",
        is_lone: bool = False,
    ) -> Receipt | Refusal:
        """See ``Ledger.reserve``."""
        request = {**_encode_demands(demands), "key": checked_key(key), "ttl": _micros(checked_ttl(ttl))}
        request.update(owner=checked_word(owner), purpose=checked_word(purpose), is_lone=is_lone)
        return _outcome(key, self._verb("reserve", customer_id, request))

    def consume(
        self, customer_id: str, demands: Sequence[Demand], *, key: str, purpose: str = "", is_lone: bool = False
    ) -> Receipt | Refusal:
        """See ``Ledger.consume``."""
        request = {
            **_encode_demands(demands),
            "key": checked_key(key),
            "ttl": 0,
            "customer": customer_id,
            "late": True,
            "owner": "",
            "purpose": checked_word(purpose),
            "is_lone": is_lone,
        }
        return _outcome(key, self._verb("consume", customer_id, request, *_EVENTS))

    def commit(self, customer_id: str, key: str, *, actual: int | None = None, late: bool = True) -> Receipt:
        """See ``Ledger.commit``."""
        request = {"key": checked_key(key), "customer": customer_id, "late": late}
        if actual is not None:
            request["actual"] = checked_actual(actual)
        return _receipt(key, *self._verb("commit", customer_id, request, *_EVENTS))

    def release(self, customer_id: str, key: str, *, owner: str = "") -> Receipt:
        """See ``Ledger.release``."""
        request = {"key": checked_key(key), "owner": checked_word(owner)}
        return _receipt(key, *self._verb("release", customer_id, request))

    def extend(self, customer_id: str, key: str, ttl: float) -> Receipt:
        """See ``Ledger.extend``."""
        request = {"ttl": _micros(checked_ttl(ttl)), "key": checked_key(key)}
        return _receipt(key, *self._verb("extend", customer_id, request))

    def adopt_upstream(self, customer_id: str, rows: Mapping[str, Sequence[Row]], ticket: float) -> None:
        """See ``Ledger.adopt_upstream``."""
        encoded = {entitlement_id: _encode_rows(live) for entitlement_id, live in rows.items()}
        request = {"rows": encoded, "ticket": ticket_of(ticket), "forgotten_after": _micros(FORGOTTEN_AFTER)}
        self._verb("adopt", customer_id, request)

    def charges(self, customer_id: str) -> Charges:
        """See ``Ledger.charges``."""
        charges: dict[str, dict[str, Tally]] = {}
        flat = list(self._verb("charges", customer_id, {}))
        for name, numbers in zip(flat[::2], flat[1::2], strict=True):
            length, _, ids = name.partition(":")
            encoded = ids.encode()  # Lua counts bytes
            entitlement_id, row_id = encoded[: int(length)].decode(), encoded[int(length) :].decode()
            charges.setdefault(entitlement_id, {})[row_id] = Tally(*map(int, numbers.split()))
        return charges

    def _verb(self, verb: str, customer_id: str, request: dict[str, Any], *extra: str) -> Any:
        """Run a verb in the epoch this process knows; return the script's reply."""
        status, reply = self.run_in_epoch(verb, customer_id, request, *extra)
        if status == "failed":
            error, why = _FAILURES[reply]
            raise error(why)
        return json.loads(reply)


def _encode_demands(demands: Sequence[Demand]) -> dict[str, list[Any]]:
    """Return demands as the script reads them, and what the record keeps of them."""
    wants: list[str] = []
    for demand in checked_demands(demands):
        target = (demand.target.slug, demand.target.field) if demand.target else ("", "")
        wants += (demand.entitlement_id, str(demand.quantity), *target)
    encoded = [
        (d.quantity, ticket_of(d.ticket), _sum_remaining(d.rows), d.overdraw, _encode_rows(d.rows)) for d in demands
    ]
    return {"demands": encoded, "wants": wants}


def _sum_remaining(rows: Sequence[Row]) -> int:
    return _narrow(sum([row.remaining for row in rows]))


def _encode_rows(rows: Sequence[Row]) -> list[tuple[str, int, int]]:
    """Return rows as the script reads them: what remains may be less than it is, what was used is exact."""
    if any(not -MOST <= row.used <= MOST for row in rows):
        raise LedgerOverflow(_TOO_WIDE)
    return [(row.id, _narrow(row.remaining), row.used) for row in rows]


def _narrow(remaining: int) -> int:
    return max(-MOST, min(MOST, remaining))


def _micros(seconds: float) -> int:
    return round(seconds * _MICRO)


def _outcome(key: str, reply: list[Any]) -> Receipt | Refusal:
    """Return a receipt; a refusal is two values, the entitlement and what is available."""
    if len(reply) == _REFUSED:
        return Refusal(reply[0], int(reply[1]))
    return _receipt(key, *reply)


def _receipt(key: str, is_replay: bool, before: list[int], record: list[Any]) -> Receipt:  # noqa: FBT001 - the script's
    state, expires, _, is_overage, is_late, _, shares, *_ = record
    each = iter(shares)
    return Receipt(
        key=key,
        state=_STATES[state],
        shares=tuple(
            [
                Share(entitlement_id, row_id, int(amount))
                for entitlement_id, row_id, amount in zip(each, each, each, strict=True)
            ]
        ),
        expires_at=int(expires) / _MICRO,
        available=tuple(before),
        is_replay=is_replay,
        is_overage=is_overage,
        is_late=is_late,
    )
