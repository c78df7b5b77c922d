"""The pages as tests see them: blocks of code with their marks, tables, links.

A block may be marked by an HTML comment on the line before it:

- ``run``: Python and Python sessions are run, page by page and in order; shell commands of the tutorial too.
- ``file: path`` and ``append: path``: the tutorial writes the block to a file.
- ``serve``: the tutorial starts the command and leaves it running.
- ``run with django.tasks``, ``run with waffle: before`` and ``: after``: run by a test of its own, which has that.
- ``scenario``: a scenario of the sandbox.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES += sorted(DOCS.rglob("*.md"))
GUIDES = sorted([*(DOCS / "tutorial").glob("*.md"), *(DOCS / "how-to").glob("*.md")])
_BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>[^\n]*) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


class Block(NamedTuple):
    language: str
    mark: str
    text: str
    line: int


def name_of(page):
    return str(page.relative_to(ROOT))


def blocks_of(page):
    text = page.read_text()
    return [
        Block(found["language"], found["mark"] or "", found["text"], text.count("\n", 0, found.start("text")) + 1)
        for found in _BLOCK.finditer(text)
    ]


def links_of(page):
    return _LINK.findall(page.read_text())


def anchors_of(page):
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    made = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return made | set(re.findall(r'(?:id|name)="([^"]+)"', page.read_text()))


def rows_of(page):
    """Return the rows of all tables of a page as lists of cells, their heads apart."""
    lines = [line for line in page.read_text().splitlines() if line.startswith("| ") and not set(line) <= set("|- ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def in_code(cell):
    """Return what a cell says in code."""
    return re.findall(r"`([^`]+)`", cell)
