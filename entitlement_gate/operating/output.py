"""Puts a report on a stream, for people or for programs. Never here: what it says."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

from entitlement_gate.operating.reports import OperatingError
from entitlement_gate.operating.tables import Page, render

if TYPE_CHECKING:
    from entitlement_gate.operating.reports import Report, Tone

__all__ = ["CLOSED", "JSON", "Paint", "Stream", "as_text", "open_pipe", "page_for", "painter", "tell_error"]

Paint = Callable[["Tone", str], str]
JSON = {"json": 2, "json line": None}
"""Styles for programs, and their indentation."""
CLOSED = "the output was closed before everything was written"
_NARROWEST = 40
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


def painter(style: Any) -> Paint:
    """Return a painter that uses one of Django's colour palettes."""
    return lambda tone, text: str(getattr(style, _STYLES[tone])(text)) if tone else text


def page_for(stream: object, paint: Paint | None = None) -> Page:
    """Return the page that a stream offers: as wide as the terminal, or ``COLUMNS``, or 80."""
    width = max(shutil.get_terminal_size((80, 24)).columns, _NARROWEST)
    can_draw = _can_write("█░…", _encoding(stream))
    return Page(width, paint, can_draw) if paint else Page(width, can_draw=can_draw)


def as_text(report: Report, style: str, page: Page, stream: object) -> str:
    """Return what goes to the output: JSON, JSON in one line, or text that the stream's encoding can hold."""
    if style in JSON:
        return json.dumps(report.data, indent=JSON[style]) + "\n"
    encoding = _encoding(stream)
    return render(report.parts, page).encode(encoding, "backslashreplace").decode(encoding)


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
        raise OperatingError(CLOSED, is_told=True) from None
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
