"""The Django app: at start-up it registers the system checks, and does nothing else."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

__all__ = ["EntitlementGateConfig"]


class EntitlementGateConfig(AppConfig):
    """No models, no migrations, no threads, no I/O."""

    name = "entitlement_gate"
    verbose_name = _("Entitlement gate")

    def ready(self) -> None:
        """Register the system checks."""
        from entitlement_gate import checks  # noqa: F401, PLC0415 - registering is the point
