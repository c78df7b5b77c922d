"""Who takes part in the warm check, and the proof that each answers rightly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.rounds import Batch
from benchmarks.world import ASKED, REFUSED, STRANGER

if TYPE_CHECKING:
    from benchmarks.world import World

__all__ = ["Contestant", "Verified", "WrongAnswer", "afresh", "verify"]


class WrongAnswer(Exception):
    """A contestant does not answer the question that is timed."""


def afresh(customer: str) -> str:
    """Return an equal text, as another request would bring: the very same object would be found by identity."""
    return "".join(list(customer))


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way to ask.

    Attributes:
        name: as the tables show it.
        batch: asks whether the subjects may do ``ASKED``; written as a bare loop, so that nothing else is timed.
        ask: the same call for any subject and name.
        subject: what a call takes for a customer, made before the clock runs.
        does: what a check of this kind is.
        close: ends what was started.
    """

    name: str
    batch: Batch
    ask: Callable[[Any, str], bool]
    subject: Callable[[str], Any] = afresh
    does: str = ""
    close: Callable[[], object] = lambda: None


class Verified(NamedTuple):
    """A contestant that answers rightly, and its subject for each customer."""

    contestant: Contestant
    subjects: list[Any]


def verify(contestant: Contestant, world: World) -> Verified:
    """Ask for every customer once, which also fills the caches, and for what must be refused.

    Raises:
        WrongAnswer: an answer is not the right one, or no bool.
    """
    subjects = [contestant.subject(customer) for customer in world.customers]
    stranger = contestant.subject(STRANGER)
    questions = [(subjects[0], ASKED, True), (subjects[0], REFUSED, False), (stranger, ASKED, False)]
    for subject, name, right in questions:
        answer = contestant.ask(subject, name)
        if answer is not right:
            raise WrongAnswer(f"{contestant.name} says {answer!r} to {name!r}, which should be {right}")
    refusal = contestant.batch(subjects)
    if refusal is not None:
        raise WrongAnswer(f"{contestant.name} refuses {refusal!r}")
    return Verified(contestant, subjects)
