import sys
import threading
from weakref import WeakSet

import pytest

from entitlement_gate.resilience.weak_sets import members
from entitlement_gate.signals import WatchedSignal


class Watcher:
    minded = 0

    def mind_listeners(self):
        self.minded += 1


class Crowded(WeakSet):
    """A set to which somebody else adds while it is walked for the first time."""

    walks = 0

    def __iter__(self):
        self.walks += 1
        for each in super().__iter__():
            if self.walks == 1:
                self.add(another)
            yield each


another = Watcher()


@pytest.fixture
def fast_switching():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_who_comes_while_a_set_is_walked_stops_nobody():
    first = Watcher()
    assert set(members(Crowded([first]))) == {first, another}


def test_receivers_come_and_go_while_gates_are_made(fast_switching):
    signal, kept, is_over = WatchedSignal(), [], threading.Event()

    def make():
        while not is_over.is_set() and len(kept) < 20_000:
            kept.append(Watcher())
            signal.watchers.add(kept[-1])

    maker = threading.Thread(target=make)
    maker.start()
    for _ in range(200):
        signal.connect(make)
        signal.disconnect(make)
    is_over.set()
    maker.join()
    assert kept[0].minded
