"""The Django project around the contestants that need one."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import django
from django.conf import settings
from django.core.management import call_command

if TYPE_CHECKING:
    from django.urls import URLPattern

__all__ = ["configure"]

urlpatterns: list[URLPattern] = []  # whoever needs URLs brings them with the request


def configure() -> None:
    """Set Django up once, with the apps of the peers that are installed, and a database in memory."""
    if settings.configured:
        return
    apps = ("django.contrib.contenttypes", "django.contrib.auth", "entitlement_gate", "waffle", "flags")
    settings.configure(
        INSTALLED_APPS=[app for app in apps if find_spec(app)],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        ROOT_URLCONF=__name__,
        SECRET_KEY="benchmark",  # noqa: S106 - signs nothing
        USE_TZ=True,
        ENTITLEMENT_GATE={"BASE_URL": "sandbox:", "TTL": 3600, "MAX_CUSTOMERS": 20_001},
    )
    django.setup()
    call_command("migrate", verbosity=0)
