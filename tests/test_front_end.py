"""What a page's own scripts know of entitlements: the tag, and the ES module in a real browser."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template import engines
from django.test import override_settings
from django.urls import include, path
from django.views.static import serve

import entitlement_gate
from entitlement_gate import invalidate_entitlements, requires_entitlement
from tests.browser import serving
from tests.docs.pages import DOCS, blocks_of

ANNA = "10000000-0000-4000-8000-000000000001"
STATIC = Path(entitlement_gate.__file__).parent / "static" / "entitlement_gate"
PAGE = """{% load entitlements %}<!doctype html><title>Exports</title>
{% entitlements_json %}
<button data-entitled="exports">Export</button><button data-entitled="exports" data-quantity="2">Export two</button>
<a data-not-entitled="exports" href="/plans/">More exports</a><a data-entitled="nothing like it" href="/">Never</a>
<script type="module">
import { Entitlements } from "/assets/entitlements.js";
window.mine = Entitlements.fromPage("/entitlements/me/");
window.heard = 0;
window.end = mine.bind();
mine.subscribe(() => window.heard++);
</script>"""

broken = {"is_so": False}


def of_anna(_request):
    return ANNA


def of_nobody(_request):
    return None


def page(request):
    return HttpResponse(engines["django"].from_string(PAGE).render({}, request))


@requires_entitlement("exports", consume=True)
def export(_request):
    return JsonResponse({})


def me(request):
    from entitlement_gate import views

    return HttpResponse(status=503) if broken["is_so"] else views.me(request)


urlpatterns = [
    path("", page),
    path("export/", export),
    path("entitlements/me/", me),
    path("entitlements/", include("entitlement_gate.urls")),
    path("assets/<path:path>", serve, {"document_root": STATIC}),
]
OURS = {"BASE_URL": "sandbox:", "DEADLINE": 30, "CUSTOMER_RESOLVER": f"{__name__}.of_anna", "DENIAL_MAX_AGE": 0.1}


def rendered(source, request):
    return engines["django"].from_string("{% load entitlements %}" + source).render({}, request)


def in_page(html, element_id="entitlements"):
    found = re.search(rf'<script id="{element_id}" type="application/json">(.*?)</script>', html, re.DOTALL)
    return json.loads(found[1])


@override_settings(ENTITLEMENT_GATE=OURS)
def test_the_page_of_the_guide_renders_as_it_stands(entitlements, settings):
    settings.ROOT_URLCONF, settings.STATIC_URL = __name__, "/static/"
    entitlements.grant(ANNA, "exports", 2)
    guide = DOCS / "how-to" / "show-entitlements-in-a-front-end.md"
    template, *_ = (block.text for block in blocks_of(guide) if block.language == "html")
    html = rendered(template, HttpRequest())
    assert in_page(html)["customer_id"] == ANNA
    assert 'from "/static/entitlement_gate/entitlements.js"' in html
    assert 'Entitlements.fromPage("/entitlements/me/")' in html


@override_settings(ENTITLEMENT_GATE=OURS)
def test_the_tag_tells_a_page_what_me_tells(entitlements, client, settings):
    settings.ROOT_URLCONF = __name__
    entitlements.grant(ANNA, "exports", 2)
    entitlements.grant(ANNA, "</script><b>&")
    html = rendered('{% entitlements_json "mine" %}', HttpRequest())
    assert in_page(html, "mine") == client.get("/entitlements/me/").json()
    assert html.count("</script>") == 1
    assert [one["name"] for one in in_page(html, "mine")["entitlements"]] == ["</script><b>&", "exports"]


@pytest.mark.parametrize("without", ["request", "customer", "billing"])
def test_the_tag_tells_nothing_of_whom_it_does_not_know(entitlements, settings, without, caplog):
    settings.ENTITLEMENT_GATE = OURS | ({"CUSTOMER_RESOLVER": f"{__name__}.of_nobody"} if without == "customer" else {})
    if without == "billing":
        entitlements.fail()
    html = rendered("{% entitlements_json %}", None if without == "request" else HttpRequest())
    assert in_page(html) == {"customer_id": None, "entitlements": []}


def test_a_tag_rendered_in_an_async_view_says_what_to_do_before(entitlements, settings):
    from django.core.exceptions import SynchronousOnlyOperation

    def of_database(_request):
        raise SynchronousOnlyOperation("ask elsewhere")

    settings.ENTITLEMENT_GATE = OURS | {"CUSTOMER_RESOLVER": of_database}
    with pytest.raises(SynchronousOnlyOperation, match="aall"):
        rendered("{% entitlements_json %}", HttpRequest())


@pytest.fixture
def visit(settings, browser):
    settings.ROOT_URLCONF = __name__
    settings.ENTITLEMENT_GATE = OURS
    settings.STATIC_URL = "/static/"

    def visit(go, **options):
        async def at_the_page(tab):
            await tab.goto("/")
            await tab.wait_for_function("'end' in window")
            await go(tab)

        browser.visit(at_the_page, base_url=address, **options)

    with serving() as address:
        yield visit
    broken["is_so"] = False


async def shown(tab):
    return await tab.locator("button:visible, a:visible").all_inner_texts()


@pytest.mark.django_db(transaction=True)
def test_a_page_hides_and_shows_what_the_customer_may(entitlements, visit):
    entitlements.grant(ANNA, "exports", 2)
    entitlements.grant(ANNA, "sso")

    async def go(tab):
        assert await shown(tab) == ["Export", "Export two"]
        asked = (
            "[mine.has('sso'), mine.has('exports', '2'), mine.has('exports', 3), mine.has('sso', 1), mine.has('seats')]"
        )
        assert await tab.evaluate(asked) == [True, True, False, False, False]
        left = "[mine.remaining('exports'), mine.remaining('sso'), mine.remaining('seats'), mine.customerId]"
        assert await tab.evaluate(left) == [2, None, 0, ANNA]

        export = "mine.fetch('/export/', {method: 'POST'}).then((response) => response.status)"
        assert [await tab.evaluate(export) for _ in range(3)] == [200, 200, 402]
        await tab.wait_for_function("mine.remaining('exports') === 0")  # the refusal had it renewed
        assert await shown(tab) == ["More exports"]
        await tab.evaluate("end()")
        assert await tab.evaluate("mine.has('exports')") is False

    visit(go, expected={402})


@pytest.mark.django_db(transaction=True)
def test_a_page_asks_again_once_and_tells_only_of_changes(entitlements, visit):
    entitlements.grant(ANNA, "exports", 2)

    async def go(tab):
        answers = []
        tab.on("response", lambda response: answers.append(response.status))
        both = "Promise.all([mine.refresh(), mine.refresh()])"
        assert await tab.evaluate(both) == [True, True]
        before = await tab.evaluate("heard")
        assert await tab.evaluate("mine.refresh()")
        assert answers == [200, 304]
        assert await tab.evaluate("heard") == before

        broken["is_so"] = True
        assert await tab.evaluate("mine.refresh()") is False
        assert await tab.evaluate("[mine.isStale, mine.remaining('exports')]") == [True, 2]
        broken["is_so"] = False
        assert await tab.evaluate("mine.refresh()")
        assert await tab.evaluate("[mine.isStale, heard]") == [False, before + 2]

        await asyncio.to_thread(_upgrade, entitlements)
        await tab.evaluate("mine.refresh()")
        assert await tab.evaluate("[mine.remaining('exports'), mine.has('exports', 100)]") == [102, True]

    visit(go, expected={503})


def _upgrade(entitlements):
    entitlements.grant(ANNA, "exports", 100)
    invalidate_entitlements(ANNA)


def test_the_types_name_what_the_module_has():
    def members(text):
        body = re.search(r"export class Entitlements \{\n(.*?)\n\}", text, re.DOTALL)[1]
        return set(re.findall(r"^  (?:static |readonly |async )*(\w+)\b(?=\??[(:]| =)", body, re.MULTILINE))

    script, types = ((STATIC / f"entitlements.{kind}").read_text(encoding="utf-8") for kind in ("js", "d.ts"))
    assert members(script) == members(types) >= {"has", "remaining", "refresh", "subscribe", "bind", "all"}
