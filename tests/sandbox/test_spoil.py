import gzip
import json

import pytest

from entitlement_gate.sandbox import Request, paging
from entitlement_gate.sandbox.faults import KINDS
from entitlement_gate.sandbox.messages import Delivery


@pytest.fixture
def hit(sandbox, headers, ids):
    def hit(kind, target=f"/entitlements/customer/{ids.PRO}", **options):
        sandbox.recover()
        sandbox.fail(kind, **options)
        return sandbox.respond(Request("GET", target, headers))

    return hit


def test_a_status_can_carry_a_body_and_a_retry_after(hit):
    reply = hit("status", status=429, retry_after=7, body="slow down")
    assert (reply.status, reply.headers["Retry-After"], reply.body) == (429, "7", b"slow down")
    reply = hit("status", seconds=2)
    assert (reply.status, json.loads(reply.body), reply.delivery.delay) == (503, {"detail": "Fault"}, 2)
    assert "Retry-After" not in reply.headers


@pytest.mark.parametrize(
    ("kind", "delivery"),
    [
        ("delay", Delivery(delay=0.5)),
        ("drip", Delivery(chunk=3, pause=0.5)),
        ("hang", Delivery(delay=0.5, drop=True)),
        ("truncate", Delivery(delay=0.5, truncate=True)),
        ("reset", Delivery(delay=0.5, reset=True)),
    ],
)
def test_some_faults_only_change_the_delivery(hit, kind, delivery):
    reply = hit(kind, seconds=0.5, bytes=3)
    assert reply.delivery == delivery
    assert len(json.loads(reply.body)["results"]) == 10


@pytest.mark.parametrize(
    ("kind", "status", "content_type"),
    [
        ("garbage", 200, "application/json"),
        ("html", 200, "text/html; charset=utf-8"),
        ("null", 200, "application/json"),
        ("redirect", 302, None),
        ("empty", 204, None),
        ("wrong_shape", 200, "application/json"),
    ],
)
def test_some_faults_change_what_is_said(hit, kind, status, content_type):
    reply = hit(kind)
    assert (reply.status, reply.headers.get("Content-Type")) == (status, content_type)


def test_a_wrong_shape_has_the_rows_elsewhere(hit):
    assert len(json.loads(hit("wrong_shape").body)["data"]) == 10


def test_garbage_is_no_json(hit):
    with pytest.raises(ValueError, match=r"."):
        json.loads(hit("garbage").body)


def test_a_redirect_leads_nowhere(hit):
    assert hit("redirect").headers["Location"] == "https://elsewhere.invalid/"


@pytest.mark.parametrize("size", [1, 1000, 5_000_000])
def test_a_bomb_is_small_and_unpacks_to_its_size(hit, size):
    reply = hit("gzip_bomb", bytes=size)
    unpacked = gzip.decompress(reply.body)
    assert len(unpacked) == max(size, len(b'{"results":[],"next":null}'))
    assert json.loads(unpacked) == {"results": [], "next": None}
    assert len(reply.body) < 1000 + size // 500


def test_the_default_bomb_is_made_fast_and_small(hit):
    assert len(hit("gzip_bomb").body) < 300_000


def test_a_big_body_has_its_size(hit):
    body = hit("big", bytes=100_000).body
    assert len(body) == 100_000
    assert json.loads(body) == {"results": [], "next": None}


def test_a_deep_body_is_deep(hit):
    body = hit("deep").body
    assert body.count(b"[") == body.count(b"]") == 100_000
    with pytest.raises(RecursionError):
        json.loads(body)


def test_a_cursor_loop_leads_to_itself(hit, ids):
    first = json.loads(hit("cursor_loop").body)
    again = json.loads(hit("cursor_loop", f"/entitlements/customer/{ids.PRO}?cursor={first['next']}").body)
    assert first == again
    assert first["results"]


def test_foreign_rows_belong_to_others(hit, ids):
    rows = json.loads(hit("foreign").body)["results"]
    assert rows
    assert ids.PRO not in {row["customer"] for row in rows}


def test_foreign_rows_are_made_up_where_there_is_no_other_customer(make_sandbox, rows, ids):
    sandbox = make_sandbox({"name": "sso"})
    sandbox.fail("foreign")
    assert [(row["name"], row["customer"]) for row in rows(to=sandbox)] == [
        ("sso", "ffffffff-0000-4000-8000-000000000000")
    ]


@pytest.mark.parametrize("kind", ["wrong_shape", "cursor_loop", "foreign"])
def test_what_is_no_list_keeps_its_shape(hit, kind):
    assert hit(kind, "/entitlements/customer/nobody").status == 422


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_can_be_limited_to_a_page(hit, ids, kind):
    honest = hit("null", page=99)
    second = f"/entitlements/customer/{ids.PRO}?cursor={json.loads(honest.body)['next']}"
    assert paging.page_number(Request("GET", second)) == 2
    assert hit(kind, second, page=2, bytes=64) != hit("null", second, page=99)
    assert hit(kind, page=2, bytes=64) == honest
