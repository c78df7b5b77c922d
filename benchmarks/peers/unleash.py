"""Unleash: rules evaluated in the process by its native engine, started from a bootstrap, sending nothing."""

from __future__ import annotations

from shutil import rmtree
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from UnleashClient import UnleashClient  # type: ignore[attr-defined]  # re-exported without saying so
from UnleashClient.cache import FileCache
from UnleashClient.utils import InstanceAllowType

from benchmarks.contestants import Contestant
from benchmarks.world import ASKED, NAMES, World

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["make"]

_NOWHERE = "http://127.0.0.1:9"  # the discard port of this machine: never asked


def make(world: World) -> Contestant:
    """Return ``is_enabled`` of a toggle with one constraint."""
    directory = mkdtemp()
    cache = FileCache("benchmark", directory=directory)
    cache.bootstrap_from_dict({"version": 1, "features": [_toggle(name) for name in NAMES]})
    several = InstanceAllowType.SILENTLY_ALLOW  # one for each number of customers
    client = UnleashClient(
        _NOWHERE,
        "benchmark",
        disable_metrics=True,
        disable_registration=True,
        cache=cache,
        multiple_instance_mode=several,
    )
    is_enabled = client.is_enabled

    def subject(customer: str) -> dict[str, Any]:
        return {"userId": customer, "properties": {"plan": world.plan_of(customer)}}

    def batch(contexts: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
        for context in contexts:
            if not is_enabled(ASKED, context):
                return context
        return None

    return Contestant(
        "Unleash",
        batch,
        lambda context, name: is_enabled(name, context),
        subject=subject,
        does="one constraint over a context, in a native engine",
        close=lambda: rmtree(directory, ignore_errors=True),
    )


def _toggle(name: str) -> dict[str, Any]:
    constraint = {"contextName": "plan", "operator": "IN", "values": ["pro"]}
    strategy = {"name": "default", "parameters": {}, "constraints": [constraint]}
    return {"name": name, "type": "release", "enabled": True, "strategies": [strategy]}
