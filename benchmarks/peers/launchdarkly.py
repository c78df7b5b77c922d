"""LaunchDarkly: rules evaluated in the process, from its own source of test data, with no events sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ldclient import Config, Context, LDClient
from ldclient.integrations.test_data import TestData

from benchmarks.contestants import Contestant
from benchmarks.world import ASKED, NAMES, World

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["make"]


def make(world: World) -> Contestant:
    """Return ``variation`` of a boolean flag with one rule."""
    data = TestData.data_source()
    for name in NAMES:
        data.update(data.flag(name).fallthrough_variation(False).if_match("plan", "pro").then_return(True))  # noqa: FBT003 - their signature
    client = LDClient(Config("key", update_processor_class=data, send_events=False))
    variation = client.variation

    def subject(customer: str) -> Context:
        return Context.builder(customer).set("plan", world.plan_of(customer)).build()

    def batch(contexts: Sequence[Context]) -> Context | None:
        for context in contexts:
            if not variation(ASKED, context, False):  # noqa: FBT003 - their signature
                return context
        return None

    return Contestant(
        "LaunchDarkly",
        batch,
        lambda context, name: variation(name, context, False),  # noqa: FBT003 - their signature
        subject=subject,
        does="one rule over a context",
        close=client.close,
    )
