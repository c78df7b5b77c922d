"""A project with the debug toolbar, whose pages check entitlements."""

from contextlib import contextmanager

from django.test import override_settings
from django.utils.decorators import sync_only_middleware

from tests.customers import PRO

PANEL = "EntitlementsPanel"


@sync_only_middleware
def sync_middleware(get_response):
    """Make what is below it run in a thread under ASGI."""
    return get_response


SETTINGS = {
    "DEBUG": True,
    "ROOT_URLCONF": "tests.contrib.toolbar_urls",
    "STATIC_URL": "/static/",
    "MIDDLEWARE": [
        "debug_toolbar.middleware.DebugToolbarMiddleware",
        "entitlement_gate.middleware.EntitlementMiddleware",
    ],
    "DEBUG_TOOLBAR_PANELS": [
        "debug_toolbar.panels.history.HistoryPanel",
        "entitlement_gate.contrib.debug_toolbar.EntitlementsPanel",
    ],
    "DEBUG_TOOLBAR_CONFIG": {"SHOW_TOOLBAR_CALLBACK": lambda request: True, "RENDER_PANELS": False},
    "ENTITLEMENT_GATE": {"BASE_URL": "sandbox:", "CUSTOMER_RESOLVER": lambda request: PRO},
}


@contextmanager
def project():
    """Let the tests be of the project. Apps come last: the toolbar's reads its settings as it is installed."""
    apps = ["django.contrib.staticfiles", "debug_toolbar", "entitlement_gate"]
    with override_settings(**SETTINGS), override_settings(INSTALLED_APPS=apps):
        yield
