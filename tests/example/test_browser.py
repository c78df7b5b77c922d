"""The example in a real browser: what a person sees and does."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import async_playwright

from tests.example.conftest import running

BROWSER = {
    "executable_path": "/usr/bin/chromium",
    "args": ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"],
}
SHOWN = {
    "Free Fields": {"/reports/": 403, "/export/": 402, "/summary/": 403, "/ask/": 403, "/team/": 403},
    "Pro Plumbing": {"/reports/": 200, "/export/": 200, "/summary/": 200, "/ask/": 200, "/team/": 200},
    "Lapsed Logistics": {"/reports/": 403, "/export/": 403, "/summary/": 403, "/ask/": 403, "/team/": 403},
}


@pytest.fixture(scope="module")
def address():
    with running("--port", "0") as demo:
        yield demo.address


def browse(visit):
    """Run a visit on a loop of its own: Playwright leaves a running loop behind in its sync form."""

    async def browsing():
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(**BROWSER)
            try:
                page = await browser.new_page(viewport={"width": 380, "height": 800})
                troubles = []
                page.on("pageerror", lambda error: troubles.append(str(error)))
                await visit(page)
            finally:
                await browser.close()
        assert troubles == []

    asyncio.run(browsing())


async def follow(page, leading):
    """Click what leads to another page, and be there: a click alone does not wait for it."""
    async with page.expect_navigation():
        await leading.click()


@pytest.mark.parametrize("customer", SHOWN)
def test_a_person_sees_what_the_customer_may(address, customer):
    async def visit(page):
        await page.goto(address)
        await follow(page, page.get_by_role("button", name=customer))
        assert customer in await page.inner_text("body")
        for path, status in SHOWN[customer].items():
            answer = await page.goto(address + path)
            assert (path, answer.status) == (path, status)
            assert await page.locator("h1").count() == 1
            is_too_wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
            assert not await page.evaluate(is_too_wide), path

    browse(visit)


def test_a_refused_person_is_led_to_the_plans(address):
    async def visit(page):
        await page.goto(address)
        await follow(page, page.get_by_role("button", name="Free Fields"))
        await page.goto(address + "/export/")
        await follow(page, page.locator("main a[href='/plans/']").first)
        assert page.url == address + "/plans/"

    browse(visit)


def test_a_person_sees_the_credits_fall_until_an_answer_is_refused():
    async def visit(page):
        await page.goto(demo.address)
        await follow(page, page.get_by_role("button", name="Pro Plumbing"))
        await follow(page, page.get_by_role("navigation").get_by_role("link", name="Ask"))
        for left in ("54.8", "44.8", "34.8", "24.8", "14.8", "4.8"):
            assert f"{left} of 100 credits left" in await page.inner_text("main")
            await follow(page, page.get_by_role("button", name="Ask"))
        assert "Needed: 10. Left: 4.8 credits" in await page.inner_text("main")
        await follow(page, page.get_by_role("link", name="See the plans"))
        assert page.url == demo.address + "/plans/"

    with running("--port", "0") as demo:
        browse(visit)
