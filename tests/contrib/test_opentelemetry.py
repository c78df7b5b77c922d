"""Events, spans and metrics, read through the SDK's exporters in memory."""

import json
import re
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import pytest
from django.test import override_settings
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import REGISTRY

from entitlement_gate import EntitlementDenied, EntitlementGate, ZenskarClient, has_entitlement
from entitlement_gate.contrib.opentelemetry import _instrumented, instrument, uninstrument
from entitlement_gate.domain.errors import SourceRejected
from entitlement_gate.resilience.clock import Deadline
from entitlement_gate.testing import FakeSource
from tests.customers import FREE, PRO
from tests.engine.fakes import eventually

try:
    from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
except ImportError:  # its name before 1.39
    from opentelemetry.sdk._logs.export import InMemoryLogExporter as InMemoryLogRecordExporter

# Of the SDK 1.37 itself, which makes a record of its own of each that it is given.
pytestmark = pytest.mark.filterwarnings("ignore:LogRecord init with")

PAGES = Path(__file__).parents[2] / "docs" / "how-to"
SECRET = "sk-live-of-the-organisation"


class Recorded:
    """The three signals, each into memory."""

    def __init__(self):
        self._logs, self._spans = InMemoryLogRecordExporter(), InMemorySpanExporter()
        self._metrics = InMemoryMetricReader()
        self.logger_provider = LoggerProvider()
        self.logger_provider.add_log_record_processor(SimpleLogRecordProcessor(self._logs))
        self.tracer_provider = TracerProvider()
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.meter_provider = MeterProvider([self._metrics])

    @property
    def providers(self):
        names = ("logger_provider", "tracer_provider", "meter_provider")
        return {name: getattr(self, name) for name in names}

    @property
    def events(self):
        flush()
        return [data.log_record for data in self._logs.get_finished_logs()]

    def spans(self):
        """Return the spans of fetches, of which there is one at least: who waited for it goes on before it is told."""
        eventually(self._fetches, 60)
        return self._fetches()

    def _fetches(self):
        flush()
        return [span for span in self._spans.get_finished_spans() if span.kind is SpanKind.CLIENT]

    @property
    def metrics(self):
        """Name → its points."""
        flush()
        data = self._metrics.get_metrics_data()
        found = {}
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                assert scope.scope.name == "entitlement_gate"
                found |= {metric.name: list(metric.data.data_points) for metric in scope.metrics}
        return found

    def checks(self):
        """Return what was counted: name, outcome, reason and source → how often."""
        names = ("feature_flag.key", *(f"entitlement_gate.{name}" for name in ("outcome", "reason", "source")))
        points = self.metrics.get("entitlement_gate.checks", ())
        return {tuple(point.attributes[name] for name in names): point.value for point in points}

    def everything(self):
        """Return all that was recorded, as text."""
        spans = "".join(span.to_json() for span in self.spans())
        return f"{[event.attributes for event in self.events]} {spans} {self.metrics}"


def flush():
    for telemetry in _instrumented.telemetries:
        assert telemetry._background.flush(Deadline(60, time))


@pytest.fixture
def recorded():
    return Recorded()


@pytest.fixture
def source():
    source = FakeSource()
    source.grant(PRO, "sso")
    source.grant(PRO, "calls", 10)
    return source


@pytest.fixture
def gate(source):
    with EntitlementGate(source) as gate:
        yield gate


@contextmanager
def instrumented(gate=None, **options):
    instrument(gate, **options)
    try:
        yield
    finally:
        uninstrument(gate)


@pytest.fixture
def observed(gate, recorded):
    with instrumented(gate, **recorded.providers):
        yield gate


# Events


def test_a_check_is_an_event_by_the_conventions(observed, recorded):
    assert observed.has(PRO, "sso")
    (event,) = recorded.events
    assert event.event_name == "feature_flag.evaluation"
    assert event.timestamp
    assert dict(event.attributes) == {
        "feature_flag.key": "sso",
        "feature_flag.provider.name": "entitlement_gate",
        "feature_flag.result.variant": "allowed",
        "feature_flag.result.reason": "targeting_match",
        "entitlement_gate.outcome": "allowed",
        "entitlement_gate.reason": "allowed",
        "entitlement_gate.source": "live",
    }


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ((PRO, "sso"), ("allowed", "cached", None)),
        ((PRO, "nothing"), ("denied", "cached", None)),
        ((None, "sso"), ("denied", "error", "targeting_key_missing")),
        (("?", "sso"), ("denied", "error", "invalid_context")),
        ((FREE, "sso"), ("denied", "error", "general")),
    ],
)
def test_an_event_tells_value_reason_and_error(observed, recorded, source, asked, told):
    observed.check(PRO, "reports")
    source.fail()
    observed.check(*asked)
    event = recorded.events[-1].attributes
    names = ("feature_flag.result.variant", "feature_flag.result.reason", "error.type")
    assert tuple(event.get(name) for name in names) == told


