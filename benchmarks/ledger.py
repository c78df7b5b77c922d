"""Using up: what a verb costs in memory and over Redis, and what eight processes get done together.

Whether the counts are right is tested in ``tests/lab``.
"""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
import time
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis

from benchmarks.rounds import COMPUTING, Batch, compared, interleaved, walk
from benchmarks.tables import Table, micros, times
from entitlement_gate import EntitlementGate
from entitlement_gate.ledger.balances import Row
from entitlement_gate.ledger.memory import MemoryLedger
from entitlement_gate.ledger.protocol import Demand, UsageTarget
from entitlement_gate.ledger.redis import RedisLedger
from entitlement_gate.testing import FakeSource
from tests.ledger.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.effort import Effort, Rounds

__all__ = ["running_redis", "tables"]

PROCESSES = 8
MEMORY = "memory: consume"
BARE = "a script of the same size that does nothing"
SAME_CALLS = "a script of the same calls that decides nothing"
_CUSTOMER = "10000000-0000-4000-8000-00000000000a"
_PATIENCE = 120  # seconds for another process, on a busy machine
_ROWS = tuple(Row(f"{number}0000000-0000-4000-8000-00000000000e", 10**14) for number in (5, 6))
_DEMANDS = (
    Demand(
        entitlement_id="30000000-0000-4000-8000-00000000000c",
        quantity=1_000_000,
        rows=_ROWS,
        ticket=1.0,
        target=UsageTarget("api_calls", "count"),
    ),
)


# What reserving reads and writes, under other names: the time, the epoch, the tallies and the key; then the key, when
# it is due, the tallies, and the count of writes.
_CALLS = """
local reply = [==[{}]==]
local time = redis.call('TIME')
redis.call('HMGET', KEYS[1], 'epoch', 'seq')
redis.call('HMGET', KEYS[2], 'due', 'one', 'other')
redis.call('HGET', KEYS[3], ARGV[2])
redis.call('HSET', KEYS[3] .. '-', ARGV[2], reply)
redis.call('ZADD', KEYS[4] .. '-', time[1], ARGV[2])
redis.call('HSET', KEYS[2] .. '-', 'due', '1', 'one', reply)
redis.call('HINCRBY', KEYS[1] .. '-', 'seq', 1)
return reply
"""


class _Listening(redis.Redis):
    """Remembers the last script it ran: its keys and arguments, and the reply."""

    last: tuple[int, tuple[Any, ...], Any]

    def evalsha(self, sha: str, numkeys: int, *keys_and_args: Any) -> Any:
        reply = super().evalsha(sha, numkeys, *keys_and_args)
        self.last = numkeys, keys_and_args, reply
        return reply


def tables(effort: Effort) -> list[Table]:
    """Measure verbs of one customer, and processes of a customer each and of one together."""
    verbs = Table("Using up, a verb", _HOW, ["verb", "ratio", "time"])
    crowd = Table("Using up, eight processes", _HOW_MANY, ["customers", "verbs a second", "to one process"])
    _add_memory(verbs, effort.fetches)
    if shutil.which("redis-server") or shutil.which("valkey-server"):
        with running_redis() as url:
            _add_redis(verbs, url, effort.fetches)
            _add_crowd(crowd, url, effort.together.seconds * 10)
    else:
        crowd.notes.append("Not measured: Redis (there is no redis-server here).")
    return [verbs, crowd]


@contextmanager
def running_redis() -> Iterator[str]:
    """Run a server for as long as it is needed, and give its URL."""
    with tempfile.TemporaryDirectory() as directory:
        server = RedisServer(Path(directory))
        try:
            yield server.patient_url
        finally:
            server.kill()


def _add_memory(table: Table, effort: Rounds) -> None:
    source = FakeSource()
    for _ in _ROWS:
        source.grant(_CUSTOMER, "api_calls", 10**8)
    usage = {"api_calls": {"slug": "api_calls", "field": "count"}}
    with EntitlementGate(source, ttl=3600, usage=usage) as gate:
        batches = {
            MEMORY: _consume(MemoryLedger()),
            "memory: reserve and commit": _reserve_and_commit(MemoryLedger()),
            "memory: `gate.consume`": _consume_through(gate),
        }
        timers = {
            name: walk(batch, [_CUSTOMER], seconds=effort.seconds, clock=COMPUTING) for name, batch in batches.items()
        }
        samples = compared(interleaved(timers, effort.turns), MEMORY)
    table.rows += [[name, times(sample.ratio), micros(sample.seconds)] for name, sample in samples.items()]


