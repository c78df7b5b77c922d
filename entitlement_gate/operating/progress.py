"""One line on a terminal that says how far a command is. Never here: what it does, or other streams than terminals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Progress"]


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
