"""Two clients with snapshots of their own, one ledger, a billing that lags; after every step the ledger agrees with
an oracle that keeps no counters but derives each number from what happened."""

from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from entitlement_gate.domain.errors import ReservationConflict, ReservationExpired, ReservationNotFound
from entitlement_gate.ledger.balances import Row, available
from entitlement_gate.ledger.protocol import Refusal, State
from entitlement_gate.testing.ledger_contract import ANNA, CALLS, METER, demand

ROWS = ("a", "b", "c")
KEYS = st.sampled_from(["k1", "k2", "k3", "k4"])
FEW = st.integers(1, 6)
NOT_THERE = (ReservationConflict, ReservationExpired, ReservationNotFound)


@dataclass
class Grant:
    granted: int = 6
    used: int = 0
    is_live: bool = True


@dataclass
class Hold:
    quantity: int
    shares: dict
    expires: float
    owner: str = ""
    state: str = "held"
    is_late: bool = False


@dataclass
class Line:
    """What the oracle remembers of a row: when it was first charged, and every ``used`` adopted since."""

    base: int
    seen: list = field(default_factory=list)
    refund: int = 0
    ticket: int = 0


@dataclass
class Oracle:
    now: float = 0.0
    holds: dict = field(default_factory=dict)
    committed: list = field(default_factory=list)
    lines: dict = field(default_factory=dict)

    def state(self, key):
        hold = self.holds.get(key)
        if hold is None:
            return None
        return "expired" if hold.state == "held" and hold.expires <= self.now else hold.state

    def held(self, row):
        live = (hold for key, hold in self.holds.items() if self.state(key) == "held")
        return sum(hold.shares.get(row, 0) for hold in live)

    def used_up(self, row):
        return sum(shares.get(row, 0) for shares in self.committed)

    def left(self, rows):
        lines = [(row, self.lines[row.id]) for row in rows if row.id in self.lines]
        lagging = sum(self.used_up(row.id) - (row.used - line.base + line.refund) for row, line in lines)
        return sum(row.remaining - self.held(row.id) for row in rows) - max(0, lagging)

    def adopt(self, rows, ticket):
        known = [row for row in rows if row.id in self.lines]
        newer = [row for row in known if self.lines[row.id].ticket < ticket]
        for row in newer:
            line = self.lines[row.id]
            line.refund += max(0, line.seen[-1] - row.used)
            line.seen.append(row.used)
            line.ticket = ticket
        if not any(self.used_up(row.id) for row in known):
            for row in newer:
                self.lines[row.id].base, self.lines[row.id].refund = row.used, 0
            return
        lines = [(row.id, self.lines[row.id]) for row in known]
        for row in newer:
            too_much = sum(line.seen[-1] - line.base + line.refund - self.used_up(name) for name, line in lines)
            line = self.lines[row.id]
            line.refund -= max(0, min(line.refund, too_much))

    def admit(self, key, quantity, rows, *, ticket, ttl, owner):
        for row in rows:
            self.lines.setdefault(row.id, Line(row.used, [row.used], 0, ticket))
        shares, missing = {}, quantity
        for row in rows:
            shares[row.id] = missing if row is rows[-1] else max(0, min(missing, self.left((row,))))
            missing -= shares[row.id]
        self.holds[key] = Hold(quantity, shares, self.now + ttl, owner)

    def commit(self, key, actual):
        hold = self.holds[key]
        rest, kept = actual, {}
        paying = [row for row, amount in hold.shares.items() if amount]
        for row in paying:
            kept[row] = rest if row == paying[-1] else min(rest, hold.shares[row])
            rest -= kept[row]
        hold.state, hold.quantity_used = "committed", actual
        self.committed.append(kept)


