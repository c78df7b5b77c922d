"""What a fresh process pays: for the import, and for the first check."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.peers import PEERS, version_of
from benchmarks.rounds import compared, interleaved
from benchmarks.servers import separate_sandbox
from benchmarks.tables import Table, millis, times
from benchmarks.world import ASKED, KEY, MODEL

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.effort import Effort

__all__ = ["in_fresh_process", "tables"]

REFERENCE = "`import httpx`"
_ROOT = Path(__file__).resolve().parents[1]
_IMPORTS = {
    "Schematic": "schematic.client",
    "GrowthBook": "growthbook",
    "LaunchDarkly": "ldclient",
    "OpenFeature": "openfeature.api",
    "django-waffle": "waffle",
    "django-flags": "flags.state",
    "Unleash": "UnleashClient",
    "Flagsmith": "flagsmith",
}
_FIRST_CHECK = """
from entitlement_gate import EntitlementGate, ZenskarClient
with EntitlementGate(ZenskarClient({key!r}, {organisation!r}, base_url={url!r})) as gate:
    assert gate.has({customer!r}, {name!r})
"""


def tables(effort: Effort) -> list[Table]:
    """Measure imports and first checks in interpreters of their own."""
    with separate_sandbox(20) as url:
        first = _FIRST_CHECK.format(key=KEY, organisation=MODEL, url=url, customer=MODEL, name=ASKED)
        work = {
            REFERENCE: "import httpx",
            "`import pydantic`": "from pydantic import BaseModel",
            "`import entitlement_gate`": "import entitlement_gate",
            "first check, imports included": first,
        }
        if effort.with_peers:
            work |= {
                f"`import {_IMPORTS[p.name]}`": f"import {_IMPORTS[p.name]}" for p in PEERS if _is_there(p.distribution)
            }
        timers = {name: in_fresh_process(code) for name, code in work.items()}
        samples = compared(interleaved(timers, effort.starts), REFERENCE)
    how = f"In fresh interpreters, without the start of Python itself; against {REFERENCE}."
    table = Table("Start", how, ["work", "ratio", "time"])
    table.rows = [[name, times(sample.ratio), millis(sample.seconds)] for name, sample in samples.items()]
    return [table]


def _is_there(distribution: str) -> bool:
    return version_of(distribution) != "not installed"


def in_fresh_process(code: str) -> Callable[[], float]:
    """Return a timer that runs the code in an interpreter of its own and counts the code alone."""
    script = f"import time\nbegan = time.perf_counter()\n{code}\nprint(time.perf_counter() - began)"

    def timed() -> float:
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, cwd=_ROOT)
        return float(done.stdout.split()[-1])

    return timed
