"""Flagsmith: local evaluation of an environment document, here from its offline handler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flagsmith import Flagsmith
from flagsmith.models import DefaultFlag

from benchmarks.contestants import Contestant
from benchmarks.world import ASKED, NAMES, World

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["make"]

Identity = tuple[str, dict[str, Any]]


def make(world: World) -> Contestant:
    """Return ``get_identity_flags(...).is_feature_enabled(...)``: flags that are kept are never renewed."""
    client = Flagsmith(offline_mode=True, offline_handler=_Document())
    # Unknown features raise unless there is a handler, which the constructor refuses beside an offline handler.
    client.default_flag_handler = lambda _: DefaultFlag(enabled=False, value=None)
    flags_of = client.get_identity_flags

    def subject(customer: str) -> Identity:
        return customer, {"plan": world.plan_of(customer)}

    def batch(identities: Sequence[Identity]) -> Identity | None:
        for identity in identities:
            if not flags_of(*identity).is_feature_enabled(ASKED):
                return identity
        return None

    return Contestant(
        "Flagsmith",
        batch,
        lambda identity, name: flags_of(*identity).is_feature_enabled(name),
        subject=subject,
        does="one segment over traits",
    )


class _Document:
    """The environment as Flagsmith's API would give it."""

    def get_environment(self) -> Any:
        """Return the document: every feature off, and on for a segment."""
        return {
            "id": 1,
            "api_key": "key",
            "name": "benchmark",
            "project": {"id": 1, "name": "benchmark", "segments": [_segment()]},
            "feature_states": [_state(number, name, is_on=False) for number, name in enumerate(NAMES)],
            "identity_overrides": [],
        }


def _segment() -> dict[str, Any]:
    condition = {"operator": "EQUAL", "property_": "plan", "value": "pro"}
    states = [_state(number, name, is_on=True) for number, name in enumerate(NAMES)]
    rules = [{"type": "ALL", "conditions": [condition], "rules": []}]
    return {"id": 1, "name": "pro", "rules": rules, "feature_states": states}


def _state(number: int, name: str, *, is_on: bool) -> dict[str, Any]:
    return {
        "enabled": is_on,
        "feature": {"id": number, "name": name, "type": "STANDARD"},
        "feature_state_value": None,
        "featurestate_uuid": f"00000000-0000-4000-8000-{number:012}",
        "multivariate_feature_state_values": [],
    }
