"""django-flags: flags from settings with a condition of the project's own, remembered on the request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.http import HttpRequest
from flags.conditions import get_condition, register  # type: ignore[import-untyped]  # it has no types
from flags.state import flag_enabled  # type: ignore[import-untyped]  # as above

from benchmarks.contestants import Contestant
from benchmarks.world import ASKED, NAMES, World

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["make"]


def make(world: World) -> Contestant:
    """Return ``flag_enabled`` on one request, on which the flags were read before."""
    settings.FLAG_SOURCES = ("flags.sources.SettingsFlagsSource",)
    settings.FLAGS = {name: [{"condition": "plan", "value": "pro"}] for name in NAMES}
    if get_condition("plan") is None:
        register("plan", _has_plan)
    request = HttpRequest()

    def batch(plans: Sequence[str]) -> str | None:
        for plan in plans:
            if not flag_enabled(ASKED, request=request, plan=plan):
                return plan
        return None

    return Contestant(
        "django-flags",
        batch,
        lambda plan, name: bool(flag_enabled(name, request=request, plan=plan)),
        subject=world.plan_of,
        does="one condition over what the caller passes",
    )


def _has_plan(value: str, *, plan: str, **_: Any) -> bool:
    return plan == value
