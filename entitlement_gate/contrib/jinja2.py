"""Jinja2: ``{% if entitled("sso") %}`` and ``entitlement("seats").remaining``.

In the settings::

    TEMPLATES = [{"BACKEND": "django.template.backends.jinja2.Jinja2",
                  "OPTIONS": {"extensions": ["entitlement_gate.contrib.jinja2.EntitlementsExtension"]}}]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from entitlement_gate.context_processors import decide

try:
    from jinja2 import pass_context
    from jinja2.ext import Extension
except ImportError as error:
    raise ImportError(f"Jinja2 is not here: install entitlement_gate[jinja2]: {error}") from error

if TYPE_CHECKING:
    from jinja2 import Environment
    from jinja2.runtime import Context

    from entitlement_gate.domain.decisions import Decision

__all__ = ["EntitlementsExtension"]


class EntitlementsExtension(Extension):
    """Adds ``entitled(name, quantity=None)`` and ``entitlement(name, quantity=None)``."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        names: dict[str, Any] = environment.globals
        names.update(entitled=_entitled, entitlement=_entitlement)


@pass_context
def _entitlement(context: Context, name: str, quantity: object = None) -> Decision:
    return decide(context.get("request"), name, quantity)


@pass_context
def _entitled(context: Context, name: str, quantity: object = None) -> bool:
    return decide(context.get("request"), name, quantity).allowed
