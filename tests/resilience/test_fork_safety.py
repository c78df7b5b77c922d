import ast
import gc
import os
import threading
import weakref
from pathlib import Path

import pytest

from entitlement_gate.resilience import fork_safety

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),  # other tests leave threads behind
]


class Thing:
    remade = 0

    def remake(self):
        self.remade += 1


def remade_in_child(*things):
    """Fork, and give how often each thing was remade in the child."""
    child = os.fork()
    if child == 0:
        os._exit(sum(thing.remade * 10**place for place, thing in enumerate(things)))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_everything_alive_is_remade_once_in_the_child_and_never_in_the_parent():
    one, other = Thing(), Thing()
    fork_safety.remake_after_fork(one)
    fork_safety.remake_after_fork(other)
    fork_safety.remake_after_fork(one)

    assert remade_in_child(one, other) == 11
    assert (one.remade, other.remade) == (0, 0)


def test_after_all_have_gone_a_new_one_is_still_remade_once():
    for _ in range(3):
        thing = Thing()
        fork_safety.remake_after_fork(thing)
        assert remade_in_child(thing) == 1
        del thing
        gc.collect()


def test_being_remade_keeps_nothing_alive():
    thing = Thing()
    fork_safety.remake_after_fork(thing)
    gone = weakref.ref(thing)
    del thing
    gc.collect()

    assert gone() is None


def test_a_system_that_does_not_fork_needs_nothing(monkeypatch):
    monkeypatch.delattr(os, "register_at_fork")
    fork_safety._watch_forks.__wrapped__()


@pytest.fixture
def strange(monkeypatch):
    """Let the process look like one that was forked unnoticed, to what the test makes and nothing else."""
    monkeypatch.setattr(fork_safety, "_alive", weakref.WeakSet())

    def look_strange():
        monkeypatch.setattr(fork_safety._Process, "pid", 0)

    return look_strange


class Parted(Thing):
    """Has something of its own in each process."""

    part = fork_safety.PerProcess()

    def __init__(self):
        self.begun = threading.Event()
        self.remake()
        fork_safety.remake_after_fork(self)

    def remake(self):
        self.begun.set()
        self.part = object()
        self.remade += 1


def test_who_reads_what_belongs_to_a_process_has_noticed_a_fork(strange):
    thing = Parted()
    before = thing.part
    assert thing.part is before
    strange()
    assert thing.part is not before
    assert thing.part is thing.part
    assert thing.remade == 2


