"""One Chromium for all tests of a process, and what every page has to keep to.

A visit is a coroutine function that gets a page of a context of its own. It fails where the page logs an error, cannot
load something, or asks for anything outside this machine. The browser lives on a loop that runs only during a visit, so
it needs no thread and disturbs no test that forks or counts threads.
"""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.resources import files
from urllib.parse import urlsplit

from playwright.async_api import async_playwright, expect
from pytest_django.live_server_helper import LiveServer

PHONE, DESKTOP = 390, 1280  # CSS pixels
SCHEMES = ("light", "dark")
LIGHT = 200_000  # bytes: a page with all that it loads, not compressed
PATIENCE = 180_000  # milliseconds; passes at once where the machine is idle
CHROMIUM = {
    "executable_path": "/usr/bin/chromium",
    "args": [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    ],
}
# The answers to a page, to what it fetches, and to an icon that nobody linked are all told of; `response` says whose.
_STATUS = "Failed to load resource: the server responded with a status of"
_LEFT = "net::ERR_ABORTED"  # the page was left while it loaded something
_HERE = {"127.0.0.1", "localhost", "::1"}


class Browser:
    """A running Chromium."""

    def __init__(self):
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._playwright = self._runner.run(async_playwright().start())
        self._chromium = self._runner.run(self._playwright.chromium.launch(timeout=PATIENCE, **CHROMIUM))

    def visit(self, go, *, cookies=(), expected=(), **context):
        """Run ``go(page)``; ``expected`` are the statuses from 400 on that what a page fetches may be answered."""
        troubles = []
        self._runner.run(self._visiting(go, cookies, lambda made: _watch(made, troubles, expected), context))
        assert not troubles, "\n".join(troubles)

    async def _visiting(self, go, cookies, watch, options):
        # A pool of threads that ends with the visit: a test that forks afterwards finds none.
        with ThreadPoolExecutor(2) as pool:
            asyncio.get_running_loop().set_default_executor(pool)
            context = await self._chromium.new_context(
                **({"viewport": {"width": DESKTOP, "height": 800}, "reduced_motion": "reduce"} | options)
            )
            try:
                await context.add_cookies(list(cookies))
                context.set_default_timeout(PATIENCE)
                expect.set_options(timeout=PATIENCE)
                watch(context)
                await go(await context.new_page())
            finally:
                await context.close()

    def close(self):
        self._runner.run(self._chromium.close())
        self._runner.run(self._playwright.stop())
        self._runner.close()


def _watch(context, troubles, expected):
    def is_elsewhere(request):
        url = urlsplit(request.url)
        return url.scheme not in {"about", "blob", "data"} and url.hostname not in _HERE

    def is_wrong(response):
        is_page = response.request.is_navigation_request()
        return response.status >= 400 and not is_page and response.status not in expected

    def tell(event, is_trouble, text):
        context.on(event, lambda subject: troubles.append(text(subject)) if is_trouble(subject) else None)

    tell("request", is_elsewhere, lambda request: f"left the machine: {request.url}")
    tell("requestfailed", lambda request: request.failure != _LEFT, lambda request: f"{request.failure}: {request.url}")
    tell("response", is_wrong, lambda response: f"{response.status}: {response.url}")
    tell("console", _is_complaint, lambda message: f"{message.type}: {message.text}")
    tell("weberror", lambda _: True, lambda error: f"error: {error.error}")


def _is_complaint(message):
    return message.type in {"error", "warning"} and not message.text.startswith(_STATUS)


@contextmanager
def serving():
    """Serve the project of the test; give the address.

    A live server leaves a thread behind for each connection that the browser still holds. One that ends after its test
    may not close the database, and then leaves its socket open: here all of them have ended.
    """
    server = LiveServer("127.0.0.1")
    httpd, accepted = server.thread.httpd, []
    httpd.daemon_threads = False  # those that are waited for

    def get_request():
        connection, address = type(httpd).get_request(httpd)
        accepted.append(connection)
        return connection, address

    httpd.get_request = get_request
    try:
        yield server.url
    finally:
        httpd.shutdown()
        for connection in accepted:
            with suppress(OSError):  # it was closed before
                connection.shutdown(socket.SHUT_RDWR)
        server.stop()


async def follow(page, leading):
    """Click what leads to another page, and be there: a click alone does not wait for it."""
    async with page.expect_navigation():
        await leading.click()