def _add_redis(table: Table, url: str, effort: Rounds) -> None:
    client = _Listening.from_url(url, protocol=2)
    ledger = RedisLedger(client)
    batches = {"Redis: reserve": _reserve(ledger), "Redis: reserve and commit": _reserve_and_commit(ledger)}
    for batch in batches.values():
        batch([_CUSTOMER])
    ledger.reserve(_CUSTOMER, _DEMANDS, key=uuid.uuid4().hex, ttl=60)
    batches = {f"Redis: {BARE}": _bare(client), f"Redis: {SAME_CALLS}": _same_calls(client), **batches}
    timers = {name: walk(batch, [_CUSTOMER], seconds=effort.seconds) for name, batch in batches.items()}
    samples = compared(interleaved(timers, effort.turns), f"Redis: {BARE}")
    table.rows += [[name, times(sample.ratio), micros(sample.seconds)] for name, sample in samples.items()]
    ledger.close()


def _bare(client: _Listening) -> Batch:
    numkeys, keys_and_args, reply = client.last
    sha = client.script_load(f"return [==[{reply.decode()}]==]")

    def batch(customers: Sequence[str]) -> Any:
        for _ in customers:
            redis.Redis.evalsha(client, sha, numkeys, *keys_and_args)

    return batch


def _same_calls(client: _Listening) -> Batch:
    numkeys, keys_and_args, reply = client.last
    sha = client.script_load(_CALLS.format(reply.decode()))

    def batch(customers: Sequence[str]) -> Any:
        for _ in customers:
            redis.Redis.evalsha(client, sha, numkeys, *keys_and_args, uuid.uuid4().hex)

    return batch


def _reserve(ledger: RedisLedger) -> Batch:
    def batch(customers: Sequence[str]) -> Any:
        for customer in customers:
            ledger.reserve(customer, _DEMANDS, key=uuid.uuid4().hex, ttl=60)

    return batch


def _consume(ledger: MemoryLedger) -> Batch:
    def batch(customers: Sequence[str]) -> Any:
        for customer in customers:
            ledger.consume(customer, _DEMANDS, key=uuid.uuid4().hex, is_lone=True)

    return batch


def _consume_through(gate: EntitlementGate) -> Batch:
    def batch(customers: Sequence[str]) -> Any:
        for customer in customers:
            gate.consume(customer, "api_calls")

    return batch


def _reserve_and_commit(ledger: RedisLedger | MemoryLedger) -> Batch:
    def batch(customers: Sequence[str]) -> Any:
        for customer in customers:
            key = uuid.uuid4().hex
            ledger.reserve(customer, _DEMANDS, key=key, ttl=60)
            ledger.commit(customer, key)

    return batch


def _add_crowd(table: Table, url: str, seconds: float) -> None:
    alone = _verbs_a_second(url, [_CUSTOMER], seconds)
    own = [f"{number}0000000-0000-4000-8000-00000000000f" for number in range(PROCESSES)]
    table.rows.append(["one process", f"{alone:,.0f}", times(1.0)])
    for label, customers in (("one of each process's own", own), ("one for all", [_CUSTOMER] * PROCESSES)):
        together = _verbs_a_second(url, customers, seconds)
        table.rows.append([label, f"{together:,.0f}", times(together / alone)])


def _verbs_a_second(url: str, customers: Sequence[str], seconds: float) -> float:
    """Return what processes get done, one for each customer named."""
    context = multiprocessing.get_context("spawn")
    line, counts = context.Barrier(len(customers), timeout=_PATIENCE), context.Queue()
    workers = [
        context.Process(target=_work, args=(url, customer, seconds, (line.wait, counts.put)), daemon=True)
        for customer in customers
    ]
    for worker in workers:
        worker.start()
    done = sum(counts.get(timeout=seconds + _PATIENCE) for _ in workers)
    for worker in workers:
        worker.join()
    return done / seconds


def _work(url: str, customer: str, seconds: float, tell: tuple[Callable[[], Any], Callable[[int], None]]) -> None:
    wait, put = tell
    ledger = RedisLedger(url)
    both = _reserve_and_commit(ledger)
    both([customer])
    wait()
    end, done = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        both([customer])
        done += 2
    put(done)
    ledger.close()


_HOW = (
    "Two rows that can pay, one that does; each commit leaves an event to be shipped. Redis is a process of its own on "
    f"this machine, without persistence; its ratios are to {BARE}: the same keys, argument and reply. Beside it stands "
    f"{SAME_CALLS}. In memory they are to the ledger's own verb, with the same rows."
)
_HOW_MANY = (
    "Each process reserves and commits, one after the other, on one Redis that shares the machine's cores with them."
)
