"""Reports, how they become text or JSON on a stream, and progress on a terminal.

Whatever came from billing is made printable first: a name must not move the cursor or recolour the terminal.
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
    "LenientStream",
    "Line",
    "OperatingError",
    "Progress",
    "Report",
    "Screen",
    "Stream",
    "Table",
    "Tone",
    "decode_text",
    "encode_source",
    "format_report",
    "guard_output",
    "make_painter",
    "make_screen",
    "printable",
    "read_input",
    "render",
    "write_error",
]

FINE = 0
"""Allowed, or nothing found."""
DENIED = 1
"""Denied, or something found."""
UNKNOWN = 2
"""The truth could not be learned, or the command was not used as it can be."""

Tone = Literal["", "good", "warning", "bad", "heading", "faint"]


class OperatingError(Exception):
    """A command cannot do what it was asked to do; the text is one line for people.

    ``is_reported`` where the output has the error already, or cannot be written.
    """

    def __init__(self, text: str, exit_code: int = UNKNOWN, *, is_reported: bool = False) -> None:
        super().__init__(text)
        self.exit_code = exit_code
        self.is_reported = is_reported


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


def render(parts: tuple[Line | Table, ...], screen: Screen) -> str:
    """Return the parts as text that ends in a line break."""
    lines = [
        line
        for part in parts
        for line in (_render_table(part, screen) if isinstance(part, Table) else _render_line(part, screen))
    ]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def printable(text: str) -> str:
    """Return the text with line breaks, escapes and other control characters spelled out."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in text)


def _render_line(line: Line, screen: Screen) -> Iterator[str]:
    margin = " " * line.indent
    if line.is_whole:
        yield margin + screen.paint(line.tone, printable(line.text))
        return
    for text in _wrap(printable(line.text), max(screen.width - line.indent, _NARROWEST)):
        yield margin + screen.paint(line.tone, text)


def _render_table(table: Table, screen: Screen) -> Iterator[str]:
    header = tuple(Cell(text, "heading") for text in table.headers)
    rows = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in (header, *table.rows)]
    texts = [[_draw_cell(cell, screen) for cell in row] for row in rows]
    widths = _fit_widths([max(map(_measure, column)) for column in zip(*texts, strict=True)], texts, screen.width)
    for cells, row in zip(rows, texts, strict=True):
        yield from _render_row([cell.tone for cell in cells], row, widths, screen)


def _render_row(tones: list[Tone], row: list[str], widths: list[int], screen: Screen) -> Iterator[str]:
    """Yield the lines of one row: as many as its tallest cell has."""
    columns = [_wrap(text, width) for text, width in zip(row, widths, strict=True)]
    for number in range(max(map(len, columns))):
        cells = []
        for tone, column, width in zip(tones, columns, widths, strict=True):
            text = column[number] if number < len(column) else ""
            cells.append(screen.paint(tone, text) + " " * (width - _measure(text)) if text else " " * width)
        yield _GAP.join(cells)


def _draw_cell(cell: Cell, screen: Screen) -> str:
    text = printable(cell.text)
    return text if cell.bar is None else f"{_draw_bar(cell.bar, screen)} {text}"


def _draw_bar(bar: Bar, screen: Screen) -> str:
    full = round(bar.share * screen.bar_width)
    if 0 < bar.share < 1:  # neither full nor empty looks so
        full = min(max(full, 1), screen.bar_width - 1)
    on, off = "█░" if screen.can_draw else "#."
    return on * full + off * (screen.bar_width - full)


def _fit_widths(natural: list[int], texts: list[list[str]], width: int) -> list[int]:
    """Narrow the widest columns, first between words and then within them, until the table fits."""
    widths = list(natural)
    longest = [
        max(_measure(word) for text in column for word in text.split(" ")) for column in zip(*texts, strict=True)
    ]
    for floors in (longest, [_NARROWEST] * len(widths)):
        while sum(widths) + len(_GAP) * (len(widths) - 1) > width:
            spare = [have - floor for have, floor in zip(widths, floors, strict=True)]
            if max(spare) <= 0:
                break
            at = max((at for at in range(len(widths)) if spare[at] > 0), key=lambda at: widths[at])
            widths[at] -= 1
    return widths


