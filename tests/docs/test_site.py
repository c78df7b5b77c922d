"""The documentation site: complete, all its links lead somewhere, and each page is light and works in a browser."""

import asyncio
import fcntl
import os
import re
import subprocess
import sys
import threading
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.async_api import expect

import entitlement_gate
from entitlement_gate import Reason
from tests.browser import DESKTOP, LIGHT, PATIENCE, PHONE, SCHEMES, is_too_wide, too_wide, violations, weight_of
from tests.docs.pages import DOCS, ROOT, in_code, rows_of

SITE = ROOT / "build" / "docs"
# One of each kind: cards, code, tables, signatures, a picture.
KINDS = (
    "index.html",
    "tutorial/first-gate.html",
    "reference/reasons.html",
    "reference/python/decisions.html",
    "explanation/the-rule.html",
    "search.html",
)


class _Page(HTMLParser):
    """What the tests ask of a page: its text and links, by whether they stand in the article, and its anchors."""

    def __init__(self, path):
        super().__init__()
        self.path, self.anchors, self.links, self.linked_in_article, self.loads = path, set(), set(), set(), set()
        self._is_article = False
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.anchors |= {attributes["id"]} if "id" in attributes else set()
        self._is_article |= tag == "article"
        if tag == "a" and "href" in attributes:
            self.links.add(attributes["href"])
            if self._is_article:
                self.linked_in_article.add(self.target_of(attributes["href"]))
        elif tag in {"script", "img", "source", "iframe", "link"}:
            self.loads |= {attributes[name] for name in ("src", "href", "srcset") if attributes.get(name)}

    def handle_endtag(self, tag):
        self._is_article &= tag != "article"

    def target_of(self, link):
        """Return the file that a link within the site leads to."""
        path = unquote(urlsplit(link).path)
        return (self.path.parent / path).resolve() if path else self.path


