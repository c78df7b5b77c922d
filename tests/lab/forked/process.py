"""Warm a gate, fork with every lock of the package held, and ask in parent and children alike.

Run as a process of its own: what it is told comes as JSON on its input; it exits with 0 where all was right, and
prints what was not.
"""

import asyncio
import ctypes
import gc
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from contextlib import contextmanager

from entitlement_gate.engine.gate import EntitlementGate
from entitlement_gate.resilience.fork_safety import Lock
from entitlement_gate.sandbox import Scenario
from entitlement_gate.zenskar.client import ZenskarClient

warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads about is what this is about
LOCKS = (Lock, type(threading.Lock()), type(threading.RLock()), threading.Semaphore)
FEWEST = 5
PATIENCE = 30
DEADLINE = 60  # seconds; time is not the subject
PROBATION = 10  # seconds in which a child shows that its threads can take turns; if it does not, another one may
TRIES = 20
TTL = 0.3


def made(told):
    """Return a gate over real connections, all of which it has used."""
    ledger = told["ledger"]
    if ledger == "database":
        from tests.usage.databases import made_ledger

        ledger = made_ledger(told["database"])
    scenario = Scenario.default()
    client = ZenskarClient(scenario.api_key, scenario.organisation, base_url=told["billing"], deadline=DEADLINE)
    options = {"deadline": DEADLINE, "ttl": TTL, "stale_while_revalidate": 3600}
    gate = EntitlementGate(client, ledger=ledger, redis_url=told["redis"], **options)
    for customer, row in told["warm"].items():
        assert gate.check(customer, f"only {customer}").grants == (row,)
        assert has_counted(gate, customer)
    return gate


def has_counted(gate, customer):
    """Return whether something was used up, where anything is counted."""
    return gate.ledger is None or gate.consume(customer, "calls").allowed


def right(gate, customer, row):
    """Return whether a customer is answered, counted and renewed as it is due."""
    for decision in (
        gate.check(customer, f"only {customer}", refresh=True),
        asyncio.run(gate.acheck(customer, f"only {customer}", refresh=True)),
    ):
        if (decision.reason, decision.grants, decision.source) != ("allowed", (row,), "live"):
            sys.stdout.write(f"{os.getpid()} {customer} {decision}\n")
            return False
    if not has_counted(gate, customer):
        return False
    time.sleep(TTL * 1.2)
    until = time.monotonic() + PATIENCE
    while gate.check(customer, f"only {customer}").age > TTL and time.monotonic() < until:
        time.sleep(0.02)
    return time.monotonic() < until


def wrong_answers(gate, rows):
    """Count the customers that are not answered rightly, all at once."""
    start, results = threading.Barrier(len(rows)), []

    def ask(customer, row):
        start.wait()
        results.append(right(gate, customer, row))

    threads = [threading.Thread(target=ask, args=pair) for pair in rows.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(rows) - sum(results)


def locks():
    """Yield every lock that an object or a class of the package has now."""
    for each in gc.get_objects():
        owner = each if isinstance(each, type) else type(each)
        if (
            str(owner.__module__).startswith("entitlement_gate")
            and owner.__module__ != "entitlement_gate.resilience.fork_safety"
        ):
            for value in tuple(getattr(each, "__dict__", {}).values()):
                if isinstance(value, LOCKS):
                    yield value


@contextmanager
def all_locks_held():
    """Hold what other threads of a busy process may hold, on another thread."""
    held, is_over = threading.Event(), threading.Event()

    def hold():
        mine = []
        for lock in locks():
            if isinstance(lock, Lock):
                lock._claims.setdefault(None, (sys._getframe(), {}))
                mine.append(lock)
                continue
            while lock.acquire(blocking=False):
                mine.append(lock)
                if isinstance(lock, LOCKS[1:3]):
                    break
        if len(mine) > FEWEST:
            held.set()
        is_over.wait()
        for lock in mine:
            (lock._claims.clear if isinstance(lock, Lock) else lock.release)()

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    assert held.wait(PATIENCE), "the locks were not found"
    yield
    is_over.set()
    thread.join()


def forked(fork, work):
    """Fork, and return what waits for the child and gives its status, which is what the work returns.

    Where Python is not told of a fork, a lock of its own that another thread held, or waited for, just then (that of
    `threading`, or the interpreter's) stays as it was in the child, which sooner or later waits for a thread that is
    not there. A server in C cannot mend that, and neither can we: such a child is ended before any of the work, and
    another one is forked.
    """
    for _ in range(TRIES):
        reading, writing = os.pipe()
        pid = fork()
        if pid == 0:
            be_a_child(work, writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as begun:
            if begun.read(1):
                return lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.waitpid(pid, 0)
    raise AssertionError("no child's threads could take turns")


def be_a_child(work, writing):
    """Tell the parent that threads can take turns here, and do the work; ends the process."""
    signal.alarm(PROBATION)  # which ends it
    status = 255
    try:
        take_turns()
        signal.alarm(0)
        os.write(writing, b"1")
        os.close(writing)
        status = work()
    except BaseException:  # noqa: BLE001 - whatever it was, the child ends here
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def take_turns():
    """Let threads wait for the interpreter and for each other, some hundred times."""
    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=lambda: [sum(range(1_000)) for _ in range(1_000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(0.005)


def forked_by_multiprocessing(work):
    process = multiprocessing.get_context("fork").Process(target=lambda: sys.exit(work()))
    process.start()

    def wait():
        process.join(120)
        return process.exitcode

    return wait


def main(told):
    gate = made(told)
    rows = [dict(list(told["rows"].items())[number::4]) for number in range(4)]
    children = []
    # As a server written in C does: no hook of Python's runs. No thread may want the interpreter at that moment.
    ways = {"c": ctypes.PyDLL(None).fork, "python": os.fork}
    sys.setswitchinterval(1_000)
    with all_locks_held():
        for some in rows:
            work = lambda some=some: wrong_answers(gate, some)  # noqa: E731 - to be called in the child
            way = ways.get(told["way"])
            children.append(forked(way, work) if way else forked_by_multiprocessing(work))
    sys.setswitchinterval(0.005)
    statuses = [wait() for wait in children]
    assert statuses == [0] * 4, statuses
    assert wrong_answers(gate, told["warm"]) == 0  # over the connections that were open all the while
    gate.close()


if __name__ == "__main__":
    main(json.load(sys.stdin))
