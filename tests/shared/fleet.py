"""Processes that check: each makes a gate over sockets and does what it is told, line by line, on its pipe."""

import contextlib
import multiprocessing
import threading
import time

from entitlement_gate.engine.gate import EntitlementGate
from entitlement_gate.resilience.effects import run_sync
from entitlement_gate.sandbox import Scenario
from entitlement_gate.zenskar.client import ZenskarClient

_spawn = multiprocessing.get_context("spawn")


def made(billing_url, redis_url, **options):
    scenario = Scenario.default()
    deadline = options.get("deadline", 10)
    source = ZenskarClient(
        scenario.api_key, scenario.organisation, base_url=billing_url, deadline=deadline, max_attempts=1
    )
    return EntitlementGate(source, **{"redis_url": redis_url, "deadline": deadline, "ledger": None, **options})


def serve(pipe, billing_url, redis_url, options):
    """Answer (verb, argument, ...) until told to stop."""
    gate = made(billing_url, redis_url, **options)
    with contextlib.suppress(EOFError):
        while (told := pipe.recv()) is not None:
            pipe.send(_done(gate, *told))
    gate.close()


def _done(gate, verb, customer, threads=1):
    if verb == "invalidate":
        return run_sync(gate._snapshots.invalidating(customer))
    start, answers = threading.Barrier(threads), []

    def check():
        start.wait()
        began = time.monotonic()
        decision = gate.check(customer, "reports")
        answers.append((decision.allowed, decision.source, time.monotonic() - began))

    crowd = [threading.Thread(target=check) for _ in range(threads)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    return answers


class Member:
    """One process of a fleet."""

    def __init__(self, billing_url, redis_url, **options):
        self.pipe, theirs = _spawn.Pipe()
        self.process = _spawn.Process(target=serve, args=(theirs, billing_url, redis_url, options), daemon=True)
        self.process.start()
        theirs.close()

    def tell(self, *what):
        self.pipe.send(what)

    def hear(self):
        assert self.pipe.poll(60), "a process of the fleet does not answer"
        return self.pipe.recv()

    def ask(self, *what):
        self.tell(*what)
        return self.hear()

    def stop(self):
        with contextlib.suppress(OSError):
            self.pipe.send(None)
        self.process.join(10)
        self.process.kill()
        self.process.join()
