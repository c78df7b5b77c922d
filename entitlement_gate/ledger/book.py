"""The verbs of a ledger, each a change to one customer's book. Pure: a store brings book and time, and saves changes.

Every store written in Python runs these very verbs; Redis has them once more, in Lua.
Never here: locks, connections, when a book is read or written.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from entitlement_gate.domain.errors import (
    ReservationConflict,
    ReservationError,
    ReservationExpired,
    ReservationNotFound,
)
from entitlement_gate.ledger.balances import Row, Share, Tally, adopt, allocate, available, charge, reshare
from entitlement_gate.ledger.protocol import (
    CLOCK_SKEW,
    FORGOTTEN_AFTER,
    LONE_RETENTION,
    RETENTION,
    Demand,
    Receipt,
    Refusal,
    State,
    UsageEvent,
    UsageTarget,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Book", "Record", "ticket_of"]

Wants = tuple[tuple[str, int, UsageTarget | None], ...]
"""What a key was used for: entitlement ids, quantities and where they are reported."""


_NOTHING = Tally(0, 0, 0, 0, 0, 0)


@dataclass(slots=True)
class Record:
    """What a key stands for. ``until`` is when a hold runs out and, after that, when the key is forgotten."""

    wants: Wants
    shares: tuple[Share, ...]
    state: State
    expires_at: float
    until: float
    is_overage: bool = False
    is_late: bool = False
    owner: str = ""
    purpose: str = ""
    is_lone: bool = False

    def receipt(self, key: str, available: tuple[int, ...] = (), *, is_replay: bool = False) -> Receipt:
        """Return the receipt for a verb about this key."""
        return Receipt(
            key=key,
            state=self.state,
            shares=self.shares,
            expires_at=self.expires_at,
            available=available,
            is_replay=is_replay,
            is_overage=self.is_overage,
            is_late=self.is_late,
        )


class Book:
    """One customer's tallies and keys, and what a verb changed in them.

    Attributes:
        tallies: by entitlement id and row id.
        records: by key: all, or those that the verb is about.
        events: usage that the verb left to be reported.
        changed: the entitlement ids and row ids whose tallies it changed or dropped.
        ahead: seconds by which the clock that tells ``now`` is ahead of the one that tickets are read from.
    """

    __slots__ = ("ahead", "changed", "customer_id", "events", "records", "tallies")

    def __init__(self, customer_id: str) -> None:
        self.customer_id = customer_id
        self.tallies: dict[str, dict[str, Tally]] = {}
        self.records: dict[str, Record] = {}
        self.events: list[UsageEvent] = []
        self.changed: set[tuple[str, str]] = set()
        self.ahead = 0.0

    def reserve(
        self,
        demands: Sequence[Demand],
        key: str,
        ttl: float,
        now: float,
        *,
        owner: str = "",
        purpose: str = "",
        is_lone: bool = False,
    ) -> Receipt | Refusal:
        """See ``Ledger.reserve``."""
        wants = tuple([(demand.entitlement_id, demand.quantity, demand.target) for demand in demands])
        record = self.records.get(key)
        if record is not None:
            is_taken = record.state in (State.HELD, State.COMMITTED)
            fields = slice(0 if is_taken else 1, 2)  # where nothing is held any more, another entitlement may pay now
            is_same = bool(purpose) and record.purpose == purpose
            if not is_same and [want[fields] for want in record.wants] != [want[fields] for want in wants]:
                raise ReservationConflict("the key was used for another quantity or entitlement")
            if is_taken:
                return record.receipt(key, is_replay=True)
        before = tuple([self._learn(demand, now) for demand in demands])
        is_overage = False
        for demand, remaining in zip(demands, before, strict=True):
            if remaining < demand.quantity:
                if not demand.overdraw:
                    return Refusal(demand.entitlement_id, remaining)
                is_overage = True
        shares = self._allocate(demands, now)
        until = now + ttl
        record = Record(
            wants, shares, State.HELD, until, until, is_overage, owner=owner, purpose=purpose, is_lone=is_lone
        )
        self._hold(shares, 1)
        self.records[key] = record
        return record.receipt(key, before)

    def consume(
        self, demands: Sequence[Demand], key: str, now: float, *, purpose: str = "", is_lone: bool = False
    ) -> Receipt | Refusal:
        """See ``Ledger.consume``."""
        outcome = self.reserve(demands, key, 0.0, now, purpose=purpose, is_lone=is_lone)
        if isinstance(outcome, Refusal) or outcome.state is State.COMMITTED:
            return outcome
        return self.commit(key, now, before=outcome.available)

    def commit(
        self, key: str, now: float, actual: int | None = None, *, late: bool = True, before: tuple[int, ...] = ()
    ) -> Receipt:
        """See ``Ledger.commit``; ``before`` is what was available when the reservation was made just now."""
        record = self._get_record(key)
        if actual is not None and len(record.wants) > 1:
            raise ValueError("a reservation of several entitlements is committed as it was held")
        shares = record.shares if actual is None else reshare(record.shares, actual)
        if record.state is State.COMMITTED:
            if actual is not None and shares != record.shares:
                raise ReservationConflict("the reservation was committed with another quantity")
            return record.receipt(key, is_replay=True)
        if record.state is not State.HELD:
            if not late:
                raise _too_late(record.state)
            record.is_late = True
        elif shares is not record.shares:
            self._hold(record.shares, -1)
        self._count(shares, was_held=shares is record.shares and record.state is State.HELD)
        record.shares = shares
        self._settle(record, State.COMMITTED, now)
        self._report(key, record, now)
        return record.receipt(key, before)

    def release(self, key: str, now: float, *, owner: str = "") -> Receipt:
        """See ``Ledger.release``."""
        record = self._get_record(key)
        is_owner = record.owner == owner
        if is_owner and record.state is State.COMMITTED:
            raise ReservationConflict("the reservation is committed: it cannot be released")
        if not is_owner or record.state is not State.HELD:
            return record.receipt(key, is_replay=True)
        self._hold(record.shares, -1)
        self._settle(record, State.RELEASED, now)
        return record.receipt(key)

    def extend(self, key: str, ttl: float, now: float) -> Receipt:
        """See ``Ledger.extend``."""
        record = self._get_record(key)
        if record.state is State.EXPIRED:
            raise ReservationExpired("the reservation ran out before it was extended")
        if record.state is not State.HELD:
            raise ReservationConflict(f"the reservation was {record.state}: it cannot be extended")
        record.expires_at = record.until = now + ttl
        return record.receipt(key)

    def adopt(self, rows: Mapping[str, Sequence[Row]], ticket: float, now: float) -> None:
        """See ``Ledger.adopt_upstream``."""
        oldest = self._stamp(ticket, now) - ticket_of(FORGOTTEN_AFTER)
        for entitlement_id, tallies in self.tallies.items():
            self._adopt(entitlement_id, rows.get(entitlement_id, ()), ticket, now)
            for row_id in [name for name, tally in tallies.items() if not tally.held and tally.ticket < oldest]:
                del tallies[row_id]
                self.changed.add((entitlement_id, row_id))

    def expire(self, key: str, now: float) -> None:
        """Let a key's time take effect: a hold runs out, anything else is forgotten."""
        record = self.records.get(key)
        if record is None or now < record.until:
            return
        if record.state is State.HELD:
            self._hold(record.shares, -1)
            self._settle(record, State.EXPIRED, now)
        else:
            del self.records[key]

    def _get_record(self, key: str) -> Record:
        record = self.records.get(key)
        if record is None:
            raise ReservationNotFound("the customer has no reservation with this key")
        return record

    def _learn(self, demand: Demand, now: float) -> int:
        """Adopt the demand's rows; return what is available."""
        tallies = self.tallies.setdefault(demand.entitlement_id, {})
        self._adopt(demand.entitlement_id, demand.rows, demand.ticket, now)
        return available(demand.rows, tallies)

    def _adopt(self, entitlement_id: str, rows: Sequence[Row], ticket: float, now: float) -> None:
        last = ticket_of(now - self.ahead + CLOCK_SKEW)
        self._note(entitlement_id, adopt(rows, self.tallies[entitlement_id], self._stamp(ticket, now), last))

    def _stamp(self, ticket: float, now: float) -> int:
        """Return when a fetch began, by clocks that may differ a little; now, where that would be in the future.

        Else the news of a clock that was ahead would hold off all others until its time has come.
        """
        now -= self.ahead
        return ticket_of(now if ticket > now + CLOCK_SKEW else ticket)

    def _allocate(self, demands: Sequence[Demand], now: float) -> tuple[Share, ...]:
        shares: tuple[Share, ...] = ()
        for demand in demands:
            tallies = self.tallies[demand.entitlement_id]
            self._note(demand.entitlement_id, charge(demand.rows, tallies, self._stamp(demand.ticket, now)))
            shares += allocate(demand.entitlement_id, demand.rows, tallies, demand.quantity)
        return shares

    def _note(self, entitlement_id: str, tallies: Mapping[str, Tally]) -> None:
        if tallies:
            self.tallies[entitlement_id].update(tallies)
            self.changed.update((entitlement_id, row_id) for row_id in tallies)

    def _hold(self, shares: Sequence[Share], sign: int) -> None:
        for share in shares:
            self._move(share, sign * share.amount, 0)

    def _count(self, shares: Sequence[Share], *, was_held: bool) -> None:
        for share in shares:
            self._move(share, -share.amount if was_held else 0, share.amount)

    def _move(self, share: Share, held: int, committed: int) -> None:
        old = self._tally(share)
        committed, held = old.committed + committed, old.held + held
        # `replace` takes thrice as long.
        tally = Tally(old.baseline, committed, held, old.seen, old.refunded, old.ticket)
        self.tallies[share.entitlement_id][share.row_id] = tally
        self.changed.add((share.entitlement_id, share.row_id))

    def _tally(self, share: Share) -> Tally:
        """Return the tally of the row that pays; one dropped before a very late commit starts anew."""
        return self.tallies.setdefault(share.entitlement_id, {}).get(share.row_id, _NOTHING)

    def _settle(self, record: Record, state: State, now: float) -> None:
        record.state = state
        record.until = now + (LONE_RETENTION if record.is_lone else RETENTION)

    def _report(self, key: str, record: Record, now: float) -> None:
        shipping = [(entitlement_id, target) for entitlement_id, _, target in record.wants if target is not None]
        for entitlement_id, target in shipping:
            quantity = sum([share.amount for share in record.shares if share.entitlement_id == entitlement_id])
            own_key = key if len(shipping) == 1 else f"{key}/{entitlement_id}"
            event = UsageEvent(key=own_key, customer_id=self.customer_id, target=target, quantity=quantity, at=now)
            self.events.append(event)


def _too_late(state: State) -> ReservationError:
    if state is State.RELEASED:
        return ReservationConflict("the reservation was released before it was committed")
    return ReservationExpired("the reservation ran out before it was committed")


def set_apart(event: UsageEvent) -> UsageEvent:
    """Return an event under a key of its own, where that of an older commit is still in the outbox.

    Its key was forgotten meanwhile; under one name the two would be one.
    """
    return replace(event, key=f"{event.key}@{ticket_of(event.at)}")


def ticket_of(instant: float) -> int:
    """Return an instant in whole POSIX microseconds."""
    return round(instant * 1_000_000)
