"""Usage events over answers that only a broken or foreign server gives; ``tests/ledger`` ships over good ones."""

import httpx
import pytest

from entitlement_gate.ledger.balances import MOST, Row
from entitlement_gate.ledger.memory import MemoryLedger
from entitlement_gate.ledger.protocol import UsageTarget
from entitlement_gate.testing.ledger_contract import ANNA, METER, demand
from entitlement_gate.zenskar.client import ZenskarClient
from entitlement_gate.zenskar.usage import DeliveryReport, ship
from tests.zenskar.scripted import KEY, ORGANISATION, raw, reply


@pytest.fixture
def ledger():
    return MemoryLedger()


def use(ledger, *keys, target=METER):
    for key in keys:
        ledger.consume(ANNA, [demand(1_000_000, Row("row", MOST), target=target)], key=key)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (reply(302, location="http://127.0.0.1:1/"), "something answers that is not billing: a redirect (HTTP 302)"),
        (reply(200, b"<html>ours</html>"), "something answers that is not billing: HTTP 200 without JSON"),
        (reply(404, b"<h1>not found</h1>"), "something answers that is not billing: HTTP 404 without JSON"),
        (reply(403, b'{"detail": "no"}'), "billing refuses the credentials: HTTP 403"),
    ],
)
def test_what_is_no_fault_of_an_events_ends_the_run_and_sets_nothing_aside(serve, connect, ledger, *, answer, why):
    use(ledger, "a", "b")
    server = serve(answer)
    report = ship(ledger, connect(server))

    assert (report.delivered, report.postponed, report.buried, report.stopped) == (0, 1, 0, why)
    assert len(server.seen) == 1
    assert len(ledger.take(5)) == 2, "both are due at once for the next run"


@pytest.mark.parametrize("answer", [reply(200), reply(201, b'{"ok": true}'), reply(204), reply(202, b"[]")])
def test_every_success_is_one(serve, connect, ledger, answer):
    use(ledger, "a")
    assert ship(ledger, connect(serve(answer))) == DeliveryReport(delivered=1)


@pytest.mark.parametrize("slug", ["..", ".", "a/../b", "über", "x y"])
def test_a_slug_is_one_part_of_the_path_or_its_event_is_set_aside(serve, connect, ledger, slug):
    use(ledger, "a", target=UsageTarget(slug, "count"))
    server = serve(reply(200, b"{}"))
    report = ship(ledger, connect(server))

    if slug.strip("."):
        assert report == DeliveryReport(delivered=1)
        assert server.seen[0].target.count("/") == 2
    else:
        assert report == DeliveryReport(buried=1)
        assert not server.seen
        assert "a path below the base URL" in ledger.dead_letters()[0].why


def test_why_an_event_did_not_arrive_is_told(serve, connect, ledger):
    use(ledger, "a")
    assert ship(ledger, connect(serve(reply(503)))).last_failure == "HTTP 503"
    ledger = MemoryLedger()
    use(ledger, "a")
    assert ship(ledger, connect(serve(raw(b"")))).last_failure == "no connection (RemoteProtocolError)"


def test_a_refusal_that_quotes_the_key_is_kept_without_it(serve, connect, ledger):
    use(ledger, "a")
    quoting = reply(422, f'{{"detail": "bad {KEY} of {ORGANISATION}"}}'.encode())
    ship(ledger, connect(serve(quoting)))
    assert ledger.dead_letters()[0].why == "HTTP 422: bad *** of ***"


def test_whoever_wants_the_end_has_it_after_the_event_that_is_under_way(ledger):
    use(ledger, *"abcde")
    asked = iter([False, False, True, True, True])
    client = ZenskarClient("key", "org", transport=httpx.MockTransport(lambda _: httpx.Response(200)))
    report = ship(ledger, client, should_stop=lambda: next(asked))

    assert report == DeliveryReport(delivered=2, stopped="interrupted")
    assert len(ledger.take(5)) == 3
