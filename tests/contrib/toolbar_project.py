"""A project with the debug toolbar, whose pages check entitlements."""

import re
from contextlib import contextmanager
from html import unescape

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
    "DEBUG_TOOLBAR_CONFIG": {"SHOW_TOOLBAR_CALLBACK": lambda request: True, "RENDER_PANELS": False},
    "ENTITLEMENT_GATE": {"BASE_URL": "sandbox:", "DEADLINE": 30, "CUSTOMER_RESOLVER": lambda request: PRO},
}
PANELS = ["debug_toolbar.panels.history.HistoryPanel", "entitlement_gate.contrib.debug_toolbar.EntitlementsPanel"]


@contextmanager
def project():
    """Let the tests be of the project.

    The toolbar's app reads its settings as it is installed; and once one of its modules was imported, by whatever test,
    a change of its panels imports its models, which need the app.
    """
    apps = ["django.contrib.staticfiles", "debug_toolbar", "entitlement_gate"]
    with (
        override_settings(**SETTINGS),
        override_settings(INSTALLED_APPS=apps),
        override_settings(DEBUG_TOOLBAR_PANELS=PANELS),
    ):
        yield


def shown_of_panel(page, fetch):
    """Return what a page shows of the panel: its subtitle and its content, fetched as the page's script does."""
    nav = re.search(rf'class="[^"]*{PANEL}[^"]*".*?<small>(.*?)</small>', page, re.DOTALL)
    stored = re.search(r'data-(?:request|store)-id="([^"]+)"', page)[1]
    params = {"request_id": stored, "store_id": stored, "panel_id": PANEL}
    return nav[1].strip(), fetch("/__debug__/render_panel/", params=params)["content"]


def rows_of_panel(page, fetch):
    """Return the panel's table, row by row."""
    _, content = shown_of_panel(page, fetch)
    body = content.partition("<tbody>")[2]
    told = [re.findall("<td[^>]*>(.*?)</td>", row) for row in re.findall("<tr>(.*?)</tr>", body)]
    return [list(map(unescape, row)) for row in told]
