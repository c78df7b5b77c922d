"""Schematic: an entitlement service asked over HTTP, an answer cached by flag and company.

Its cache is widened from 1,000 answers and 5 s, so that every timed call is a hit. The answers come from a scripted
transport.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx
from schematic.cache import LocalCache
from schematic.client import Schematic, SchematicConfig

from benchmarks.contestants import Contestant
from benchmarks.world import ASKED, NAMES, World

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schematic.types import CheckFlagResponseData

__all__ = ["make"]

Company = dict[str, str]


def make(world: World) -> Contestant:
    """Return ``check_flag`` with a cache hit."""

    def answer(request: httpx.Request) -> httpx.Response:
        key = request.url.path.split("/")[2]
        is_granted = json.loads(request.content)["company"]["id"] in world.members and key in NAMES
        return httpx.Response(200, json={"data": {"flag": key, "reason": "plan", "value": is_granted}, "params": {}})

    http = httpx.Client(transport=httpx.MockTransport(answer))
    cache: LocalCache[CheckFlagResponseData] = LocalCache(3 * len(world.customers) + 3, 3_600_000)
    client = Schematic("key", SchematicConfig(httpx_client=http, cache_providers=[cache]))
    check_flag = client.check_flag

    def batch(companies: Sequence[Company]) -> Company | None:
        for company in companies:
            if not check_flag(ASKED, company):
                return company
        return None

    return Contestant(
        "Schematic",
        batch,
        lambda company, name: check_flag(name, company),
        subject=lambda customer: {"id": customer},
        does="a cached remote answer per flag and company",
        close=client.shutdown,
    )
