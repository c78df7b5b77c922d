"""The example in a real browser: what a person sees and does."""

from __future__ import annotations

import pytest

from tests.browser import PHONE, follow, is_too_wide
from tests.example.conftest import running

SHOWN = {
    "Free Fields": {"/reports/": 403, "/export/": 402, "/summary/": 403, "/ask/": 403, "/team/": 403},
    "Pro Plumbing": {"/reports/": 200, "/export/": 200, "/summary/": 200, "/ask/": 200, "/team/": 200},
    "Lapsed Logistics": {"/reports/": 403, "/export/": 403, "/summary/": 403, "/ask/": 403, "/team/": 403},
}


@pytest.fixture(scope="module")
def address():
    with running("--port", "0") as demo:
        yield demo.address


@pytest.mark.parametrize("customer", SHOWN)
def test_a_person_sees_what_the_customer_may(address, customer, browser):
    async def visit(page):
        await page.goto(address)
        await follow(page, page.get_by_role("button", name=customer))
        assert customer in await page.inner_text("body")
        for path, status in SHOWN[customer].items():
            answer = await page.goto(address + path)
            assert (path, answer.status) == (path, status)
            assert await page.locator("h1").count() == 1
            assert not await is_too_wide(page), path

    browser.visit(visit, viewport={"width": PHONE, "height": 800})


def test_a_refused_person_is_led_to_the_plans(address, browser):
    async def visit(page):
        await page.goto(address)
        await follow(page, page.get_by_role("button", name="Free Fields"))
        await page.goto(address + "/export/")
        await follow(page, page.locator("main a[href='/plans/']").first)
        assert page.url == address + "/plans/"

    browser.visit(visit, viewport={"width": PHONE, "height": 800})


def test_a_person_sees_the_credits_fall_until_an_answer_is_refused(browser):
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
        browser.visit(visit, viewport={"width": PHONE, "height": 800})
