"""Every case through real HTTP, the client and the gate, by both doors."""

import dataclasses
import json
import ssl
import time
from datetime import datetime
from pathlib import Path

import pytest

from entitlement_gate.engine.gate import EntitlementGate
from entitlement_gate.zenskar.client import ZenskarClient
from entitlement_gate.zenskar.network import DeadlineTransport
from tests.zenskar.scripted import KEY, ORGANISATION, ScriptedServer, reply

HERE = Path(__file__).parent
PATIENCE = 30  # seconds: time is not the subject
TLS = ssl.create_default_context()  # the client's own transport, less 22 ms a case for a context of its own


class Clock:
    def __init__(self, instant):
        self._now = datetime.fromisoformat(instant).timestamp()

    def time(self):
        return self._now

    def monotonic(self):
        return time.monotonic()


def cases():
    for name in ("decisions.json", "more.json"):
        told = json.loads((HERE / name).read_text("utf-8"))
        for case in told["cases"]:
            yield pytest.param(told["now"], told["customer"], case, id=case["name"])


def answered(response):
    if "json" in response:
        body = json.dumps(response["json"]).encode()
    else:
        body = bytes.fromhex(response["hex"]) if "hex" in response else response["text"].encode()
    headers = {name.lower(): text for name, text in response.get("headers", {}).items()}
    return reply(response["status"], body, **headers)


@pytest.fixture
def gate_at():
    """Make a gate of its own over a server of its own, for a case."""
    made = []

    def gate_at(now, case):
        server = ScriptedServer(*map(answered, case["responses"]))
        network = DeadlineTransport(ssl_context=TLS)
        options = {"clock": Clock(now), "deadline": PATIENCE}
        client = ZenskarClient(KEY, ORGANISATION, base_url=server.url, transport=network, **options)
        gate = EntitlementGate(client, **options)
        made.append((gate, server))
        return gate

    yield gate_at
    for gate, server in made:
        gate.close()
        server.stop()


@pytest.mark.parametrize(("now", "customer", "case"), list(cases()))
async def test_every_case_is_decided_as_told_by_both_doors(gate_at, now, customer, case):
    asked = case["check"]["entitlement"], case["check"]["quantity"]

    sync = gate_at(now, case).check(customer, *asked)
    by_await = await gate_at(now, case).acheck(customer, *asked)

    assert (sync.outcome, sync.reason) == (case["expect"]["outcome"], case["expect"]["reason"]), case["why"]
    assert dataclasses.replace(sync, age=None) == dataclasses.replace(by_await, age=None)
    for name, value in case["expect"].items():
        assert sync.as_dict()[name] == value, name


def test_names_of_cases_are_told_once():
    names = [case.id for case in cases()]

    assert len(names) == len(set(names))