def test_what_is_let_through_in_an_outage_is_a_default_and_no_error(source, recorded):
    source.fail()
    with EntitlementGate(source, on_unavailable="allow") as gate, instrumented(gate, **recorded.providers):
        assert gate.has(PRO, "sso")
        (event,) = recorded.events
    assert event.attributes["feature_flag.result.reason"] == "default"
    assert event.attributes["entitlement_gate.outcome"] == "unknown"
    assert "error.type" not in event.attributes


def test_an_event_belongs_to_the_trace_of_who_asked(observed, recorded):
    tracer = recorded.tracer_provider.get_tracer("tests")
    for _ in range(2):
        with tracer.start_as_current_span("request") as span:
            assert observed.has(PRO, "sso")
        event = recorded.events[-1]
        assert (event.trace_id, event.span_id) == (span.get_span_context().trace_id, span.get_span_context().span_id)


def test_events_can_be_left_out(gate, recorded):
    with instrumented(gate, **recorded.providers, events=False):
        gate.has(PRO, "sso")
        assert recorded.events == []
        assert sum(recorded.checks().values()) == 1


# Spans


def test_a_fetch_is_a_client_span_in_the_trace_of_the_check_that_began_it(recorded):
    tracer = recorded.tracer_provider.get_tracer("tests")
    with EntitlementGate(ZenskarClient(base_url="sandbox:")) as gate, instrumented(gate, **recorded.providers):
        with tracer.start_as_current_span("request") as request:
            gate.has(PRO, "sso")
        assert len(gate.get(PRO)) > 1
        (span,) = recorded.spans()
    assert (span.name, span.kind, span.parent.span_id) == (
        "fetch entitlements",
        SpanKind.CLIENT,
        request.get_span_context().span_id,
    )
    assert span.end_time > span.start_time
    assert span.status.status_code is StatusCode.UNSET


def test_a_span_tells_the_peer_and_neither_key_nor_customer(recorded, caplog):
    client = ZenskarClient(SECRET, "organisation-77", base_url="https://127.0.0.1:9", max_attempts=1)
    with EntitlementGate(client) as gate, instrumented(gate, **recorded.providers):
        assert gate.check(PRO, "sso").reason == "unavailable"
        (span,) = recorded.spans()
        everything = recorded.everything()
    assert dict(span.attributes) == {
        "entitlement_gate.outcome": "unavailable",
        "error.type": "unavailable",
        "http.request.method": "GET",
        "server.address": "127.0.0.1",
        "server.port": 9,
        "url.scheme": "https",
    }
    assert span.status.status_code is StatusCode.ERROR
    for secret in (SECRET, "organisation-77", PRO):
        assert secret not in everything


def test_a_rejected_fetch_tells_its_status(observed, recorded, source):
    source.fetch = rejected
    observed.has(PRO, "sso")
    (span,) = recorded.spans()
    assert span.attributes["http.response.status_code"] == 401
    assert span.attributes["error.type"] == "401"


def rejected(customer_id):
    raise SourceRejected(401, "the key is wrong")


def test_the_customer_is_told_where_that_is_asked_for_and_never_on_a_metric(gate, recorded):
    with instrumented(gate, **recorded.providers, with_customer_ids=True):
        gate.has(PRO, "sso")
        gate.has(None, "sso")
        assert recorded.events[0].attributes["feature_flag.context.id"] == PRO
        assert "feature_flag.context.id" not in recorded.events[1].attributes
        assert recorded.spans()[0].attributes["entitlement_gate.customer.id"] == PRO
        assert PRO not in str(recorded.metrics)


# Metrics


def test_checks_are_counted_by_name_outcome_reason_and_source(observed, recorded):
    for name in ("sso", "sso", "sso", "reports"):
        observed.has(PRO, name)
    assert recorded.checks() == {
        ("sso", "allowed", "allowed", "live"): 1,
        ("sso", "allowed", "allowed", "cache"): 2,
        ("reports", "denied", "not_entitled", "cache"): 1,
    }


