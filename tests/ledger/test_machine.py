import uuid

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from entitlement_gate.ledger.memory import MemoryLedger
from entitlement_gate.ledger.redis import RedisLedger
from tests.ledger.clocks import pass_time_in_redis
from tests.ledger.machine import LedgerMachine
from tests.ledger.test_memory import Clock

QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck)}


class MemoryMachine(LedgerMachine):
    def make_ledger(self):
        self.clock = Clock()
        return MemoryLedger(clock=self.clock)

    def pass_time(self, ledger, seconds):
        self.clock.now += seconds


def test_memory_agrees_with_the_oracle():
    run_state_machine_as_test(MemoryMachine, settings=settings(max_examples=80, stateful_step_count=40, **QUIET))


def test_redis_agrees_with_the_oracle(redis_url):
    class RedisMachine(LedgerMachine):
        def make_ledger(self):
            return RedisLedger(redis_url, prefix=uuid.uuid4().hex)

        def pass_time(self, ledger, seconds):
            pass_time_in_redis(ledger, seconds)

    run_state_machine_as_test(RedisMachine, settings=settings(max_examples=40, stateful_step_count=40, **QUIET))
