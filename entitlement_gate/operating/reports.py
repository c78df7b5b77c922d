"""What a command has to say, before anybody decides how it looks. Never here: widths, colours, streams."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

__all__ = ["DENIED", "FINE", "UNKNOWN", "Bar", "Cell", "Line", "OperatingError", "Report", "Table", "Tone"]

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
