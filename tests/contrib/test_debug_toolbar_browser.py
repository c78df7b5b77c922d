"""The panel in a real browser: on the page, and from the history of a page that fetched."""

import asyncio
import os
from pathlib import Path

import pytest
from playwright.async_api import async_playwright
from pytest_django.live_server_helper import LiveServer

from tests.contrib.toolbar_project import PANEL, project
from tests.example.test_browser import BROWSER

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def address():
    with project():
        server = LiveServer("127.0.0.1")
        yield server.url
        server.stop()


async def opened(address):
    """Open the page, and the panel on it; return what stands in its table."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(**BROWSER)
        try:
            page = await browser.new_page(base_url=address, viewport={"width": 1280, "height": 720})
            troubles = []
            page.on("pageerror", lambda error: troubles.append(str(error)))
            await page.goto("/gated/?name=sso&name=seats&name=nothing")
            await page.locator(f"a.{PANEL}").click()
            table = page.locator(f"#{PANEL} table")
            await table.wait_for()
            cells = [await row.locator("td").all_inner_texts() for row in await table.locator("tbody tr").all()]
            if folder := os.environ.get("SCREENSHOTS"):
                await page.screenshot(path=Path(folder) / "debug-toolbar.png")
            assert troubles == []
            return await page.locator(f"li:has(a.{PANEL})").inner_text(), cells
        finally:
            await browser.close()


def test_the_panel_opens_in_the_page(address):
    nav, cells = asyncio.run(opened(address))
    assert nav.startswith("Entitlements\n3 checks, 1 refused in")
    assert [row[0] for row in cells] == ["sso", "seats", "nothing"]
    assert [row[2] for row in cells] == ["allowed", "allowed", "refused"]
