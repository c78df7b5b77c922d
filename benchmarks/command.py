"""The command: which sections are measured, how much, and where the tables go."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING
from unittest.mock import patch

from benchmarks.effort import FULL, QUICK, Effort
from benchmarks.page import PAGE, provenance, written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.tables import Table

__all__ = ["SECTIONS", "main", "measured"]

SECTIONS = {
    "warm": "benchmarks.warm",
    "calls": "benchmarks.calls",
    "rows": "benchmarks.scaling",
    "decode": "benchmarks.decoding",
    "request": "benchmarks.requests",
    "view": "benchmarks.views",
    "fetch": "benchmarks.fetching",
    "memory": "benchmarks.memory",
    "start": "benchmarks.starting",
    "behaviour": "benchmarks.behaviour",
    "ledger": "benchmarks.ledger",
    "flags": "benchmarks.flags",
    "telemetry": "benchmarks.telemetry",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the page where that is asked for; the answer is the exit code."""
    options = _options(arguments)
    effort = QUICK if options.quick else FULL
    if options.without_peers:
        effort = effort._replace(with_peers=False)
    print(provenance())
    with _surroundings():
        tables = [table for section in options.only for table in measured(section, effort)]
    if options.write:
        PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), tables, provenance()), encoding="utf-8")
    return 0


@contextmanager
def _surroundings() -> Iterator[None]:
    """Keep proxies away, as every server is on this machine, and logs quiet, as every failure is meant."""
    here = "127.0.0.1"
    was = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with patch.dict(os.environ, {"NO_PROXY": here, "no_proxy": here}):
            yield
    finally:
        logging.disable(was)


def measured(section: str, effort: Effort) -> list[Table]:
    """Measure one section and print its tables."""
    began = time.perf_counter()
    work: Callable[[Effort], list[Table]] = import_module(SECTIONS[section]).tables
    tables = work(effort)
    for table in tables:
        print(table, flush=True)
    print(f"({section}: {time.perf_counter() - began:.0f} s)", file=sys.stderr)
    return tables


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks/run.py", description="Ratios against peers, measured in one run.")
    parser.add_argument("--quick", action="store_true", help="within a minute: to see that everything runs")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/explanation/performance.md")
    parser.add_argument("--without-peers", action="store_true", help="leave the other libraries out")
    parser.add_argument("--only", nargs="+", choices=tuple(SECTIONS), default=tuple(SECTIONS), help="these sections")
    options = parser.parse_args(arguments)
    if options.write and set(options.only) != set(SECTIONS):
        parser.error("--write keeps the tables of one run: every section, so not with --only")
    return options
