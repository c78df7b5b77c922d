"""The last minute of a customer, from the records: as a drawing, and as sentences that say the same.

Places and widths are percent of the width of the drawing, heights are pixels.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from control_room.records import Record

SECONDS = 60
HEIGHT = 96
_LOWEST = 3  # of a bar
_AT_ONCE = 0.2  # seconds: checks that are closer were asked together
_LONGEST = 4.0  # seconds that an answer stays drawn where no other follows: a check waits for three at most
_NEARLY = 0.1  # percent: rounding leaves no gap of this width
_JITTER = 1.1  # data is fresh for TTL ± 10 %


class Span(NamedTuple):
    """A stretch of time, and what was true in it."""

    x: float
    width: float
    state: str
    y: float = 0
    height: float = 0


class Mark(NamedTuple):
    """An instant, and what happened."""

    x: float
    state: str


class Line(NamedTuple):
    """What happened so many seconds ago, to which entitlements, and how many times in a row."""

    ago: int
    state: str
    names: tuple[str, ...]
    text: str
    times: int = 1


class Timeline:
    """The minute before ``now``, in POSIX seconds; ``ttl`` is how long data is fresh."""

    def __init__(self, records: Iterable[Record], now: float, ttl: float) -> None:
        self._records = list(records)
        self._now = now
        self._ttl = ttl
        self._checks = [record for record in self._records if record.kind == "checked"]
        self._oldest = max([2 * ttl, *(check.age or 0 for check in self._checks)])
        self.fresh_y = self._y(ttl)

    @property
    def last_move(self) -> str:
        """What came of the last move."""
        return next((record.text for record in reversed(self._records) if record.kind == "played"), "")

    def ages(self) -> list[Span]:
        """Return a bar for each look at the customer: as high as the data was old, or whole where there was none."""
        return [
            Span(x, width, state_of(check.source, check.age, self._ttl), y := self._y(check.age), HEIGHT - y)
            for check, x, width in self._steps(self._checks)
        ]

    def outcomes(self, entitlement: str) -> list[Span]:
        """Return what was answered about an entitlement; equal answers that follow each other are one span."""
        spans: list[Span] = []
        for check, x, width in self._steps([one for one in self._checks if one.entitlement == entitlement]):
            state = check.outcome
            last = spans[-1] if spans else None
            if last and last.state == state and x - last.x - last.width < _NEARLY:
                spans[-1] = Span(last.x, round(x + width - last.x, 2), state)
            else:
                spans.append(Span(x, width, state))
        return spans

    def marks(self) -> list[Mark]:
        """Return each fetch, and each move of whoever plays billing."""
        return [Mark(self._x(record.at), record.kind) for record in self._records if record.kind != "checked"]

    def lines(self, most: int = 12) -> list[Line]:
        """Return what happened in words, the newest first; the same in a row, of several entitlements, is one line."""
        lines: list[Line] = []
        for at, state, name, text in self._events():
            ago, last = round(self._now - at), lines[-1] if lines else None
            if last and last.text == text:
                is_new = name and name not in last.names
                names = (*last.names, name) if is_new else last.names
                lines[-1] = Line(ago, state, names, text, last.times + (not is_new))
            else:
                lines.append(Line(ago, state, (name,) if name else (), text))
        return lines[: -most - 1 : -1]

    def _events(self) -> Iterator[tuple[float, str, str, str]]:
        """Yield each fetch and move, and each answer that differs from the one before."""
        before: dict[str, str] = {}
        for record in self._records:
            if record.kind != "checked":
                yield record.at, record.kind, "", _sentence(record)
                continue
            for name, state, text in self._answers(record):
                if before.setdefault(name, text) != text:
                    yield record.at, state, name, f"{before[name]} → {text}"
                before[name] = text

    def _answers(self, check: Record) -> Iterator[tuple[str, str, str]]:
        state = state_of(check.source, check.age, self._ttl)
        yield "data", state, {"stale": "stale", "unknown": "none"}.get(state, "fresh")
        why = "" if check.outcome == "allowed" else f" ({check.reason})"
        yield check.entitlement, check.outcome, check.outcome + why

    def _steps(self, checks: Sequence[Record]) -> Iterator[tuple[Record, float, float]]:
        """Return each answer with its place, and how wide it is drawn: until the next one."""
        last = [check for check, after in pairwise(checks) if after.at - check.at > _AT_ONCE]
        last += checks[-1:]
        ends = [*(check.at for check in last[1:]), self._now]
        for check, end in zip(last, ends, strict=False):  # where there is no check there is an end alone
            yield check, self._x(check.at), round(100 * min(end - check.at, _LONGEST) / SECONDS, 2)

    def _x(self, at: float) -> float:
        return round(100 * (1 - (self._now - at) / SECONDS), 2)

    def _y(self, age: float | None) -> float:
        return 0 if age is None else round(min(HEIGHT - _LOWEST, HEIGHT * (1 - age / self._oldest)), 1)


def state_of(source: str, age: float | None, ttl: float) -> str:
    """Return ``fresh``, ``renewing`` (older, and served while it is fetched), ``stale`` or ``unknown``."""
    if age is None:
        return "unknown"
    if source == "stale":
        return "stale"
    return "renewing" if age > ttl * _JITTER else "fresh"


def _sentence(record: Record) -> str:
    sentences = {"fetched": "Billing was asked and answered.", "failed": f"A fetch failed: {record.text}."}
    return sentences.get(record.kind, record.text)
