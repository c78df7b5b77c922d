"""Counts of your own, for statsd or whatever else: what hears of every check, fetch and verb of a ledger.

>>> class Counts(Observer):
...     def check(self, decision, seconds):
...         print(decision.entitlement, decision.reason)
>>> counts = Counts()
>>> observe(counts)  # in `AppConfig.ready()`, say
>>> unobserve(counts)

Where nobody observes it costs nothing. Where somebody does, each event costs a place in a queue: observers are called
on a thread of their own, so that one that is slow, hangs or raises holds up no check and breaks none. Never here: what
is counted.
"""

from __future__ import annotations

import atexit
import time
from functools import cache
from typing import TYPE_CHECKING
from weakref import WeakSet

from entitlement_gate.engine.observers import Fetch, LedgerCall, Observer, everywhere
from entitlement_gate.resilience.background import Background
from entitlement_gate.resilience.lock import members

if TYPE_CHECKING:
    from entitlement_gate.domain.decisions import Decision
    from entitlement_gate.engine.gate import EntitlementGate

__all__ = [
    "Fetch",
    "LedgerCall",
    "Observer",
    "flush_observers",
    "observe",
    "unobserve",
]

_AT_EXIT = 1.0  # seconds in which what has happened is told before the process ends


def observe(observer: Observer, gate: EntitlementGate | None = None) -> None:
    """Let an observer hear of a gate, or of every gate of the process, the settings' own and later ones too.

    It is called on a thread of its own, soon afterwards and in order. Up to 10,000 events wait; what comes on top is
    left out, with a line in the log once a minute.

    Raises:
        TypeError: it is no ``Observer``.
    """
    if not isinstance(observer, Observer):
        raise TypeError(f"observe: an instance of a subclass of Observer, not {observer!r}")
    (everywhere.add if gate is None else gate.observe)(_Aside(observer))
    _flush_at_exit()


def unobserve(observer: Observer, gate: EntitlementGate | None = None) -> None:
    """Let it hear no more; where it heard nothing, do nothing."""
    (everywhere.discard if gate is None else gate.unobserve)(observer)


def flush_observers(seconds: float) -> bool:
    """Wait until observers were told of all that has happened; return False where that takes longer. For tests."""
    until = time.monotonic() + seconds
    return all(aside.flush(max(0.0, until - time.monotonic())) for aside in members(_asides))


class _Aside(Observer):
    """Tells an observer on a thread apart."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._background = Background()
        _asides.add(self)

    def check(self, decision: Decision, seconds: float) -> None:
        self._background.call(self._observer.check, decision, seconds)

    def fetch(self, fetch: Fetch) -> None:
        self._background.call(self._observer.fetch, fetch)

    def ledger(self, call: LedgerCall) -> None:
        self._background.call(self._observer.ledger, call)

    def flush(self, seconds: float) -> bool:
        return self._background.flush(seconds)

    @property
    def hears_checks(self) -> bool:
        return self._observer.hears_checks

    def stands_for(self, observer: Observer) -> bool:
        return observer in (self, self._observer)


_asides: WeakSet[_Aside] = WeakSet()


@cache  # once for the life of the process
def _flush_at_exit() -> None:
    atexit.register(flush_observers, _AT_EXIT)
