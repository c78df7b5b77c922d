"""The ledger that processes share through Redis or Valkey: every verb is one Lua script.

Never here: the outbox (``redis_outbox``), connections and loss (``redis_store``), the scripts (``scripts``).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from entitlement_gate.domain.errors import ReservationConflict, ReservationExpired, ReservationNotFound
from entitlement_gate.ledger.book import ticket_of
from entitlement_gate.ledger.checking import checked_actual, checked_demands, checked_key, checked_owner, checked_ttl
from entitlement_gate.ledger.protocol import (
    FORGOTTEN_AFTER,
    LONE_RETENTION,
    RETENTION,
    Charges,
    Demand,
    LedgerOverflow,
    Receipt,
    Refusal,
    State,
)
from entitlement_gate.ledger.redis_outbox import RedisOutbox
from entitlement_gate.ledger.rule import MOST, Share, Tally

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from entitlement_gate.ledger.rule import Row

__all__ = ["RedisLedger"]

_MICRO = 1_000_000
_RETENTION, _LONE_RETENTION = round(RETENTION * _MICRO), round(LONE_RETENTION * _MICRO)
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

    Time is the server's. A verb is one round trip, which takes 0.25 s at most, 0.5 s where a connection broke and was
    made anew; taking events out is two, and founding a ledger fewer than ten, however many buckets there are. What is
    kept must never be evicted: a server with another ``maxmemory-policy`` than ``noeviction`` is refused, and one
    that lost what it held admits nothing until ``accept_loss()`` is called.

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
        is_lone: bool = False,
    ) -> Receipt | Refusal:
        """See ``Ledger.reserve``."""
        asked = {**_told(demands), "key": checked_key(key), "ttl": _micros(checked_ttl(ttl))}
        asked.update(owner=checked_owner(owner), is_lone=is_lone)
        return _outcome(key, self._verb("reserve", customer_id, asked))

    def consume(
        self, customer_id: str, demands: Sequence[Demand], *, key: str, is_lone: bool = False
    ) -> Receipt | Refusal:
        """See ``Ledger.consume``."""
        asked = {
            **_told(demands),
            "key": checked_key(key),
            "ttl": 0,
            "customer": customer_id,
            "late": True,
            "owner": "",
            "is_lone": is_lone,
        }
        return _outcome(key, self._verb("consume", customer_id, asked, *_EVENTS))

    def commit(self, customer_id: str, key: str, *, actual: int | None = None, late: bool = True) -> Receipt:
        """See ``Ledger.commit``."""
        asked = {"key": checked_key(key), "customer": customer_id, "late": late}
        if actual is not None:
            asked["actual"] = checked_actual(actual)
        return _receipt(key, *self._verb("commit", customer_id, asked, *_EVENTS))

    def release(self, customer_id: str, key: str, *, owner: str = "") -> Receipt:
        """See ``Ledger.release``."""
        asked = {"key": checked_key(key), "owner": checked_owner(owner)}
        return _receipt(key, *self._verb("release", customer_id, asked))

    def extend(self, customer_id: str, key: str, ttl: float) -> Receipt:
        """See ``Ledger.extend``."""
        asked = {"ttl": _micros(checked_ttl(ttl)), "key": checked_key(key)}
        return _receipt(key, *self._verb("extend", customer_id, asked))

    def adopt_upstream(self, customer_id: str, rows: Mapping[str, Sequence[Row]], ticket: float) -> None:
        """See ``Ledger.adopt_upstream``."""
        told = {entitlement_id: _rows(some) for entitlement_id, some in rows.items()}
        oldest = ticket_of(ticket - FORGOTTEN_AFTER)
        self._verb("adopt", customer_id, {"rows": told, "ticket": ticket_of(ticket), "oldest": oldest})

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

    def _verb(self, verb: str, customer_id: str, asked: dict[str, Any], *extra: str) -> Any:
        """Run a verb in the epoch this process knows; return what the script says."""
        asked.update(retention=_RETENTION, lone_retention=_LONE_RETENTION)
        status, told = self.run_in_epoch(verb, customer_id, asked, *extra)
        if status == "failed":
            error, why = _FAILURES[told]
            raise error(why)
        return json.loads(told)


def _told(demands: Sequence[Demand]) -> dict[str, list[Any]]:
    """Return demands as the script reads them, and what the record keeps of them."""
    wants: list[str] = []
    for demand in checked_demands(demands):
        to = (demand.target.slug, demand.target.field) if demand.target else ("", "")
        wants += (demand.entitlement_id, str(demand.quantity), *to)
    told = [(d.quantity, ticket_of(d.ticket), _left(d.rows), d.overdraw, _rows(d.rows)) for d in demands]
    return {"demands": told, "wants": wants}


def _left(rows: Sequence[Row]) -> int:
    return _narrow(sum([row.remaining for row in rows]))


def _rows(rows: Sequence[Row]) -> list[tuple[str, int, int]]:
    """Return rows as the script reads them: what remains may be less than it is, what was used is exact."""
    if any(not -MOST <= row.used <= MOST for row in rows):
        raise LedgerOverflow(_TOO_WIDE)
    return [(row.id, _narrow(row.remaining), row.used) for row in rows]


def _narrow(remaining: int) -> int:
    return max(-MOST, min(MOST, remaining))


def _micros(seconds: float) -> int:
    return round(seconds * _MICRO)


def _outcome(key: str, told: list[Any]) -> Receipt | Refusal:
    """Return a receipt; a refusal is two values, the entitlement and what is available."""
    if len(told) == _REFUSED:
        return Refusal(told[0], int(told[1]))
    return _receipt(key, *told)


def _receipt(key: str, is_replay: bool, before: list[int], record: list[Any]) -> Receipt:  # noqa: FBT001 - as told
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
