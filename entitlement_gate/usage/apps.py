"""The app's name and label."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

__all__ = ["UsageConfig"]


class UsageConfig(AppConfig):
    """Using up, kept in the database."""

    name = "entitlement_gate.usage"
    label = "entitlement_usage"
    verbose_name = _("Entitlement usage")
    default_auto_field = "django.db.models.BigAutoField"
