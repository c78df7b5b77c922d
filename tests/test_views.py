from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest
from django.core.cache import cache
from django.core.cache.backends.locmem import LocMemCache
from django.core.exceptions import PermissionDenied
from django.test import Client, RequestFactory, override_settings
from django.urls import include, path, reverse

from entitlement_gate import views
from entitlement_gate.api import default_gate
from entitlement_gate.resilience.failure_log import FailureLog
from entitlement_gate.resilience.token_bucket import TokenBucket
from entitlement_gate.webhooks import KEYS, Replayed, StandardWebhooks
from tests.customers import FREE, LAPSED, PRO, SETTINGS
from tests.test_webhooks import SECRET, signed

urlconf = ModuleType("urlconf")
urlconf.urlpatterns = [path("entitlements/", include("entitlement_gate.urls"))]
ME, WEBHOOK = "/entitlements/me/", "/entitlements/webhook/"


def accept(request):
    """Let every call in."""


def refuse(request):
    raise PermissionDenied


def fail(request):
    raise LookupError("the verifier itself is broken")


def doubt(request):
    return False


async def refuse_later(request):
    raise PermissionDenied


async def accept_later(request):
    """Let every call in."""


@pytest.fixture(autouse=True)
def _project(monkeypatch):
    monkeypatch.setattr(views, "_invalidations", TokenBucket(200, rate=20))
    with override_settings(ENTITLEMENT_GATE={**SETTINGS, "WEBHOOK_VERIFIER": accept}, ROOT_URLCONF=urlconf):
        yield


def sandbox():
    return default_gate().source._transport.sandbox


def me(customer, **headers):
    return Client().get(ME, headers={"X-Customer": customer, "Accept": "application/json", **headers})


def test_the_urls_have_names():
    assert (reverse("entitlement_gate:me"), reverse("entitlement_gate:webhook")) == (ME, WEBHOOK)


def test_me_lists_the_callers_own_entitlements():
    answer = me(PRO)
    listed = {entry["name"]: entry for entry in answer.json()["entitlements"]}
    assert answer.json()["customer_id"] == PRO
    assert list(listed) == sorted(listed)
    assert listed["API Calls"]["remaining"] == "950"
    assert listed["reports"]["allowed"] is True
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert answer.headers["Vary"] == "Cookie, Authorization"
    assert me(LAPSED).json()["customer_id"] == LAPSED


def test_me_answers_304_until_something_changes():
    etag = me(PRO).headers["ETag"]
    unchanged = me(PRO, **{"If-None-Match": etag})
    assert (unchanged.status_code, unchanged.content, unchanged.headers["ETag"]) == (304, b"", etag)
    sandbox().use(PRO, "API Calls", 1)
    default_gate().invalidate(PRO)
    assert me(PRO, **{"If-None-Match": etag}).status_code == 200


def test_me_refuses_nobody_and_the_unknown():
    assert (Client().get(ME, headers={"Accept": "application/json"}).json()["code"]) == "no_customer"
    sandbox().fail("status", status=503)
    assert me(FREE).status_code == 503


def test_me_takes_get_and_head_alone():
    assert Client().post(ME).status_code == 405
    head = Client().head(ME, headers={"X-Customer": PRO})
    assert (head.status_code, head.content) == (200, b"")


def post(body, **options):
    return Client(enforce_csrf_checks=True).post(WEBHOOK, body, content_type="application/json", **options)


def test_a_verified_call_invalidates_the_customers_it_names():
    assert default_gate().has(PRO, "reports")
    sandbox().revoke(PRO, "reports")
    assert default_gate().has(PRO, "reports")
    assert post(json.dumps({"data": {"customer": {"id": PRO}}})).status_code == 204
    assert not default_gate().has(PRO, "reports")


@override_settings(ENTITLEMENT_GATE=SETTINGS)
def test_without_a_verifier_there_is_no_webhook():
    assert post("{}").status_code == 404


