import os

from entitlement_gate.ledger.memory import MemoryLedger
from entitlement_gate.testing.ledger_cases import ANNA, demand
from entitlement_gate.testing.ledger_contract import LedgerContract


class Clock:
    def __init__(self, now=1_800_000_000.0):
        self.now = now

    def time(self):
        return self.now


class TestMemoryLedger(LedgerContract):
    def make_ledger(self):
        self.clock = Clock()
        return MemoryLedger(clock=self.clock)

    def pass_time(self, ledger, seconds):
        self.clock.now += seconds

    def test_a_forked_child_is_not_stopped_by_a_lock_held_at_the_fork(self, ledger):
        ledger.consume(ANNA, [demand(4)], key="k")
        with ledger._lock:
            child = os.fork()
            if child == 0:
                os._exit(0 if self.left(ledger) == 6 else 1)
        assert os.waitpid(child, 0)[1] == 0

    def test_it_says_what_it_is(self, ledger):
        ledger.consume(ANNA, [demand(4)], key="k")
        assert repr(ledger) == "<MemoryLedger of 1 customers>"
