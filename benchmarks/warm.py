"""The warm check: what is asked is in memory already, in ours and in every peer that answers rightly."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from benchmarks import peers
from benchmarks.contestants import Verified, afresh, verify
from benchmarks.ours import GATE_HAS, LIMIT, asking, ours
from benchmarks.project import configure
from benchmarks.rounds import COMPUTING, Sample, compared, interleaved, walk
from benchmarks.tables import Table, micros, times
from benchmarks.world import ASKED, Source, World
from entitlement_gate import EntitlementGate, Requirement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.effort import Effort
    from benchmarks.rounds import Batch

__all__ = ["Setting", "measure", "tables"]


class Setting(NamedTuple):
    """How many customers are asked about in turn, by how many threads."""

    customers: int
    threads: int

    def __str__(self) -> str:
        who = "1 customer" if self.customers == 1 else f"{self.customers:,} customers"
        return f"{who}, {self.threads} thread{'s' if self.threads > 1 else ''}"


def tables(effort: Effort) -> list[Table]:
    """Measure one and many customers, with one and eight threads; then the ways to ask."""
    configure()
    by_limit = Table("Warm check", _HOW, ["check"])
    by_gate = Table(f"Warm check, against {GATE_HAS}", _HOW_BY_GATE, ["check"])
    does: dict[str, str] = {}
    for customers in (1, effort.customers):
        present, absent = _line_up(customers, with_peers=effort.with_peers)
        does |= {verified.contestant.name: verified.contestant.does for verified in present}
        by_limit.notes = [f"Not measured: {peer.name} ({peer.reason})." for peer in absent]
        for setting in (Setting(customers, 1), Setting(customers, 8)):
            seconds = measure(present, setting, effort)
            _add(by_limit, str(setting), compared(seconds, LIMIT), with_time=True)
            _add(by_gate, str(setting), compared(seconds, GATE_HAS), with_time=False)
        for verified in present:
            verified.contestant.close()
    by_limit.columns = [*by_limit.columns, "a check is"]
    by_limit.rows = [[*row, does[row[0]]] for row in by_limit.rows]
    return [by_limit, by_gate, _by_form(effort)]


def _by_form(effort: Effort) -> Table:
    """Measure one gate, asked in the ways in which code asks."""
    world = World(1)
    (customer,) = world.customers
    with EntitlementGate(Source(world), ttl=3600) as gate:
        forms: dict[str, tuple[Batch, object]] = {
            _TEXT: (asking(gate.has), afresh(customer)),
            "a `uuid.UUID`": (asking(gate.has), UUID(customer)),
            "a `Requirement`": (asking(gate.has, Requirement(ASKED)), afresh(customer)),
            "a quantity": (_asking_for_five(gate), afresh(customer)),
            "a `uuid.UUID` and a quantity": (_asking_for_five(gate), UUID(customer)),
        }
        seconds, rounds = effort.alone
        timers = {
            name: walk(batch, [subject], seconds=seconds, clock=COMPUTING) for name, (batch, subject) in forms.items()
        }
        samples = compared(interleaved(timers, rounds), _TEXT)
    table = Table("Warm check, by how it is asked", _HOW_BY_FORM, [f"{GATE_HAS} with", "ratio", "time"])
    table.rows = [[name, times(sample.ratio), micros(sample.seconds)] for name, sample in samples.items()]
    return table


def _asking_for_five(gate: EntitlementGate) -> Batch:
    has = gate.has

    def batch(customers: Sequence[Any]) -> Any:
        for customer in customers:
            if not has(customer, "API Calls", 5):
                return customer
        return None

    return batch


def _add(table: Table, column: str, samples: Mapping[str, Sample], *, with_time: bool) -> None:
    """Add a column; whoever could not take part in it has a dash."""
    rows = {row[0]: row for row in table.rows}
    width = len(table.columns)
    for name, sample in samples.items():
        cell = f"{times(sample.ratio)} ({micros(sample.seconds)})" if with_time else times(sample.ratio)
        rows[name] = [*rows.get(name, [name, *["-"] * (width - 1)]), cell]
    table.columns = [*table.columns, column]
    table.rows = [row if len(row) > width else [*row, "-"] for row in rows.values()]


def _line_up(customers: int, *, with_peers: bool) -> tuple[list[Verified], list[peers.Absent]]:
    world = World(customers)
    present = [verify(contestant, world) for contestant in ours(world)]
    others, absent = peers.load(world) if with_peers else ([], [])
    for verified in (*present, *others):
        # Nobody asks in the order of the memory; everybody asks in the same order.
        Random(customers).shuffle(verified.subjects)  # noqa: S311 - no secret
    return present + others, absent


def measure(present: list[Verified], setting: Setting, effort: Effort) -> dict[str, list[float]]:
    """Return everybody's seconds a call, by round."""
    is_alone = setting.threads == 1
    seconds, rounds = effort.alone if is_alone else effort.together
    timers = {
        contestant.name: walk(contestant.batch, subjects, seconds=seconds, threads=setting.threads, clock=COMPUTING)
        for contestant, subjects in present
    }
    return interleaved(timers, rounds)


_HOW = (
    "Against the practical limit: the median of the rounds' ratios, and in brackets the median time of one check "
    "(with 8 threads: what all of them take together, over all checks)."
)
_TEXT = "text and a name"
_HOW_BY_FORM = f"One customer, one thread; against {_TEXT}."
_HOW_BY_GATE = f"The same rounds: how many times as long as {GATE_HAS} each takes."
