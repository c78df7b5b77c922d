"""A table in Markdown, and numbers as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Table", "micros", "millis", "times"]


@dataclass(slots=True)
class Table:
    """A heading, a line that says what was done, columns, rows, and notes below."""

    title: str
    how: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"### {self.title}", "", self.how, "", _line(self.columns), _line(["---"] * len(self.columns))]
        lines += [_line(row) for row in self.rows]
        return "\n".join(lines + [part for note in self.notes for part in ("", note)]) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def micros(seconds: float) -> str:
    """Write a time in microseconds.

    >>> micros(0.00000123), micros(0.000123)
    ('1.23 µs', '123 µs')
    """
    value = seconds * 1e6
    return f"{value:.2f} µs" if value < 10 else f"{value:,.0f} µs"


def millis(seconds: float) -> str:
    """Write a time in milliseconds.

    >>> millis(0.00123), millis(1.5)
    ('1.2 ms', '1,500 ms')
    """
    value = seconds * 1e3
    return f"{value:.1f} ms" if value < 100 else f"{value:,.0f} ms"


def times(ratio: float) -> str:
    r"""Write a ratio.

    >>> times(1.234) == "1.23\N{MULTIPLICATION SIGN}"
    True
    """
    return f"{ratio:.2f}\N{MULTIPLICATION SIGN}" if ratio < 10 else f"{ratio:,.0f}\N{MULTIPLICATION SIGN}"
