import subprocess
import sys
import threading
import time

import pytest
from django.http import HttpResponse
from django.test import RequestFactory, override_settings
from freezegun import freeze_time

from entitlement_gate import EntitlementGate, check_entitlement, has_entitlement, requires_entitlement
from entitlement_gate.api import default_gate
from entitlement_gate.metrics import Background, Observer, flush_observers, observe, unobserve
from entitlement_gate.resilience.clock import Deadline
from entitlement_gate.signals import entitlement_checked
from entitlement_gate.testing import FakeSource, override_entitlements
from tests.customers import PRO
from tests.engine.fakes import BERT, eventually


class Counts(Observer):
    def __init__(self):
        self.checks, self.threads, self.fetches = [], set(), []

    def check(self, decision, seconds):
        self.checks.append((decision.entitlement, str(decision.reason), decision.source))
        self.threads.add(threading.current_thread())

    def fetch(self, fetch):
        self.fetches.append(fetch.outcome)

    def told(self):
        assert flush_observers(60)
        return self.checks


@pytest.fixture
def counts(no_fetch_remains):
    counts = Counts()
    observe(counts)
    yield counts
    unobserve(counts)


@pytest.fixture
def project():
    with override_settings(ENTITLEMENT_GATE={"BASE_URL": "sandbox:", "DEADLINE": 30}):
        yield


def test_the_settings_gate_tells_of_each_check_on_a_thread_apart(project, counts):
    assert check_entitlement(PRO, "sso").allowed
    assert has_entitlement(PRO, "sso")
    assert not has_entitlement(PRO, "nothing of the kind")
    assert counts.told() == [
        ("sso", "allowed", "live"),
        ("sso", "allowed", "cache"),
        ("nothing of the kind", "not_entitled", "cache"),
    ]
    assert threading.current_thread() not in counts.threads
    # Who waited for a fetch goes on before it is told.
    eventually(lambda: flush_observers(60) and counts.fetches == ["found"], 60)


def test_a_gated_view_is_told_once_warm_too(project, counts):
    @requires_entitlement("sso", customer=lambda _: PRO)
    def view(request):
        raise AssertionError("it is not reached by who has none")

    gated = requires_entitlement("nothing of the kind", customer=lambda _: PRO)(view)
    for _ in range(2):
        assert gated(RequestFactory().get("/")).status_code == 403
    assert [name for name, *_ in counts.told()] == ["nothing of the kind"] * 2


@pytest.mark.parametrize(("name", "status"), [("sso", 200), ("nothing of the kind", 403)])
def test_what_a_request_knows_at_hand_is_told_once_too(counts, name, status):
    @requires_entitlement(name)
    def view(request):
        return HttpResponse()

    with override_settings(
        ENTITLEMENT_GATE={"BASE_URL": "sandbox:", "DEADLINE": 30, "CUSTOMER_RESOLVER": lambda _: PRO}
    ):
        for _ in range(3):
            assert view(RequestFactory().get("/")).status_code == status
    assert [asked for asked, *_ in counts.told()] == [name] * 3


def test_receivers_of_signals_and_observers_are_both_told(project, counts):
    received = []

    def receiver(decision, **_):
        received.append(decision.entitlement)

    entitlement_checked.connect(receiver)
    try:
        has_entitlement(PRO, "sso")
        has_entitlement(PRO, "sso")
    finally:
        entitlement_checked.disconnect(receiver)
    has_entitlement(PRO, "sso")
    assert received == ["sso"] * 2
    assert [name for name, *_ in counts.told()] == ["sso"] * 3
    assert default_gate().is_heard


def test_overrides_are_told_as_overrides(project, counts):
    with override_entitlements({"sso": True}):
        has_entitlement(PRO, "sso")
    assert counts.told() == [("sso", "override", "override")]


def test_the_ledger_is_heard_too():
    class Verbs(Observer):
        def __init__(self):
            self.told = []

        def ledger(self, call):
            self.told.append((call.verb, call.outcome))

    source, verbs = FakeSource(), Verbs()
    source.grant(PRO, "calls", 10)
    with EntitlementGate(source) as gate:
        observe(verbs, gate)
        gate.consume(PRO, "calls")
        assert flush_observers(60)
        assert ("consume", "done") in verbs.told
        assert not gate.is_heard


def test_an_observer_of_one_gate_hears_of_no_other():
    source = FakeSource()
    source.grant(PRO, "sso")
    counts = Counts()
    with EntitlementGate(source) as gate, EntitlementGate(source) as other:
        observe(counts, gate)
        gate.has(PRO, "sso")
        other.has(PRO, "sso")
        assert len(counts.told()) == 1
        unobserve(counts, gate)
        gate.has(PRO, "sso")
        assert len(counts.told()) == 1
        assert not gate.is_heard


def test_an_observer_that_hangs_holds_up_no_check(project):
    may_end, has_begun = threading.Event(), threading.Event()

    class Hung(Observer):
        def check(self, decision, seconds):
            has_begun.set()
            assert may_end.wait(60)

    hung = Hung()
    observe(hung)
    try:
        assert all(has_entitlement(PRO, "sso") for _ in range(100))
        assert has_begun.wait(60)
        assert not flush_observers(0)
        with freeze_time("2030-01-01"):  # where no time passes by the clock
            assert not flush_observers(0.05)
    finally:
        may_end.set()
        unobserve(hung)
    assert flush_observers(60)


@pytest.mark.parametrize("what", [Counts, object(), print, None])
def test_what_is_no_observer_is_refused(what):
    with pytest.raises(TypeError, match="a subclass of Observer"):
        observe(what)


@pytest.fixture
def background():
    return Background()


