"""Processes that race for one budget, and processes that are killed at it."""

import multiprocessing
import os
import random
import time

from entitlement_gate.ledger.balances import Row
from entitlement_gate.ledger.protocol import LedgerUnavailable, Receipt
from entitlement_gate.testing.ledger_contract import ANNA, METER, demand

# Each is forked from a process that has imported what they need, and has no thread and no connection.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(
    [
        __name__,
        "entitlement_gate.ledger.redis",
        "tests.usage.databases",
        "django.db.models",
        "django.db.backends.postgresql.base",
        "django.db.backends.sqlite3.base",
    ]
)
_DAY = 86_400


def skewed(make):
    """Make a ledger in a process whose clock is wrong by up to ten days, another's by other days."""
    right, wrong = time.time, (os.getpid() % 21 - 10) * _DAY
    time.time = lambda: right() + wrong
    return make()


def worker(make, name, told, *, budget, started, ttl):
    """Reserve and commit until refused; write down each commit that was acknowledged."""
    ledger = make()
    row = Row("row", budget)
    started.wait()
    number = 0
    with told.open("a", buffering=1) as acknowledged:
        while True:
            key = f"{name}-{number}"
            try:
                if not isinstance(ledger.reserve(ANNA, [demand(1, row, target=METER)], key=key, ttl=ttl), Receipt):
                    break
                ledger.commit(ANNA, key)
            except LedgerUnavailable:
                continue  # the same key again: it counts once
            acknowledged.write(f"{key}\n")
            number += 1
    ledger.close()


def race(make, directory, *, processes=8, budget=1_000):
    """Return the keys that were acknowledged."""
    started = _processes.Event()
    workers = started_workers(make, range(processes), directory, budget=budget, started=started, ttl=600)
    started.set()
    for process in workers:
        process.join(timeout=120)
        assert process.exitcode == 0
    return acknowledged(directory)


def kill_many(make, directory, *, kills=50, at_a_time=5):
    """Start workers and kill each at some moment of its work; return the keys that were acknowledged."""
    started = _processes.Event()
    started.set()
    for first in range(0, kills, at_a_time):
        names = range(first, first + at_a_time)
        workers = started_workers(make, names, directory, budget=10**6, started=started, ttl=2)
        for name, process in zip(names, workers, strict=True):
            while not (told := directory / f"{name}.keys").exists() or not told.stat().st_size:
                assert process.is_alive()
                time.sleep(0.005)
            time.sleep(random.random() / 50)
            process.kill()
        for process in workers:
            process.join()
    return acknowledged(directory)


def started_workers(make, names, directory, **how):
    workers = []
    for name in names:
        told = directory / f"{name}.keys"
        process = _processes.Process(target=worker, args=(make, name, told), kwargs=how, daemon=True)
        process.start()
        workers.append(process)
    return workers


def acknowledged(directory):
    return [line for told in directory.glob("*.keys") for line in told.read_text().splitlines()]


def drained(ledger):
    """Return the keys and quantities of every event in the outbox."""
    events = []
    while taken := ledger.take(500):
        events += [(event.key, event.quantity) for event in taken]
    return events