class LedgerMachine(RuleBasedStateMachine):
    """Subclasses give ``make_ledger()`` and ``pass_time(ledger, seconds)``."""

    def __init__(self):
        super().__init__()
        self.ledger = self.make_ledger()
        self.oracle = Oracle()
        self.billing = {row: Grant() for row in ROWS}
        self.ticket = 0
        self.views = {}
        self.events = {}
        for client in (0, 1):
            self.fetch(client)

    def fetch(self, client):
        self.ticket += 1
        live = [(name, grant) for name, grant in self.billing.items() if grant.is_live]
        rows = tuple(Row(name, grant.granted - grant.used, grant.used) for name, grant in live)
        self.views[client] = rows, self.ticket

    @rule(client=st.integers(0, 1), does_adopt=st.booleans())
    def a_client_fetches(self, client, does_adopt):
        self.fetch(client)
        if does_adopt:
            self.adopt(client)

    @rule(client=st.integers(0, 1))
    def a_client_adopts_what_it_has_perhaps_late(self, client):
        self.adopt(client)

    def adopt(self, client):
        rows, ticket = self.views[client]
        self.ledger.adopt_upstream(ANNA, {CALLS: rows}, float(ticket))
        self.oracle.adopt(rows, ticket)

    @rule(client=st.integers(0, 1), key=KEYS, quantity=FEW, ttl=st.sampled_from([50, 100]), at_once=st.booleans())
    def reserve(self, client, key, *, quantity, ttl, at_once):
        rows, ticket = self.views[client]
        if not rows:
            return
        asked, owner = demand(quantity, *rows, ticket=float(ticket), target=METER), "" if at_once else str(client)
        state = self.oracle.state(key)
        try:
            told = (
                self.ledger.consume(ANNA, [asked], key=key)
                if at_once
                else self.ledger.reserve(ANNA, [asked], key=key, ttl=ttl, owner=owner)
            )
        except ReservationConflict:
            assert state is not None
            assert self.oracle.holds[key].quantity != quantity
            return
        if state not in ("held", "committed"):
            self.oracle.adopt(rows, ticket)
            left = self.oracle.left(rows)
            if left < quantity:
                assert told == Refusal(CALLS, left)
                return
            assert told.available == (left,)
            self.oracle.admit(key, quantity, rows, ticket=ticket, ttl=ttl, owner=owner)
            state = "held"
        if at_once and state == "held":
            self.finish(key, quantity)
        assert told.state == self.oracle.state(key)
        assert told.quantity == getattr(self.oracle.holds[key], "quantity_used", quantity)

    @rule(key=KEYS, actual=st.none() | FEW, late=st.booleans())
    def commit(self, key, actual, late):
        state = self.oracle.state(key)
        hold = self.oracle.holds.get(key)
        try:
            told = self.ledger.commit(ANNA, key, actual=actual, late=late)
        except NOT_THERE:
            is_other = state == "committed" and actual is not None and actual != hold.quantity_used
            assert is_other or state is None or (state in ("released", "expired") and not late)
            return
        if state != "committed":
            hold.is_late = state != "held"
            self.finish(key, actual or hold.quantity)
        assert (told.state, told.is_late) == (State.COMMITTED, hold.is_late)
        assert told.quantity == hold.quantity_used

    def finish(self, key, actual):
        self.oracle.commit(key, actual)
        self.events[key] = actual

    @rule(key=KEYS, owner=st.sampled_from(["0", "1", ""]))
    def release(self, key, owner):
        state = self.oracle.state(key)
        hold = self.oracle.holds.get(key)
        is_owner = hold is not None and hold.owner == owner
        try:
            told = self.ledger.release(ANNA, key, owner=owner)
        except NOT_THERE:
            assert hold is None or (is_owner and state == "committed")
            return
        assert is_owner <= (state in ("held", "released", "expired"))
        assert told.is_replay == (not is_owner or state != "held")
        if is_owner and state == "held":
            hold.state = "released"

    @rule(key=KEYS)
    def extend(self, key):
        try:
            self.ledger.extend(ANNA, key, 80)
        except NOT_THERE:
            assert self.oracle.state(key) != "held"
            return
        assert self.oracle.state(key) == "held"
        self.oracle.holds[key].expires = self.oracle.now + 80

    @rule(seconds=st.sampled_from([30, 60]))
    def time_passes(self, seconds):
        self.oracle.now += seconds + 0.5  # never on the very instant: a server's own clock runs on
        self.pass_time(self.ledger, seconds + 0.5)

    @rule(row=st.sampled_from(ROWS), quantity=FEW)
    def billing_takes_from_a_row_of_its_choice(self, row, quantity):
        self.billing[row].used += quantity

    @precondition(lambda self: any(grant.used for grant in self.billing.values()))
    @rule(row=st.sampled_from(ROWS), quantity=FEW)
    def billing_gives_a_credit_note(self, row, quantity):
        self.billing[row].used -= min(quantity, self.billing[row].used)

    @rule(row=st.sampled_from(ROWS), quantity=FEW)
    def a_row_is_topped_up(self, row, quantity):
        self.billing[row].granted += quantity

    @rule(row=st.sampled_from(ROWS))
    def a_row_leaves_or_comes_back(self, row):
        self.billing[row].is_live = not self.billing[row].is_live

    @invariant()
    def both_clients_see_what_the_oracle_sees(self):
        tallies = self.ledger.charges(ANNA).get(CALLS, {})
        for rows, _ in self.views.values():
            assert available(rows, tallies) == self.oracle.left(rows)

    def teardown(self):
        events = {event.key: event.quantity for event in self.ledger.take(1_000)}
        assert events == self.events
        self.ledger.close()