def test_ages_fetches_customers_and_verbs_are_measured(observed, recorded, source):
    observed.has(PRO, "sso")
    observed.has(FREE, "sso")
    observed.consume(PRO, "calls", 4)
    observed.reserve(PRO, "calls", 6).release()
    with pytest.raises(EntitlementDenied):
        observed.consume(PRO, "calls", 7)
    eventually(lambda: len(recorded.spans()) == 2, 60)
    metrics = recorded.metrics
    (customers,) = metrics["entitlement_gate.customers"]
    assert customers.value == 2
    fetches = metrics["entitlement_gate.fetch.duration"]
    assert {tuple(point.attributes.values()): point.count for point in fetches} == {("found",): 1, ("not_found",): 1}
    assert sum(point.count for point in metrics["entitlement_gate.check.age"]) == 5
    verbs = {tuple(point.attributes.values()): point.count for point in metrics["entitlement_gate.ledger.duration"]}
    assert (
        verbs.items()
        >= {
            ("consume", "done"): 1,
            ("consume", "refused"): 1,
            ("reserve", "done"): 1,
            ("release", "done"): 1,
        }.items()
    )


def test_names_beyond_a_limit_are_one(gate, recorded):
    with instrumented(gate, **recorded.providers, max_names=3):
        for number in range(50):
            gate.has(PRO, f"name {number}")
        labels = [name for name, *_ in recorded.checks()]
    assert sorted(labels) == ["name 0", "name 1", "name 2", "other", "other"][: len(labels)]
    assert len(recorded._logs.get_finished_logs()) == 50


def test_only_names_that_are_known_are_told_apart(gate, recorded):
    with instrumented(gate, **recorded.providers, names={"sso"}):
        for name in ("reports", "sso", "seats"):
            gate.has(PRO, name)
        assert {name for name, *_ in recorded.checks()} == {"sso", "other"}


# On and off


