"""Reports on a stream, progress on a terminal, and signals as a wish to end. Never here: what a report says."""

from __future__ import annotations

import codecs
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol, Self

from entitlement_gate.operators.reports import OperatingError, Page, render

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from entitlement_gate.operators.reports import Report, Tone

__all__ = [
    "CLOSED",
    "JSON",
    "Notes",
    "Paint",
    "Progress",
    "Stop",
    "Stream",
    "as_read",
    "as_source",
    "as_text",
    "open_pipe",
    "page_for",
    "painter",
    "read_input",
    "tell_error",
]


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


_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SLICE = 0.2  # seconds: a sleep goes on after a signal, so it is slept in pieces


class Stop:
    """Whether somebody asked for the end. The second signal ends the process at once, as without this.

    Off the main thread, where no signal can be had, nobody asks.
    """

    def __init__(self) -> None:
        self._is_asked = False  # no Event: its lock may be held by the very frame that a signal interrupts
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def __call__(self) -> bool:
        """Return whether to end."""
        return self._is_asked

    def wait(self, seconds: float) -> bool:
        """Wait so long, less where the end is asked for; return whether it is."""
        until = time.monotonic() + seconds
        while not self._is_asked and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _SLICE))
        return self._is_asked

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self._is_asked = True
        self._restore()

    def _restore(self) -> None:
        before, self._before = self._before, {}
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
