"""A cold fetch over real loopback HTTP, against the least that has to be done: one request and its decoding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx

from benchmarks.decoding import BarePage
from benchmarks.rounds import Batch, compared, interleaved, walk
from benchmarks.servers import separate_sandbox
from benchmarks.tables import Table, micros, times
from benchmarks.world import ASKED, KEY, MODEL
from entitlement_gate import EntitlementGate, ZenskarClient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.effort import Effort

__all__ = ["tables"]

ROWS = 30
BARE = "`httpx.Client` reused, and pydantic with 7 fields"


def tables(effort: Effort) -> list[Table]:
    """Measure one page of 30 rows."""
    seconds, rounds = effort.fetches
    headers = {"x-api-key": KEY, "organisation": MODEL, "apiversion": "20240301"}
    with (
        separate_sandbox(ROWS) as url,
        httpx.Client(base_url=url, headers=headers, trust_env=False) as http,
        ZenskarClient(KEY, MODEL, base_url=url) as client,
        EntitlementGate(ZenskarClient(KEY, MODEL, base_url=url)) as gate,
    ):
        batches = {BARE: _bare(http), "`ZenskarClient.fetch`": _fetch(client), "`gate.check`, cold": _check(gate)}
        timers = {name: walk(batch, [MODEL], seconds=seconds) for name, batch in batches.items()}
        samples = compared(interleaved(timers, rounds), BARE)
    table = Table("Cold fetch", _HOW, ["work", "ratio", "time"])
    table.rows = [[name, times(sample.ratio), micros(sample.seconds)] for name, sample in samples.items()]
    return [table]


def _bare(http: httpx.Client) -> Batch:
    params = {"limit": "100", "status": "active"}

    def batch(customers: Sequence[str]) -> Any:
        for customer in customers:
            reply = http.get(f"/entitlements/customer/{customer}", params=params)
            if len(BarePage.model_validate_json(reply.content).results) != ROWS:
                return reply
        return None

    return batch


def _fetch(client: ZenskarClient) -> Batch:
    def batch(customers: Sequence[str]) -> Any:
        for customer in customers:
            if len(client.fetch(customer).grants) != ROWS:
                return customer
        return None

    return batch


def _check(gate: EntitlementGate) -> Batch:
    def batch(customers: Sequence[str]) -> Any:
        for customer in customers:
            gate.invalidate(customer)
            decision = gate.check(customer, ASKED)
            if not decision.allowed or decision.source != "live":
                return decision
        return None

    return batch


_HOW = (
    f"{ROWS} rows in one page, from a sandbox in a process of its own; against {BARE}. "
    "The cold check hands the fetch to a worker thread, which keeps its deadline, and decides."
)