def test_nothing_is_made_before_it_is_switched_on():
    code = (
        "import sys; from entitlement_gate import EntitlementGate; from entitlement_gate.testing import FakeSource;"
        "gate = EntitlementGate(FakeSource()); gate.has('x', 'y');"
        "print([m for m in sys.modules if m.startswith('opentelemetry')], gate.is_heard)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[] False"


def test_without_an_sdk_it_does_nothing_and_harms_nobody(gate):
    with instrumented(gate):
        assert gate.has(PRO, "sso")
        flush()


def test_uninstrumenting_ends_it_and_it_can_begin_again(gate, recorded):
    for times in (1, 2):
        with instrumented(gate, **recorded.providers):
            gate.has(PRO, "sso")
        assert not gate.is_heard
        gate.has(PRO, "sso")
        uninstrument(gate)
        assert sum(recorded.checks().values()) == times
    assert recorded.metrics.get("entitlement_gate.customers", []) == []
    with instrumented(gate, **recorded.providers):
        assert [point.value for point in recorded.metrics["entitlement_gate.customers"]] == [1]


def test_gates_are_instrumented_and_left_one_by_one(gate, source, recorded):
    other_s = Recorded()
    with EntitlementGate(source) as other, instrumented(gate, **recorded.providers):
        with instrumented(other, **other_s.providers):
            assert gate.has(PRO, "sso")
            assert other.has(PRO, "sso")
        assert gate.has(PRO, "sso")
        assert (sum(recorded.checks().values()), sum(other_s.checks().values())) == (2, 1)


def test_every_gate_is_instrumented_at_once(gate, source, recorded):
    with (
        override_settings(ENTITLEMENT_GATE={"BASE_URL": "sandbox:", "DEADLINE": 30}),
        instrumented(**recorded.providers),
        EntitlementGate(source) as later,
    ):
        assert has_entitlement(PRO, "sso")
        assert gate.has(PRO, "sso")
        assert later.has(PRO, "sso")
        assert sum(recorded.checks().values()) == 3
        assert recorded.metrics["entitlement_gate.customers"][0].value >= 3


@pytest.mark.parametrize(("first", "second"), [("all", "all"), ("all", "one"), ("one", "all"), ("one", "one")])
def test_what_is_instrumented_already_stays_as_it_is(gate, recorded, caplog, first, second):
    of = {"all": None, "one": gate}
    with instrumented(of[first], **recorded.providers):
        instrument(of[second], **recorded.providers)
        assert "instrumented already" in caplog.text
        gate.has(PRO, "sso")
        assert sum(recorded.checks().values()) == 1
    assert _instrumented.telemetries == ()


def test_two_that_begin_at_once_record_each_check_once(gate, recorded, monkeypatch, caplog):
    make = recorded.providers["tracer_provider"].get_tracer
    others = []

    def make_while_another_begins(*args, **options):
        if not others:
            others.append(threading.Thread(target=instrument, kwargs=recorded.providers))
            others[0].start()
            others[0].join(0.2)  # with nothing to wait for it is through long before
        return make(*args, **options)

    monkeypatch.setattr(recorded.providers["tracer_provider"], "get_tracer", make_while_another_begins)
    with instrumented(**recorded.providers):
        others[0].join(60)
        assert "instrumented already" in caplog.text
        gate.has(PRO, "sso")
        assert sum(recorded.checks().values()) == 1


@pytest.mark.parametrize("options", [{"names": "sso"}, {"names": [1]}, {"max_names": -1}, {"max_names": "many"}])
def test_what_names_nothing_is_refused_where_it_is_said(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        instrument(**options)
    assert _instrumented.telemetries == ()


# Exporters that fail


class Hung:
    """An exporter that does not come back before it may."""

    def __init__(self):
        self.may_end, self.has_begun = threading.Event(), threading.Event()

    def export(self, batch):
        self.has_begun.set()
        assert self.may_end.wait(60)

    def force_flush(self, timeout_millis=0):
        return True

    def shutdown(self):
        pass


class Raising(Hung):
    def export(self, batch):
        raise RuntimeError(PRO)


@pytest.fixture(params=[Hung, Raising])
def broken(request):
    exporter = request.param()
    provider = LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    yield exporter, provider
    exporter.may_end.set()


def test_an_exporter_that_hangs_or_raises_fails_and_holds_up_no_check(gate, broken):
    exporter, provider = broken
    with instrumented(gate, logger_provider=provider):
        assert all(gate.has(PRO, "sso") for _ in range(1000))
        # Every check was answered while the first was still being exported, or had failed to be.
        if isinstance(exporter, Raising):
            flush()
        else:
            assert exporter.has_begun.wait(60)
            assert not exporter.may_end.is_set()
            exporter.may_end.set()


def test_checks_take_no_longer_while_the_exporter_hangs(gate, recorded):
    """Ordering, not time: each of these is answered before the exporter has let go of the first."""
    exporter = Hung()
    provider = LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    with instrumented(gate, logger_provider=provider):
        gate.has(PRO, "sso")
        assert exporter.has_begun.wait(60)
        threads = [threading.Thread(target=gate.check, args=(PRO, "sso")) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
        assert not exporter.may_end.is_set()
        exporter.may_end.set()


# Prometheus and Grafana


@pytest.fixture(scope="module")
def exported():
    """Everything that a Prometheus would scrape: sample name → the names of its labels."""
    source, recorded = FakeSource(), Recorded()
    meter_provider = MeterProvider([PrometheusMetricReader()])
    providers = {**recorded.providers, "meter_provider": meter_provider}
    source.grant(PRO, "calls", 10)
    with EntitlementGate(source) as gate, instrumented(gate, **providers):
        gate.consume(PRO, "calls")
        recorded.spans()
        samples = [sample for metric in REGISTRY.collect() for sample in metric.samples]
    meter_provider.shutdown()
    found = {}
    for sample in samples:
        found.setdefault(sample.name, set()).update(sample.labels)
    return found


def queries():
    dashboard = json.loads((PAGES / "opentelemetry" / "grafana-dashboard.json").read_text())
    rules = (PAGES / "opentelemetry" / "alerts.yml").read_text()
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for number, expr in enumerate(re.findall(r"^ +expr: (.+)$", rules, re.MULTILINE)):
        yield f"alert {number}", expr


@pytest.mark.parametrize(("title", "expr"), list(queries()))
def test_what_the_dashboard_and_the_alerts_ask_for_is_exported(exported, title, expr):
    asked = re.findall(r"\b(entitlement_gate_\w+)(?:\{([^}]*)\})?", expr)
    names = [(name, labels) for name, labels in asked if name in exported]
    assert names, f"{title} asks for nothing that is exported: {expr}"
    labels = set().union(*(exported[name] for name, _ in names))
    grouped = {label for group in re.findall(r"\bby \(([^)]*)\)", expr) for label in re.split(r",\s*", group)}
    matched = {label for _, given in asked for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", given)}
    assert grouped | matched <= labels
    others = {name for name, _ in asked} - set(exported) - grouped - matched
    assert not others, f"{title} asks for what is not exported: {others}"


def test_the_dashboard_is_what_grafana_imports():
    dashboard = json.loads((PAGES / "opentelemetry" / "grafana-dashboard.json").read_text())
    assert dashboard["id"] is None
    assert dashboard["uid"]
    assert dashboard["schemaVersion"] >= 39
    assert [variable["type"] for variable in dashboard["templating"]["list"]] == ["datasource"]
    taken = set()
    for panel in dashboard["panels"]:
        assert panel["type"] in ("timeseries", "stat", "row")
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
        columns, rows = (range(place[at], place[at] + place[size]) for at, size in ("xw", "yh"))
        cells = set(product(columns, rows))
        assert not cells & taken, f"{panel['title']} lies over another"
        taken |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
