"""The gate, and the peers that ask a server at a check, each over HTTP against an upstream of its own.

The others evaluate rules in the process: their server is asked in the background, never by a check.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.servers import SandboxUpstream, ScriptedUpstream, Upstream
from benchmarks.world import KEY, MODEL, NAMES, sandbox_with

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CUSTOMER", "REMOTES", "Remote"]

CUSTOMER = MODEL


class Remote(NamedTuple):
    """A library, its upstream, and how to ask and to end it."""

    upstream: Upstream
    ask: Callable[[str], bool]
    close: Callable[[], object]


def _gate(ttl: float) -> Remote:
    from entitlement_gate import EntitlementGate, ZenskarClient  # noqa: PLC0415 - as with the peers below

    upstream = SandboxUpstream(sandbox_with(CUSTOMER))
    client = ZenskarClient(KEY, MODEL, base_url=upstream.url)
    gate = EntitlementGate(client, ttl=ttl, stale_while_revalidate=ttl)
    return Remote(upstream, lambda name: gate.has(CUSTOMER, name), gate.close)


def _schematic(ttl: float) -> Remote:
    from schematic.cache import LocalCache  # noqa: PLC0415 - a peer that may be missing
    from schematic.client import Schematic, SchematicConfig  # noqa: PLC0415 - as above

    upstream = ScriptedUpstream(_schematic_reply)
    config = SchematicConfig(base_url=upstream.url, cache_providers=[LocalCache(1000, int(ttl * 1000))])
    client = Schematic("key", config)
    return Remote(upstream, lambda name: client.check_flag(name, {"id": CUSTOMER}), client.shutdown)


def _schematic_reply(path: str, body: Any) -> Any:
    key = path.split("/")[2]
    is_granted = body["company"]["id"] == CUSTOMER and key in {name.replace(" ", "%20") for name in NAMES}
    return {"data": {"flag": key, "reason": "plan", "value": is_granted}, "params": {}}


def _flagsmith(_: float) -> Remote:
    from flagsmith import Flagsmith  # noqa: PLC0415 - a peer that may be missing

    upstream = ScriptedUpstream(_flagsmith_reply)
    client = Flagsmith(environment_key="key", api_url=upstream.url)
    return Remote(upstream, lambda name: client.get_identity_flags(CUSTOMER).is_feature_enabled(name), lambda: None)


def _flagsmith_reply(_: str, body: Any) -> Any:
    flags = [
        {
            "enabled": body["identifier"] == CUSTOMER,
            "feature": {"id": number, "name": name, "type": "STANDARD"},
            "feature_state_value": None,
        }
        for number, name in enumerate(NAMES)
    ]
    return {"flags": flags, "traits": []}


REMOTES: dict[str, Callable[[float], Remote]] = {
    "entitlement_gate": _gate,
    "Schematic": _schematic,
    "Flagsmith, remote evaluation": _flagsmith,
}
"""By name, what makes each: it takes the seconds that an answer is fresh, where there is such a setting."""
