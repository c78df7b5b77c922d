"""The panel in a real browser."""

import pytest

from tests.browser import PHONE, assert_usable, serving
from tests.contrib.toolbar_project import PANEL, project

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def address():
    with project(), serving() as address:
        yield address


async def open_panel(page):
    """Open a page that makes three checks, and the panel on it."""
    await page.goto("/gated/?name=sso&name=seats&name=nothing")
    await page.locator(f"a.{PANEL}").click()
    await page.locator(f"#{PANEL} table").wait_for()


def test_the_panel_opens_in_the_page(address, browser):
    async def go(page):
        await open_panel(page)
        rows = await page.locator(f"#{PANEL} table tbody tr").all()
        cells = [await row.locator("td").all_inner_texts() for row in rows]
        assert (await page.locator(f"li:has(a.{PANEL})").inner_text()).startswith(
            "Entitlements\n3 checks, 1 refused in"
        )
        assert [row[0] for row in cells] == ["sso", "seats", "nothing"]
        assert [row[2] for row in cells] == ["allowed", "allowed", "refused"]
        await assert_usable(page, within=f"#{PANEL} table")

    browser.visit(go, base_url=address)


def test_the_panel_fits_a_telephone_and_leads_back_to_the_toolbar(address, browser):
    async def go(page):
        await open_panel(page)
        box = await page.locator(f"#{PANEL} table").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE
        label = "(one) => getComputedStyle(one, '::before').content"
        cells = await page.locator(f"#{PANEL} tr:nth-child(2) td:visible").all()
        shown = " ".join([await cell.evaluate(label) for cell in cells]).replace('"', "")
        assert shown == "Entitlement Answer Reason Left Source Age Time Rows Customer"  # and no empty Quantity
        await page.locator(f"#{PANEL} .djDebugClose").click()
        await page.locator(f"a.{PANEL}").click(trial=True)

    browser.visit(go, base_url=address, viewport={"width": PHONE, "height": 780})
