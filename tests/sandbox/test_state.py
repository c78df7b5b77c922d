import json
import threading
from decimal import Decimal
from uuid import UUID

import pytest

from entitlement_gate.sandbox import Sandbox, ScenarioError

NEW = "40000000-0000-4000-8000-000000000004"


def balances(rows):
    return [(row["quantity_used"], row["quantity_remaining"]) for row in rows]


def test_a_grant_creates_its_customer(sandbox, rows):
    row_id = sandbox.grant(UUID(NEW), "sso")
    (row,) = rows(NEW)
    assert (row["id"], row["name"], row["type"]) == (row_id, "sso", "Feature")


def test_a_grant_takes_any_field_and_dates_relative_to_now(sandbox, rows, clock):
    clock.now += 60
    sandbox.grant(NEW, "ai_credits", "54.8", type="Credits", expiry_at="+1m", units="credits")
    (row,) = rows(NEW)
    assert (row["type"], row["quantity_remaining"]) == ("Credits", Decimal("54.8"))
    assert row["expiry_at"] == "2026-01-15T12:02:00Z"


def test_a_grant_that_cannot_be_is_refused(sandbox):
    with pytest.raises(ScenarioError, match=r"^grant: unknown field 'colour'"):
        sandbox.grant(NEW, "sso", colour="red")
    with pytest.raises(ScenarioError, match=r"^customer: expected a UUID"):
        sandbox.grant("cus_123", "sso")


def test_rows_granted_after_a_revocation_have_new_ids(sandbox, rows):
    first = sandbox.grant(NEW, "sso")
    assert sandbox.revoke(NEW, "sso") == 1
    assert rows(NEW) == []
    assert sandbox.grant(NEW, "sso") != first


def test_revoking_takes_every_row_of_the_name_and_no_other(sandbox, rows, ids):
    assert sandbox.revoke(ids.PRO, "API Calls") == 2
    assert sandbox.revoke(ids.PRO, "API Calls") == 0
    names = {row["name"] for row in rows(ids.PRO)}
    assert "API Calls" not in names
    assert "sso" in names


def test_use_draws_from_the_oldest_row_and_overdraws_the_last(sandbox, rows, ids):
    sandbox.use(ids.PRO, "API Calls", 100)
    assert balances(rows(ids.PRO, "&search=api calls".replace(" ", "+"))) == [(350, 650), (0, 200)]
    sandbox.use(ids.PRO, "API Calls", "1000.5")
    shown = balances(rows(ids.PRO, "&search=api+calls"))
    assert shown == [(1000, 0), (Decimal("350.5"), Decimal("-150.5"))]


def test_use_leaves_rows_that_are_not_live_alone(sandbox, rows):
    for options in ({"expiry_at": "-1s"}, {"active_from": "+1s"}, {"status": "voided"}, {"status": None}):
        sandbox.grant(NEW, "seats", 5, **options)
    sandbox.grant(NEW, "seats")
    sandbox.use(NEW, "seats", 2)
    assert balances(rows(NEW)) == [(None, 5), (None, 5), (None, 5), (2, 3), (None, None)]


def test_use_of_nothing_is_a_lookup_error(sandbox, ids):
    with pytest.raises(LookupError, match="no live balance named 'sso'"):
        sandbox.use(ids.PRO, "sso")
    with pytest.raises(LookupError, match="no live balance"):
        sandbox.use(NEW, "sso")


@pytest.mark.parametrize("quantity", [0, -1, "x", True])
def test_use_of_a_quantity_that_cannot_be_is_refused(sandbox, ids, quantity):
    with pytest.raises(ScenarioError, match=r"^quantity: "):
        sandbox.use(ids.PRO, "seats", quantity)


def test_expiring_ends_a_row_and_leaves_its_status(sandbox, rows, ids):
    sandbox.expire(ids.PRO, "sso")
    (row,) = rows(ids.PRO, "&search=sso")
    assert (row["status"], row["expiry_at"]) == ("active", "2026-01-15T11:59:59Z")
    with pytest.raises(LookupError, match="no row named 'nothing'"):
        sandbox.expire(ids.PRO, "nothing")


def test_threads_lose_no_use_and_no_grant():
    sandbox = Sandbox()
    sandbox.grant(NEW, "seats", 1000)

    def work():
        for _ in range(50):
            sandbox.use(NEW, "seats")
            sandbox.grant(NEW, "sso")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sandbox.revoke(NEW, "sso") == 200
    with pytest.raises(LookupError):
        sandbox.use(NEW, "sso")
    assert sandbox.rows_of(NEW)[0].fields["quantity_used"] == 200


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
