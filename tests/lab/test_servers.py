"""Real servers, real workers, real billing over HTTP: some 10,000 requests, each answered for its own customer."""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from entitlement_gate.sandbox import Sandbox, SandboxServer, Scenario
from tests.customers import FREE, PRO
from tests.lab.served.running import SERVERS, serving

VISITORS = 4
REQUESTS = 10_000 // len(SERVERS) // VISITORS  # of each visitor to each of them
PAYING = [f"50000000-0000-4000-8000-{number:012}" for number in range(20)]
FREE_RIDERS = [f"60000000-0000-4000-8000-{number:012}" for number in range(20)]


@pytest.fixture(scope="module")
def billing():
    sandbox = Sandbox(Scenario.default())
    for customer in PAYING:
        sandbox.grant(customer, "reports")
    for customer in FREE_RIDERS:
        sandbox.grant(customer, "sso")
    with SandboxServer(sandbox) as server:
        yield server


@pytest.fixture(scope="module", params=SERVERS)
def address(request, billing):
    with serving(request.param, BILLING=billing.url, WARM_BEFORE_FORK="1") as address:
        yield address


def visit(address, number, seed):
    """Return how often which answer came: right, or what was wrong."""
    chosen = random.Random(seed)
    seen = Counter()
    with httpx.Client(base_url=address, trust_env=False, timeout=60) as visitor:
        for _ in range(number):
            customer = chosen.choice([*PAYING, *FREE_RIDERS, PRO, FREE])
            url = chosen.choice(["/sync/", "/async/", "/ninja/sync/", "/ninja/async/", "/rest/sync/", "/rest/async/"])
            answer = visitor.get(url, headers={"X-Customer": customer, "Accept": "application/json"})
            if customer in PAYING or customer == PRO:
                is_right = answer.status_code == 200 and answer.json() == {"customer": customer}
            else:
                is_right = answer.status_code == 403 and answer.json()["code"] == "not_entitled"
            seen["right" if is_right else f"{customer} {url}: {answer.status_code} {answer.text[:200]}"] += 1
    return seen


def test_every_request_is_answered_for_its_own_customer(address):
    with ThreadPoolExecutor(VISITORS) as crowd:
        visits = [crowd.submit(visit, address, REQUESTS, seed) for seed in range(VISITORS)]
        seen = sum((each.result() for each in visits), Counter())
    assert seen == {"right": REQUESTS * VISITORS}


@pytest.mark.parametrize("url", ["/rest/sync/", "/rest/async/"])
def test_rest_framework_asks_who_it_is_before_it_refuses(address, url):
    with httpx.Client(base_url=address, trust_env=False, timeout=60) as visitor:
        answers = [visitor.get(url, headers=each) for each in ({}, {"X-Customer": FREE}, {"X-Customer": PRO})]
    assert [answer.status_code for answer in answers] == [401, 403, 200]
    assert answers[0].headers["WWW-Authenticate"] == "X-Customer"
    assert answers[1].headers["Content-Type"] == "application/problem+json"