@pytest.fixture(scope="session")
def pages():
    """Build the site where it was not built as it now is, and read its pages."""
    SITE.parent.mkdir(exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    with SITE.with_name("docs-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process of this run may be at it
        command = [sys.executable, str(DOCS / "site" / "build.py"), "--if-changed"]
        built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return {path: _Page(path) for path in sorted(SITE.rglob("*.html"))}


@pytest.fixture
def site(pages):
    """Serve the site as it stands, and say where."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_): ...

        def end_headers(self):
            self.send_header("Cache-Control", "no-store")  # what is not sent again weighs nothing
            super().end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=SITE)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def page_of(source):
    name = source.relative_to(DOCS) if DOCS in source.parents else Path(source.name.lower())
    return SITE / name.with_suffix(".html")


def test_every_page_is_within_two_clicks_in_the_text_alone(pages):
    written = [*DOCS.rglob("*.md"), *(ROOT / f"{name}.md" for name in ("CHANGELOG", "CONTRIBUTING", "SECURITY"))]
    front = SITE / "index.html"
    first = {page for page in pages[front].linked_in_article if page in pages}
    second = set().union(*(pages[page].linked_in_article for page in first))
    assert {page_of(source) for source in written} <= {front} | first | second
    assert set(pages) - {front, SITE / "search.html"} <= first | second


def test_every_link_leads_to_a_file_and_an_anchor_that_are_there(pages):
    dead = [
        f"{page.path.relative_to(SITE)}: {link}"
        for page in pages.values()
        for link in page.links
        if not urlsplit(link).scheme and not _leads_somewhere(pages, page.target_of(link), urlsplit(link).fragment)
    ]
    assert dead == []


def _leads_somewhere(pages, target, fragment):
    return target.is_file() and (not fragment or target not in pages or unquote(fragment) in pages[target].anchors)


def test_nothing_is_loaded_from_elsewhere(pages):
    assert {load for page in pages.values() for load in page.loads if urlsplit(load).netloc} == set()


def test_every_public_name_has_its_signature(pages):
    anchors = set().union(*(page.anchors for page in pages.values()))
    named = {f"entitlement_gate.{name}" for name in entitlement_gate.__all__}
    for where, what in (
        row for row in rows_of(DOCS / "reference" / "api.md") if row[0].startswith("`entitlement_gate.")
    ):
        for module in in_code(where):
            names = {name for name in in_code(what) if re.fullmatch(r"[A-Za-z_]\w+", name)}
            named |= {f"{module}.{name}" for name in names} if "." not in module.rpartition("gate.")[2] else set()
    assert {name for name in named if name not in anchors} == set()


def test_every_reason_stands_in_what_is_made_of_the_code(pages):
    reasons = pages[SITE / "reference" / "python" / "decisions.html"].anchors
    assert {f"entitlement_gate.Reason.{reason.name}" for reason in Reason} <= reasons


def test_marks_of_the_tests_are_not_shown(pages):
    named = re.compile(r'<code class="docutils literal.*?</code>', re.DOTALL)  # in the prose of who contributes
    texts = [named.sub("", page.path.read_text()) for page in pages.values()]
    assert not any(re.search(r"&lt;!-- |<p>&lt;a id=", text) for text in texts)


def test_every_page_is_light_and_fits_a_desk_and_a_phone(pages, site, browser):
    wrong = []

    async def go(page):
        for path in pages:
            name = path.relative_to(SITE)
            await page.goto(f"{site}/{name}")
            if path.name == "search.html":  # loads its index
                await search(page, site, "cache")
            size = await weight_of(page)
            if size > LIGHT:
                wrong.append(f"{name}: {size} bytes")
            for width in (PHONE, DESKTOP):
                await page.set_viewport_size({"width": width, "height": 800})
                if await is_too_wide(page):
                    wrong.append(f"{name} at {width}: {await too_wide(page)}")

    browser.visit(go)
    assert wrong == []


def test_axe_finds_nothing_on_any_kind_of_page(site, browser):
    wrong = []

    async def go(page):
        for name in KINDS:
            await page.goto(f"{site}/{name}")
            for width, scheme in zip((DESKTOP, PHONE), SCHEMES, strict=True):
                await page.set_viewport_size({"width": width, "height": 800})
                await page.emulate_media(color_scheme=scheme)
                found = await violations(page.locator("html"))
                wrong.extend(f"{name}, {width}, {scheme}: {one}" for one in found)

    browser.visit(go)
    assert wrong == []


async def search(page, site, words):
    """Search as a reader does, and return the pages found, best first."""
    await page.goto(f"{site}/index.html")
    await page.get_by_role("textbox", name="Search").fill(words)
    await page.keyboard.press("Enter")
    await expect(page.locator("#search-results p.search-summary")).to_contain_text("matching the search query")
    found = page.locator("#search-results ul.search a")
    hrefs = await found.evaluate_all("links => links.map((link) => link.getAttribute('href'))")
    return [urlsplit(href).path for href in hrefs]


def test_the_search_finds_a_page_by_what_people_call_it(site, browser):
    """Among the first three, that is."""
    wanted = {
        "STALE_IF_ERROR": "reference/settings.html",
        "insufficient_credits": "reference/reasons.html",
        "W005": "reference/checks.html",
        "ainvalidate_entitlements": "reference/python/functions.html",
        "celery": "how-to/celery.html",
        "htmx": "how-to/show-entitlements-in-a-front-end.html",
        "pytest fixture": "how-to/test-your-gates.html",
        "tenant subdomain": "how-to/multi-tenant-resolvers.html",
        "webhook signature": "how-to/receive-webhooks.html",
        "dead letters": "how-to/ship-usage.html",
        "shadow mode": "how-to/roll-out-a-gate.html",
        "migrating from waffle": "how-to/migrate-from-waffle.html",
        "circuit breaker": "explanation/freshness-and-failure.html",
        "feature flags": "explanation/comparison.html",
        "lease": "explanation/shared-snapshots.html",
    }
    missed = {}

    async def go(page):
        for words, page_of_them in wanted.items():
            found = list(dict.fromkeys(await search(page, site, words)))
            if page_of_them not in found[:3]:
                missed[words] = found

    browser.visit(go)
    assert missed == {}


def test_the_sidebar_lists_every_page_and_is_open_where_the_reader_is(pages, site, browser):
    async def go(page):
        await page.goto(f"{site}/how-to/celery.html")
        links = page.locator(".sidebar-tree a")
        listed = await links.evaluate_all("links => links.map((link) => link.href.replace(/#.*/, ''))")
        names = {str(path.relative_to(SITE)) for path in pages} - {"index.html", "search.html"}
        assert sorted(listed) == sorted(f"{site}/{name}" for name in names)
        await expect(page.locator(".sidebar-tree details[open] > summary")).to_have_text(["With other packages"])
        await expect(page.get_by_role("link", name="Choose a ledger")).to_be_hidden()
        group = page.locator(".sidebar-tree summary", has_text="Count")
        await group.focus()
        await page.keyboard.press("Enter")
        await page.locator(".sidebar-tree").get_by_role("link", name="Choose a ledger").click()
        await expect(page.get_by_role("heading", level=1)).to_contain_text("Choose a ledger")

    browser.visit(go)


def test_dark_is_a_choice_that_pictures_follow(site, browser):
    async def go(page):
        await page.goto(f"{site}/explanation/the-rule.html")
        picture = page.get_by_role("img", name="A flow of nine questions")
        light = await picture.screenshot()
        for _ in range(3):  # by the system, light, dark, in whatever order
            if await page.locator("body").get_attribute("data-theme") != "dark":
                await page.locator(".theme-toggle:visible").click()
        assert await page.evaluate("getComputedStyle(document.body).colorScheme") == "dark"
        async with asyncio.timeout(PATIENCE / 1000):  # a picture is drawn anew when its turn comes
            while await picture.screenshot() == light:
                pass

    browser.visit(go, color_scheme="light")


def test_a_session_is_copied_without_its_prompts_and_answers(site, browser):
    async def go(page):
        await page.goto(f"{site}/how-to/use-the-sandbox.html")
        block = page.locator(".highlight-pycon").first
        await block.hover()
        await block.get_by_role("button", name="Copy").click()
        copied = await page.evaluate("navigator.clipboard.readText()")
        assert copied
        assert not re.search(r"^(>>>|\.\.\.)", copied, re.MULTILINE)

    browser.visit(go, permissions=["clipboard-read", "clipboard-write"])
