"""The panel as the toolbar asks for it, under WSGI and ASGI, and requests side by side."""

import asyncio
import re
import threading

import pytest
from django.conf import settings
from django.test import AsyncClient, Client, override_settings

from entitlement_gate.api import default_gate
from entitlement_gate.engine.observers import everywhere
from tests.contrib.toolbar_project import project, rows_of_panel, shown_of_panel
from tests.customers import PRO


@pytest.fixture(autouse=True)
def _project():
    with project():
        yield


def panel(response):
    """Return what the toolbar shows of the panel."""
    return shown_of_panel(response.content.decode(), fetch)


def rows(response):
    return rows_of_panel(response.content.decode(), fetch)


def fetch(path, params):
    return Client().get(path, params).json()


def get(path, **options):
    return Client(**options).get(path)


def aget(path, **options):
    return asyncio.run(AsyncClient(**options).get(path))


@pytest.fixture(params=[get, aget], ids=["wsgi", "asgi"])
def ask(request):
    return request.param


@pytest.mark.parametrize("kind", ["gated", "agated"])
def test_each_check_is_a_row_with_its_reason_source_age_rows_and_time(ask, kind):
    default_gate().has(PRO, "sso")
    allowed, denied = rows(ask(f"/{kind}/?name=seats&name=nothing"))
    name, quantity, answer, reason, left, source, age, took, grants, customer = allowed
    assert (name, quantity, answer, reason, left, source) == ("seats", "", "allowed", "allowed", "2", "cache")
    assert re.fullmatch(r"\d+\.\d\ss", age)
    assert re.fullmatch(r"\d+\.\d\d\sms", took)
    assert (len(grants.split(", ")), customer) == (1, PRO)
    assert denied[2:4] == ["refused", "not_entitled"]


def test_a_gate_that_refuses_is_shown_too(ask):
    response = ask("/refused/", headers={"accept": "text/html"})
    assert response.status_code == 402
    assert [row[:4] for row in rows(response)] == [
        ["sso", "", "allowed", "allowed"],
        ["seats", "100", "refused", "insufficient_quantity"],
    ]
    assert re.fullmatch(r"2 checks, 1 refused in \d+\.\d\d\sms", panel(response)[0])


def test_a_page_without_a_check_says_so(ask):
    subtitle, content = panel(ask("/plain/"))
    assert (subtitle, content) == ("0 checks in 0.00\xa0ms", "<p>Nothing was checked.</p>")


def test_the_style_is_linked_where_the_app_has_its_static_files_found(ask):
    linked = '<link rel="stylesheet" href="/static/entitlement_gate/debug_toolbar.css">'
    assert panel(ask("/gated/?name=sso"))[1].startswith(linked)
    with override_settings(INSTALLED_APPS=["django.contrib.staticfiles", "debug_toolbar"]):
        assert panel(ask("/gated/?name=sso"))[1].startswith("<table>")


def test_what_is_asked_about_is_escaped(ask):
    response = ask("/gated/?name=<script>alert(1)</script>")
    assert "<script>alert" not in panel(response)[1]
    assert rows(response)[0][0] == "<script>alert(1)</script>"


def test_requests_side_by_side_show_their_own_checks():
    names = [[f"{request} {number}" for number in range(4)] for request in range(6)]

    async def all_at_once():
        client = AsyncClient()
        kinds = ["agated", "gated"] * 3
        paths = [f"/{kind}/?{'&'.join(f'name={name}' for name in own)}" for kind, own in zip(kinds, names, strict=True)]
        return await asyncio.gather(*map(client.get, paths))

    shown = [[row[0] for row in rows(response)] for response in asyncio.run(all_at_once())]
    assert shown == names


def test_threads_side_by_side_show_their_own_checks():
    line, shown = threading.Barrier(6), {}

    def visit(number):
        line.wait(60)
        shown[number] = Client().get(f"/gated/?name={number} a&name={number} b&name={number} c")

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for number, response in shown.items():
        assert [row[0] for row in rows(response)] == [f"{number} {letter}" for letter in "abc"]


@pytest.mark.parametrize("place", [0, 1])
def test_a_middleware_that_is_only_sync_is_no_hindrance(place):
    middleware = list(settings.MIDDLEWARE)
    middleware.insert(place, "tests.contrib.toolbar_project.sync_middleware")
    with override_settings(MIDDLEWARE=middleware):
        for kind in ("gated", "agated"):
            assert [row[0] for row in rows(aget(f"/{kind}/?name=sso"))] == ["sso"]


def test_nobody_hears_of_checks_when_the_request_is_over(ask):
    before = everywhere.observers
    ask("/gated/?name=sso")
    with pytest.raises(RuntimeError, match="a bug of the view's"):
        ask("/failing/")
    assert everywhere.observers == before
    assert not default_gate().is_heard
