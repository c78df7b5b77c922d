"""How anything here is timed: contestants take turns in rounds, and are compared within each round.

On a machine that does other things as well, a round's figures rise and fall together; their ratio does not.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from random import Random
from statistics import median, quantiles
from typing import Any

__all__ = ["COMPUTING", "Batch", "Refused", "Sample", "Shared", "compared", "interleaved", "undisturbed", "walk"]

Batch = Callable[[Sequence[Any]], Any]
"""Asks for every subject in turn, and returns the first one refused, or None."""


COMPUTING = time.process_time
"""The clock of what this process computes, on all of its threads."""

_MOST_CALLS = 1 << 20


class Refused(Exception):
    """A timed call said no to somebody who may: its time would mean nothing."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What the rounds say of one contestant.

    Attributes:
        seconds: an operation's time, the median of the rounds.
        ratio: to the reference, the median of the rounds' ratios.
        low: lower quartile of those ratios.
        high: upper quartile.
    """

    seconds: float
    ratio: float
    low: float
    high: float


def interleaved(timers: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Let every timer run once a round, in another order each round; returns seconds by name and round.

    Merely rotating would leave everybody behind the same predecessor, and some leave the processor's caches warmer
    than others.
    """
    names = list(timers)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with undisturbed():
        for turn in range(rounds):
            for name in Random(turn).sample(names, len(names)):  # noqa: S311 - an order, no secret
                seconds[name].append(timers[name]())
    return seconds


def compared(seconds: Mapping[str, Sequence[float]], reference: str) -> dict[str, Sample]:
    """Return each contestant's figures beside those of the reference in the same rounds.

    >>> compared({"a": [1.0, 2.0, 4.0], "b": [3.0, 6.0, 12.0]}, "a")["b"]
    Sample(seconds=6.0, ratio=3.0, low=3.0, high=3.0)
    """
    return {name: _sample(own, seconds[reference]) for name, own in seconds.items()}


def _sample(own: Sequence[float], reference: Sequence[float]) -> Sample:
    ratios = [mine / its for mine, its in zip(own, reference, strict=True)]
    low, _, high = quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    return Sample(median(own), median(ratios), low, high)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep the garbage collector out of the figures, as ``timeit`` does."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def walk(
    batch: Batch,
    subjects: Sequence[Any],
    *,
    seconds: float,
    threads: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> Callable[[], float]:
    """Return a timer of one call, which walks on through the subjects at each round.

    Args:
        batch: see ``Batch``.
        subjects: in the order in which they are asked for; at the end it starts again.
        seconds: how long a round should take; the number of calls is settled here, by trying.
        threads: so many share the calls of a round. The time is that of all together, over all calls.
        clock: ``COMPUTING`` where nothing is waited for: another program's turn on the processor, in the middle of a
            round, is none of its time.
    """
    calls = _calls_within(batch, subjects, seconds, clock)
    places = count(0, calls)

    def timed() -> float:
        place = next(places) % len(subjects)
        whole_turns = calls // len(subjects) + 2
        turn = (list(subjects) * whole_turns)[place : place + calls]
        return _timed(batch, turn, clock) if threads == 1 else Shared(batch, turn, threads, clock).timed()

    return timed


def _calls_within(batch: Batch, subjects: Sequence[Any], seconds: float, clock: Callable[[], float]) -> int:
    calls = 8
    while True:
        turn = (list(subjects) * (calls // len(subjects) + 1))[:calls]
        took = _timed(batch, turn, clock) * calls
        if took > seconds / 8 or calls >= _MOST_CALLS:
            return min(_MOST_CALLS, max(8, int(calls * seconds / took)))
        calls *= 4


def _timed(batch: Batch, subjects: Sequence[Any], clock: Callable[[], float]) -> float:
    began = clock()
    refusal = batch(subjects)
    took = clock() - began
    if refusal is not None:
        raise Refused(str(refusal))
    return took / len(subjects)


class Shared:
    """One round of calls, shared by threads that start at once."""

    def __init__(
        self, batch: Batch, subjects: Sequence[Any], threads: int, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._batch = batch
        self._clock = clock
        self._subjects = subjects
        self._parts = [subjects[first::threads] for first in range(threads)]
        self._line = threading.Barrier(threads + 1)
        self._refusals: list[Any] = []

    def timed(self) -> float:
        """Return the seconds of all threads together, over all calls."""
        runners = [threading.Thread(target=self._run, args=(part,), daemon=True) for part in self._parts]
        for runner in runners:
            runner.start()
        self._line.wait()
        began = self._clock()
        for runner in runners:
            runner.join()
        took = self._clock() - began
        if self._refusals:
            raise Refused(str(self._refusals[0]))
        return took / len(self._subjects)

    def _run(self, part: Sequence[Any]) -> None:
        self._line.wait()
        refusal = self._batch(part)
        if refusal is not None:
            self._refusals.append(refusal)
