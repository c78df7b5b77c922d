"""What projects may listen to. Sent robustly, and only when somebody listens: a receiver never breaks a check.

==========================  ==========================================================  =====================
signal                      sent                                                        arguments
==========================  ==========================================================  =====================
``entitlement_checked``     for each check through the settings' gate, warm or not      ``decision``
``entitlement_denied``      for each of them that refuses, or would outside shadow      ``decision``
``entitlements_refreshed``  when a fetch brought a snapshot, after who waited has it    ``snapshot``
``source_failed``           when a fetch failed, after who waited was told              ``customer_id, error``
==========================  ==========================================================  =====================

A check is whatever gives a decision on demand: functions, gates of views, tags, and ``check``, ``has`` and ``require``
of what ``get_entitlements`` gave or ``request.entitlements`` is. Reading those as mappings is none.

The sender is the gate's class. The last two are sent on threads of their own: see ``SendingPool``.
"""

from __future__ import annotations

import logging
import math
import time
from asyncio import CancelledError, current_task
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet

from django.dispatch import Signal

from entitlement_gate.resilience.failure_log import FailureLog, traceback_to_log
from entitlement_gate.resilience.fork_safety import Lock, PerProcess, members, remake_after_fork
from entitlement_gate.resilience.worker_pool import WorkerPool
from entitlement_gate.waiting import run_beside_loop

if TYPE_CHECKING:
    from entitlement_gate.resilience.clock import Clock

__all__ = [
    "Listened",
    "QuietSignal",
    "SendingPool",
    "Sent",
    "WatchedSignal",
    "entitlement_checked",
    "entitlement_denied",
    "entitlements_refreshed",
    "source_failed",
]

_logger = logging.getLogger("entitlement_gate")


class Listened(Protocol):
    """Something that does more where somebody listens."""

    def mind_listeners(self) -> None:
        """Look again whether somebody does."""


class QuietSignal(Signal):
    """A signal whose failing receivers are logged without the text of the error, which may contain a customer id.

    Its lock is one of ours: Django's own, held by a thread of the parent at a fork, would stop every check of a child.
    """

    lock: PerProcess[Lock] = PerProcess()  # type: ignore[assignment]  # Django needs no more of it than `with`

    def __init__(self) -> None:
        super().__init__()
        remake_after_fork(self)

    def remake(self) -> None:
        """Make the lock anew, as in a process just forked; who listens stays."""
        self.lock = Lock()

    def _log_robust_failure(self, receiver: Any, err: BaseException) -> None:
        # Django's own takes the text, and a name that a partial does not have.
        name = getattr(receiver, "__qualname__", type(receiver).__qualname__)
        kind = type(err).__name__
        _logger.error("a receiver of a signal failed: %s: %s", name, kind, exc_info=traceback_to_log(err))


class WatchedSignal(QuietSignal):
    """A signal that says when somebody begins to listen: a warm check looks at nothing, not even at that."""

    def __init__(self) -> None:
        super().__init__()
        self.watchers: WeakSet[Listened] = WeakSet()

    def connect(self, *args: Any, **kwargs: Any) -> None:
        """Connect, and notify the watchers."""
        super().connect(*args, **kwargs)
        self._notify()

    def disconnect(self, *args: Any, **kwargs: Any) -> bool:
        """Disconnect, and notify the watchers."""
        was_connected = super().disconnect(*args, **kwargs)
        self._notify()
        return was_connected

    def _notify(self) -> None:
        for watcher in members(self.watchers):
            watcher.mind_listeners()


entitlement_checked = WatchedSignal()
entitlement_denied = WatchedSignal()
entitlements_refreshed = QuietSignal()
source_failed = QuietSignal()


class Sent:
    """A signal to wait for: receivers of either colour, from either door. What one raises is logged."""

    __slots__ = ("_arguments", "_sender", "_signal")

    def __init__(self, signal: Signal, sender: object, **arguments: Any) -> None:
        self._signal = signal
        self._sender = sender
        self._arguments = arguments

    @property
    def is_heard(self) -> bool:
        """Whether anybody listens."""
        return bool(self._signal.receivers)

    def wait(self) -> None:
        """Send on this thread; on another where a loop runs on this one, which no receiver could await anything in."""
        try:
            run_beside_loop(self._send)
        except (Exception, CancelledError) as error:  # noqa: BLE001 - receivers are anybody's code
            _log_failure(error)

    async def wait_async(self) -> None:
        """Send from this loop."""
        try:
            await self._signal.asend_robust(self._sender, **self._arguments)
        except (Exception, CancelledError) as error:  # receivers are anybody's code
            if _is_cancelled(error):
                raise
            _log_failure(error)

    def _send(self) -> None:
        self._signal.send_robust(self._sender, **self._arguments)


class SendingPool:
    """Sends signals on threads of its own: a receiver holds up nobody who waits for a fetch, and no other fetch.

    At most ``MOST_WAITING`` wait for a thread. What comes on top of them is not sent, and a line in the log.
    """

    _lock: PerProcess[Lock] = PerProcess()

    MOST_WAITING = 1000
    _THREADS = 4
    _LOOK_EVERY = 0.005  # seconds: a lock to wait at would stay held for ever where a time limit strikes whoever has it
    _PATIENCE = 30.0  # seconds after which a receiver is taken for hung, and another thread may take its place

    def __init__(self, clock: Clock) -> None:
        self._workers = WorkerPool(self._THREADS, clock, self._PATIENCE)
        self._log = FailureLog(clock)
        self.remake()

    def remake(self) -> None:
        """Make locks and threads anew, as after a fork: what waited is the parent's to send."""
        self._workers.remake()
        self._expected = 0
        self._waiting = 0
        self._lock = Lock()

    def expect(self) -> None:
        """Note that one more signal is to come, for ``settle``."""
        with self._lock:
            self._expected += 1

    def send(self, signal: Sent) -> None:
        """Have a signal that was expected sent, if anybody listens; at once, whatever its receivers do."""
        with self._lock:
            is_full = self._waiting >= self.MOST_WAITING
            is_taken = signal.is_heard and not is_full
            self._expected = max(0, self._expected - 1)
            self._waiting += is_taken
        if is_taken and not self._workers.submit(partial(self._send, signal)):
            self._done()
        elif signal.is_heard and is_full:
            self._log.note_warning("full", "receivers are slower than fetches: some signals about fetches are not sent")

    def close(self) -> None:
        """Take no further signal; those that wait are sent yet, and nobody waits for that."""
        self._workers.close()

    def settle(self, seconds: float) -> bool:
        """Wait until all that was expected is sent; return False where that takes longer."""
        for _ in range(math.ceil(seconds / self._LOOK_EVERY)):
            if not (self._expected or self._waiting):
                break
            time.sleep(self._LOOK_EVERY)
        return not (self._expected or self._waiting)

    def _send(self, signal: Sent) -> None:
        try:
            signal.wait()
        except BaseException as error:  # noqa: BLE001 - whatever a receiver raises ends no thread
            _log_failure(error)
        finally:
            self._done()

    def _done(self) -> None:
        with self._lock:
            self._waiting -= 1


def _is_cancelled(error: BaseException) -> bool:
    """Whether it is us that somebody cancelled, and not what a receiver waited for."""
    task = current_task()
    return isinstance(error, CancelledError) and task is not None and task.cancelling() > 0


def _log_failure(error: BaseException) -> None:
    kind = type(error).__name__
    _logger.error("a signal did not reach all of its receivers: %s", kind, exc_info=traceback_to_log(error))
