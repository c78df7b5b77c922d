import json
from decimal import Decimal

import pytest

EVENT = {"customer_id": "cus_123", "timestamp": "2026-01-15T12:00:00Z", "data": {"count": 1}}


@pytest.fixture
def post(ask, headers):
    def post(body, slug="api_calls", key=None, **options):
        sent = {**headers, **({"Idempotency-Key": key} if key is not None else {})}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return ask(f"/usage/{slug}", method="POST", body=content, headers=sent, **options)

    return post


def test_one_event_or_a_list_of_them_is_kept(post, sandbox):
    assert post(EVENT)[0] == 200
    assert post([EVENT, EVENT]) == (200, {"status": "accepted", "count": 2})
    assert len(sandbox.usage_events) == 3
    event = sandbox.usage_events[0]
    assert (event.slug, event.customer_id, event.data, event.key) == ("api_calls", "cus_123", {"count": 1}, None)


def test_numbers_in_an_event_are_exact(post, sandbox):
    post(json.dumps(EVENT).replace('"count": 1', '"count": 0.1').encode())
    assert sandbox.usage_events[0].data == {"count": Decimal("0.1")}


def test_a_key_counts_once_and_replays_its_answer(post, sandbox):
    first = post([EVENT, EVENT], key="k")
    assert post([EVENT, EVENT], key="k") == first
    assert [event.key for event in sandbox.usage_events] == ["k", "k"]


def test_a_key_with_another_body_or_slug_is_an_error(post, sandbox):
    post(EVENT, key="k")
    assert post([EVENT], key="k")[0] == 400
    assert post(EVENT, slug="seats", key="k")[0] == 400
    assert len(sandbox.usage_events) == 1


def test_a_key_is_forgotten_after_a_day(post, sandbox, clock):
    post(EVENT, key="k")
    clock.now += 86_399
    assert post([EVENT], key="k")[0] == 400
    clock.now += 1
    assert post([EVENT], key="k")[0] == 200
    assert len(sandbox.usage_events) == 2


def test_an_empty_key_is_no_key(post, sandbox):
    post(EVENT, key="")
    post(EVENT, key="")
    assert len(sandbox.usage_events) == 2


def test_an_unknown_slug_is_answered_null_and_keeps_nothing(post, sandbox):
    assert post(EVENT, slug="nothing") == (200, None)
    assert sandbox.usage_events == []


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        (b"{", ["body"]),
        (b"[" * 100_000, ["body"]),
        ([], ["body"]),
        (None, ["body"]),
        ([EVENT, 5], ["body", 1]),
        ({**EVENT, "customer_id": ""}, ["body", "customer_id"]),
        ({**EVENT, "customer_id": 5}, ["body", "customer_id"]),
        ({**EVENT, "timestamp": "yesterday"}, ["body", "timestamp"]),
        ({**EVENT, "timestamp": 5}, ["body", "timestamp"]),
        ([{**EVENT, "data": []}], ["body", 0, "data"]),
        ({"customer_id": "c", "timestamp": "2026-01-15"}, ["body", "data"]),
    ],
)
def test_a_malformed_event_is_refused_and_keeps_nothing(post, sandbox, body, loc):
    status, answer = post(body, key="k")
    assert (status, answer["detail"][0]["loc"]) == (422, loc)
    assert sandbox.usage_events == []
    assert post(EVENT, key="k")[0] == 200
