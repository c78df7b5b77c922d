"""The page that keeps the last tables: what they were measured with, and writing them."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.peers import PEERS, version_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.tables import Table

__all__ = ["PAGE", "provenance", "written"]

PAGE = Path(__file__).resolve().parents[1] / "docs" / "explanation" / "performance.md"
BEGIN = "<!-- tables: begin (written by `make bench BENCH=--write`) -->"
END = "<!-- tables: end -->"
_OURS = ("entitlement-gate", "Django", "httpx", "pydantic", "cachetools")


def provenance(when: datetime | None = None) -> str:
    """Return when and with what the tables were measured."""
    day = (when or datetime.now(UTC)).date().isoformat()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    names = [*_OURS, *(peer.distribution for peer in PEERS)]
    versions = ", ".join(f"{name} {version_of(name)}" for name in names)
    return f"Measured on {day} with {python} on {machine}: {versions}.\n"


def written(text: str, tables: Sequence[Table], heading: str) -> str:
    """Return the page's text with the tables in the place of those it had.

    Raises:
        ValueError: the page has lost one of its two markers.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError("the page has lost one of its markers")
    body = "\n".join([heading, *map(str, tables)])
    return f"{before}{BEGIN}\n\n{body}\n{END}{after}"
