"""Many who ask at once, leave at once, or write at once."""

import asyncio
import random
import threading
import time

from entitlement_gate.engine.gate import EntitlementGate
from tests.engine.fakes import ANNA, Billing, customers, feature

PRO = "20000000-0000-4000-8000-000000000002"


def together(*crowds):
    """Run each (count, work) on threads that start at the same instant; give what they returned or raised."""
    told = []
    start = threading.Barrier(sum(count for count, _ in crowds))

    def run(work):
        start.wait(30)
        try:
            told.append(work())
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            told.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for count, work in crowds for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return told


def test_200_threads_on_one_cold_customer_make_one_call(make_gate, server, sandbox):
    sandbox.fail("delay", seconds=0.2)
    gate = make_gate(server.url, client={"deadline": 30}, deadline=30)
    assert together((200, lambda: gate.has(PRO, "reports"))) == [True] * 200
    assert sandbox.request_count == 1


def test_4_loops_and_20_threads_on_one_cold_customer_make_one_call(make_gate, server, sandbox):
    sandbox.fail("delay", seconds=0.2)
    gate = make_gate(server.url, client={"deadline": 30}, deadline=30)

    async def some():
        return all(await asyncio.gather(*(gate.ahas(PRO, "reports") for _ in range(10))))

    assert together((20, lambda: gate.has(PRO, "reports")), (4, lambda: asyncio.run(some()))) == [True] * 24
    assert sandbox.request_count == 1


def test_a_failure_is_shared_by_all_who_waited(make_gate, server, sandbox):
    sandbox.fail("status", status=401, seconds=0.3)
    gate = make_gate(server.url, client={"deadline": 30}, deadline=30)
    told = together((50, lambda: gate.check(PRO, "reports").reason))
    assert told == ["rejected"] * 50
    assert sandbox.request_count == 1


def test_storms_of_cancelled_checks_harm_nobody(caplog):
    billing = Billing()
    gate = EntitlementGate(billing, deadline=30)
    crowd = customers(20)

    async def storm():
        for _ in range(20):
            tasks = [asyncio.ensure_future(gate.acheck(customer, "reports")) for customer in crowd for _ in range(5)]
            await asyncio.sleep(random.random() / 500)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return await gate.acheck(ANNA, "reports")

    billing.hold()
    threading.Timer(0.5, billing.release).start()
    assert asyncio.run(storm()).allowed
    assert all(gate.has(customer, "reports") for customer in crowd)
    assert len(billing.calls) == len(crowd) + 1
    assert caplog.records == []
    gate.close()


def test_8_threads_evict_each_other_and_nobody_gets_anothers_answer():
    crowd = customers(200)
    billing = Billing()
    billing.grants = {customer: (feature(customer),) for customer in crowd}
    gate = EntitlementGate(billing, max_customers=20, deadline=30)
    end = time.monotonic() + 2

    def work():
        count = 0
        while time.monotonic() < end or count < 100:
            asked, other = random.sample(crowd, 2)
            decision = gate.check(asked, asked)
            if decision.outcome != "unknown":  # the budget for strangers is spent on purpose
                assert (decision.allowed, decision.customer_id) == (True, asked)
                assert not gate.has(asked, other)
            count += 1
        return count

    told = together((8, work))
    assert all(isinstance(count, int) for count in told), told
    cache = gate._snapshots._cache
    assert set(cache.entries) == set(cache._order) >= {customer_id for customer_id, _ in cache.answers}
    assert all(answer.entry is cache.entries[name] for (name, _), answer in cache.answers.items())
    assert {key for entry in cache.entries.values() for key in entry.keys} == set(cache.answers)
    assert 0 < len(cache.entries) <= 20
    gate.close()


def test_after_an_invalidation_nobody_sees_what_was_before():
    billing = Billing()
    gate = EntitlementGate(billing, deadline=30)
    over = threading.Event()

    def read():
        while not over.is_set():
            gate.has(ANNA, "version 0")
        return True

    def write():
        try:
            for version in range(1, 80):
                billing.grants[ANNA] = (feature(f"version {version}"),)
                (gate.invalidate if version % 2 else lambda customer: asyncio.run(gate.ainvalidate(customer)))(ANNA)
                assert gate.get(ANNA).has(f"version {version}")
        finally:
            over.set()
        return True

    assert together((3, read), (1, write)) == [True] * 4
    gate.close()
