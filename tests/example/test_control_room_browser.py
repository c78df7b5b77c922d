"""The control room in a real browser: what is played is seen on the page as it stands, with scripts or without."""

import re
from decimal import Decimal

import pytest
from playwright.async_api import expect

from tests.browser import assert_usable, follow
from tests.example.conftest import running

SOON = 5_000  # milliseconds of the page's own clock
PRO = "?customer=20000000-0000-4000-8000-000000000002"
HIDE = "Object.defineProperty(document, 'hidden', {get: () => true})"


@pytest.fixture
def address():
    with running("--port", "0") as demo:
        yield f"{demo.address}/control-room/"


def card(page, name):
    return page.locator(".answers > li").filter(has=page.get_by_role("heading", name=name))


def button(page, name):
    return page.get_by_role("button", name=name, exact=True).first


def desk(page, name):
    return page.locator(".desk").get_by_role("button", name=name, exact=True)


def counted(page, column):
    """What the ledger's table, the first of those with credits, says of them."""
    row = page.get_by_role("row", name=re.compile("^ai_credits ")).first
    return row.locator(f"td[data-label='{column}']")


def test_an_upgrade_that_is_told_is_seen_at_once(browser, address):
    async def visit(page):
        await page.goto(address)
        await expect(card(page, "reports")).to_contain_text("denied")
        await page.evaluate("window.isTheSamePage = true")
        await page.get_by_label("Tell the product").check()
        await desk(page, "Upgrade to Pro").click()
        await expect(card(page, "reports")).to_contain_text("allowed")
        await expect(page.locator(".said")).to_have_text(
            "Billing moved the customer to the Pro plan. The product was told."
        )
        await expect(page.locator(".pulse")).to_contain_text("reports allowed.")
        assert await page.evaluate("window.isTheSamePage")
        await page.reload()
        assert await page.get_by_label("Tell the product").is_checked()

    browser.visit(visit)


def test_who_signs_in_in_another_tab_goes_on_playing(browser, address):
    async def visit(page):
        await page.goto(address)
        await page.evaluate(HIDE)  # no poll brings the newer token
        product = await page.context.new_page()
        await product.goto(address.removesuffix("control-room/"))
        await follow(product, product.get_by_role("button", name="Pro Plumbing"))
        await button(page, "Downgrade and tell").click()
        await expect(page.locator(".said")).to_contain_text("Billing moved the customer to the Free plan.")

    browser.visit(visit, expected=[403])


def test_an_outage_is_answered_from_older_data_until_billing_is_mended(browser, address):
    async def visit(page):
        await page.goto(address)
        await page.get_by_label("Tell the product").check()
        await desk(page, "Upgrade to Pro").click()
        await expect(card(page, "reports")).to_contain_text("allowed")
        await desk(page, "Down").click()
        await expect(page.locator(".health")).to_contain_text("status 503")
        await expect(card(page, "reports")).to_have_text(re.compile("allowed.*stale", re.DOTALL))
        await expect(page.locator(".happened")).to_contain_text("A fetch failed: SourceUnavailable.")
        await expect(page.locator(".ages rect.stale").first).to_be_attached()
        await desk(page, "Mend").click()
        await expect(card(page, "reports")).to_contain_text("cache")
        await expect(page.locator(".happened")).to_contain_text("→ fresh")

    browser.visit(visit)


def test_what_is_used_is_counted_before_billing_hears_of_it(browser, address):
    async def visit(page):
        await page.goto(address + PRO)
        left = Decimal(await counted(page, "Left").inner_text())
        await button(page, "Use 10 credits").click()
        await expect(counted(page, "Of that not billed")).to_have_text(re.compile(r"^10(\.0)?$"))
        await expect(counted(page, "Left")).to_have_text(str(left - 10))
        await button(page, "Billing catches up").click()
        await expect(counted(page, "Of that not billed")).to_have_text(re.compile(r"^0(\.0)?$"))
        await expect(counted(page, "Left")).to_have_text(str(left - 10))

    browser.visit(visit)


def test_everybody_can_use_the_page_also_while_billing_is_broken(browser, address):
    async def visit(page):
        await page.goto(address)
        await page.evaluate(HIDE)  # so that the page stands still
        await assert_usable(page)
        await button(page, "Let it hang").click()
        await expect(page.locator(".health")).to_contain_text("hang")
        await page.goto(address + PRO)
        await page.evaluate(HIDE)
        await expect(card(page, "reports")).to_contain_text("unknown")
        await assert_usable(page)

    browser.visit(visit)


def test_without_scripts_each_button_leads_to_a_newer_page(browser, address):
    async def visit(page):
        await page.goto(address)
        await follow(page, button(page, "Downgrade and tell"))
        await expect(card(page, "reports")).to_contain_text("not_entitled")
        await follow(page, page.get_by_role("link", name="Look again"))
        await follow(page, page.get_by_role("link", name="Pro Plumbing"))
        await expect(card(page, "reports")).to_contain_text("allowed")
        await follow(page, card(page, "seats").get_by_role("button", name="See its page"))
        await expect(page.get_by_text("Signed in as")).to_contain_text("Pro Plumbing")
        await expect(page).to_have_title(re.compile("^Team"))

    browser.visit(visit, java_script_enabled=False)


@pytest.mark.parametrize("how", ["paused", "hidden"])
def test_a_page_that_is_paused_or_hidden_asks_nothing(browser, address, how):
    async def visit(page):
        asked = []
        await page.clock.install()
        await page.goto(address)
        async with page.expect_response(address):
            await page.clock.run_for(SOON)
        if how == "hidden":
            await page.evaluate(HIDE)
        else:
            await button(page, "Pause").click()
        page.on("request", lambda request: asked.append(request.url))
        for _ in range(3):
            await page.clock.run_for(SOON)
        assert asked == []

    browser.visit(visit)
