"""Real servers that use something up: exactly the budget is answered, and who leaves early pays nothing.

Several processes share one Redis. Never here: one process and its ledgers (``tests/test_consuming.py``).
"""

from __future__ import annotations

import itertools
import random
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import httpx
import pytest

from entitlement_gate.ledger.redis import RedisLedger
from entitlement_gate.sandbox import Sandbox, SandboxServer
from tests.lab.served.running import serving
from tests.ledger.servers import RedisServer

BUDGET = 300
REQUESTS = 400
VISITORS = 4
# By a decorator, by a rule, and by a permission of Django REST framework.
USES = [f"{place}/{colour}/use/" for place in ("", "/ruled", "/rest") for colour in ("sync", "async")]
SLOW = "/async/slow/", "/ruled/async/slow/"
WITHIN = 30  # seconds in which a hold returns when a client left; left to itself it would take 60
_numbers = itertools.count()

# Threads notice a client that left when they write to it; an event loop ends the view of one.
in_an_event_loop = pytest.mark.parametrize("place", ["uvicorn"], indirect=True)


class Place(NamedTuple):
    """A running server, the billing it asks and the ledger it counts in."""

    address: str
    sandbox: Sandbox
    ledger: RedisLedger

    def customer(self):
        """Return a new customer with a budget of its own."""
        customer = f"70000000-0000-4000-8000-{next(_numbers):012}"
        self.sandbox.grant(customer, "calls", BUDGET, type="Quantity")
        return customer

    def visitor(self, customer):
        headers = {"X-Customer": customer, "Accept": "application/json"}
        return httpx.Client(base_url=self.address, headers=headers, trust_env=False, timeout=60)

    def counted(self, customer):
        """Return what is committed and what is held of the customer."""
        tallies = [tally for rows in self.ledger.charges(customer).values() for tally in rows.values()]
        return tuple(sum(each) / 1_000_000 for each in ([t.committed for t in tallies], [t.held for t in tallies]))

    def wait_until(self, customer, counted):
        until = time.monotonic() + WITHIN
        while self.counted(customer) != counted and time.monotonic() < until:
            time.sleep(0.05)
        assert self.counted(customer) == counted


@pytest.fixture(scope="module", params=["gunicorn sync", "gunicorn gthread", "uvicorn"])
def place(request, tmp_path_factory):
    sandbox = Sandbox()
    redis = RedisServer(tmp_path_factory.mktemp("redis"))
    counts = redis.patient_url
    ledger = RedisLedger(counts)
    try:
        with SandboxServer(sandbox) as billing, serving(request.param, BILLING=billing.url, REDIS=counts) as address:
            yield Place(address, sandbox, ledger)
    finally:
        ledger.close()
        redis.kill()


def visit(place, customer, number):
    seen = Counter()
    with place.visitor(customer) as visitor:
        for each in range(number):
            answer = visitor.get(USES[each % len(USES)])
            seen[answer.status_code, answer.json().get("code")] += 1
    return seen


def test_a_crowd_gets_exactly_the_budget(place):
    customer = place.customer()
    with ThreadPoolExecutor(VISITORS) as crowd:
        visits = [crowd.submit(visit, place, customer, REQUESTS // VISITORS) for _ in range(VISITORS)]
        seen = sum((each.result() for each in visits), Counter())
    assert seen == {(200, None): BUDGET, (402, "insufficient_quantity"): REQUESTS - BUDGET}
    assert place.counted(customer) == (BUDGET, 0)


@pytest.mark.parametrize("url", ["/sync/stream/", "/async/stream/", "/ruled/sync/stream/", "/ruled/async/stream/"])
def test_a_stream_that_is_read_to_its_end_is_counted(place, url):
    customer = place.customer()
    with place.visitor(customer) as visitor:
        assert visitor.get(url, params={"parts": 3}).status_code == 200
    place.wait_until(customer, (1, 0))


@pytest.mark.parametrize(
    ("place", "url"),
    [
        ("gunicorn sync", "/sync/stream/"),
        ("gunicorn gthread", "/sync/stream/"),
        ("uvicorn", "/async/stream/"),
        ("gunicorn gthread", "/ruled/sync/stream/"),
        ("uvicorn", "/ruled/async/stream/"),
    ],
    indirect=["place"],
)
def test_a_client_that_leaves_amid_a_stream_gives_back(place, url):
    customer = place.customer()
    with place.visitor(customer) as visitor, visitor.stream("GET", url, params={"parts": 400}) as answer:
        assert answer.status_code == 200
        parts = answer.iter_raw()  # forgotten, it would hang up
        next(parts)
        assert place.counted(customer) == (0, 1)
    place.wait_until(customer, (0, 0))


@in_an_event_loop
@pytest.mark.parametrize("url", SLOW)
def test_a_client_that_leaves_amid_a_slow_view_gives_back(place, url):
    customer = place.customer()
    host, port = place.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(f"GET {url} HTTP/1.1\r\nHost: {host}\r\nX-Customer: {customer}\r\n\r\n".encode())
        place.wait_until(customer, (0, 1))
    place.wait_until(customer, (0, 0))


@in_an_event_loop
def test_clients_that_leave_at_any_moment_leave_no_hold(place):
    customer, chosen = place.customer(), random.Random(7)
    leaving = [(url, chosen.uniform(0.0005, 0.02)) for url in SLOW for _ in range(50)]

    def leave(url, wait):
        with place.visitor(customer) as visitor, pytest.raises(httpx.ReadTimeout):
            visitor.get(url, timeout=httpx.Timeout(20, read=wait))

    with ThreadPoolExecutor(VISITORS) as crowd:
        list(crowd.map(leave, *zip(*leaving, strict=True)))
    place.wait_until(customer, (0, 0))
