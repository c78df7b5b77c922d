"""Servers whose workers are forked from a process that has checked already, with connections and threads of its own."""

import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from entitlement_gate.sandbox import Sandbox, SandboxServer
from tests.busyness import Timed
from tests.lab.served.running import serving
from tests.ledger.servers import RedisServer

CROWD = [f"82000000-0000-4000-8000-{number:012}" for number in range(40)]
TTL = 0.5  # of the project
AT_ONCE = 8
PATIENCE = 120
GRACE = 25  # seconds; gunicorn ends the wait for a worker after 30


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory):
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server.patient_url
    server.kill()


@pytest.fixture
def environment(request):
    return {"REDIS": request.getfixturevalue("redis_url")} if request.param == "sharing" else {}


# Not uWSGI without its hooks where snapshots are shared: a thread listens for news then and is never at rest for long,
# and a worker that is forked as another thread has the interpreter waits for it for ever (gdb: in `take_gil`).
@pytest.mark.parametrize(
    ("environment", "server"),
    [
        ("alone", "uwsgi"),
        ("alone", "uwsgi fork hooks"),
        ("alone", "gunicorn preload"),
        ("sharing", "uwsgi fork hooks"),
        ("sharing", "gunicorn preload"),
    ],
    indirect=["environment"],
)
def test_workers_of_a_process_that_has_checked_answer_each_customer_rightly_and_renew(server, environment):
    sandbox = Sandbox()
    rows = {customer: sandbox.grant(customer, f"only {customer}") for customer in CROWD}
    seen = defaultdict(set)  # by worker and customer: when the data was fetched, to a tenth of a second

    def visit(customer):
        with httpx.Client(base_url=address, trust_env=False, timeout=PATIENCE) as visitor:
            told = visitor.get("/own/", headers={"X-Customer": customer}).json()
        seen[told["process"], customer].add(round(time.time() - told["age"], 1))
        return told["reason"], tuple(told["grants"])

    with ExitStack() as servers:
        billing = servers.enter_context(SandboxServer(sandbox))
        address = servers.enter_context(serving(server, BILLING=billing.url, WARM_BEFORE_FORK="1", **environment))
        crowd = servers.enter_context(ThreadPoolExecutor(AT_ONCE))
        assert dict(zip(CROWD, crowd.map(visit, CROWD), strict=True)) == {
            customer: ("allowed", (row,)) for customer, row in rows.items()
        }
        until = time.monotonic() + PATIENCE
        while not is_renewed(seen) and time.monotonic() < until:
            assert set(crowd.map(visit, CROWD[:1] * AT_ONCE)) == {("allowed", (rows[CROWD[0]],))}
            time.sleep(TTL / 5)
        with Timed() as end:
            servers.close()
    assert end.within(GRACE), end.seconds  # nothing of the parent's is waited for
    assert is_renewed(seen), dict(seen)


def is_renewed(seen):
    """Whether every worker has fetched the first customer's data several times, and there are several workers."""
    mine = {worker: instants for (worker, customer), instants in seen.items() if customer == CROWD[0]}
    return len(mine) > 1 and all(max(instants) - min(instants) > 2 * TTL for instants in mine.values())
