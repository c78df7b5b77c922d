"""What observing costs: a warm check that nobody hears of, that an observer hears of, that OpenTelemetry records.

A burst of checks, as a request or a few make, and then a pause, as between requests: what is recorded on a thread
apart competes for the interpreter with the burst, and has caught up before the next.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from benchmarks.rounds import compared, interleaved
from benchmarks.tables import Table, micros, times
from benchmarks.world import ASKED, Source, World
from entitlement_gate import EntitlementGate
from entitlement_gate.contrib.opentelemetry import instrument, uninstrument
from entitlement_gate.metrics import Observer, observe, unobserve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.sdk._logs import ReadableLogRecord

    from benchmarks.effort import Effort
    from entitlement_gate import Decision

__all__ = ["tables"]

OFF = "nobody"
OBSERVER = "an observer"
OPENTELEMETRY = "OpenTelemetry: events and metrics"
_BURST = 200  # checks
_PAUSE = 0.1  # seconds after a burst in which the thread that records it hears of it: it looks ten times a second


def tables(effort: Effort) -> list[Table]:
    """Measure bursts of warm checks."""
    world = World(1)
    (customer,) = world.customers
    with ExitStack() as stack:
        gates = {name: stack.enter_context(EntitlementGate(Source(world), ttl=3600)) for name in _SETTINGS}
        for name, prepare in _SETTINGS.items():
            assert gates[name].has(customer, ASKED)
            stack.callback(prepare(gates[name]))
        timers = {name: partial(_burst, gate, customer) for name, gate in gates.items()}
        seconds = interleaved(timers, effort.alone.turns)
    samples = compared(seconds, OFF)
    table = Table("Telemetry", _HOW, ["who hears of a check", "ratio", "time", "more"])
    for name, sample in samples.items():
        more = median(own - off for own, off in zip(seconds[name], seconds[OFF], strict=True))
        table.rows.append([name, times(sample.ratio), micros(sample.seconds), micros(max(0.0, more))])
    return [table]


def _burst(gate: EntitlementGate, customer: str) -> float:
    has = gate.has
    began = time.perf_counter()
    for _ in range(_BURST):
        if not has(customer, ASKED):
            raise AssertionError("the customer has what is asked for")
    took = time.perf_counter() - began
    time.sleep(_PAUSE)
    return took / _BURST


class _Counts(Observer):
    """What a statsd client would be told."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], int] = {}

    def check(self, decision: Decision, seconds: float) -> None:  # noqa: ARG002 - it counts
        key = decision.outcome, decision.reason
        self.counts[key] = self.counts.get(key, 0) + 1


class _Nowhere(LogRecordExporter):
    """Lets every event go."""

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:  # noqa: ARG002 - as it says
        """Do nothing."""
        return LogRecordExportResult.SUCCESS

    def shutdown(self) -> None:
        """Do nothing."""

    def force_flush(self, timeout_millis: int = 0) -> bool:  # noqa: ARG002 - as above
        """Do nothing."""
        return True


def _unheard(_: EntitlementGate) -> Callable[[], object]:
    return lambda: None


def _observed(gate: EntitlementGate) -> Callable[[], object]:
    counts = _Counts()
    observe(counts, gate)
    return partial(unobserve, counts, gate)


def _instrumented(gate: EntitlementGate) -> Callable[[], object]:
    logs = LoggerProvider()
    logs.add_log_record_processor(BatchLogRecordProcessor(_Nowhere()))
    instrument(gate, logger_provider=logs, meter_provider=MeterProvider([InMemoryMetricReader()]))
    return partial(uninstrument, gate)


_SETTINGS = {OFF: _unheard, OBSERVER: _observed, OPENTELEMETRY: _instrumented}
_HOW = (
    f"`gate.has`, warm, in bursts of {_BURST} with a pause between them. It is recorded on a thread apart, which "
    "competes for the interpreter during the burst; the events go through the SDK's batch processor to nowhere. "
    f"*More* is the median of the rounds' differences to {OFF}."
)
