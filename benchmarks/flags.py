"""A boolean flag through OpenFeature's client: the gate's provider against the SDK's own, which holds a dictionary."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.flag_evaluation import FlagResolutionDetails
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

from benchmarks.rounds import Batch, compared, interleaved, walk
from benchmarks.tables import Table, micros, times
from benchmarks.world import ASKED, NAMES, Source, World
from entitlement_gate import EntitlementGate
from entitlement_gate.contrib.openfeature import EntitlementProvider

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from openfeature.client import OpenFeatureClient

    from benchmarks.effort import Effort

__all__ = ["tables"]

IN_MEMORY = "the SDK's `InMemoryProvider`"
OURS = "`EntitlementProvider`"


def tables(effort: Effort) -> list[Table]:
    """Measure a warm boolean."""
    seconds, rounds = effort.alone
    world = World(effort.cached)
    contexts = [EvaluationContext(customer, {"plan": world.plan_of(customer)}) for customer in world.customers]
    with _clients(world) as clients:
        batches = {name: _batch(client) for name, client in clients.items()}
        assert [batch(contexts) for batch in batches.values()] == [None, None]  # from here on all is in memory
        timers = {name: walk(batch, contexts, seconds=seconds) for name, batch in batches.items()}
        samples = compared(interleaved(timers, rounds), IN_MEMORY)
    table = Table("OpenFeature, a boolean", _HOW, ["provider", "ratio", "time"])
    table.rows = [[name, times(sample.ratio), micros(sample.seconds)] for name, sample in samples.items()]
    return [table]


@contextmanager
def _clients(world: World) -> Iterator[dict[str, OpenFeatureClient]]:
    flags = {name: InMemoryFlag("off", {"on": True, "off": False}, context_evaluator=_by_plan) for name in NAMES}
    with EntitlementGate(Source(world), ttl=3600, max_customers=2 * len(world.customers) + 1) as gate:
        providers = {IN_MEMORY: InMemoryProvider(flags), OURS: EntitlementProvider(gate)}
        for name, provider in providers.items():
            api.set_provider_and_wait(provider, name)
        try:
            yield {name: api.get_client(name) for name in providers}
        finally:
            api.clear_providers()


def _by_plan(flag: InMemoryFlag[bool], context: EvaluationContext) -> FlagResolutionDetails[bool]:
    variant = "on" if context.attributes.get("plan") == "pro" else "off"
    return FlagResolutionDetails(value=flag.variants[variant], variant=variant)


def _batch(client: OpenFeatureClient) -> Batch:
    value = client.get_boolean_value

    def batch(contexts: Sequence[EvaluationContext]) -> EvaluationContext | None:
        for context in contexts:
            if not value(ASKED, False, context):  # noqa: FBT003 - their signature
                return context
        return None

    return batch


_HOW = "`client.get_boolean_value` with a customer as the targeting key, in memory in both; hooks: none."
