"""The example in a real browser: what a person sees and does, on each of its pages."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import httpx
import pytest

from tests.browser import PHONE, assert_fits, assert_usable, follow
from tests.example.conftest import PATIENCE, PROJECT, environment, running

SHOWN = {
    "Free Fields": {"/reports/": 403, "/export/": 402, "/summary/": 403, "/ask/": 403, "/team/": 403},
    "Pro Plumbing": {"/reports/": 200, "/export/": 200, "/summary/": 200, "/ask/": 200, "/team/": 200},
    "Lapsed Logistics": {"/reports/": 403, "/export/": 403, "/summary/": 403, "/ask/": 403, "/team/": 403},
    "Signed out": {"/reports/": 403, "/export/": 403, "/summary/": 403, "/ask/": 403, "/team/": 403},
}
# What the parameters of a path may be: a new path with a parameter of another name has to be placed here.
PARAMETERS = {"number": "0"}
PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>")
STRUCTURE = """[...document.querySelectorAll("*")].map((one) => [one.localName,
    ...[...one.attributes].map(({name, value}) => name === "class" ? value : name)].join(" ")).join()"""
LIST_PATHS = """
import json, re
import django
from django.urls import URLPattern, get_resolver

def paths_of(resolver, before=""):
    for one in resolver.url_patterns:
        path = before + str(one.pattern)
        yield from [path] if isinstance(one, URLPattern) else paths_of(one, path)

django.setup()
print(json.dumps([path for path in paths_of(get_resolver()) if not path.startswith(("^", "admin/"))]))
"""


@pytest.fixture(scope="module")
def address():
    with running("--port", "0") as demo:
        yield demo.address


@pytest.fixture(scope="module")
def paths():
    """Every path of the URLconf, so that a new page is not forgotten."""
    listing = subprocess.run(
        [sys.executable, "-c", LIST_PATHS],
        cwd=PROJECT,
        env=environment(DJANGO_SETTINGS_MODULE="config.settings"),
        capture_output=True,
        text=True,
        check=True,
    )
    return ["/" + PARAMETER.sub(lambda found: PARAMETERS[found[1]], path) for path in json.loads(listing.stdout)]


@pytest.fixture(scope="module")
def seen():
    """The structures of pages that were looked at."""
    return set()


async def open_as(page, address, customer):
    await page.goto(address)
    await follow(page, page.get_by_role("button", name=customer, exact=True))


async def stop_renewing(page):
    """Let a page that renews itself stay as it is while it is looked at; nobody sees it, it thinks."""
    if await page.locator("#pause").is_visible():
        await page.evaluate("Object.defineProperty(document, 'hidden', {get: () => true})")
        await page.wait_for_load_state("networkidle")


async def assert_pages_usable(page, address, paths, expected, seen):
    """Open each path that is a page; that of a form that is only sent, or of an API, is none.

    The browsable API looks as the framework makes it. A page that differs from one that was ``seen`` in its text alone
    is looked at only as to whether that fits.
    """
    found = {}
    for path in paths:
        if path.startswith("/api/"):
            continue
        answer = await page.request.get(address + path, headers={"Accept": "text/html"})
        if answer.status == 405 or not answer.headers["content-type"].startswith("text/html"):
            continue
        found[path] = (await page.goto(address + path)).status
        assert await page.locator("h1").count() == 1, path
        await stop_renewing(page)
        structure = await page.evaluate(STRUCTURE)
        if structure in seen:
            await assert_fits(page)
        else:
            seen.add(structure)
            await assert_usable(page)
    assert found.keys() >= {"/", "/plans/", *expected}
    assert found == found | expected


@pytest.mark.parametrize("customer", SHOWN)
def test_anybody_can_use_each_page_that_a_customer_sees(address, paths, seen, customer, browser):
    async def visit(page):
        await open_as(page, address, customer)
        assert customer in await page.inner_text("body")
        await assert_pages_usable(page, address, paths, SHOWN[customer], seen)

    browser.visit(visit)


def test_anybody_can_use_each_page_in_an_outage(paths, seen, browser):
    async def visit(page):
        await open_as(page, demo.address, "Free Fields")
        expected = dict.fromkeys(["/", *SHOWN["Free Fields"]], 503)
        await assert_pages_usable(page, demo.address, paths, expected, seen)

    with running("--port", "0", "--sandbox-server") as demo:
        faults = [{"kind": "status", "status": 503}]
        httpx.put(f"{demo.billing}/_sandbox/faults", json=faults, trust_env=False, timeout=PATIENCE).raise_for_status()
        browser.visit(visit)


def test_a_refused_person_is_led_to_the_plans(address, browser):
    async def visit(page):
        await open_as(page, address, "Free Fields")
        await page.goto(address + "/export/")
        await follow(page, page.locator("main a[href='/plans/']").first)
        assert page.url == address + "/plans/"

    browser.visit(visit)


def test_a_person_sees_the_credits_fall_until_an_answer_is_refused(browser):
    async def visit(page):
        await open_as(page, demo.address, "Pro Plumbing")
        await follow(page, page.get_by_role("navigation").get_by_role("link", name="Ask"))
        for left in ("54.8", "44.8", "34.8", "24.8", "14.8", "4.8"):
            assert f"{left} of 100 credits left" in await page.inner_text("main")
            await follow(page, page.get_by_role("button", name="Ask"))
        assert "Needed: 10. Left: 4.8 credits" in await page.inner_text("main")
        await follow(page, page.get_by_role("link", name="See the plans"))
        assert page.url == demo.address + "/plans/"

    with running("--port", "0") as demo:
        browser.visit(visit, viewport={"width": PHONE, "height": 800})
