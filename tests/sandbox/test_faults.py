import gzip
import json
from decimal import Decimal

import pytest

from entitlement_gate.sandbox import Fault, Request, ScenarioError
from entitlement_gate.sandbox.faults import Faults
from entitlement_gate.sandbox.messages import Delivery, page_number
from entitlement_gate.sandbox.scenario import KINDS


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"kind": "explode"}, "kind: expected one of status, delay,"),
        ({"kind": []}, "kind: expected one of"),
        ({"kind": "status", "status": 199}, "status: expected an integer from 200 to 599"),
        ({"kind": "status", "status": "503"}, "status: expected an integer"),
        ({"kind": "delay", "seconds": True}, "seconds: expected a number"),
        ({"kind": "delay", "seconds": Decimal("NaN")}, "seconds: expected 0 to 3600"),
        ({"kind": "delay", "times": 0}, "times: expected an integer from 1"),
        ({"kind": "big", "bytes": 1 << 31}, "bytes: expected an integer from 1"),
        ({"kind": "null", "page": 1.5}, "page: expected an integer"),
        ({"kind": "null", "path": 5}, "path: expected a text"),
        ({"kind": "status", "retry_after": "1\r\nx: y"}, "retry_after: expected"),
        ({"kind": "status", "retry_after": True}, "retry_after: expected"),
    ],
)
def test_a_fault_that_cannot_be_is_refused(given, says):
    with pytest.raises(ScenarioError) as caught:
        Fault(**given)
    assert str(caught.value).startswith(says)
    with pytest.raises(ScenarioError) as caught:
        Fault.parse(given, "faults[0]")
    assert str(caught.value).startswith(f"faults[0].{says}")


def test_a_fault_needs_a_kind_and_known_fields():
    with pytest.raises(ScenarioError, match=r"^f: 'kind' is missing"):
        Fault.parse({}, "f")
    with pytest.raises(ScenarioError, match=r"did you mean 'seconds'"):
        Fault.parse({"kind": "delay", "second": 1}, "f")


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_is_read_back_from_what_it_says_of_itself(kind):
    fault = Fault(kind, seconds=Decimal("0.5"), bytes=7, retry_after="soon", times=2)
    assert Fault.parse(fault.as_dict(), "f") == fault
    assert (fault.wait, fault.size) == (0.5, 7)


def test_a_kind_has_its_own_sizes():
    assert (Fault("hang").wait, Fault("status").wait) == (60.0, 0.0)
    assert (Fault("gzip_bomb").size, Fault("null").size) == (200_000_000, 1)


def test_a_fault_is_over_after_its_times():
    faults = Faults([Fault("null", times=2)])
    assert [faults.take("/x", None) is not None for _ in range(3)] == [True, True, False]
    assert len(faults) == 0


def test_a_fault_without_times_has_no_end():
    faults = Faults([Fault("null")])
    assert all(faults.take("/x", None) for _ in range(5))


def test_the_first_fault_that_hits_is_taken():
    usage, second, rest = Fault("null", path="/usage"), Fault("html", page=2), Fault("empty", times=1)
    faults = Faults([usage, second])
    faults.add(rest)
    assert faults.take("/usage/x", None) is usage
    assert faults.take("/entitlements/x", 2) is second
    assert faults.take("/entitlements/x", 1) is rest
    assert list(faults) == [usage, second]
    faults.clear()
    assert faults.take("/usage/x", None) is None


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
    assert page_number(Request("GET", second)) == 2
    assert hit(kind, second, page=2, bytes=64) != hit("null", second, page=99)
    assert hit(kind, page=2, bytes=64) == honest
