"""OpenTelemetry: an event for each check, a span for each fetch, and metrics of both and of the ledger.

>>> instrument()  # every gate of the process; once the SDK is set up, in `AppConfig.ready()` say
>>> uninstrument()

Events are log records named ``feature_flag.evaluation``, with the attributes of the semantic conventions for feature
flags in events (1.54). All is recorded on a thread of its own, in the trace of whoever asked: an exporter that is slow,
hangs or raises holds up no check, whichever processor it stands behind. What is exported is the SDK's to decide.
"""

from __future__ import annotations

import atexit
import logging
import time
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from entitlement_gate import __version__
from entitlement_gate.domain.decisions import Reason, rows_behind
from entitlement_gate.engine.observers import Observer, everywhere
from entitlement_gate.metrics import Background
from entitlement_gate.resilience.clock import Deadline
from entitlement_gate.resilience.fork_safety import Locked, members

try:
    from opentelemetry._logs import LogRecord, SeverityNumber, get_logger
    from opentelemetry.context import get_current
    from opentelemetry.metrics import Observation, get_meter
    from opentelemetry.trace import SpanKind, Status, StatusCode, get_tracer
except ImportError as error:
    raise ImportError(f"OpenTelemetry is not here: install entitlement_gate[opentelemetry]: {error}") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from opentelemetry._logs import Logger, LoggerProvider
    from opentelemetry.context import Context
    from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider
    from opentelemetry.trace import Tracer, TracerProvider

    from entitlement_gate.domain.decisions import Decision
    from entitlement_gate.engine.gate import EntitlementGate
    from entitlement_gate.engine.observers import Fetch, LedgerCall

__all__ = ["instrument", "uninstrument"]

_SCOPE = "entitlement_gate"
_KEY = "feature_flag.key"
_OUTCOME = "entitlement_gate.outcome"
_REASON = "entitlement_gate.reason"
_SOURCE = "entitlement_gate.source"
_VERB = "entitlement_gate.verb"
_CUSTOMER = "entitlement_gate.customer.id"
_OTHER = "other"
_NANOSECONDS = 1_000_000_000

# By the conventions. What follows from the rows of a customer is a match of its targeting.
_REASONS = {"cache": "cached", "shared": "cached", "stale": "stale", "fallback": "default", "override": "static"}
_ERRORS = {
    Reason.NO_CUSTOMER: "targeting_key_missing",
    Reason.INVALID_CUSTOMER: "invalid_context",
    Reason.UNAVAILABLE: "general",
    Reason.REJECTED: "general",
    Reason.MALFORMED_RESPONSE: "parse_error",
}
# Seconds: the SDK's own buckets are for milliseconds.
_FETCH_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10)
_LEDGER_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 3)
_AGE_BUCKETS = (1, 5, 15, 30, 60, 90, 120, 300, 600, 1800, 3600)
_AT_EXIT = 1.0  # seconds to record what is queued, before the process ends or recording stops

_logger = logging.getLogger("entitlement_gate")


def instrument(
    gate: EntitlementGate | None = None,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    logger_provider: LoggerProvider | None = None,
    events: bool = True,
    names: Collection[str] | None = None,
    max_names: int = 100,
    with_customer_ids: bool = False,
) -> None:
    """Begin to record what a gate does, or every gate of the process. What is instrumented already stays as it is.

    Args:
        gate: this one alone; by default all of them, the settings' own and later ones too.
        tracer_provider: for the spans; by default the global one, as for the other two.
        meter_provider: for the metrics.
        logger_provider: for the events.
        events: record one for each check. They are half of the work.
        names: the entitlements that metrics tell apart; every other is ``other``. By default the first ``max_names``
            that are asked about.
        max_names: see ``names``.
        with_customer_ids: put the customer id on events and spans. It is never on a metric.

    Raises:
        ValueError: ``names`` is no collection of texts, or ``max_names`` no number of at least 0.
    """
    labels = _Names(names, max_names)

    def make() -> _Telemetry:
        return _Telemetry(
            gate,
            get_tracer(_SCOPE, __version__, tracer_provider),
            _Instruments(get_meter(_SCOPE, __version__, meter_provider), partial(_observe_customers, meter_provider)),
            get_logger(_SCOPE, __version__, logger_provider) if events else None,
            names=labels,
            meter_provider=meter_provider,
            with_customer_ids=with_customer_ids,
        )

    if not _instrumented.add(gate, make):
        _logger.warning("OpenTelemetry: instrumented already; uninstrument() first to change it")


