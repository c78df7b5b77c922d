"""The ledger that processes share through Redis or Valkey: every verb is one Lua script (``book.lua``).

Never here: the outbox (``redis_outbox``), connections and loss (``redis_store``).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from entitlement_gate.domain.errors import ReservationConflict, ReservationExpired, ReservationNotFound
from entitlement_gate.ledger.book import ticket_of
from entitlement_gate.ledger.checking import checked_actual, checked_demands, checked_key, checked_ttl
from entitlement_gate.ledger.protocol import (
    FORGOTTEN_AFTER,
    RETENTION,
    Charges,
    Demand,
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
_FAILURES: dict[str, tuple[type[Exception], str]] = {
    "unknown": (ReservationNotFound, "customer {customer} has no reservation with the key {key!r}"),
    "conflict": (ReservationConflict, "the key {key!r} was used for another quantity or entitlement"),
    "released": (ReservationConflict, "{key!r} was released"),
    "committed": (ReservationConflict, "{key!r} is committed"),
    "expired": (ReservationExpired, "{key!r} ran out before it was committed or extended"),
    "several": (ValueError, "a reservation of several entitlements is committed as it was held"),
    "range": (ValueError, "a ledger counts up to 2**53 millionths a row"),
}


class RedisLedger(RedisOutbox):
    """Counts for every process that shares one Redis: a ledger and its outbox in one.

    Time is the server's. A verb takes 0.25 s at most, 0.5 s where a connection broke and was made anew. What is
    kept must never be evicted: a server with another ``maxmemory-policy`` than ``noeviction`` is refused, and one
    that lost what it held admits nothing until ``accept_loss()`` is called.

    Args:
        server: ``redis://`` URL, or a client of redis-py (also ``RedisCluster``) with time-outs of your own.
        prefix: in front of every key.
        must_exist: never found a new ledger: a server without one counts as lost.

    Every method may raise ``LedgerUnavailable`` or ``LedgerLost``.
    """

    def reserve(self, customer_id: str, demands: Sequence[Demand], *, key: str, ttl: float) -> Receipt | Refusal:
        """See ``Ledger.reserve``."""
        asks = _asks(demands) | {"ttl": checked_ttl(ttl) * _MICRO}
        return _outcome(key, self._verb("reserve", customer_id, key=checked_key(key), **asks))

    def consume(self, customer_id: str, demands: Sequence[Demand], *, key: str) -> Receipt | Refusal:
        """See ``Ledger.consume``."""
        asks = _asks(demands)
        return _outcome(key, self._verb("consume", customer_id, key=checked_key(key), ttl=0, late=True, **asks))

    def commit(self, customer_id: str, key: str, *, actual: int | None = None, late: bool = True) -> Receipt:
        """See ``Ledger.commit``."""
        given = {} if actual is None else {"actual": str(checked_actual(actual))}
        return _receipt(key, self._verb("commit", customer_id, key=checked_key(key), late=late, **given))

    def release(self, customer_id: str, key: str) -> Receipt:
        """See ``Ledger.release``."""
        return _receipt(key, self._verb("release", customer_id, key=checked_key(key)))

    def extend(self, customer_id: str, key: str, ttl: float) -> Receipt:
        """See ``Ledger.extend``."""
        ttl = checked_ttl(ttl)
        return _receipt(key, self._verb("extend", customer_id, key=checked_key(key), ttl=ttl * _MICRO))

    def adopt_upstream(self, customer_id: str, rows: Mapping[str, Sequence[Row]], ticket: float) -> None:
        """See ``Ledger.adopt_upstream``."""
        told = {entitlement_id: _rows(some) for entitlement_id, some in rows.items()}
        tickets = {"ticket": str(ticket_of(ticket)), "oldest": str(ticket_of(ticket - FORGOTTEN_AFTER))}
        self._verb("adopt", customer_id, rows=told, **tickets)

    def charges(self, customer_id: str) -> Charges:
        """See ``Ledger.charges``."""
        charges: dict[str, dict[str, Tally]] = {}
        flat = self._run_verb("charges", customer_id)
        for name, numbers in zip(flat[::2], flat[1::2], strict=True):
            length, _, ids = name.partition(b":")
            entitlement_id, row_id = ids[: int(length)].decode(), ids[int(length) :].decode()
            tally = Tally(*map(int, numbers.split()))
            charges.setdefault(entitlement_id, {})[row_id] = tally
        return charges

    def _verb(self, verb: str, customer_id: str, **asked: Any) -> Any:
        return json.loads(self._run_verb(verb, customer_id, **asked))

    def _run_verb(self, verb: str, customer_id: str, **asked: Any) -> Any:
        """Run a verb, in the epoch this process knows; return what the script says."""
        status, *told = self.run_in_epoch(customer_id, verb=verb, retention=RETENTION * _MICRO, **asked)
        if status == b"failed":
            error, why = _FAILURES[told[0].decode()]
            raise error(why.format(customer=customer_id, key=asked.get("key")))
        return told[2]


def _asks(demands: Sequence[Demand]) -> dict[str, Any]:
    """Return demands as the script reads them: every number that counts is text."""
    told, wants = [], []
    for demand in checked_demands(demands):
        left = max(-MOST, min(MOST, sum(row.remaining for row in demand.rows)))
        told.append(
            {
                "e": demand.entitlement_id,
                "q": str(demand.quantity),
                "r": _rows(demand.rows),
                "t": str(ticket_of(demand.ticket)),
                "left": str(left),
                "over": demand.overdraw,
            }
        )
        target = demand.target
        to = (target.slug, target.field) if target else ("", "")
        wants.append([demand.entitlement_id, str(demand.quantity), *to])
    return {"demands": told, "wants": wants}


def _rows(rows: Sequence[Row]) -> list[list[str]]:
    return [[row.id, str(row.remaining), str(row.used)] for row in rows]


def _outcome(key: str, told: dict[str, Any]) -> Receipt | Refusal:
    if "refused" in told:
        return Refusal(told["refused"], int(told["left"]))
    return _receipt(key, told)


def _receipt(key: str, told: dict[str, Any]) -> Receipt:
    return Receipt(
        key=key,
        state=State(told["s"]),
        shares=tuple(Share(entitlement_id, row_id, int(amount)) for entitlement_id, row_id, amount in told["p"]),
        expires_at=int(told["x"]) / _MICRO,
        available=tuple(map(int, told["b"])),  # an empty table of Lua is {} in JSON
        is_replay=told["y"],
        is_overage=told["o"],
        is_late=told["l"],
    )
