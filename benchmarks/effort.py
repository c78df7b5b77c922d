"""How much is measured: in full, or quickly to see whether everything runs."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["FULL", "QUICK", "Effort", "Rounds"]


class Rounds(NamedTuple):
    """Seconds that one turn of one contestant takes, and how many turns each gets."""

    seconds: float
    turns: int


class Effort(NamedTuple):
    """How much of everything.

    Attributes:
        customers: in the tables that speak of many.
        alone: rounds of calls on one thread.
        together: rounds shared by threads; a turn is many of the interpreter's switch intervals (5 ms).
        fetches: requests a turn, and turns.
        starts: fresh interpreters of each kind.
        cached: customers whose memory is counted.
        patience: seconds after which a call without an answer is given up.
        with_peers: whether other libraries take part.
    """

    customers: int
    alone: Rounds
    together: Rounds
    fetches: Rounds
    starts: int
    cached: int
    patience: float
    with_peers: bool = True


FULL = Effort(10_000, Rounds(0.02, 31), Rounds(0.12, 11), Rounds(0.05, 41), 7, 2_000, 15.0)
QUICK = Effort(2_000, Rounds(0.005, 7), Rounds(0.04, 3), Rounds(0.03, 7), 2, 200, 4.0)
