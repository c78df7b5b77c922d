"""From a commit to billing's usage endpoint, over the sandbox."""

import json
import threading
from email.utils import formatdate

import httpx
import pytest

from entitlement_gate.ledger.balances import MOST, Row
from entitlement_gate.ledger.memory import MemoryLedger
from entitlement_gate.ledger.protocol import UsageTarget
from entitlement_gate.sandbox import Sandbox, SandboxTransport
from entitlement_gate.testing.ledger_contract import ANNA, METER, demand
from entitlement_gate.zenskar.client import ZenskarClient
from entitlement_gate.zenskar.usage import DeliveryReport, ship
from tests.ledger.test_memory import Clock

ORGANISATION = "00000000-0000-4000-8000-000000000001"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ledger(clock):
    return MemoryLedger(clock=clock)


@pytest.fixture
def sandbox():
    return Sandbox()


@pytest.fixture
def client(sandbox):
    with ZenskarClient("sandbox-key", ORGANISATION, transport=SandboxTransport(sandbox)) as client:
        yield client


def scripted(answer):
    transport = httpx.MockTransport(answer)
    return ZenskarClient("key", ORGANISATION, transport=transport, base_url="https://billing.invalid")


def use(ledger, key, quantity=1_000_000, target=METER):
    ledger.consume(ANNA, [demand(quantity, Row("row", MOST), target=target)], key=key)


def slug_of(sandbox):
    return next(iter(sandbox.scenario.usage_slugs))


def test_each_commit_arrives_once_with_its_key(ledger, client, sandbox):
    target = UsageTarget(slug_of(sandbox), "count")
    use(ledger, "a b/ü", 2_500_000, target)
    use(ledger, "k2", 3_000_000, target)
    assert ship(ledger, client) == DeliveryReport(delivered=2)
    assert ship(ledger, client) == DeliveryReport()
    first, second = sandbox.usage_events
    assert (first.key, second.key) == ("a%20b/%C3%BC", "k2")
    assert (first.slug, first.customer_id) == (target.slug, ANNA)
    assert [float(event.data["count"]) for event in (first, second)] == [2.5, 3.0]
    assert first.timestamp == "2027-01-15T08:00:00Z"


def test_an_event_that_arrived_unnoticed_is_not_counted_again(ledger, client, sandbox, clock):
    use(ledger, "k", target=UsageTarget(slug_of(sandbox), "count"))
    (event,) = ledger.take(1, lease=1)
    ship_once = MemoryLedger(clock=clock)
    ship_once._waiting[ANNA, "k"] = 0, event
    assert ship(ship_once, client).delivered == 1  # by a shipper that is killed before it can say so
    clock.now += 2
    assert ship(ledger, client).delivered == 1
    assert len(sandbox.usage_events) == 1


def test_a_meter_that_billing_does_not_have_is_set_aside(ledger, client, sandbox):
    use(ledger, "k", target=UsageTarget("no such meter", "count"))
    assert ship(ledger, client) == DeliveryReport(buried=1)
    (letter,) = ledger.dead_letters()
    assert "no such meter" in letter.why
    assert not sandbox.usage_events


def test_a_refused_event_is_set_aside_with_what_billing_said(ledger):
    use(ledger, "k")
    client = scripted(lambda _: httpx.Response(422, json={"detail": "no such field"}))
    assert ship(ledger, client) == DeliveryReport(buried=1)
    assert ledger.dead_letters()[0].why == "HTTP 422: no such field"


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
def test_an_event_that_did_not_arrive_is_tried_later_and_later(ledger, clock, status):
    use(ledger, "k")
    client = scripted(lambda _: httpx.Response(status))
    waits = []
    for _ in range(4):
        assert ship(ledger, client) == DeliveryReport(postponed=1)
        waits.append(ledger._waiting[ANNA, "k"][0] - clock.now)
        clock.now += waits[-1]
    assert all(2**n <= wait <= 2 ** (n + 1) for n, wait in enumerate(waits, start=1))
    assert ledger.pending() == 1


def test_billing_may_ask_for_a_longer_pause(ledger, clock):
    use(ledger, "k")
    ship(ledger, scripted(lambda _: httpx.Response(429, headers={"Retry-After": "100"})))
    assert ledger._waiting[ANNA, "k"][0] == clock.now + 100


@pytest.mark.parametrize(
    ("asked", "pause"),
    [
        (formatdate(1_000_100, usegmt=True), 100),
        (formatdate(1_000_100), 100),
        (formatdate(10_000_000, usegmt=True), 3_600),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3_600),
        (" 100 ", 100),
        ("9" * 400, 3_600),
    ],
)
def test_billing_may_say_until_when(ledger, clock, asked, pause):
    clock.now = 1_000_000.0
    use(ledger, "k")
    ship(ledger, scripted(lambda _: httpx.Response(503, headers={"Retry-After": asked})), clock=clock)
    assert ledger._waiting[ANNA, "k"][0] == clock.now + pause


@pytest.mark.parametrize("asked", ["soon", "-5", "1.5", "", "²", formatdate(5, usegmt=True)])
def test_what_asks_for_nothing_leaves_the_pause_as_it_is(ledger, clock, asked):
    clock.now = 1_000_000.0
    use(ledger, "k")
    headers = [(b"retry-after", asked.encode())]
    ship(ledger, scripted(lambda _: httpx.Response(503, headers=headers)), clock=clock)
    assert 1 <= ledger._waiting[ANNA, "k"][0] - clock.now <= 4


def test_an_outage_ends_the_run(ledger):
    sent = []

    def broken(request):
        sent.append(request)
        raise httpx.ConnectError("refused")

    for number in range(10):
        use(ledger, str(number))
    report = ship(ledger, scripted(broken))
    assert (report.postponed, report.stopped) == (3, "billing does not answer")
    assert len(sent) == 3
    assert ledger.pending() == 10


def test_refused_credentials_end_the_run_and_set_nothing_aside(ledger):
    use(ledger, "a")
    use(ledger, "b")
    report = ship(ledger, scripted(lambda _: httpx.Response(401)))
    assert (report.delivered, report.buried) == (0, 0)
    assert "401" in report.stopped
    assert len(ledger.take(5)) == 2


def test_a_closed_client_postpones(ledger):
    use(ledger, "k")
    client = scripted(lambda _: httpx.Response(200))
    client.close()
    assert ship(ledger, client).postponed == 1


def test_a_run_delivers_no_more_than_its_limit(ledger):
    for number in range(60):
        use(ledger, str(number))
    client = scripted(lambda _: httpx.Response(200, json={}))
    assert ship(ledger, client, limit=55).delivered == 55
    assert ledger.pending() == 5


def test_several_shippers_share_the_work(ledger):
    for number in range(300):
        use(ledger, str(number))
    seen, lock = [], threading.Lock()

    def answer(request):
        with lock:
            seen.append((request.headers["idempotency-key"], json.loads(request.content)["data"]["count"]))
        return httpx.Response(200, json={})

    client = scripted(answer)
    threads = [threading.Thread(target=ship, args=(ledger, client)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == sorted((str(number), 1) for number in range(300))
    assert ledger.pending() == 0
