"""``entitlements`` in every template. Never here: any work; asking is left to the template."""

from __future__ import annotations

from typing import TYPE_CHECKING

from entitlement_gate.templating import TemplateEntitlements

if TYPE_CHECKING:
    from django.http import HttpRequest

__all__ = ["entitlements"]


def entitlements(request: HttpRequest) -> dict[str, TemplateEntitlements]:
    """Return a lazy ``entitlements``."""
    return {"entitlements": TemplateEntitlements(request)}
