"""A prefork worker of Celery on a real Redis: whatever is killed, nothing is counted twice and nothing is lost."""

import os
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded

from entitlement_gate import EntitlementDenied, EntitlementGate, ZenskarClient
from entitlement_gate.sandbox import Sandbox, SandboxServer
from tests.ledger.servers import RedisServer

CUSTOMER = "83000000-0000-4000-8000-000000000001"
GRANTED = 1_000
PATIENCE = 300  # seconds: the machine may be busy


class Queue:
    """A queue on a Redis of its own, the count that its workers share, and the means to start one."""

    def __init__(self, redis, billing):
        counts = redis.patient_url
        self.environment = {"REDIS": redis.url, "LEDGER": counts, "BILLING": billing.url}
        self.app = Celery(broker=redis.url, backend=redis.url, set_as_current=False)
        client = ZenskarClient("sandbox-key", "00000000-0000-4000-8000-000000000001", base_url=billing.url)
        self.gate = EntitlementGate(client, ledger="redis", redis_url=counts)

    @contextmanager
    def working(self, *, visibility_timeout=3600):
        options = ["--pool=prefork", "--concurrency=4", "--loglevel=ERROR"]
        options += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        command = [sys.executable, "-m", "celery", "--app=tests.lab.queued.project", "worker", *options]
        environment = {**os.environ, **self.environment, "VISIBILITY_TIMEOUT": str(visibility_timeout)}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(command, env=environment, **quiet) as worker:
            try:
                yield worker
            finally:
                worker.terminate()
                assert worker.wait(PATIENCE) is not None

    def send(self, name, *args, **options):
        return self.app.send_task(name, (CUSTOMER, *args), **options)

    def left(self):
        return int(self.gate.check(CUSTOMER, "calls").remaining)

    def held(self):
        charges = self.gate.ledger.charges(CUSTOMER)
        return sum(tally.held for tallies in charges.values() for tally in tallies.values())


@pytest.fixture
def queue(tmp_path):
    sandbox = Sandbox()
    sandbox.grant(CUSTOMER, "calls", GRANTED)
    redis = RedisServer(tmp_path)
    try:
        with SandboxServer(sandbox) as billing:
            queue = Queue(redis, billing)
            with queue.gate, queue.app:
                yield queue
    finally:
        redis.kill()


def test_tasks_whose_process_is_killed_or_that_are_retried_or_run_out_of_time_count_once_or_not_at_all(queue):
    deaths = ["within", "after"] * 10
    with queue.working():
        killed = [queue.send("export", pages, death) for pages, death in enumerate(deaths, start=1)]
        retried = [queue.send("stubborn", 7, fails) for fails in (0, 2, 9)]
        endless = queue.send("endless", 100)
        replaced = queue.send("relay", 7)
        warned = queue.send("endless", 100, soft_time_limit=1, time_limit=3_000)
        refused = queue.send("export", GRANTED + 1, "never")
        assert [each.get(timeout=PATIENCE) for each in killed] == list(range(1, 21))
        assert [each.get(timeout=PATIENCE) for each in retried[:2]] == [0, 2]
        assert replaced.get(timeout=PATIENCE) == 0
        failures = {retried[2]: KeyError, endless: TimeLimitExceeded, warned: SoftTimeLimitExceeded}
        for failed, error in {**failures, refused: EntitlementDenied}.items():
            with pytest.raises(error):
                failed.get(timeout=PATIENCE)
    runs = [int(queue.app.backend.client.get(f"runs {each.id}")) for each in killed]
    assert runs == [2] * 20  # each was killed, and run again
    until = time.monotonic() + PATIENCE
    while queue.held() and time.monotonic() < until:  # what the endless one held returns with its time limit
        time.sleep(0.05)
    assert (queue.held(), queue.left()) == (0, GRANTED - sum(range(1, 21)) - 3 * 7)


def test_tasks_whose_whole_worker_is_killed_count_once(queue):
    with queue.working(visibility_timeout=1) as worker:
        killed = queue.send("export", 5, "within with the worker")
        assert worker.wait(PATIENCE) is not None
    assert (queue.held(), queue.left()) == (5_000_000, GRANTED - 5)
    time.sleep(1)  # from when on Redis hands the message out again, as a worker comes up
    with queue.working(visibility_timeout=1):
        assert killed.get(timeout=PATIENCE) == 5
        other = queue.send("export", 3, "never")
        assert other.get(timeout=PATIENCE) == 3
    assert (queue.held(), queue.left()) == (0, GRANTED - 8)
