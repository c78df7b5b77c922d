"""Reports, the text or JSON they become on a stream, and progress on a terminal.

Whatever came from billing is made printable first: a name must not move the cursor or recolour the terminal. Never
here: what is told.
"""

from __future__ import annotations

import codecs
import json
import os
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, Protocol, Self

__all__ = [
    "DENIED",
    "FINE",
    "JSON",
    "UNKNOWN",
    "Bar",
    "Cell",
    "Line",
    "Notes",
    "OperatingError",
    "Progress",
    "Report",
    "Screen",
    "Stream",
    "Table",
    "Tone",
    "as_read",
    "as_source",
    "as_text",
    "open_pipe",
    "page_for",
    "painter",
    "printable",
    "read_input",
    "render",
    "tell_error",
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


@dataclass(frozen=True, slots=True)
class Screen:
    """Where the text goes.

    Attributes:
        width: columns of the terminal.
        paint: puts a tone on text that is already as wide as it will be.
        can_draw: block characters and other signs outside ASCII can be written.
    """

    width: int = 80
    paint: Callable[[Tone, str], str] = lambda _, text: text
    can_draw: bool = True

    @property
    def bar_width(self) -> int:
        """Columns of a bar."""
        return _LONG_BAR if self.width >= _ROOMY else _SHORT_BAR


def render(parts: tuple[Line | Table, ...], page: Screen) -> str:
    """Return the parts as text that ends in a line break."""
    lines = [line for part in parts for line in (_table(part, page) if isinstance(part, Table) else _line(part, page))]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def printable(text: str) -> str:
    """Return the text with line breaks, escapes and other control characters spelled out."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in text)


def _line(line: Line, page: Screen) -> Iterator[str]:
    margin = " " * line.indent
    if line.is_whole:
        yield margin + page.paint(line.tone, printable(line.text))
        return
    for text in _wrapped(printable(line.text), max(page.width - line.indent, _NARROWEST)):
        yield margin + page.paint(line.tone, text)


def _table(table: Table, page: Screen) -> Iterator[str]:
    header = tuple(Cell(text, "heading") for text in table.headers)
    rows = [header, *(tuple(cell if isinstance(cell, Cell) else Cell(cell) for cell in row) for row in table.rows)]
    texts = [[_drawn(cell, page) for cell in row] for row in rows]
    widths = _fitted([max(map(_columns, column)) for column in zip(*texts, strict=True)], texts, page.width)
    for cells, row in zip(rows, texts, strict=True):
        yield from _row([cell.tone for cell in cells], row, widths, page)


def _row(tones: list[Tone], row: list[str], widths: list[int], page: Screen) -> Iterator[str]:
    """Yield the lines of one row: as many as its tallest cell has."""
    columns = [_wrapped(text, width) for text, width in zip(row, widths, strict=True)]
    for number in range(max(map(len, columns))):
        cells = []
        for tone, column, width in zip(tones, columns, widths, strict=True):
            text = column[number] if number < len(column) else ""
            cells.append(page.paint(tone, text) + " " * (width - _columns(text)) if text else " " * width)
        yield _GAP.join(cells)


def _drawn(cell: Cell, page: Screen) -> str:
    text = printable(cell.text)
    return text if cell.bar is None else f"{_bar(cell.bar, page)} {text}"


def _bar(bar: Bar, page: Screen) -> str:
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


_Paint = Callable[["Tone", str], str]
JSON = {"json": 2, "json line": None}
"""Styles for programs, and their indentation."""
_CLOSED = "the output was closed before everything was written"
_NARROWEST_PAGE = 40
_STYLES = {"good": "SUCCESS", "warning": "WARNING", "bad": "ERROR", "heading": "MIGRATE_HEADING", "faint": "HTTP_INFO"}


def tell_error(error: str, style: str | None, stream: Stream) -> None:
    """Tell programs of what goes to people on stderr."""
    if style in JSON:
        with suppress(OperatingError), open_pipe(stream):
            stream.write(json.dumps({"error": error}, indent=JSON[style]) + "\n")


class Stream(Protocol):
    """What is written to."""

    def write(self, text: str, /) -> Any:
        """Write the text."""

    def flush(self) -> Any:
        """Hand over what was written."""


class Notes:
    """A stream for what goes beside the answer: what cannot be written is lost, and the exit code stands.

    A standard error that was closed, or that nobody reads, must not turn "allowed" into a failure.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:
        """That of the stream."""
        return _encoding(self._stream)

    def write(self, text: str) -> None:
        """Write what the stream's encoding can hold of it."""
        try:
            self._stream.write(_held(text, self._stream))
            self._stream.flush()
        except (AttributeError, OSError, ValueError):  # there is none, it is full or broken, or it was closed
            _silence(self._stream)

    def flush(self) -> None:
        """Do nothing: what is written is flushed."""

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return hasattr(self._stream, "isatty") and self._stream.isatty()


def read_input() -> str:
    """Return what stands on the standard input, UTF-8 in whatever locale.

    Raises:
        OSError: there is none.
        UnicodeError: it is no UTF-8.
    """
    if sys.stdin is None:
        raise OSError(None, "there is no input to read from")
    binary = getattr(sys.stdin, "buffer", None)
    return sys.stdin.read() if binary is None else as_read(binary.read())


def as_read(content: bytes) -> str:
    """Return the text of a file that people made, with or without a byte-order mark."""
    return content.decode("utf-8-sig")


def painter(style: Any) -> _Paint:
    """Return a painter that uses one of Django's colour palettes."""
    return lambda tone, text: str(getattr(style, _STYLES[tone])(text)) if tone else text


def page_for(stream: object, paint: _Paint | None = None) -> Screen:
    """Return the page that a stream offers: as wide as the terminal, or ``COLUMNS``, or 80."""
    width = max(shutil.get_terminal_size((80, 24)).columns, _NARROWEST_PAGE)
    can_draw = _can_write("█░…", _encoding(stream))
    return Screen(width, paint, can_draw) if paint else Screen(width, can_draw=can_draw)


def as_text(report: Report, style: str, page: Screen, stream: object) -> str:
    """Return what goes to the output: JSON, JSON in one line, or text that the stream's encoding can hold."""
    if style in JSON:
        return json.dumps(report.data, indent=JSON[style]) + "\n"
    return _held(render(report.parts, page), stream)


def as_source(text: str, stream: object) -> str:
    """Return Python source that the stream can hold, and Python read: UTF-8, or else ASCII with escapes."""
    if codecs.lookup(_encoding(stream)).name == "utf-8":
        return text
    return text.encode("ascii", "backslashreplace").decode("ascii")


def _held(text: str, stream: object) -> str:
    """Return the text with escapes for what the stream's encoding cannot hold."""
    encoding = _encoding(stream)
    return text.encode(encoding, "backslashreplace").decode(encoding)


@contextmanager
def open_pipe(stream: Stream) -> Iterator[None]:
    """Write to the stream and flush it; what cannot be written is an ``OperatingError``, and no noise at exit."""
    if getattr(stream, "_out", stream) is None:  # Django's wrapper around a standard output that was closed
        raise OperatingError("there is no output to write to", is_told=True)
    try:
        yield
        stream.flush()
    except BrokenPipeError:
        _silence(stream)
        raise OperatingError(_CLOSED, is_told=True) from None
    except OSError as error:
        _silence(stream)
        raise OperatingError(f"the output cannot be written: {error.strerror}", is_told=True) from None


def _silence(stream: Any) -> None:
    """Let the interpreter's own flush at exit go nowhere."""
    try:
        number = stream.fileno()
    except (AttributeError, OSError, ValueError):  # no file beneath it
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


def _encoding(stream: object) -> str:
    return getattr(stream, "encoding", None) or "utf-8"


def _can_write(signs: str, encoding: str) -> bool:
    try:
        signs.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


class Progress:
    """Writes over its own line; says nothing where nobody would see it.

    Args:
        stream: one of Django's, which ends lines by itself.
    """

    def __init__(self, stream: Any) -> None:
        self._write: Callable[[str], object] | None = None
        self._shown = ""
        if stream.isatty():
            self._write = lambda text: stream.write(text, lambda painted: painted, "")

    def __call__(self, text: str) -> None:
        """Show the text in place of what was shown before."""
        if self._write is not None:
            self._write(f"\r{text:{len(self._shown)}}")
            self._shown = text

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Leave the line as it is, and go on to the next."""
        if self._write is not None and self._shown:
            self._write("\n")
            self._shown = ""
