"""A lock whose holder may be struck by an exception at any instant."""

import signal
import sys
import threading
import time
from weakref import WeakSet

import pytest

from entitlement_gate.resilience import fork_safety
from entitlement_gate.resilience.fork_safety import Lock, members
from entitlement_gate.signals import WatchedSignal
from tests.engine.fakes import eventually


class Strike(Exception):
    pass


@pytest.fixture
def lock():
    return Lock()


def is_free(lock):
    """Whether another thread gets it."""
    got = threading.Event()

    def take():
        with lock:
            got.set()

    taker = threading.Thread(target=take, daemon=True)
    taker.start()
    return got.wait(10)


def leave_held(lock):
    """Take it and never give it back, as an exception between the two may have it."""
    lock.__enter__()


def test_one_thread_at_a_time(lock):
    counted, most = [], []

    def count():
        for _ in range(300):
            with lock:
                counted.append(1)
                most.append(len(counted))
                time.sleep(0)
                counted.pop()

    crowd = [threading.Thread(target=count) for _ in range(6)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    assert set(most) == {1}
    assert len(most) == 1_800


def test_it_is_given_back_whatever_the_block_raises(lock):
    with pytest.raises(KeyError), lock:
        raise KeyError
    assert is_free(lock)


def test_others_wait_while_it_is_held(lock):
    order = []

    def take():
        with lock:
            order.append("other")

    other = threading.Thread(target=take)
    with lock:
        other.start()
        other.join(0.05)
        order.append("holder")
    other.join(10)
    assert order == ["holder", "other"]


def test_a_block_may_take_what_it_holds(lock):
    def inner():
        with lock:
            return "inner"

    with lock:
        assert inner() == "inner"
        assert inner() == "inner"
        waiting = threading.Thread(target=leave_held, args=(lock,))
        waiting.start()
        waiting.join(0.05)
        assert waiting.is_alive()  # what the inner block gave back was its own
    waiting.join(10)
    assert is_free(lock)


def test_who_has_left_without_giving_it_back_holds_it_no_more(lock):
    leave_held(lock)
    with lock:
        pass
    leave_held(lock)
    assert is_free(lock)


def test_neither_does_one_who_came_by_it_that_way(lock):
    for _ in range(3):
        leave_held(lock)  # each finds it left behind by the one before
    assert is_free(lock)


def test_a_block_within_a_block_of_the_same_function_gives_back_its_own(lock):
    with lock:
        with lock:
            pass
        waiting = threading.Thread(target=leave_held, args=(lock,))
        waiting.start()
        waiting.join(0.05)
        assert waiting.is_alive()
    waiting.join(10)
    assert is_free(lock)


def test_who_was_struck_on_the_way_in_and_goes_on_gets_it_again(lock):
    def goes_on():
        for _ in range(3):
            lock.__enter__()  # and never comes to its block
            with lock:
                pass
        done.append(True)

    done = []
    going = threading.Thread(target=goes_on, daemon=True)
    going.start()
    going.join(10)
    assert done
    assert is_free(lock)


def test_an_inner_block_that_was_struck_leaves_the_outer_one_its_lock(lock):
    with lock:
        leave_held(lock)
        waiting = threading.Thread(target=leave_held, args=(lock,))
        waiting.start()
        waiting.join(0.05)
        assert waiting.is_alive()
    waiting.join(10)
    assert is_free(lock)


def test_many_who_are_struck_and_many_who_are_not_never_meet(lock):
    inside, met = [], []

    def hold(is_struck):
        lock.__enter__()
        inside.append(1)
        met.append(len(inside))
        time.sleep(0)
        inside.pop()
        if not is_struck:
            lock.__exit__()

    def work(number):
        for turn in range(100):
            hold(is_struck=(turn + number) % 3 == 0)

    crowd = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join(60)
    assert len(met) == 600
    assert set(met) == {1}


def held_for_a_moment(lock):
    with lock:
        time.sleep(0)


class Striker:
    """Strikes at the given step of those that a holder and the lock take, counted from 1."""

    def __init__(self, grain, at):
        self.grain = grain
        self.left = at

    def __call__(self, frame, event, _):
        if frame.f_code.co_filename not in {fork_safety.__file__, __file__}:
            return None
        frame.f_trace_opcodes = self.grain == "opcode"
        self.left -= event == self.grain
        if self.left == 0 and event == self.grain:
            raise Strike
        return self


def is_struck(striker, lock):
    before = sys.gettrace()
    sys.settrace(striker)
    try:
        held_for_a_moment(lock)
    except Strike:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize("grain", ["line", "opcode"])
def test_wherever_an_exception_strikes_it_is_free_afterwards(grain):
    at = 1
    while is_struck(Striker(grain, at), lock := Lock()):
        held_for_a_moment(lock)
        assert is_free(lock), at
        at += 1
    assert at > 5


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="this system has no such signals")
def test_a_signal_handler_takes_what_the_code_that_it_interrupts_holds(lock):
    taken = []

    def handle(*_):
        with lock:
            taken.append(True)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        with lock:
            signal.raise_signal(signal.SIGUSR1)
            assert taken == [True]
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert is_free(lock)


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
        while not is_over.is_set() and len(kept) < 2_000:
            kept.append(Watcher())
            signal.watchers.add(kept[-1])

    maker = threading.Thread(target=make)
    maker.start()
    eventually(lambda: len(signal.watchers))
    for _ in range(200):
        signal.connect(make)
        signal.disconnect(make)
    is_over.set()
    maker.join()
    assert kept[0].minded
