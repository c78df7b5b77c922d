"""The debug toolbar's panel, and telemetry, of a project behind a real uvicorn that many ask at once."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from django.core.asgi import get_asgi_application

from entitlement_gate.metrics import Observer, flush_observers, observe, unobserve
from tests.contrib.toolbar_project import project, rows_of_panel
from tests.lab.test_starlette import serving

VISITS = 24  # the toolbar keeps the last 25


class Names(Observer):
    def __init__(self):
        self.told = []

    def check(self, decision, seconds):
        self.told.append(decision.entitlement)


@pytest.fixture
def address():
    with project(), serving(get_asgi_application()) as address:
        yield address


def test_every_page_shows_its_own_checks_and_an_observer_hears_of_all(address):
    asked = {number: [f"{number} {letter}" for letter in "abcd"] for number in range(VISITS)}
    names = Names()

    def visit(number):
        with httpx.Client(base_url=address, trust_env=False, timeout=60) as client:
            page = client.get(("/gated/", "/agated/")[number % 2], params={"name": asked[number]})
            return rows_of_panel(page.text, lambda *told, **params: client.get(*told, **params).json())

    observe(names)
    try:
        with ThreadPoolExecutor(8) as pool:
            shown = list(pool.map(visit, asked))
        assert [[row[0] for row in rows] for rows in shown] == list(asked.values())
        assert flush_observers(60)
        assert sorted(names.told) == sorted(name for own in asked.values() for name in own)
    finally:
        unobserve(names)
