"""A month of a billing that counts late, in simulated time, and an application that takes all it can get.

Billing hears of each use when it is committed, and moves ``quantity_used`` only when it settles: at invoices and when
a monitor looks. It then takes each use from the rows that were live when it was committed, those that end first in
front, as far as each has room; the last one pays the rest. Quantities are whole millionths, time is in seconds.
"""

import random
from dataclasses import dataclass, field

from entitlement_gate.ledger.balances import Row, available
from entitlement_gate.ledger.memory import MemoryLedger
from entitlement_gate.ledger.protocol import Refusal
from entitlement_gate.testing.ledger_contract import ANNA, CALLS, METER, demand

MINUTE, HOUR, DAY = 60, 3_600, 86_400
STEP = 5 * MINUTE  # how old a snapshot may be
EVER = 10_000 * DAY


@dataclass
class Grant:
    granted: int
    starts: int
    ends: int
    used: int = 0

    def is_live(self, at):
        return self.starts <= at < self.ends


@dataclass
class Billing:
    grants: dict = field(default_factory=dict)
    waiting: list = field(default_factory=list)

    def live(self, at):
        found = [(name, grant) for name, grant in self.grants.items() if grant.is_live(at)]
        return sorted(found, key=lambda each: (each[1].ends, each[0]))

    def rows(self, at):
        return tuple(Row(name, grant.granted - grant.used, grant.used) for name, grant in self.live(at))

    def settle(self):
        for at, quantity in sorted(self.waiting):
            self.take(at, quantity)
        self.waiting.clear()

    def take(self, at, quantity):
        *first, last = [grant for _, grant in self.live(at)]
        for grant in first:
            amount = min(quantity, max(0, grant.granted - grant.used))
            grant.used += amount
            quantity -= amount
        last.used += quantity

    def overshoot(self):
        return sum(max(0, grant.used - grant.granted) for grant in self.grants.values())


class Month:
    """Thirty days of one customer.

    Args:
        seed: of everything that is random.
        foreign: how much somebody else takes at a time from what billing says is left; 0 for nobody.
        across_ends: whether holds are committed after a row that pays for them ended.
    """

    def __init__(self, seed, *, foreign=0, across_ends=False):
        self.random = random.Random(seed)
        self.foreign, self.across_ends = foreign, across_ends
        self.now = 0
        self.ledger = MemoryLedger(clock=self)
        self.billing = Billing()
        self.holds = []
        self.admitted = self.refused = self.crossed = 0
        self.taken_elsewhere = 0
        self.excesses = []  # by settlement: how far beyond what was granted, and what others had taken by then
        self.grant("base", 4_000, EVER)

    def time(self):
        return 1_800_000_000.0 + self.now

    def grant(self, name, quantity, lasts):
        self.billing.grants[name] = Grant(quantity, self.now, self.now + lasts)

    def run(self):
        settles = {self.random.randrange(30 * DAY // STEP) for _ in range(8)} | {
            day * DAY // STEP for day in (7, 14, 30)
        }
        for step in range(30 * DAY // STEP + 1):
            self.now = step * STEP
            self.happen(step)
            if step in settles:
                self.settle()
            self.fetch()
            self.use()
        self.finish_holds(everything=True)
        self.settle()
        return self

    def happen(self, step):
        """Renewals with a new row every ten days, top-ups, boosters that end, credit notes."""
        if step % (10 * DAY // STEP) == 0:
            self.grant(f"renewal {step}", 3_000, 10 * DAY)
        if self.random.random() < 0.002:
            self.grant(f"booster {step}", self.random.randint(50, 500), self.random.randint(2, 72) * HOUR)
        grant = self.random.choice(self.billing.live(self.now))[1]
        if self.random.random() < 0.004:
            grant.granted += self.random.randint(10, 300)
        if self.random.random() < 0.002:
            grant.used -= self.random.randint(0, grant.used)
        if self.foreign and self.random.random() < 0.02:
            self.take_elsewhere()

    def take_elsewhere(self):
        """Somebody asks billing itself, which knows no more than it settled, and is counted at once."""
        left = sum(row.remaining for row in self.billing.rows(self.now))
        amount = min(self.foreign, max(0, left))
        self.billing.take(self.now, amount)
        self.taken_elsewhere += amount

    @property
    def worst(self):
        return max(excess for excess, _ in self.excesses)

    def settle(self):
        self.billing.settle()
        self.excesses.append((self.billing.overshoot(), self.taken_elsewhere))

    def fetch(self):
        self.rows = self.billing.rows(self.now)
        self.ledger.adopt_upstream(ANNA, {CALLS: self.rows}, self.time())

    def use(self):
        self.finish_holds()
        asked = [demand(self.random.randint(1, 40), *self.rows, ticket=self.time(), target=METER)]
        key = f"{self.now}"
        is_ending = any(grant.ends <= self.now + STEP for _, grant in self.billing.live(self.now))
        if self.random.random() < 0.5 or (is_ending and not self.across_ends):
            told = self.ledger.consume(ANNA, asked, key=key)
        else:
            told = self.ledger.reserve(ANNA, asked, key=key, ttl=DAY)
            if not isinstance(told, Refusal):
                self.holds.append((self.now + self.random.randint(0, 6) * STEP, key, told.shares))
        self.admitted += not isinstance(told, Refusal)
        self.refused += isinstance(told, Refusal)
        self.ship()

    def finish_holds(self, *, everything=False):
        """Commit or release what is due, and what a row is about to end under, unless holds may outlive rows."""
        left = []
        for due, key, shares in self.holds:
            grants = [self.billing.grants[share.row_id] for share in shares]
            is_ending = any(grant.ends <= self.now + STEP for grant in grants) and not self.across_ends
            if not (everything or is_ending or due <= self.now):
                left.append((due, key, shares))
            elif self.random.random() < 0.3:
                self.ledger.release(ANNA, key)
            else:
                self.ledger.commit(ANNA, key)
                ended = [share for share, grant in zip(shares, grants, strict=True) if grant.ends <= self.now]
                self.crossed += sum(share.amount for share in ended)
        self.holds = left
        self.ship()

    def ship(self):
        for event in self.ledger.take(100):
            self.billing.waiting.append((self.now, event.quantity))
            self.ledger.delivered(event)

    def left_by_the_ledger(self):
        rows = self.billing.rows(self.now)
        return available(rows, self.ledger.charges(ANNA).get(CALLS, {}))

    def left_by_billing(self):
        return sum(row.remaining for row in self.billing.rows(self.now))
