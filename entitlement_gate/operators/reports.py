"""What a command has to say, and the text it becomes: paragraphs, tables and bars as wide as the terminal.

Whatever came from billing is made printable first: a name must not move the cursor or recolour the terminal. Never
here: streams (``terminal``), or what is told.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

__all__ = [
    "DENIED",
    "FINE",
    "UNKNOWN",
    "Bar",
    "Cell",
    "Line",
    "OperatingError",
    "Page",
    "Report",
    "Table",
    "Tone",
    "printable",
    "render",
]


FINE = 0
"""Allowed, or nothing found."""
DENIED = 1
"""Denied, or something found."""
UNKNOWN = 2
"""The truth could not be learned, or the command was not used as it can be."""

Tone = Literal["", "good", "warning", "bad", "heading", "faint"]


class OperatingError(Exception):
    """A command cannot do what it was asked; the text is one line for people.

    ``is_told`` where programs have been told already, or cannot be.
    """

    def __init__(self, text: str, exit_code: int = UNKNOWN, *, is_told: bool = False) -> None:
        super().__init__(text)
        self.exit_code = exit_code
        self.is_told = is_told


@dataclass(frozen=True, slots=True)
class Bar:
    """A share of a whole: ``part`` of ``whole``, drawn as wide as there is room."""

    part: Decimal
    whole: Decimal

    @property
    def share(self) -> float:
        """From 0 to 1, whatever the numbers say."""
        if self.whole <= 0:
            return 1.0 if self.part > 0 else 0.0
        return float(min(max(self.part / self.whole, Decimal(0)), Decimal(1)))


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table."""

    text: str
    tone: Tone = ""
    bar: Bar | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A paragraph; ``is_whole`` where it stays one line, however wide, for scripts that read lines."""

    text: str
    tone: Tone = ""
    indent: int = 0
    is_whole: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headers; a cell is text, or a ``Cell`` where it has a tone or a bar."""

    headers: tuple[str, ...]
    rows: tuple[tuple[Cell | str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a command found.

    Attributes:
        exit_code: ``FINE``, ``DENIED`` or ``UNKNOWN``.
        data: plain JSON types: what ``--format json`` prints.
        parts: the same for people.
        error: one line for stderr, in place of the parts.
    """

    exit_code: int = FINE
    data: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[Line | Table, ...] = ()
    error: str | None = None


_GAP = "  "
_NARROWEST = 6  # columns are not squeezed below this
_ROOMY = 120  # from this width on, bars are long
_SHORT_BAR, _LONG_BAR = 10, 20


def _plain(_: Tone, text: str) -> str:
    return text


@dataclass(frozen=True, slots=True)
class Page:
    """Where the text goes.

    Attributes:
        width: columns of the terminal.
        paint: puts a tone on text that is already as wide as it will be.
        can_draw: block characters and other signs outside ASCII can be written.
    """

    width: int = 80
    paint: Callable[[Tone, str], str] = _plain
    can_draw: bool = True

    @property
    def bar_width(self) -> int:
        """Columns of a bar."""
        return _LONG_BAR if self.width >= _ROOMY else _SHORT_BAR


def render(parts: tuple[Line | Table, ...], page: Page) -> str:
    """Return the parts as text that ends in a line break."""
    lines = [line for part in parts for line in (_table(part, page) if isinstance(part, Table) else _line(part, page))]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def printable(text: str) -> str:
    """Return the text with line breaks, escapes and other control characters spelled out."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in text)


def _line(line: Line, page: Page) -> Iterator[str]:
    margin = " " * line.indent
    if line.is_whole:
        yield margin + page.paint(line.tone, printable(line.text))
        return
    for text in _wrapped(printable(line.text), max(page.width - line.indent, _NARROWEST)):
        yield margin + page.paint(line.tone, text)


def _table(table: Table, page: Page) -> Iterator[str]:
    header = tuple(Cell(text, "heading") for text in table.headers)
    rows = [header, *(tuple(cell if isinstance(cell, Cell) else Cell(cell) for cell in row) for row in table.rows)]
    texts = [[_drawn(cell, page) for cell in row] for row in rows]
    widths = _fitted([max(map(_columns, column)) for column in zip(*texts, strict=True)], texts, page.width)
    for cells, row in zip(rows, texts, strict=True):
        yield from _row([cell.tone for cell in cells], row, widths, page)


def _row(tones: list[Tone], row: list[str], widths: list[int], page: Page) -> Iterator[str]:
    """Yield the lines of one row: as many as its tallest cell has."""
    columns = [_wrapped(text, width) for text, width in zip(row, widths, strict=True)]
    for number in range(max(map(len, columns))):
        cells = []
        for tone, column, width in zip(tones, columns, widths, strict=True):
            text = column[number] if number < len(column) else ""
            cells.append(page.paint(tone, text) + " " * (width - _columns(text)) if text else " " * width)
        yield _GAP.join(cells)


def _drawn(cell: Cell, page: Page) -> str:
    text = printable(cell.text)
    return text if cell.bar is None else f"{_bar(cell.bar, page)} {text}"


def _bar(bar: Bar, page: Page) -> str:
    full = round(bar.share * page.bar_width)
    if 0 < bar.share < 1:  # neither full nor empty looks so
        full = min(max(full, 1), page.bar_width - 1)
    on, off = "█░" if page.can_draw else "#."
    return on * full + off * (page.bar_width - full)


def _fitted(natural: list[int], texts: list[list[str]], width: int) -> list[int]:
    """Narrow the widest columns, first between words and then within them, until the table fits."""
    widths = list(natural)
    longest = [
        max(_columns(word) for text in column for word in text.split(" ")) for column in zip(*texts, strict=True)
    ]
    for floors in (longest, [_NARROWEST] * len(widths)):
        while sum(widths) + len(_GAP) * (len(widths) - 1) > width:
            spare = [have - floor for have, floor in zip(widths, floors, strict=True)]
            if max(spare) <= 0:
                break
            at = max((at for at in range(len(widths)) if spare[at] > 0), key=lambda at: widths[at])
            widths[at] -= 1
    return widths


def _wrapped(text: str, width: int) -> list[str]:
    """Break between words, and within a word that alone is too wide."""
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and _columns(lines[-1]) + 1 + _columns(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines += _pieces(word, width)
    return lines[1:]


def _pieces(word: str, width: int) -> Iterator[str]:
    piece = ""
    for sign in word:
        if _columns(piece + sign) > width:
            yield piece
            piece = ""
        piece += sign
    yield piece


def _columns(text: str) -> int:
    """Return how many columns a terminal gives to the text."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(sign) in "WF" for sign in text)
    return len(text) + wide - sum(bool(unicodedata.combining(sign)) for sign in text)
