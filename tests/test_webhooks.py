from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time

import pytest
from django.core.cache import cache
from django.core.exceptions import PermissionDenied

from entitlement_gate.webhooks import Malformed, Replayed, StandardWebhooks, customers_named
from tests.customers import FREE, PRO

SECRET = "whsec_" + base64.b64encode(b"a secret of some length").decode()


@pytest.fixture(autouse=True)
def _forget():
    cache.clear()


def signed(rf, body=b"{}", *, message="msg_1", at=None, secret=b"a secret of some length", signature=None):
    sent = str(int(time.time() if at is None else at))
    digest = hmac.new(secret, f"{message}.{sent}.".encode() + body, hashlib.sha256).digest()
    offered = signature if signature is not None else "v1," + base64.b64encode(digest).decode()
    headers = {"webhook-id": message, "webhook-timestamp": sent, "webhook-signature": offered}
    return rf.post("/", body, content_type="application/json", headers=headers)


def test_a_genuine_call_passes_once_and_its_replay_does_not(rf):
    verify = StandardWebhooks(SECRET)
    assert verify(signed(rf)) is None
    with pytest.raises(PermissionDenied):
        verify(signed(rf))
    assert verify(signed(rf, message="msg_2")) is None


def test_a_call_that_was_not_acted_upon_may_come_again(rf):
    verify = StandardWebhooks(SECRET)
    verify(signed(rf))
    verify.forget(signed(rf))
    assert verify(signed(rf)) is None
    with pytest.raises(PermissionDenied):
        verify(signed(rf))


def test_what_comes_again_is_told_apart_from_what_is_refused(rf):
    verify = StandardWebhooks(SECRET)
    verify(signed(rf))
    with pytest.raises(Replayed):
        verify(signed(rf, at=time.time() - 60))  # another attempt has a time and a signature of its own
    for wrong in ({"at": 0}, {"secret": b"another"}):
        with pytest.raises(PermissionDenied) as refused:
            verify(signed(rf, **wrong))
        assert not isinstance(refused.value, Replayed)


def test_another_body_under_the_same_id_is_another_call(rf):
    verify = StandardWebhooks(SECRET)
    assert verify(signed(rf, b'{"customer": 1}')) is None
    assert verify(signed(rf, b'{"customer": 2}')) is None


def test_one_good_signature_among_several_is_enough(rf):
    good = signed(rf).headers["webhook-signature"]
    assert StandardWebhooks(SECRET)(signed(rf, signature=f"v1a,x v1,AAAA {good}")) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"secret": b"another"},
        {"at": 0},
        {"at": 4_000_000_000},
        {"message": ""},
        {"signature": ""},
        {"signature": "v1,"},
        {"signature": "v1,\xff"},
    ],
)
def test_anything_else_is_refused(rf, wrong):
    with pytest.raises(PermissionDenied):
        StandardWebhooks(SECRET)(signed(rf, **wrong))


@pytest.mark.parametrize("sent", ["", "soon", "²", "-1", "9" * 4000])
def test_a_timestamp_that_is_none_is_refused(rf, sent):
    request = rf.post("/", headers={"webhook-id": "m", "webhook-timestamp": sent, "webhook-signature": "v1,AA"})
    with pytest.raises(PermissionDenied):
        StandardWebhooks(SECRET)(request)


@pytest.mark.parametrize("secret", ["", "whsec_", "not base64!"])
def test_a_secret_that_is_none_is_refused_early_and_not_shown(secret):
    with pytest.raises(ValueError, match="base64 text") as refused:
        StandardWebhooks(secret)
    assert "not base64" not in str(refused.value)


def test_the_secret_is_not_in_the_repr():
    assert repr(StandardWebhooks(SECRET)) == "<StandardWebhooks>"


@pytest.mark.parametrize(
    ("event", "named"),
    [
        ({"customer_id": PRO}, {PRO}),
        ({"data": {"customer": {"id": PRO.upper(), "name": "x"}}}, {PRO}),
        ({"data": [{"customerId": PRO}, {"customer": FREE}]}, {PRO, FREE}),
        ({"customer_ids": [PRO, "cus_123", 3], "customers": [{"id": FREE}, {"name": "x"}]}, {PRO, FREE}),
        ({"customerUuid": PRO}, {PRO}),
        ([{"customer_id": PRO}, {}], {PRO}),
        ({"customer_id": "cus_123", "id": PRO}, set()),
        ({"customer_id": 3, "customer": None}, set()),
        ({}, set()),
    ],
)
def test_customers_are_found_wherever_the_event_names_them(event, named):
    assert customers_named(json.dumps(event).encode()) == named


def nested(depth):
    return b'{"a":' * depth + b"1" + b"}" * depth


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "no JSON object"),
        (b"null", "no JSON object"),
        (b'[{}, "x"]', "no list of objects"),
        (nested(12), "nested too deeply"),
        (b" " * 300_000, "too large"),
        (json.dumps([{"customer": f"10000000-0000-4000-8000-{n:012}"} for n in range(101)]).encode(), "than 100"),
        (
            json.dumps({"a": [{"customer": f"10000000-0000-4000-8000-{n:012}"} for n in range(101)]}).encode(),
            "than 100",
        ),
    ],
)
def test_a_body_that_is_no_event_is_malformed(body, said):
    with pytest.raises(Malformed, match=said):
        customers_named(body)
