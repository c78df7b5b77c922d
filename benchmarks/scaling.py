"""What a hundred times as many rows make of a question that concerns one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.rounds import COMPUTING, compared, interleaved, walk
from benchmarks.tables import Table, micros, times
from benchmarks.world import MODEL
from entitlement_gate import EntitlementGate
from entitlement_gate.testing import FakeSource

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.effort import Effort
    from benchmarks.rounds import Batch

__all__ = ["tables"]

FEW, MANY = 20, 2_000
_COUNTED, _FEATURE = "credits 0", "report 1"
_PLENTY = 10**9


def tables(effort: Effort) -> list[Table]:
    """Ask a customer of few rows and one of many the same."""
    table = Table("Rows", _HOW, ["question", "ratio", f"{FEW} rows", f"{MANY:,} rows"])
    with _gate(FEW) as few, _gate(MANY) as many:
        for name, make_batch in _QUESTIONS.items():
            batches = {FEW: make_batch(few), MANY: make_batch(many)}
            timers = {
                str(rows): walk(batch, [MODEL], seconds=effort.alone.seconds, clock=COMPUTING)
                for rows, batch in batches.items()
            }
            samples = compared(interleaved(timers, effort.alone.turns), str(FEW))
            least, most = samples[str(FEW)], samples[str(MANY)]
            table.rows.append([name, times(most.ratio), micros(least.seconds), micros(most.seconds)])
    return [table]


def _gate(rows: int) -> EntitlementGate:
    """Return a gate that knows a customer of so many names, every second one counted, who has used something up."""
    source = FakeSource()
    for number in range(0, rows, 2):
        source.grant(MODEL, f"credits {number}", _PLENTY)
        source.grant(MODEL, f"report {number + 1}")
    gate = EntitlementGate(source, ttl=3600)
    gate.consume(MODEL, _COUNTED)
    return gate


def _asking(ask: Callable[[EntitlementGate], Any]) -> Callable[[EntitlementGate], Batch]:
    def make_batch(gate: EntitlementGate) -> Batch:
        def batch(customers: Sequence[str]) -> Any:
            for customer in customers:
                if not ask(gate):
                    return customer
            return None

        return batch

    return make_batch


def _first(gate: EntitlementGate) -> bool:
    gate.first_charged(MODEL)  # forgets what was worked out, and not the rows
    return gate.has(MODEL, _FEATURE)


_QUESTIONS = {
    "`gate.consume`, in memory": _asking(lambda gate: gate.consume(MODEL, _COUNTED)),
    "`gate.check` of a counted name": _asking(lambda gate: gate.check(MODEL, _COUNTED)),
    "first `gate.has` of a name": _asking(_first),
}
_HOW = f"One customer of {FEW} rows and one of {MANY:,}, each row of another name; the rows were fetched before."
