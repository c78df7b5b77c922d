"""The admin page in a real browser: light and dark, wide and narrow, and without JavaScript."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from entitlement_gate.api import default_gate
from tests.browser import assert_usable, follow, serving
from tests.operators.world import ONE, STRANGER, scenario_file
from tests.test_admin import PAGE, _project, boss, sandbox

__all__ = ["_project", "boss", "scenario_file"]

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def visit(boss, browser):
    """Let a member of staff visit the page: signed in, in a browser of the given kind."""
    with serving() as address:
        session = {"name": "sessionid", "value": boss.cookies["sessionid"].value, "url": address}
        yield lambda go, **kind: browser.visit(go, base_url=address, cookies=[session], **kind)


async def look_up(page, customer=ONE, name=""):
    await page.goto(PAGE)
    await page.get_by_label("Customer id").fill(customer)
    await page.get_by_label("Entitlement").fill(name)
    await follow(page, page.get_by_role("button", name="Look up"))


@pytest.mark.parametrize("scripted", [True, False], ids=["scripts", "no scripts"])
def test_staff_look_a_customer_up_and_let_the_next_check_fetch(visit, scripted):
    async def go(page):
        await look_up(page)
        await page.locator("summary").first.click()
        await expect(page.get_by_text("a0000000-0000-4000-8000-000000000002: active 0")).to_be_visible()
        await follow(page, page.get_by_role("link", name="API Calls"))
        await expect(page.get_by_text("Allowed: billing grants it.")).to_be_visible()
        before = sandbox().request_count
        await follow(page, page.get_by_role("button", name="Fetch anew at the next check"))
        await expect(page.get_by_text("The next check of this customer fetches anew.")).to_be_visible()
        assert sandbox().request_count > before

    visit(go, java_script_enabled=scripted)
    default_gate().close()


async def nothing(page):
    await page.goto(PAGE)


async def holding(page):
    await look_up(page, name="API Calls")
    meters = page.locator("meter")
    await expect(meters).to_have_count(2)
    for number in range(2):
        box = await meters.nth(number).bounding_box()
        assert box["width"] > 40
        assert box["height"] > 5


async def fetched_anew(page):
    await look_up(page)
    await follow(page, page.get_by_role("button", name="Fetch anew at the next check"))


async def unknown(page):
    await look_up(page, customer=STRANGER)
    await expect(page.get_by_role("alert")).to_be_visible()


async def mistyped(page):
    await look_up(page, customer="nobody")
    await expect(page.locator(".errorlist")).to_contain_text("is no customer id")


@pytest.mark.parametrize("shown", [nothing, holding, fetched_anew, unknown, mistyped])
def test_anybody_can_use_the_page(visit, shown):
    async def go(page):
        await shown(page)
        await assert_usable(page)

    visit(go)
    default_gate().close()


def test_anybody_can_use_the_page_in_german(visit, settings):
    async def go(page):
        await page.goto(f"{PAGE}?customer={ONE}&name=API+Calls")
        await expect(page.get_by_role("button", name="Nachsehen")).to_be_visible()
        await assert_usable(page)

    settings.LANGUAGE_CODE = "de"
    visit(go)
    default_gate().close()
