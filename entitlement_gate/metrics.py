"""Observers: your own code, such as statsd counters, is called for every check, fetch and ledger call.

>>> class Counts(Observer):
...     def check(self, decision, seconds):
...         print(decision.entitlement, decision.reason)
>>> counts = Counts()
>>> observe(counts)  # in `AppConfig.ready()`, say
>>> unobserve(counts)

Where nobody observes it costs nothing. Where somebody does, each event costs a place in a queue: observers are called
on a thread of their own, so that one that is slow, hangs or raises holds up no check and breaks none.

The queue's theory of operation: its thread is *awake* from the first call on, and looks at the queue every ``_PAUSE``
until nothing came for ``_IDLE``. Only who finds it asleep wakes it, and it falls asleep before it looks at the queue
for the last time, so that no call is left behind. A call that hangs holds up the calls after it and nobody else: the
queue is bounded, and what comes on top is not made, with a line in the log once a minute.
"""

from __future__ import annotations

import atexit
import time
from collections import deque
from functools import cache
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from entitlement_gate.engine.observers import Fetch, LedgerCall, Observer, everywhere, log_observer_failure
from entitlement_gate.resilience.clock import Deadline
from entitlement_gate.resilience.effects import Completion
from entitlement_gate.resilience.failure_log import FailureLog
from entitlement_gate.resilience.fork_safety import members, notice_fork, remake_after_fork
from entitlement_gate.resilience.worker_pool import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable

    from entitlement_gate.domain.decisions import Decision
    from entitlement_gate.engine.gate import EntitlementGate

__all__ = ["Background", "Fetch", "LedgerCall", "Observer", "flush_observers", "observe", "unobserve"]

_AT_EXIT = 1.0  # seconds in which queued events are delivered before the process ends


def observe(observer: Observer, gate: EntitlementGate | None = None) -> None:
    """Call an observer for a gate, or for every gate of the process, the settings' own and later ones too.

    It is called on a thread of its own, soon afterwards and in order. Up to 10,000 events wait; what comes on top is
    left out, with a line in the log once a minute.

    Raises:
        TypeError: it is no ``Observer``.
    """
    if not isinstance(observer, Observer):
        raise TypeError(f"observe: an instance of a subclass of Observer, not {observer!r}")
    (everywhere.add if gate is None else gate.observe)(_BackgroundObserver(observer))
    _flush_at_exit()


def unobserve(observer: Observer, gate: EntitlementGate | None = None) -> None:
    """Stop calling an observer; where it was not called, do nothing."""
    (everywhere.discard if gate is None else gate.unobserve)(observer)


def flush_observers(seconds: float) -> bool:
    """Wait until all queued events are delivered; return False where that takes longer. For tests."""
    deadline = Deadline(seconds, time)
    return all(observer.flush(deadline) for observer in members(_background_observers))


class _BackgroundObserver(Observer):
    """Calls an observer on a thread of its own."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._background = Background()
        _background_observers.add(self)

    def check(self, decision: Decision, seconds: float) -> None:
        self._background.call(self._observer.check, decision, seconds)

    def fetch(self, fetch: Fetch) -> None:
        self._background.call(self._observer.fetch, fetch)

    def ledger(self, call: LedgerCall) -> None:
        self._background.call(self._observer.ledger, call)

    def flush(self, deadline: Deadline) -> bool:
        return self._background.flush(deadline)

    @property
    def hears_checks(self) -> bool:
        return self._observer.hears_checks

    def stands_for(self, observer: Observer) -> bool:
        return observer in (self, self._observer)


_background_observers: WeakSet[_BackgroundObserver] = WeakSet()


@cache  # once for the life of the process
def _flush_at_exit() -> None:
    atexit.register(flush_observers, _AT_EXIT)


# Seconds. To wake a thread costs whoever does it as much as 50 calls, and on a busy machine its turn.
_PAUSE = 0.1
_IDLE = 10.0
_MOMENT = 0.005  # between two looks of who flushes at whether there is a thread
_LOOK = 256  # calls between two looks at the id of the process: one costs as much as ten calls
_PATIENCE = 30.0  # seconds after which a call is taken for hung; there is one thread, so that frees no other


class Background:
    """A queue of calls, and the thread that makes them. At most ``MOST_WAITING`` wait."""

    MOST_WAITING = 10_000

    def __init__(self) -> None:
        self._workers = WorkerPool(1, time, _PATIENCE)
        self._log = FailureLog(time)
        self.remake()
        remake_after_fork(self)

    def remake(self) -> None:
        """Start again without a thread, as after a fork: what waited is the parent's to call."""
        self._workers.remake()
        self._waiting: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._hurry = Completion()
        self._is_awake = False

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Have it called; at once, whatever the calls before it do."""
        if len(self._waiting) % _LOOK == 0:  # a fork from C runs no hooks, and its child has no thread
            notice_fork()
        waiting = self._waiting
        if len(waiting) >= self.MOST_WAITING:
            self._log.note_warning("full", "observers are slower than what happens: they are not told of some of it")
            return
        waiting.append((function, args))
        if not self._is_awake:
            self._wake()

    def flush(self, deadline: Deadline) -> bool:
        """Wait until the calls queued by now are made; return False where that takes longer.

        Where no thread can be started, they are made here: from Python 3.12 on that is so at the end of a process.
        """
        done = Completion()
        self.call(done.set)
        self._hurry.set()
        while not done.is_set and deadline.remaining():
            if self._is_awake or not self._waiting or self._wake():
                deadline.pause(_MOMENT, done.wait)
            else:
                self._make_next()
        return done.is_set

    def _wake(self) -> bool:
        """Return whether a thread makes the calls: the process may be able to start none, or be at its end."""
        self._is_awake = True
        is_made = self._workers.submit(self._work, name=self)
        if not is_made:
            self._is_awake = False
        return is_made

    def _work(self) -> None:
        try:
            idle = Deadline(0.0, time)
            while self._waiting or idle.remaining():
                while self._waiting:
                    self._make_next()
                    idle = Deadline(_IDLE, time)
                idle.pause(_PAUSE, self._hurry.wait)
                self._hurry = Completion()
        finally:
            self._is_awake = False
            if self._waiting:
                self._wake()

    def _make_next(self) -> None:
        function, args = self._waiting.popleft()
        try:
            function(*args)
        except Exception as error:  # noqa: BLE001 - anybody's code
            log_observer_failure(self._log, getattr(function, "__qualname__", type(function).__qualname__), error)
