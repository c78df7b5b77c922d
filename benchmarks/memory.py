"""What a cached customer of 20 rows weighs, the rows kept for explaining."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import httpx

from benchmarks.decoding import BarePage
from benchmarks.tables import Table, times
from benchmarks.world import ASKED, KEY, MODEL, NAMES, World
from entitlement_gate import EntitlementGate, ZenskarClient

if TYPE_CHECKING:
    from benchmarks.effort import Effort

__all__ = ["tables", "weight_of"]

Pages = Mapping[str, bytes]
_MODELS = "pydantic models of 7 fields"
_FIRST = 300  # customers after whom what all share is there: names, dates, and the bounded memory of numbers read


def tables(effort: Effort) -> list[Table]:
    """Measure distinct customers on the same plan."""
    world = World(effort.cached + _FIRST)
    pages = {customer: world.page(customer) for customer in world.customers}
    models: list[BarePage] = []
    weights = {_MODELS: _weigh(lambda customer: models.append(BarePage.model_validate_json(pages[customer])), pages)}
    with _gate(pages) as gate:
        weights["the gate, one name asked"] = one = _weigh(lambda customer: _ask(gate, customer, (ASKED,)), pages)
        weights["the gate, all 20 names asked"] = one + _weigh(lambda customer: _ask(gate, customer, NAMES), pages)
    table = Table("Memory", _HOW.format(effort.cached), ["kept", "ratio", "a customer"])
    least = weights[_MODELS]
    table.rows = [[label, times(own / least), f"{own / 1024:.1f} KiB"] for label, own in weights.items()]
    return [table]


def weight_of(grow: Callable[[], object], settle: Callable[[], object] = lambda: None) -> int:
    """Return the bytes that are there after ``grow`` and were not after ``settle``.

    Both are traced: what ``grow`` lets go of is counted as gone only if it was counted when it came.
    """
    tracemalloc.start()
    try:
        settle()
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        grow()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def _weigh(hold: Callable[[str], None], pages: Pages) -> float:
    """Return the bytes a customer."""
    first, others = list(pages)[:_FIRST], list(pages)[_FIRST:]
    return weight_of(lambda: _each(hold, others), lambda: _each(hold, first)) / len(others)


def _each(hold: Callable[[str], None], customers: Iterable[str]) -> None:
    for customer in customers:
        hold(customer)


def _ask(gate: EntitlementGate, customer: str, names: Iterable[str]) -> None:
    for name in names:
        assert gate.has(customer, name)


def _gate(pages: Pages) -> EntitlementGate:
    def reply(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=pages[request.url.path.rpartition("/")[2]])

    client = ZenskarClient(KEY, MODEL, transport=httpx.MockTransport(reply))
    return EntitlementGate(client, max_customers=len(pages), ttl=3600)


_HOW = "{:,} distinct customers on the same plan of 20 rows, balances differing, each fetched once (`tracemalloc`)."
