"""OpenFeature: the standard's client over its own in-memory provider, hooks and all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.flag_evaluation import FlagResolutionDetails
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

from benchmarks.contestants import Contestant
from benchmarks.world import ASKED, NAMES, World

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["make"]


def make(world: World) -> Contestant:
    """Return ``get_boolean_value`` of a flag that looks at one attribute."""
    flags = {name: InMemoryFlag("off", {"on": True, "off": False}, context_evaluator=_by_plan) for name in NAMES}
    api.set_provider(InMemoryProvider(flags))
    client = api.get_client()
    value = client.get_boolean_value

    def subject(customer: str) -> EvaluationContext:
        return EvaluationContext(customer, {"plan": world.plan_of(customer)})

    def batch(contexts: Sequence[EvaluationContext]) -> EvaluationContext | None:
        for context in contexts:
            if not value(ASKED, False, context):  # noqa: FBT003 - their signature
                return context
        return None

    return Contestant(
        "OpenFeature",
        batch,
        lambda context, name: value(name, False, context),  # noqa: FBT003 - their signature
        subject=subject,
        does="a provider's answer through the standard's client",
        close=api.shutdown,
    )


def _by_plan(flag: InMemoryFlag[bool], context: EvaluationContext) -> FlagResolutionDetails[bool]:
    variant = "on" if context.attributes.get("plan") == "pro" else "off"
    return FlagResolutionDetails(value=flag.variants[variant], variant=variant)
