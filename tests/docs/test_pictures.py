"""The pictures of the pages: text that can be read by people and by machines, in light and dark, and true."""

import re
from xml.etree import ElementTree as ET

import pytest

from entitlement_gate import Outcome, Reason
from entitlement_gate.engine.options import GateOptions
from tests.browser import SCHEMES
from tests.docs.pages import DOCS, PAGES, name_of

PICTURES = sorted((DOCS / "images").glob("*.svg"))
SVG = "{http://www.w3.org/2000/svg}"
# Reasons that are told before there are rows to judge, or by tests.
_BEFORE_THE_RULE = {Reason.INVALID_CUSTOMER, Reason.NO_CUSTOMER, Reason.REJECTED, Reason.MALFORMED_RESPONSE}
# Every text lies within the picture, and within each box that its middle lies in.
_STICKING_OUT = """() => {
    const boxes = [...document.querySelectorAll("rect")].map((rect) => rect.getBBox());
    const sticksOut = (text, box) => text.x < box.x || text.x + text.width > box.x + box.width
        || text.y < box.y - 2 || text.y + text.height > box.y + box.height + 2;
    const holds = (box, text) => {
        const [x, y] = [text.x + text.width / 2, text.y + text.height / 2];
        return box.x < x && x < box.x + box.width && box.y < y && y < box.y + box.height;
    };
    return [...document.querySelectorAll("text")].filter((text) => {
        const around = boxes.filter((box) => holds(box, text.getBBox()));
        return !around.length || around.some((box) => sticksOut(text.getBBox(), box));
    }).map((text) => text.textContent);
}"""


def texts_of(picture, kind=""):
    texts = ET.parse(picture).iter(f"{SVG}text")
    return [text.text for text in texts if kind in text.get("class", "").split() or not kind]


@pytest.mark.parametrize("picture", PICTURES, ids=name_of)
def test_a_picture_is_described_and_needs_nothing_else(picture):
    text, root = picture.read_text(), ET.parse(picture).getroot()
    assert root.findtext(f"{SVG}title")
    assert len(root.findtext(f"{SVG}desc")) > 100
    assert "prefers-color-scheme: dark" in text
    assert re.findall(r"""(?:href=|url\()["']?(?!#)|<image|<script|@import""", text) == []


@pytest.mark.parametrize("picture", PICTURES, ids=name_of)
def test_a_page_shows_the_picture_and_says_in_words_what_it_shows(picture):
    shown = re.compile(rf"!\[([^\]]*)\]\([^)]*{picture.name}\)")
    said = [text for page in PAGES for text in shown.findall(page.read_text())]
    assert said
    assert all(len(text) > 30 for text in said)


@pytest.mark.parametrize("picture", PICTURES, ids=name_of)
def test_all_text_stays_in_its_box(picture, browser):
    async def go(page):
        await page.set_content(picture.read_text())
        assert await page.evaluate(_STICKING_OUT) == []

    browser.visit(go)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_ground_follows_the_scheme_of_the_reader(browser, scheme):
    async def go(page):
        for picture in PICTURES:
            await page.set_content(picture.read_text())
            ground, ink = await page.evaluate(
                """() => ["rect.ground", "text"].map((one) =>
                    getComputedStyle(document.querySelector(one)).fill.match(/\\d+/g).reduce((a, b) => +a + +b, 0))"""
            )
            assert (ground < ink) is (scheme == "dark")

    browser.visit(go, color_scheme=scheme)


def test_the_rule_shows_every_reason_that_it_may_give():
    shown = {
        word for text in texts_of(DOCS / "images" / "the-rule.svg", "code") for word in re.findall(r"[a-z_]+", text)
    }
    told = {reason for reason in Reason if reason.outcome is not Outcome.ALLOWED} - _BEFORE_THE_RULE
    assert told | {Reason.ALLOWED} == shown & set(Reason)


def test_the_timeline_shows_the_defaults():
    shown = " ".join(texts_of(DOCS / "images" / "freshness.svg"))
    options = GateOptions()
    renewed = options.ttl + options.stale_while_revalidate
    assert f"{options.denial_max_age:g} s DENIAL_MAX_AGE" in shown
    assert f"{options.ttl:g} s TTL" in shown
    assert f"{renewed:g} s + STALE_WHILE_ REVALIDATE" in shown
    assert f"{options.stale_if_error / 3600:g} h STALE_IF_ERROR" in shown
    assert f"waits for a fetch, {options.deadline:g} s at most" in shown
