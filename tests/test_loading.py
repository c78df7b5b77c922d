"""Callables that settings name by dotted path are those that stand there when they are needed."""

from __future__ import annotations

import json
import sys
import threading
from types import ModuleType
from unittest import mock

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.test import AsyncRequestFactory, RequestFactory, override_settings

from entitlement_gate import has_entitlement, requires_entitlement
from entitlement_gate.conf import get_settings
from entitlement_gate.views import webhook
from tests.customers import FREE, PRO, SETTINGS

PATHS = {
    "CUSTOMER_RESOLVER": f"{__name__}.resolve",
    "DENIED_HANDLER": f"{__name__}.refuse",
    "WEBHOOK_VERIFIER": f"{__name__}.verify",
}


def resolve(request):
    return PRO


def refuse(request, decision):
    return HttpResponse("refused", status=418)


def verify(request):
    """Let everybody in."""


@requires_entitlement("reports")
def view(request):
    return HttpResponse("in")


@requires_entitlement("reports")
async def async_view(request):
    return HttpResponse("in")


def _status(view=view):
    return view(RequestFactory().get("/")).status_code


@pytest.fixture(autouse=True)
def _project(settings):
    settings.ENTITLEMENT_GATE = {**SETTINGS, **PATHS}


def test_a_patch_counts_after_a_first_request_and_ends_with_its_block():
    assert _status() == 200
    with mock.patch(f"{__name__}.resolve", return_value=FREE):
        assert _status() == 418
        assert not has_entitlement(RequestFactory().get("/"), "reports")
    assert _status() == 200


async def test_a_patch_counts_in_a_loop_too():
    assert (await async_view(AsyncRequestFactory().get("/"))).status_code == 200
    with mock.patch(f"{__name__}.resolve", new=mock.AsyncMock(return_value=FREE)):
        assert (await async_view(AsyncRequestFactory().get("/"))).status_code == 418
    assert (await async_view(AsyncRequestFactory().get("/"))).status_code == 200


def test_a_patch_before_the_first_request_does_not_outlive_its_block():
    with mock.patch(f"{__name__}.resolve", return_value=FREE):
        assert _status() == 418
    assert _status() == 200


def test_every_callable_of_the_settings_is_found_anew(monkeypatch):
    this = sys.modules[__name__]
    monkeypatch.setattr(this, "resolve", lambda request: FREE)
    assert (_status(), _webhook()) == (418, 204)
    with monkeypatch.context() as patched:
        patched.setattr(this, "refuse", lambda request, decision: HttpResponse(status=404))
        patched.setattr(this, "verify", lambda request: False)
        assert (_status(), _webhook()) == (404, 403)
    assert (_status(), _webhook()) == (418, 204)


def _webhook():
    body = json.dumps({"customer_id": PRO})
    return webhook(RequestFactory().post("/", body, content_type="application/json")).status_code


def test_a_module_that_was_made_anew_is_found(monkeypatch, settings):
    def made(customer):
        module = ModuleType("shop_resolvers")
        module.whose = lambda request: customer
        monkeypatch.setitem(sys.modules, "shop_resolvers", module)

    settings.ENTITLEMENT_GATE = {**SETTINGS, "CUSTOMER_RESOLVER": "shop_resolvers.whose"}
    made(PRO)
    assert has_entitlement(RequestFactory().get("/"), "reports")
    made(FREE)
    assert not has_entitlement(RequestFactory().get("/"), "reports")


def test_settings_that_change_and_come_back_find_what_they_name():
    for _ in range(2):
        assert _status() == 200
        with (
            override_settings(ENTITLEMENT_GATE={**SETTINGS, "CUSTOMER_RESOLVER": f"{__name__}.nobody"}),
            mock.patch(f"{__name__}.nobody", create=True, return_value=None),
        ):
            assert _status() == 403


def test_a_name_that_is_gone_is_an_error_that_names_the_key(monkeypatch):
    assert _status() == 200
    monkeypatch.delattr(sys.modules[__name__], "resolve")
    with pytest.raises(ImproperlyConfigured, match="CUSTOMER_RESOLVER"):
        _status()


def test_threads_that_ask_while_a_patch_comes_and_goes_get_one_or_the_other():
    seen, stop = set(), threading.Event()

    def ask():
        while not stop.is_set():
            seen.add(get_settings().load("customer_resolver")(None))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        with mock.patch(f"{__name__}.resolve", return_value=FREE):
            pass
    stop.set()
    for thread in threads:
        thread.join(60)
    assert seen <= {PRO, FREE}
