"""The pictures of README and docs: ``make screenshots`` writes them to ``docs/images``.

Not part of the suite, but made of its projects and its browser. Each picture is taken light and dark, on a desktop and
on a telephone, and is named so: ``refused-page-dark-phone.webp``.
"""

from __future__ import annotations

import io
from decimal import Decimal
from itertools import product
from pathlib import Path
from types import ModuleType

import pytest
from django.urls import path
from PIL import Image
from playwright.async_api import expect

from entitlement_gate import Decision, Reason
from entitlement_gate.responses import denied
from tests.browser import DESKTOP, PHONE, SCHEMES, serving
from tests.contrib.test_debug_toolbar_browser import address as toolbar
from tests.contrib.test_debug_toolbar_browser import open_panel
from tests.example.conftest import running
from tests.example.test_browser import open_as
from tests.example.test_control_room_browser import PRO, button
from tests.test_admin_browser import _project, boss, holding, scenario_file
from tests.test_admin_browser import visit as visit_admin

__all__ = ["_project", "boss", "scenario_file", "toolbar", "visit_admin"]

pytestmark = pytest.mark.django_db(transaction=True)

IMAGES = Path(__file__).parents[1] / "docs" / "images"
PIXELS = {"desktop": 0.8, "phone": 2}  # of the screen, for each of CSS: pages are narrower than a desktop
WIDTHS = {"desktop": DESKTOP, "phone": PHONE}
QUALITY = 60  # text is sharp still, and a picture weighs less than the page that shows it
LOOKS = [pytest.param((scheme, device), id=f"{scheme}-{device}") for scheme, device in product(SCHEMES, WIDTHS)]


def options_of(look, *, desktop, phone=780):
    """Return the options of a visit in this look, in a window of that height."""
    scheme, device = look
    height = desktop if device == "desktop" else phone
    return {
        "color_scheme": scheme,
        "device_scale_factor": PIXELS[device],
        "viewport": {"width": WIDTHS[device], "height": height},
    }


async def shoot(page, name, look):
    """Keep what the window shows."""
    await page.evaluate("document.activeElement.blur()")
    shot = await page.screenshot(animations="disabled", caret="hide")
    with Image.open(io.BytesIO(shot)) as image:
        image.convert("RGB").save(IMAGES / f"{name}-{'-'.join(look)}.webp", quality=QUALITY, method=6)


def test_control_room(browser):
    """In the middle of an outage: data was fresh, was renewed, and is stale."""

    async def visit(page):
        await page.goto(room)
        await expect(page.locator(".minute circle.fetched").nth(1)).to_be_attached()
        await button(page, "Take billing down").click()
        await expect(page.locator(".ages rect.stale").nth(9)).to_be_attached()
        for look in product(SCHEMES, WIDTHS):
            context = await page.context.browser.new_context(**options_of(look, desktop=1100, phone=720))
            beside = await context.new_page()
            await beside.goto(room)
            if look[1] == "phone":
                await beside.locator("#minute").evaluate("(one) => one.scrollIntoView()")
            await shoot(beside, "control-room", look)
            await context.close()

    with running("--port", "0") as demo:
        room = f"{demo.address}/control-room/{PRO}"
        browser.visit(visit)


@pytest.mark.parametrize("look", LOOKS)
def test_product(browser, look):
    async def visit(page):
        await open_as(page, demo.address, "Pro Plumbing")
        await shoot(page, "product", look)

    with running("--port", "0") as demo:
        browser.visit(visit, **options_of(look, desktop=800))


@pytest.mark.parametrize("look", LOOKS)
def test_admin_page(visit_admin, look):
    async def visit(page):
        await holding(page)
        await shoot(page, "admin-page", look)

    visit_admin(visit, **options_of(look, desktop=1000))


def refused(request):
    numbers = {"requested": Decimal(100), "remaining": Decimal(25)}
    return denied(request, Decision.of(Reason.INSUFFICIENT_QUANTITY, "api_calls", **numbers))


urls = ModuleType("urls")
urls.urlpatterns = [path("", refused)]


@pytest.mark.parametrize("look", LOOKS)
def test_refused_page(browser, look, settings):
    async def visit(page):
        await page.goto("/")
        await shoot(page, "refused-page", look)

    settings.ROOT_URLCONF, settings.STATIC_URL = urls, "/static/"
    settings.ENTITLEMENT_GATE = {"BASE_URL": "sandbox:", "UPGRADE_URL": "/plans/"}
    with serving() as address:
        browser.visit(visit, base_url=address, **options_of(look, desktop=420, phone=420))


@pytest.mark.parametrize("look", LOOKS)
def test_debug_toolbar(toolbar, browser, look):
    async def visit(page):
        await open_panel(page)
        await shoot(page, "debug-toolbar", look)

    browser.visit(visit, base_url=toolbar, **options_of(look, desktop=360))