def uninstrument(gate: EntitlementGate | None = None) -> None:
    """Record no more of what was instrumented for this gate, or for all; where nothing was, do nothing."""
    _instrumented.discard(gate)


class _Names:
    """The names that are labels of metrics: a bounded number of them."""

    def __init__(self, names: Collection[str] | None, most: int) -> None:
        if names is not None and (isinstance(names, str) or not all(isinstance(name, str) for name in names)):
            raise ValueError(f"names: a collection of names of entitlements, not {names!r}")
        if type(most) is not int or most < 0:
            raise ValueError(f"max_names: a whole number of at least 0, not {most!r}")
        self._names = set(names or ())
        self._most = most if names is None else 0

    def label(self, name: str) -> str:
        """Return the name where there is room for it."""
        if name not in self._names:
            if len(self._names) >= self._most:
                return _OTHER
            self._names.add(name)
        return name


class _Instruments:
    """The metrics."""

    def __init__(self, meter: Meter, customers: Callable[[CallbackOptions], Iterable[Observation]]) -> None:
        self.checks = meter.create_counter("entitlement_gate.checks", "{check}", "Checks answered.")
        self.age = meter.create_histogram(
            "entitlement_gate.check.age",
            "s",
            "How old the data was that a check was answered from.",
            explicit_bucket_boundaries_advisory=_AGE_BUCKETS,
        )
        self.fetches = meter.create_histogram(
            "entitlement_gate.fetch.duration",
            "s",
            "How long fetches took, with every page and retry.",
            explicit_bucket_boundaries_advisory=_FETCH_BUCKETS,
        )
        self.ledger = meter.create_histogram(
            "entitlement_gate.ledger.duration",
            "s",
            "How long whoever asked the ledger waited.",
            explicit_bucket_boundaries_advisory=_LEDGER_BUCKETS,
        )
        meter.create_observable_up_down_counter(
            "entitlement_gate.customers", [customers], "{customer}", "Customers whose snapshots are held."
        )


class _Telemetry(Observer):
    """Queues each event with its time; a thread of its own records them.

    Attributes:
        gate: whose; None of all.
        meter_provider: as given.
    """

    def __init__(
        self,
        gate: EntitlementGate | None,
        tracer: Tracer,
        instruments: _Instruments,
        logger: Logger | None,
        *,
        names: _Names,
        meter_provider: MeterProvider | None,
        with_customer_ids: bool,
    ) -> None:
        self.gate = gate
        self.meter_provider = meter_provider
        self._tracer = tracer
        self._instruments = instruments
        self._logger = logger
        self._names = names
        self._with_customer_ids = with_customer_ids
        self._background = Background()

    def check(self, decision: Decision, seconds: float) -> None:  # noqa: ARG002 - a check takes microseconds
        self._background.call(self._record_check, decision, time.time_ns(), get_current())

    def fetch(self, fetch: Fetch) -> None:
        self._background.call(self._record_fetch, fetch, time.time_ns(), get_current())

    def ledger(self, call: LedgerCall) -> None:
        labels = {_VERB: call.verb, _OUTCOME: call.outcome}
        self._background.call(self._instruments.ledger.record, call.seconds, labels, get_current())

    def flush(self) -> bool:
        """Wait until all queued events are recorded, but not for long."""
        return self._background.flush(Deadline(_AT_EXIT, time))

    def _record_check(self, decision: Decision, at: int, context: Context) -> None:
        labels = {_OUTCOME: decision.outcome.value, _REASON: decision.reason.value, _SOURCE: decision.source}
        name = self._names.label(decision.entitlement)
        self._instruments.checks.add(1, {_KEY: name, **labels}, context)
        if decision.age is not None:
            self._instruments.age.record(decision.age, {_SOURCE: decision.source}, context)
        if self._logger is None:
            return
        self._logger.emit(
            LogRecord(
                timestamp=at,
                context=context,
                severity_number=SeverityNumber.INFO,
                event_name="feature_flag.evaluation",
                attributes={
                    **_make_event_attributes(decision),
                    **labels,
                    **self._make_customer_attribute("feature_flag.context.id", decision),
                },
            )
        )

    def _record_fetch(self, fetch: Fetch, at: int, context: Context) -> None:
        self._instruments.fetches.record(fetch.seconds, {_OUTCOME: fetch.outcome}, context)
        span = self._tracer.start_span(
            "fetch entitlements",
            context,
            SpanKind.CLIENT,
            {**_make_span_attributes(fetch), **self._make_customer_attribute(_CUSTOMER, fetch)},
            start_time=at - int(fetch.seconds * _NANOSECONDS),
        )
        if not fetch.has_succeeded:
            span.set_status(Status(StatusCode.ERROR))
        span.end(at)

    def _make_customer_attribute(self, attribute: str, of: Decision | Fetch) -> dict[str, str]:
        return {attribute: of.customer_id} if self._with_customer_ids and of.customer_id else {}


