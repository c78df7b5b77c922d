"""A billing that obeys the test, and a clock that moves when told."""

import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime

from entitlement_gate.domain.errors import SourceUnavailable
from entitlement_gate.domain.grants import EntitlementType, Grant, Snapshot

NOON = 1_768_478_400.0  # 2026-01-15T12:00:00Z
ANNA = "10000000-0000-4000-8000-000000000001"
BERT = "20000000-0000-4000-8000-000000000002"
DOWN = SourceUnavailable("HTTP 503 (3 attempts)")


class Clock:
    """Both clocks stand still until they are moved."""

    def __init__(self):
        self.wall = NOON
        self.tick = 1_000.0

    def time(self):
        return self.wall

    def monotonic(self):
        return self.tick

    def advance(self, seconds):
        self.wall += seconds
        self.tick += seconds

    def step(self, seconds):
        """Set the wall clock, as NTP or a suspended machine does; the monotonic clock notices nothing."""
        self.wall += seconds


def instant(offset):
    return datetime.fromtimestamp(NOON + offset, UTC)


def feature(name="reports", **fields):
    values = {"id": f"row {name}", "type": EntitlementType.FEATURE, "status": "active", **fields}
    return Grant(name=name, **values)


class Billing:
    """A source: what it knows, what it fails with, and who asked. ``held()`` keeps every fetch from answering."""

    def __init__(self, clock=time):
        self.clock = clock
        self.grants = {ANNA: (feature(),), BERT: ()}
        self.error = None
        self.calls = []
        self.begun = threading.Semaphore(0)
        self.closed = 0
        self._go = threading.Event()
        self._go.set()

    def hold(self):
        self._go.clear()

    def release(self):
        self._go.set()

    def fetch(self, customer_id):
        self.calls.append(customer_id)
        grants, error, at = self.grants.get(customer_id, (feature(),)), self.error, self.clock.time()
        self.begun.release()
        assert self._go.wait(30)
        if error is not None:
            raise error
        return Snapshot(customer_id, grants, at)

    def close(self):
        self.closed += 1

    def wait_for_calls(self, count):
        eventually(lambda: len(self.calls) >= count)


def eventually(claim, seconds=60):
    """Wait until a claim about another thread holds."""
    end = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.001)


def once(claim, act, *args):
    """Do something on another thread as soon as a claim holds."""

    def wait_and_act():
        eventually(claim)
        act(*args)

    threading.Thread(target=wait_and_act, daemon=True).start()


def waiters(gate, customer_id=ANNA):
    """Return how many wait for the fetch that is running."""
    call = gate._snapshots._single_flight._calls.get(customer_id)
    return 0 if call is None else len(call.done._callbacks)


@contextmanager
def held_elsewhere(lock):
    """Let another thread hold a lock, as it may while this one forks."""
    is_held, may_end = threading.Event(), threading.Event()

    def hold():
        with lock:
            is_held.set()
            may_end.wait(60)

    holder = threading.Thread(target=hold, daemon=True)
    holder.start()
    assert is_held.wait(10)
    yield
    may_end.set()
    holder.join(10)


def customers(count, start=0):
    return [f"00000000-0000-4000-8000-{number:012d}" for number in range(start, start + count)]