@pytest.mark.parametrize("verifier", [refuse, fail, doubt, refuse_later, "tests.test_views.refuse"])
def test_a_call_that_the_verifier_refuses_changes_nothing(verifier):
    with override_settings(ENTITLEMENT_GATE={**SETTINGS, "WEBHOOK_VERIFIER": verifier}):
        assert post(json.dumps({"customer_id": PRO})).status_code == 403


def test_an_async_verifier_lets_a_call_in():
    with override_settings(ENTITLEMENT_GATE={**SETTINGS, "WEBHOOK_VERIFIER": accept_later}):
        assert post(json.dumps({"customer_id": PRO})).status_code == 204


@pytest.mark.parametrize("body", ["", "nope", "[]", "\udcff".encode("utf-8", "surrogateescape"), b"\x00", "[" * 9999])
def test_what_cannot_be_read_is_400(body):
    assert post(body).status_code == 400


@override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=10)
def test_a_body_that_django_will_not_read_is_400():
    assert post("{" + " " * 100 + "}").status_code == 400


def test_more_calls_than_billing_has_reason_to_send_are_throttled():
    body = json.dumps({"all": [{"customer": f"10000000-0000-4000-8000-{n:012}"} for n in range(100)]})
    statuses = [post(body).status_code for _ in range(3)]
    assert statuses == [204, 204, 429]


def _in_a_function(verifier):
    def verify(request):
        return verifier(request)

    return verify


@pytest.fixture(params=[lambda verifier: verifier, _in_a_function], ids=["verifier", "function"])
def deliver(request):
    """Deliver one signed call, again and again, and return the status of each time."""
    cache.clear()
    body = json.dumps({"customers": [PRO]}).encode()
    headers = signed(RequestFactory(), body).headers
    sent = {name: headers[name] for name in ("webhook-id", "webhook-timestamp", "webhook-signature")}
    client = Client(raise_request_exception=False)
    with override_settings(ENTITLEMENT_GATE={**SETTINGS, "WEBHOOK_VERIFIER": request.param(StandardWebhooks(SECRET))}):
        yield lambda: client.post(WEBHOOK, body, "application/json", headers=sent).status_code


def test_a_call_that_could_not_be_acted_upon_passes_when_it_comes_again(deliver, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(default_gate(), "invalidate", fail)
        assert deliver() == 500
    invalidated = []
    monkeypatch.setattr(default_gate(), "invalidate", invalidated.append)
    assert [deliver(), deliver()] == [204, 204]
    assert invalidated == [PRO]


def test_a_call_that_was_throttled_passes_when_it_comes_again(deliver, monkeypatch):
    statuses, invalidated = [], []
    monkeypatch.setattr(default_gate(), "invalidate", invalidated.append)
    for burst in (0, 1, 1):
        monkeypatch.setattr(views, "_invalidations", TokenBucket(burst, rate=20))
        statuses.append(deliver())
    assert statuses == [429, 204, 204]
    assert invalidated == [PRO]


def test_a_genuine_call_is_to_come_again_where_the_cache_is_down(deliver, monkeypatch, caplog):
    invalidated = []
    monkeypatch.setattr(default_gate(), "invalidate", invalidated.append)
    with monkeypatch.context() as down:
        down.setattr(LocMemCache, "add", lambda *_, **__: fail(None))
        assert deliver() == 503
    assert "a webhook cannot be verified now: the cache 'default' cannot be asked" in caplog.text
    assert [deliver(), deliver()] == [204, 204]
    assert invalidated == [PRO]


def test_a_call_that_comes_again_is_answered_as_it_was_and_does_nothing(deliver):
    assert deliver() == 204
    default_gate().has(PRO, "reports")
    before = default_gate().health()["misses"]
    assert [deliver(), deliver()] == [204, 204]
    assert default_gate().has(PRO, "reports")
    health = default_gate().health()
    assert health["misses"] == before
    assert health["webhooks"] == {"received": 1, "replayed": 2, "named_nobody": 0, "refused": 0}


def test_of_several_at_once_one_is_acted_upon_and_all_are_answered_alike(deliver, monkeypatch):
    invalidated, together = [], threading.Barrier(8)
    monkeypatch.setattr(default_gate(), "invalidate", invalidated.append)

    def send(_):
        together.wait(60)
        return deliver()

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(send, range(8))) == [204] * 8
    assert invalidated == [PRO]


