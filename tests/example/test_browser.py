"""The example in a real browser: what a person sees and does, on each of its pages."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys

import httpx
import pytest

from tests.browser import PHONE, assert_fits, assert_usable, follow
from tests.example.conftest import PATIENCE, PROJECT, environment, running

GATED = ("/reports/", "/export/", "/summary/", "/ask/", "/team/", "/api/report/", "/api/search/")
SHOWN = {
    "Free Fields": dict(zip(GATED, (403, 402, 403, 403, 403, 403, 402), strict=True)),
    "Pro Plumbing": dict.fromkeys(GATED, 200),
    "Lapsed Logistics": dict.fromkeys(GATED, 403),
    "Signed out": dict.fromkeys(GATED, 403) | {"/api/search/": 401},
}
# Those that lead to a page; what the control room sends changes it where it stands, of which it has tests of its own.
FORMS = "main form:not([data-act])"
ANSWERED = {("/reports/", 200), ("/export/", 302), ("/ask/", 200), ("/team/", 200), ("/api/search/", 200)}
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
print(json.dumps(list(paths_of(get_resolver()))))
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


async def go_to(page, url, tries=10):
    """Open a page, again where the machine is too busy for the demo to ask billing in time; return its status."""
    for _ in range(tries):
        status = (await page.goto(url)).status
        if status != 503:
            break
        await asyncio.sleep(1)
    return status


async def is_only_sent_to(page, url):
    """Tell whether a form is sent there, and there is no page."""
    return (await page.request.get(url, headers={"Accept": "text/html"})).status == 405


async def assert_pages_usable(page, address, paths, expected, seen):
    found, tries = {}, 1 if 503 in expected.values() else 10
    for path in paths:
        if await is_only_sent_to(page, address + path):
            continue
        found[path] = await go_to(page, address + path, tries)
        await assert_page_usable(page, seen)
    assert found.keys() >= {"/", "/plans/", *expected}
    assert found == found | expected


async def assert_page_usable(page, seen):
    """Look at a page; at one that differs from one that was ``seen`` in its text alone only as to whether that fits."""
    assert await page.evaluate("document.contentType") == "text/html", page.url
    assert await page.locator("h1").count() == 1, page.url
    await stop_renewing(page)
    structure = await page.evaluate(STRUCTURE)
    if structure in seen:
        await assert_fits(page)
    else:
        seen.add(structure)
        await assert_usable(page)


async def send(page, path, number, typed):
    """Send one of the forms of a page, with this or what stands in its field; return the status of the answer."""
    assert await go_to(page, path) == 200
    form = page.locator(FORMS).nth(number)
    if typed:
        await form.locator("input:visible").fill(typed)
    async with page.expect_response(lambda response: response.request.is_navigation_request()) as answered:
        await follow(page, form.locator("button").first)
    return (await answered.value).status


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


def test_anybody_can_use_what_each_form_answers(paths, seen, browser):
    async def visit(page):
        await open_as(page, demo.address, "Pro Plumbing")
        answered = set()
        for path in paths:
            if await is_only_sent_to(page, demo.address + path):
                continue
            await go_to(page, demo.address + path)
            for number in range(await page.locator(FORMS).count()):
                status = await send(page, demo.address + path, number, "")
                answered.add((path, status))
                await assert_page_usable(page, seen)
        assert answered >= ANSWERED
        for path, typed, status in (("/ask/", "a pond", 404), ("/team/", "3", 402)):
            assert await send(page, demo.address + path, 0, typed) == status
            await assert_page_usable(page, seen)

    with running("--port", "0") as demo:
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
