"""Processes that fork, and processes that exit."""

import os
import subprocess
import sys
import threading
import warnings
from contextlib import nullcontext

import pytest

from tests.engine.fakes import customers, held_elsewhere

CROWD = customers(8, start=1)
CHILDREN, CHECKS = 20, 50
HUNG = """
import threading, time
from entitlement_gate.engine.gate import EntitlementGate

has_begun = threading.Event()

class Hanging:
    def fetch(self, customer_id):
        has_begun.set()
        threading.Event().wait()

gate = EntitlementGate(Hanging(), deadline=0.1)
while not has_begun.is_set():  # within the deadline, where the machine is not busy
    gate.has("10000000-0000-4000-8000-000000000001", "reports")
assert not gate.has("10000000-0000-4000-8000-000000000001", "reports")
{end}
"""


@pytest.fixture
def rows(sandbox):
    """Each customer has one row, of a name nobody else has; give its id by customer."""
    return {customer: sandbox.grant(customer, f"only {customer}") for customer in CROWD}


def wrong_answers(gate, rows):
    """Count what is not the answer: another customer's, or none."""
    wrong = 0
    for number in range(CHECKS):
        customer = CROWD[(number + os.getpid()) % len(CROWD)]
        decision = gate.check(customer, f"only {customer}", refresh=True)
        wrong += decision.grants != (rows[customer],) or decision.customer_id != customer or decision.source != "live"
    return wrong


def forked(work):
    """Run the work in a forked child and give its pid; its exit status is what the work returned."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads about is what this is about
        pid = os.fork()
    if pid == 0:
        status = 255
        try:
            status = min(work(), 254)
        finally:
            os._exit(status)
    return pid


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_forked_children_never_get_another_customers_answer(make_gate, server, rows):
    """The pool is warm, threads of the parent are at work, and one of them holds the gate's lock as it forks."""
    gate = make_gate(server.url, client={"deadline": 10, "max_attempts": 1}, deadline=10)
    assert wrong_answers(gate, rows) == 0  # warm: nobody is still importing as the others fork
    over = threading.Event()

    def work():
        while not over.is_set():
            gate.check(CROWD[0], f"only {CROWD[0]}", refresh=True)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    statuses = []
    for round_ in range(CHILDREN // 4):
        with held_elsewhere(gate._snapshots._lock) if round_ % 2 else nullcontext():
            pids = [forked(lambda: wrong_answers(gate, rows)) for _ in range(4)]
        statuses += [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    over.set()
    for thread in threads:
        thread.join(10)
    assert statuses == [0] * CHILDREN  # 1,000 answers
    assert wrong_answers(gate, rows) == 0


@pytest.mark.parametrize("end", ["", "gate.close()", "raise SystemExit", "import sys; sys.exit(0)"])
def test_a_process_with_a_hung_fetch_exits_promptly(end):
    done = subprocess.run([sys.executable, "-c", HUNG.format(end=end)], timeout=60, check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (
        0,
        b"a fetch of entitlements failed: SourceUnavailable: no answer within the deadline\n",
    )


def test_importing_and_making_a_gate_starts_no_thread():
    script = """
import threading
from entitlement_gate.engine.gate import EntitlementGate
from entitlement_gate.zenskar.client import ZenskarClient
gate = EntitlementGate(ZenskarClient("key", "organisation"))
gate.health(); gate.invalidate("10000000-0000-4000-8000-000000000001")
assert threading.active_count() == 1, threading.enumerate()
"""
    subprocess.run([sys.executable, "-c", script], timeout=120, check=True)
