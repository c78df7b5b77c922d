"""Forks of a process at work, by whoever forks: each child is answered for itself, and the parent goes on.

A server written in C forks without a word to Python: `libc.fork` does the same, quickly and with any store.
"""

import json
import os
import subprocess
import sys

import pytest

from entitlement_gate.sandbox import Sandbox, SandboxServer
from tests.ledger.servers import RedisServer
from tests.usage.conftest import postgres, postgres_alias, sqlite_alias, usage_app  # noqa: F401 - fixtures

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

CROWD = [f"80000000-0000-4000-8000-{number:012}" for number in range(40)]
WARM = [f"81000000-0000-4000-8000-{number:012}" for number in range(4)]
STORES = ["nothing", "memory", "redis", "shared", "sqlite", "postgres"]


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory):
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server.patient_url
    server.kill()


@pytest.fixture
def store(request):
    """Return how a gate is told to count, or to share, with a store."""
    if request.param in {"sqlite", "postgres"}:
        from tests.lab.test_ledger_database import settings_of
        from tests.usage.test_ledger import emptied

        alias = request.getfixturevalue(f"{request.param}_alias")
        emptied(alias).close()
        return {"ledger": "database", "database": settings_of(alias), "redis": None}
    url = request.getfixturevalue("redis_url") if request.param in {"redis", "shared"} else None
    return {"ledger": request.param if request.param in {"memory", "redis"} else None, "redis": url}


def run(way, store):
    sandbox = Sandbox()
    rows = {customer: sandbox.grant(customer, f"only {customer}") for customer in [*WARM, *CROWD]}
    for customer in rows:
        sandbox.grant(customer, "calls", 1_000, type="Quantity")
    told = {
        "way": way,
        "warm": {customer: rows[customer] for customer in WARM},
        "rows": {customer: rows[customer] for customer in CROWD},
        **store,
    }
    with SandboxServer(sandbox) as billing:
        done = subprocess.run(
            [sys.executable, "-m", "tests.lab.forked.process"],
            input=json.dumps({**told, "billing": billing.url}),
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("store", STORES, indirect=True)
def test_children_that_python_was_not_told_of_are_answered_each_for_itself(store):
    run("c", store)


@pytest.mark.parametrize("way", ["python", "multiprocessing"])
@pytest.mark.parametrize("store", ["redis", "postgres"], indirect=True)
def test_children_of_pythons_own_forks_are_answered_each_for_itself(way, store):
    run(way, store)
