"""The admin page in a real browser: light and dark, wide and narrow, and without JavaScript."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from playwright.async_api import async_playwright
from pytest_django.live_server_helper import LiveServer

from entitlement_gate.api import default_gate
from tests.example.test_browser import BROWSER, follow
from tests.operators.world import ONE, scenario_file
from tests.test_admin import PAGE, _project, boss, sandbox

__all__ = ["_project", "boss", "scenario_file"]

pytestmark = pytest.mark.django_db(transaction=True)

CONTRAST = """
(element) => {
    const channels = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = (text) => {
        const linear = (c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
        const [r, g, b] = channels(text).map((c) => linear(c / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    let behind = element;
    while (behind && (channels(getComputedStyle(behind).backgroundColor)[3] ?? 1) === 0) behind = behind.parentElement;
    const ground = behind ? getComputedStyle(behind).backgroundColor : "rgb(255, 255, 255)";
    const [a, b] = [getComputedStyle(element).color, ground].map(light).sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
}
"""  # fmt: skip


@pytest.fixture
def visit(boss):
    """Let a member of staff visit the page: signed in, in a browser of the given kind."""
    server = LiveServer("127.0.0.1")

    def visit(go, **kind):
        asyncio.run(_visiting(server.url, boss.cookies["sessionid"].value, go, kind))

    yield visit
    server.stop()


async def _visiting(url, session, go, kind):
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(**BROWSER)
        try:
            context = await browser.new_context(base_url=url, **kind)
            await context.add_cookies([{"name": "sessionid", "value": session, "url": url}])
            page = await context.new_page()
            troubles = []
            page.on("pageerror", lambda error: troubles.append(str(error)))
            page.on("requestfailed", lambda request: troubles.append(request.url))
            await go(page)
        finally:
            await browser.close()
    assert troubles == []


async def look_up(page, customer=ONE, name=""):
    await page.goto(PAGE)
    await page.get_by_label("Customer id").fill(customer)
    await page.get_by_label("Entitlement").fill(name)
    await follow(page, page.get_by_role("button", name="Look up"))


async def is_seen(page):
    """Bars are drawn, nothing is cut off, and all text stands out from what is behind it."""
    bars = page.locator("meter")
    assert await bars.count() == 2
    for number in range(2):
        box = await bars.nth(number).bounding_box()
        assert box["width"] > 40
        assert box["height"] > 5
    is_too_wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert not await page.evaluate(is_too_wide)
    for text in await page.locator("#content-main :is(h2, p, td, th, a, label, summary, .help)").all():
        if (await text.inner_text()).strip():
            assert await text.evaluate(CONTRAST) >= 4.5, await text.inner_text()


async def shoot(page, name):
    if folder := os.environ.get("SCREENSHOTS"):
        await page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


@pytest.mark.parametrize("scripted", [True, False], ids=["scripts", "no scripts"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_staff_look_a_customer_up_and_let_the_next_check_fetch(visit, scheme, scripted):
    async def go(page):
        await look_up(page)
        await is_seen(page)
        await shoot(page, f"{scheme}-{'scripts' if scripted else 'plain'}")
        await page.locator("summary").first.click()
        assert await page.get_by_text("a0000000-0000-4000-8000-000000000002: active 0").is_visible()
        await follow(page, page.get_by_role("link", name="API Calls"))
        await is_seen(page)
        assert await page.get_by_text("Allowed: billing grants it.").is_visible()
        await shoot(page, f"{scheme}-{'scripts' if scripted else 'plain'}-explained")
        before = sandbox().request_count
        await follow(page, page.get_by_role("button", name="Fetch anew at the next check"))
        assert await page.get_by_text("The next check of this customer fetches anew.").is_visible()
        assert sandbox().request_count > before
        await is_seen(page)
        await shoot(page, f"{scheme}-{'scripts' if scripted else 'plain'}-anew")

    visit(go, color_scheme=scheme, java_script_enabled=scripted)
    default_gate().close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_window_shows_it_all(visit, scheme):
    async def go(page):
        await look_up(page, name="API Calls")
        await shoot(page, f"{scheme}-narrow")
        await is_seen(page)

    visit(go, color_scheme=scheme, viewport={"width": 380, "height": 800})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_was_typed_wrong_is_said_beside_it(visit, scheme):
    async def go(page):
        await look_up(page, customer="nobody")
        error = page.locator(".errorlist")
        assert "is no customer id" in await error.inner_text()
        assert await error.evaluate(CONTRAST) >= 4.5 or await error.locator("li").evaluate(CONTRAST) >= 4.5
        await shoot(page, f"{scheme}-error")

    visit(go, color_scheme=scheme)
