"""FastAPI and Starlette behind a real uvicorn: crowds get the budget, and who leaves a stream gives it back."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest
import uvicorn
from fastapi import Depends, FastAPI
from starlette.responses import StreamingResponse

from entitlement_gate import EntitlementGate
from entitlement_gate.contrib.starlette import GateMiddleware, requires
from entitlement_gate.testing import FakeSource
from tests.customers import FREE, PRO

BUDGET = 20
PATIENCE = 60  # seconds, of a busy machine


@contextmanager
def serving(app):
    """Serve an application on a thread, and yield its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
            assert not thread.is_alive()


class Place:
    """The application and its gate."""

    def __init__(self):
        source = FakeSource()
        source.grant(PRO, "calls", BUDGET)
        self.gate = EntitlementGate(source, deadline=PATIENCE)
        self.app = FastAPI()
        self.app.add_middleware(GateMiddleware, gate=self.gate, customer=lambda it: it.headers["x-customer"])
        uses = [Depends(requires("calls", consume=True))]
        self.app.get("/sync", dependencies=uses)(lambda: "used")
        self.app.get("/async", dependencies=uses)(self.use)
        self.app.get("/stream", dependencies=uses)(self.stream)

    async def use(self):
        return "used"

    async def stream(self):
        async def parts():
            while True:
                yield b"x" * 65_536
                await asyncio.sleep(0.01)  # a turn for the task that listens for who leaves

        return StreamingResponse(parts())

    @property
    def left(self):
        return self.gate.check(PRO, "calls").remaining


@pytest.fixture
def place():
    place = Place()
    with serving(place.app) as address:
        place.address = address
        yield place
    place.gate.close()


def visitor(place, customer=PRO):
    return httpx.Client(base_url=place.address, headers={"x-customer": customer}, trust_env=False, timeout=PATIENCE)


def test_a_crowd_gets_exactly_the_budget(place):
    def visit(number):
        with visitor(place) as client:
            return Counter(client.get("/async" if number % 2 else "/sync").status_code for _ in range(5))

    with ThreadPoolExecutor(8) as crowd:
        seen = sum(crowd.map(visit, range(8)), Counter())
    assert seen == {200: BUDGET, 402: 40 - BUDGET}
    assert place.left == 0


def test_who_leaves_a_stream_gives_it_back(place):
    with visitor(place) as client, client.stream("GET", "/stream") as answer:
        parts = answer.iter_raw()  # kept: httpx closes with its iterator
        next(parts)
        assert place.left == BUDGET - 1
    until = time.monotonic() + PATIENCE
    while place.left != BUDGET and time.monotonic() < until:
        time.sleep(0.02)
    assert place.left == BUDGET


def test_a_refusal_is_problem_details(place):
    with visitor(place, FREE) as client:
        answer = client.get("/sync")
    assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")
    assert answer.json()["code"] == "customer_not_found"
