"""What a visit and its checks notice; a page that is sound passes all of them."""

from __future__ import annotations

import pytest

from tests.browser import assert_usable, serving, unreached, violations

SOUND = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Notes</title><main><h1>Notes</h1><p><a href="#all">All notes</a></p><button>Write</button>{}</main></html>"""


def on(page_of, body=""):
    async def go(page):
        await page.set_content(SOUND.format(body))
        await page_of(page)

    return go


async def nothing(_page):
    """Leave the page as it is."""


def test_a_sound_page_passes(browser):
    browser.visit(on(assert_usable))


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("<script>console.error('broken')</script>", "error: broken"),
        ("<script>console.warn('deprecated')</script>", "warning: deprecated"),
        ("<script>missing()</script>", "missing is not defined"),
        ("<img src='https://example.com/a.png' alt=''>", "left the machine: https://example.com/a.png"),
    ],
)
def test_a_visit_fails_for_what_a_page_does(browser, body, told):
    with pytest.raises(AssertionError, match=told):
        browser.visit(on(nothing, body))


@pytest.mark.django_db(transaction=True)
def test_a_visit_fails_for_what_cannot_be_loaded(browser, settings):
    async def go(page):
        await page.goto("/")  # 404, which a visit to it may ask for
        await page.evaluate("fetch('/data/')")

    settings.STATIC_URL = "/static/"
    with serving() as address:
        browser.visit(go, base_url=address, expected={404})
        with pytest.raises(AssertionError, match=r"404: .*/data/"):
            browser.visit(go, base_url=address)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("<input>", "label"),
        ("<p style='color: #bbb'>pale</p>", "color-contrast"),
        ("<div style='inline-size: 500px'>broad</div>", "scrolls sideways at 390"),
        ("<style>a:focus-visible { outline: none }</style>", "focus is not seen on <a"),
        ("<button tabindex='1'>First</button>", "in place of <a .* comes <button tabindex"),
        ("<button onfocus='this.blur()'>Never</button>", "not reached: <button onfocus|in place of <button onfocus"),
    ],
)
def test_a_page_that_somebody_cannot_use_fails(browser, body, told):
    with pytest.raises(AssertionError, match=told):
        browser.visit(on(assert_usable, body))


def test_what_stands_elsewhere_is_left_to_others(browser):
    async def go(page):
        heading = page.locator("h1")
        assert await unreached(heading) == await violations(heading) == []
        assert await violations(page.locator("main")) != []

    browser.visit(on(go, "<input>"))