def _wrap(text: str, width: int) -> list[str]:
    """Break between words, and within a word that alone is too wide."""
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and _measure(lines[-1]) + 1 + _measure(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines += _split_word(word, width)
    return lines[1:]


def _split_word(word: str, width: int) -> Iterator[str]:
    piece = ""
    for sign in word:
        if _measure(piece + sign) > width:
            yield piece
            piece = ""
        piece += sign
    yield piece


def _measure(text: str) -> int:
    """Return how many columns a terminal gives to the text."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(sign) in "WF" for sign in text)
    return len(text) + wide - sum(bool(unicodedata.combining(sign)) for sign in text)


_Paint = Callable[["Tone", str], str]
JSON = {"json": 2, "json line": None}
"""Styles for programs, and their indentation."""
_CLOSED = "the output was closed before everything was written"
_NARROWEST_SCREEN = 40
_STYLES = {"good": "SUCCESS", "warning": "WARNING", "bad": "ERROR", "heading": "MIGRATE_HEADING", "faint": "HTTP_INFO"}


def write_error(error: str, style: str | None, stream: Stream) -> None:
    """Write an error to the output of a command whose style is for programs; people read it on stderr."""
    if style in JSON:
        with suppress(OperatingError), guard_output(stream):
            stream.write(json.dumps({"error": error}, indent=JSON[style]) + "\n")


class Stream(Protocol):
    """What is written to."""

    def write(self, text: str, /) -> Any:
        """Write the text."""

    def flush(self) -> Any:
        """Hand over what was written."""


class LenientStream:
    """A stream on which what cannot be written is lost, for notes beside the answer.

    A standard error that is closed, or that nobody reads, must not turn "allowed" into a failure.
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
            self._stream.write(_escape(text, self._stream))
            self._stream.flush()
        except (AttributeError, OSError, ValueError):  # there is none, it is full or broken, or it was closed
            _redirect_to_null(self._stream)

    def flush(self) -> None:
        """Do nothing: each write flushes."""

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
    return sys.stdin.read() if binary is None else decode_text(binary.read())


def decode_text(content: bytes) -> str:
    """Return the text of a file that people made, with or without a byte-order mark."""
    return content.decode("utf-8-sig")


def make_painter(style: Any) -> _Paint:
    """Return a painter that uses one of Django's colour palettes."""
    return lambda tone, text: str(getattr(style, _STYLES[tone])(text)) if tone else text


def make_screen(stream: object, paint: _Paint | None = None) -> Screen:
    """Return the screen of a stream: as wide as the terminal, or ``COLUMNS``, or 80."""
    width = max(shutil.get_terminal_size((80, 24)).columns, _NARROWEST_SCREEN)
    can_draw = _can_encode("█░…", _encoding(stream))
    return Screen(width, paint, can_draw) if paint else Screen(width, can_draw=can_draw)


def format_report(report: Report, style: str, screen: Screen, stream: object) -> str:
    """Return what goes to the output: JSON, JSON in one line, or text that the stream's encoding can hold."""
    if style in JSON:
        return json.dumps(report.data, indent=JSON[style]) + "\n"
    return _escape(render(report.parts, screen), stream)


def encode_source(text: str, stream: object) -> str:
    """Return Python source that the stream can hold, and Python read: UTF-8, or else ASCII with escapes."""
    if codecs.lookup(_encoding(stream)).name == "utf-8":
        return text
    return text.encode("ascii", "backslashreplace").decode("ascii")


def _escape(text: str, stream: object) -> str:
    """Return the text with escapes for what the stream's encoding cannot hold."""
    encoding = _encoding(stream)
    return text.encode(encoding, "backslashreplace").decode(encoding)


@contextmanager
def guard_output(stream: Stream) -> Iterator[None]:
    """Write to the stream and flush it; what cannot be written is an ``OperatingError``, and no noise at exit."""
    if getattr(stream, "_out", stream) is None:  # Django's wrapper around a standard output that was closed
        raise OperatingError("there is no output to write to", is_reported=True)
    try:
        yield
        stream.flush()
    except BrokenPipeError:
        _redirect_to_null(stream)
        raise OperatingError(_CLOSED, is_reported=True) from None
    except OSError as error:
        _redirect_to_null(stream)
        raise OperatingError(f"the output cannot be written: {error.strerror}", is_reported=True) from None


def _redirect_to_null(stream: Any) -> None:
    """Redirect the file beneath, so that the interpreter's own flush at exit does not fail."""
    try:
        number = stream.fileno()
    except (AttributeError, OSError, ValueError):  # no file beneath it
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


def _encoding(stream: object) -> str:
    return getattr(stream, "encoding", None) or "utf-8"


def _can_encode(signs: str, encoding: str) -> bool:
    try:
        signs.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


class Progress:
    """Writes over its own line of a terminal; writes nothing elsewhere.

    Args:
        stream: one of Django's, which ends lines by itself.
    """

    def __init__(self, stream: Any) -> None:
        self._write: Callable[[str], object] | None = None
        self._text = ""
        if stream.isatty():
            self._write = lambda text: stream.write(text, lambda painted: painted, "")

    def __call__(self, text: str) -> None:
        """Show the text in place of what was shown before."""
        if self._write is not None:
            self._write(f"\r{text:{len(self._text)}}")
            self._text = text

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Leave the line as it is, and go on to the next."""
        if self._write is not None and self._text:
            self._write("\n")
            self._text = ""