def _make_event_attributes(decision: Decision) -> dict[str, str]:
    """Return what the conventions for feature flags ask for."""
    attributes = {
        _KEY: decision.entitlement,
        "feature_flag.provider.name": _SCOPE,
        "feature_flag.result.variant": "allowed" if decision.allowed else "denied",
    }
    error = None if decision.allowed else _ERRORS.get(decision.reason)
    if error is not None:
        return {**attributes, "feature_flag.result.reason": "error", "error.type": error}
    by_rows = "targeting_match" if rows_behind(decision) else "default"
    return {**attributes, "feature_flag.result.reason": _REASONS.get(decision.source, by_rows)}


def _make_span_attributes(fetch: Fetch) -> dict[str, str | int]:
    """Return what the conventions for clients of HTTP ask for, as far as it is known of several requests."""
    attributes: dict[str, str | int] = {_OUTCOME: fetch.outcome}
    where = urlsplit(fetch.base_url or "")
    if where.hostname:
        attributes |= {"http.request.method": "GET", "url.scheme": where.scheme, "server.address": where.hostname}
        attributes["server.port"] = where.port or (80 if where.scheme == "http" else 443)
    if fetch.status is not None:
        attributes["http.response.status_code"] = fetch.status
    if not fetch.has_succeeded:
        attributes["error.type"] = fetch.outcome if fetch.status is None else str(fetch.status)
    return attributes


class _Instrumented(Locked):
    """What records now: each gate once, though two threads begin at once.

    Attributes:
        telemetries: replaced as a whole.
    """

    def __init__(self) -> None:
        super().__init__()
        self.telemetries: tuple[_Telemetry, ...] = ()

    def add(self, gate: EntitlementGate | None, make: Callable[[], _Telemetry]) -> bool:
        """Begin to record; return False where what this gate does, or a gate of all, is recorded already."""
        with self._lock:
            if any(gate is None or each.gate in (None, gate) for each in self.telemetries):
                return False
            telemetry = make()
            self.telemetries = *self.telemetries, telemetry
            (everywhere.add if gate is None else gate.observe)(telemetry)
        atexit.register(telemetry.flush)
        return True

    def discard(self, gate: EntitlementGate | None) -> None:
        """Record no more, once what is queued was recorded."""
        with self._lock:
            ended = [each for each in self.telemetries if each.gate is gate]
            self.telemetries = tuple(each for each in self.telemetries if each.gate is not gate)
        for telemetry in ended:
            (everywhere.discard if gate is None else gate.unobserve)(telemetry)
            telemetry.flush()
            atexit.unregister(telemetry.flush)


_instrumented = _Instrumented()


def _observe_customers(meter_provider: MeterProvider | None, _: CallbackOptions) -> Iterable[Observation]:
    """Count what gates hold that are instrumented by now: a meter keeps the first callback that it was given."""
    telemetries = [each for each in _instrumented.telemetries if each.meter_provider is meter_provider]
    gates = {gate for each in telemetries for gate in (members(everywhere.gates) if each.gate is None else [each.gate])}
    if telemetries:
        yield Observation(sum(gate.customers_held for gate in gates))