@pytest.mark.parametrize("body", ["nope", "{}"])
def test_what_was_answered_otherwise_is_answered_so_again(body):
    cache.clear()
    headers = signed(RequestFactory(), body.encode()).headers
    sent = {name: headers[name] for name in ("webhook-id", "webhook-timestamp", "webhook-signature")}
    with override_settings(ENTITLEMENT_GATE={**SETTINGS, "WEBHOOK_VERIFIER": StandardWebhooks(SECRET)}):
        first, second = (Client().post(WEBHOOK, body, "application/json", headers=sent) for _ in range(2))
    assert (first.status_code, first.content) == (second.status_code, second.content)
    assert first.status_code == {"nope": 400, "{}": 202}[body]


def again(request):
    raise Replayed


async def again_later(request):
    raise Replayed


@pytest.mark.parametrize("verifier", [again, again_later])
def test_a_verifier_of_ones_own_says_what_came_again(verifier):
    with override_settings(ENTITLEMENT_GATE={**SETTINGS, "WEBHOOK_VERIFIER": verifier}):
        assert default_gate().has(PRO, "reports")
        assert post(json.dumps({"customer_id": PRO})).status_code == 204
        assert default_gate().health()["webhooks"]["replayed"] == 1


@pytest.mark.parametrize("event", [{}, {"type": "plan.created", "id": PRO}, {"customer_id": "cus_123"}, [{}]])
def test_a_call_that_names_nobody_says_so_is_counted_and_logged_once(event, caplog, monkeypatch):
    monkeypatch.setattr(views, "_log", FailureLog(time))
    responses = [post(json.dumps(event)) for _ in range(2)]
    for response in responses:
        assert response.status_code == 202
        assert response.json()["customers"] == 0
        assert "customer, customerid" in response.json()["detail"]
    assert default_gate().health()["webhooks"] == {"received": 2, "replayed": 0, "named_nobody": 2, "refused": 0}
    assert [record.getMessage() for record in caplog.records] == [
        "a verified webhook names no customer: no UUID stands under any of " + ", ".join(KEYS)
    ]


def test_a_call_that_is_refused_is_counted():
    with override_settings(ENTITLEMENT_GATE={**SETTINGS, "WEBHOOK_VERIFIER": refuse}):
        post(json.dumps({"customer_id": PRO}))
        assert default_gate().health()["webhooks"]["refused"] == 1


def test_the_page_names_every_key_that_is_read():
    page = Path("docs/how-to/receive-webhooks.md").read_text("utf-8")
    assert [key for key in KEYS if f"`{key}`" not in page] == []


def test_the_webhook_takes_post_alone():
    assert Client().get(WEBHOOK).status_code == 405
    with override_settings(ENTITLEMENT_GATE=SETTINGS):
        assert Client().get(WEBHOOK).status_code == 404


class Reading:
    """A middleware that looks into forms."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        assert not request.POST
        return self.get_response(request)


@override_settings(MIDDLEWARE=[f"{__name__}.Reading"])
def test_a_form_that_somebody_read_before_is_400():
    assert Client().post(WEBHOOK, {}).status_code == 400


@override_settings(
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]
)
def test_billing_needs_no_login():
    assert post(json.dumps({"customer_id": PRO})).status_code == 204


@pytest.mark.parametrize(
    ("verifier", "said"),
    [(fail, "WEBHOOK_VERIFIER refuses a call with LookupError"), ("no.such", "ENTITLEMENT_GATE['WEBHOOK_VERIFIER']")],
)
def test_a_verifier_that_is_broken_is_told_of_in_the_log(verifier, said, caplog):
    with override_settings(ENTITLEMENT_GATE={**SETTINGS, "WEBHOOK_VERIFIER": verifier}):
        assert post("{}").status_code == 403
    assert any(record.getMessage().startswith(said) for record in caplog.records)