async def assert_usable(page, within="html"):
    """Assert that anybody can use what stands ``within`` the page: weight, keys, axe, and its width, in each look."""
    weight = await weight_of(page)
    assert weight < LIGHT, f"{page.url} weighs {weight} bytes"
    assert weight or page.url == "about:blank", f"{page.url} was not weighed"
    part = page.locator(within)
    troubles = await unreached(part)
    assert not troubles, f"{page.url}, tab key:\n" + "\n".join(troubles)
    for width in (DESKTOP, PHONE):
        await assert_fits(page, width)
        for scheme, rules in (("light", None), ("dark", _OF_COLOURS)):
            await page.emulate_media(color_scheme=scheme)
            found = await violations(part, rules)
            assert not found, f"{page.url}, {scheme}, {width} pixels wide:\n" + "\n".join(found)


async def weight_of(page):
    """Return how many bytes the page is, with all that it has loaded."""
    return await page.evaluate(
        """() => ["navigation", "resource"].flatMap((kind) => performance.getEntriesByType(kind))
            .reduce((sum, entry) => sum + entry.decodedBodySize, 0)"""
    )


async def assert_fits(page, width=PHONE):
    """Assert that nobody has to scroll sideways, and leave the page so wide."""
    await page.set_viewport_size({"width": width, "height": 800})
    assert not await is_too_wide(page), f"{page.url} scrolls sideways at {width}: {await too_wide(page)}"


async def is_too_wide(page):
    return await page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")


async def too_wide(page):
    """Return what sticks out of the window, from the outside in."""
    return await page.evaluate(
        """() => [...document.body.querySelectorAll('*')]
            .filter((one) => one.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
            .slice(0, 5).map((one) => one.outerHTML.slice(0, 120))"""
    )


_AXE = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
_OF_COLOURS = ["color-contrast", "link-in-text-block"]  # the rest says the same, light or dark
_RUN_AXE = """async (part, only) => {
    const running = document.getAnimations();
    running.forEach((one) => one.effect.getTiming().iterations === Infinity ? one.cancel() : one.finish());
    const {violations} = await axe.run({include: part}, {resultTypes: ["violations"], preload: false,
        ...(only ? {runOnly: only} : {rules: {"target-size": {enabled: true}}})});
    const told = ({id, impact, help}, {target, html, failureSummary}) => [`${id} (${impact}): ${help}`,
        `${target}: ${html.slice(0, 200)}`, ...failureSummary.split("\\n")].join("\\n  ");
    return violations.flatMap((rule) => rule.nodes.map((node) => told(rule, node)));
}"""


async def violations(part, rules=None):
    """Return what axe finds wrong in a part of the page, by all rules or some, each as a text for people."""
    if not await part.page.evaluate("'axe' in window"):
        await part.page.evaluate(_AXE)
    return await part.evaluate(_RUN_AXE, rules)


_ELSEWHERE = -1
_LOOK_FOR_STOPS = """(part) => {
    const seen = ["outline", "boxShadow", "borderColor", "backgroundColor", "color", "textDecoration"];
    const look = (one) => { const style = getComputedStyle(one); return seen.map((name) => style[name]).join(); };
    const all = "a[href], button, input, select, textarea, summary, [tabindex]";
    const stops = [...part.querySelectorAll(all)].filter((one) => one.tabIndex >= 0 && !one.disabled
        && one.type !== "hidden" && one.checkVisibility({visibilityProperty: true}));
    const looks = stops.map(look);
    window.stop = () => {
        const active = part.getRootNode().activeElement, at = stops.indexOf(active);
        return [at, at < 0 || look(active) !== looks[at]];
    };
    return stops.map((one) => one.outerHTML.slice(0, 120));
}"""


async def unreached(part):
    """Return what the tab key does not reach in the order of the page, or reaches without showing so."""
    stops = await part.evaluate(_LOOK_FOR_STOPS)
    reached, troubles = 0, []
    for _ in range(await part.page.locator("*").count()):
        if reached == len(stops):
            break
        await part.page.keyboard.press("Tab")
        at, is_shown = await part.page.evaluate("window.stop()")
        if at == _ELSEWHERE:
            continue
        if at != reached:
            return [*troubles, f"in place of {stops[reached]} comes {stops[at]}"]
        if not is_shown:
            troubles.append(f"focus is not seen on {stops[at]}")
        reached += 1
    return troubles + [f"not reached: {stop}" for stop in stops[reached:]]