@pytest.fixture
def held(background):
    """Something that the thread is at, until it is let go."""
    may_end, has_begun = threading.Event(), threading.Event()

    def hold():
        has_begun.set()
        assert may_end.wait(60)

    background.call(hold)
    assert has_begun.wait(60)
    yield may_end
    may_end.set()


def test_calls_are_made_in_order_on_another_thread(background):
    made = []
    for number in range(100):
        background.call(lambda n: made.append((n, threading.current_thread())), number)
    assert background.flush(Deadline(60, time))
    assert [number for number, _ in made] == list(range(100))
    assert threading.current_thread() not in {thread for _, thread in made}


def test_it_wakes_again_after_it_fell_asleep(background, monkeypatch):
    monkeypatch.setattr("entitlement_gate.metrics._IDLE", 0)
    made = []
    for number in range(3):
        background.call(made.append, number)
        eventually(lambda: not background._is_awake, 60)
    assert made == [0, 1, 2]


def test_its_thread_falls_asleep_though_time_was_frozen_and_went_back(background, monkeypatch):
    monkeypatch.setattr("entitlement_gate.metrics._IDLE", 0.2)
    with freeze_time("2099-01-01"):
        background.call(list)
        eventually(lambda: not background._waiting, 60)
    eventually(lambda: not background._is_awake, 60)


def test_a_call_that_hangs_holds_up_the_calls_after_it_and_nobody_else(background, held, caplog):
    made = []
    for number in range(background.MOST_WAITING + 10):
        background.call(made.append, number)
    assert not background.flush(Deadline(0, time))
    assert made == []
    assert [record.getMessage() for record in caplog.records] == [
        "observers are slower than what happens: they are not told of some of it"
    ]
    held.set()
    eventually(lambda: len(made) == background.MOST_WAITING, 60)
    assert made == list(range(background.MOST_WAITING))


def test_a_call_that_raises_is_logged_by_its_class_and_the_next_is_made(background, caplog):
    made = []

    def fails():
        raise RuntimeError(BERT)

    background.call(fails)
    background.call(made.append, 1)
    assert background.flush(Deadline(60, time))
    assert made == [1]
    (record,) = caplog.records
    assert record.getMessage().endswith("fails: RuntimeError")
    assert BERT not in caplog.text


def test_a_call_that_strikes_the_thread_leaves_none_behind(background, held, caplog):
    def strike():
        raise SystemExit

    made = []
    background.call(strike)
    background.call(made.append, 1)
    held.set()
    assert background.flush(Deadline(60, time))
    assert made == [1]
    assert "interrupted at its work: SystemExit" in caplog.text


def test_a_forked_process_has_a_queue_of_its_own(background, held):
    made = []
    background.call(made.append, "the parent's")
    background.remake()
    background.call(made.append, "the child's")
    assert background.flush(Deadline(60, time))
    assert made == ["the child's"]


@pytest.mark.parametrize("inherited", [0, 100])
def test_a_fork_that_python_was_not_told_of_is_noticed(background, held, monkeypatch, inherited):
    made = []
    for _ in range(inherited):
        background.call(made.append, "the parent's")
    monkeypatch.setattr("entitlement_gate.metrics.notice_fork", background.remake)
    for number in range(256):
        background.call(made.append, number)
    monkeypatch.undo()
    assert background.flush(Deadline(60, time))
    assert "the parent's" not in made
    assert made[-1] == 255


def test_where_no_thread_can_be_started_nothing_is_raised(background, monkeypatch):
    made = []
    with monkeypatch.context() as patch:
        patch.setattr(background._workers, "submit", lambda *_, **__: False)
        background.call(made.append, 1)
        assert not background.flush(Deadline(0, time))
    assert background.flush(Deadline(60, time))
    assert made == [1]


def test_where_no_thread_can_be_started_the_one_that_flushes_makes_the_calls(background, monkeypatch):
    makers = []
    monkeypatch.setattr(background._workers, "submit", lambda *_, **__: False)
    background.call(lambda: makers.append(threading.current_thread()))
    background.call(lambda: 1 / 0)
    assert background.flush(Deadline(60, time))
    assert makers == [threading.current_thread()]


def test_one_that_flushes_waits_no_longer_where_its_place_in_the_queue_was_taken(background, monkeypatch):
    monkeypatch.setattr(background._workers, "submit", lambda *_, **__: False)
    made = []
    for number in range(background.MOST_WAITING):
        background.call(made.append, number)
    assert not background.flush(Deadline(0.5, time))  # it stands behind none of them
    eventually(lambda: background.flush(Deadline(60, time)), 60)
    assert made == list(range(background.MOST_WAITING))


SCRIPT = """
import atexit, os, sys
from entitlement_gate import EntitlementGate
from entitlement_gate.metrics import Observer, flush_observers, observe
from entitlement_gate.testing import FakeSource

class Printed(Observer):
    def check(self, decision, seconds):
        print(decision.entitlement, os.getpid() == parent, flush=True)

parent, customer, source = os.getpid(), "20000000-0000-4000-8000-000000000002", FakeSource()
source.grant(customer, "sso")
gate = EntitlementGate(source)
if sys.argv[1] == "is at its end":
    gate.has(customer, "sso")  # from a fetch; the next needs none
    observe(Printed(), gate)
    atexit.register(gate.has, customer, "sso")
    sys.exit()
observe(Printed(), gate)
gate.has(customer, "sso")
if sys.argv[1] == "forks":
    flush_observers(60)
    child = os.fork()
    gate.has(customer, "sso")
    if not child:
        flush_observers(60)
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("ends", ["sso True"]),
        ("is at its end", ["sso True"]),
        ("forks", ["sso False", "sso True", "sso True"]),
    ],
)
def test_what_happened_is_told_when_the_process_ends_and_in_a_child_that_is_forked(what, told):
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, what]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert sorted(done.stdout.splitlines()) == told