def test_threads_that_come_first_together_find_all_of_it_remade_once(strange):
    things = [Parted() for _ in range(3)]
    before = {thing.part for thing in things}
    strange()
    start, found = threading.Barrier(8), []

    def look(thing):
        start.wait()
        found.append(thing.part)

    crowd = [threading.Thread(target=look, args=(things[number % 3],)) for number in range(8)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    assert [thing.remade for thing in things] == [2, 2, 2]
    assert set(found) == {thing.part for thing in things}
    assert not before & set(found)


def test_a_thread_waits_for_the_one_that_is_at_it(strange):
    class Slow(Parted):
        go_on = threading.Event()

        def remake(self):
            self.begun.set()
            self.go_on.wait(10)
            super().remake()

    Slow.go_on.set()
    thing, found = Slow(), []
    before = thing.part
    Slow.go_on.clear()
    thing.begun.clear()
    strange()
    first, second = (threading.Thread(target=lambda: found.append(thing.part)) for _ in range(2))
    first.start()
    assert thing.begun.wait(10)
    second.start()
    second.join(0.05)
    assert not found
    Slow.go_on.set()
    for thread in (first, second):
        thread.join(10)
    assert found == [thing.part] * 2
    assert found[0] is not before
    assert thing.remade == 2


def test_what_reads_itself_as_it_is_remade_is_not_remade_for_that(strange):
    class Reader(Parted):
        def remake(self):
            super().remake()
            assert self.part is vars(self)["part"]

    thing = Reader()
    strange()
    assert thing.part
    assert thing.remade == 2


def test_a_takeover_that_was_struck_down_is_made_by_the_next(strange):
    class Struck(Parted):
        blow = None

        def remake(self):
            super().remake()
            if self.blow is not None:
                raise self.blow

    thing = Struck()
    strange()
    thing.blow = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        thing.part  # noqa: B018 - reading it is what counts
    thing.blow = None
    assert thing.part
    assert thing.remade == 3


def test_what_is_made_in_a_child_notices_the_fork_before_it_counts_as_the_childs(strange):
    old = Parted()
    strange()
    new = Parted()
    assert (old.remade, new.remade) == (2, 1)


def test_a_child_that_has_its_parents_id_in_a_namespace_of_its_own_is_a_child_all_the_same(strange):
    thing = Parted()
    fork_safety._be_a_child()  # what Python runs in each child of its own
    assert thing.remade == 2


def locked_things():
    from entitlement_gate.resilience.token_bucket import TokenBucket
    from entitlement_gate.sandbox import Sandbox, Scenario
    from entitlement_gate.signals import QuietSignal, WatchedSignal
    from entitlement_gate.testing import FakeSource
    from entitlement_gate.testing.fakes import MovableClock

    source = FakeSource()
    source.grant("10000000-0000-4000-8000-000000000001", "sso")
    sandbox = Sandbox(Scenario.default())
    return {
        "TokenBucket": (TokenBucket(1, rate=1), lambda it: it.spend()),
        "FakeSource": (source, lambda it: it.fetch("10000000-0000-4000-8000-000000000001")),
        "MovableClock": (MovableClock(), lambda it: it.advance(1)),
        "Sandbox": (sandbox, lambda it: it.requests),
        "Faults": (sandbox.faults, lambda it: it.clear()),
        "Billing": (sandbox, lambda it: it.grant("10000000-0000-4000-8000-000000000001", "sso")),
        "UsageBook": (sandbox._usage, lambda it: it.events),
        "QuietSignal": (QuietSignal(), lambda it: it.connect(locked_things)),
        "WatchedSignal": (WatchedSignal(), lambda it: it.connect(locked_things)),
    }


@pytest.mark.parametrize(
    "name",
    [
        "Billing",
        "Faults",
        "FakeSource",
        "MovableClock",
        "QuietSignal",
        "Sandbox",
        "TokenBucket",
        "UsageBook",
        "WatchedSignal",
    ],
)
def test_a_lock_that_was_held_at_a_fork_is_free_in_the_child(name, strange):
    thing, use = locked_things()[name]
    with vars(thing).get("_lock") or vars(thing)["lock"]:
        strange()
        user = threading.Thread(target=use, args=(thing,), daemon=True)
        user.start()
        user.join(10)
        assert not user.is_alive()


def test_a_gate_that_is_half_made_at_a_fork_is_made_anew_in_the_child(strange):
    from entitlement_gate.engine.gate import EntitlementGate
    from entitlement_gate.testing import FakeSource

    half_made, may_go_on = [], threading.Event()
    has_begun = threading.Event()

    class Slow(EntitlementGate):
        def _has_listeners(self):
            if not half_made:
                half_made.append(self)
                has_begun.set()
                may_go_on.wait(60)
            return False

    maker = threading.Thread(target=Slow, args=(FakeSource(),), daemon=True)
    maker.start()
    assert has_begun.wait(60)
    strange()
    other = threading.Thread(target=half_made[0].mind_observers, daemon=True)
    other.start()
    other.join(10)
    assert not other.is_alive()
    may_go_on.set()
    maker.join()


MAKERS = {"BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore"}
OTHERWISE = {
    ("api.py", "_lock"),  # of a class, and read through `locked()`
    ("worker_pool.py", "_outcome"),  # of one call
    ("connection.py", "_lock"),  # its owner makes it anew as a whole
    ("fork_safety.py", "_lock"),  # `Locked` itself
    ("server.py", "_guard"),  # a server's threads do not outlive a fork
    ("server.py", "stopping"),
    ("starlette.py", "_looking_up"),  # of one request
}


def belongings(tree):
    """Yield the names that a module's objects keep locks and the like under, and those that are of one process."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) and "PerProcess" in ast.unparse(node.annotation):
            yield "of one process", node.target.id
        is_call = isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Call)
        if is_call and ast.unparse(node.value.func).rpartition(".")[2] in MAKERS:
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            yield "made", ast.unparse(target).rpartition(".")[2]


def test_every_lock_of_the_package_is_of_one_process():
    found = set()
    for path in Path(fork_safety.__file__).parents[1].rglob("*.py"):
        told = set(belongings(ast.parse(path.read_text("utf-8"))))
        mine = {name for what, name in told if what == "of one process"}
        found |= {(path.name, name) for what, name in told if what == "made" and name not in mine}
    assert found <= OTHERWISE


def test_what_spreads_load_differs_in_every_child():
    drawing = set()
    for path in Path(fork_safety.__file__).parents[1].rglob("*.py"):
        imports = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Import)]
        drawing |= {path.name for node in imports for name in node.names if name.name == "random"}
    assert drawing == {"fork_safety.py"}  # where `chance` is made, which does not repeat what the parent drew
