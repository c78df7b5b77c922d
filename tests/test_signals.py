from __future__ import annotations

import asyncio
import functools
import logging
from contextlib import nullcontext

import django
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import User
from django.shortcuts import render
from django.template import Context, Template
from django.test import AsyncClient, Client, RequestFactory, override_settings
from django.urls import path

from entitlement_gate import (
    EntitlementDenied,
    aget_entitlements,
    ahas_entitlement,
    check_entitlement,
    get_entitlements,
    has_entitlement,
)
from entitlement_gate.api import default_gate
from entitlement_gate.request_entitlements import RequestEntitlements
from entitlement_gate.signals import entitlement_checked, entitlement_denied, entitlements_refreshed, source_failed
from entitlement_gate.testing import FakeBilling, override_entitlements, wait_for_signals
from tests.customers import FREE, PRO, SETTINGS


@pytest.fixture(autouse=True)
def _project():
    with override_settings(ENTITLEMENT_GATE=SETTINGS):
        yield


@pytest.fixture
def heard():
    heard = []

    def hear(signal, decision, **_):
        heard.append(("checked" if signal is entitlement_checked else "denied", decision.reason))

    for signal in (entitlement_checked, entitlement_denied):
        signal.connect(hear)
    yield heard
    for signal in (entitlement_checked, entitlement_denied):
        signal.disconnect(hear)


def test_every_check_is_told_warm_or_not(heard):
    for _ in range(3):
        assert has_entitlement(PRO, "reports")
    assert heard == [("checked", "allowed")] * 3


def test_a_denial_is_told_twice_over(heard):
    assert not check_entitlement(FREE, "reports")
    assert heard == [("checked", "not_entitled"), ("denied", "not_entitled")]


async def test_a_check_in_a_loop_is_told(heard):
    assert await ahas_entitlement(PRO, "reports")
    assert heard == [("checked", "allowed")]


def test_a_check_of_a_request_is_told_once(heard, rf):
    request = rf.get("/", headers={"X-Customer": FREE})
    assert not RequestEntitlements(request).has("reports")
    assert heard == [("checked", "not_entitled"), ("denied", "not_entitled")]


async def test_an_async_receiver_hears_from_both_doors():
    heard = []

    async def hear(decision, **_):
        heard.append(decision.entitlement)

    entitlement_checked.connect(hear)
    try:
        assert await ahas_entitlement(PRO, "reports")
    finally:
        entitlement_checked.disconnect(hear)
    assert heard == ["reports"]


async def aget(request):
    return await aget_entitlements(request)


async def aall(request):
    return await RequestEntitlements(request).aall()


MAPPINGS = {
    "get": get_entitlements,
    "aget": lambda request: asyncio.run(aget(request)),
    "all": lambda request: RequestEntitlements(request).all(),
    "aall": lambda request: asyncio.run(aall(request)),
}


@pytest.mark.parametrize("overridden", [False, True], ids=["billing", "override"])
@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize("verb", ["check", "has", "require"])
def test_each_check_of_what_get_or_a_request_gave_is_told(heard, mapping, verb, overridden):
    with override_entitlements({"reports": True}) if overridden else nullcontext():
        request = RequestFactory().get("/", headers={"X-Customer": PRO})
        known = MAPPINGS[mapping](request)
        assert heard == []
        getattr(known, verb)("reports")
        with pytest.raises(EntitlementDenied) if verb == "require" else nullcontext():
            getattr(known, verb)("nothing")
    reason = "override" if overridden else "allowed"
    assert heard == [("checked", reason), ("checked", "not_entitled"), ("denied", "not_entitled")]


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_reading_a_mapping_is_no_check(heard, mapping):
    request = RequestFactory().get("/", headers={"X-Customer": PRO})
    known = MAPPINGS[mapping](request)
    assert (known["reports"].allowed, "nothing" in known, len(list(known)) == len(known)) == (True, False, True)
    assert not RequestEntitlements(request)["seats"].unlimited
    assert heard == []


def test_a_denial_that_waited_for_newer_data_is_told_once(heard):
    with FakeBilling() as billing:
        billing.grant(PRO, "reports")
        known = get_entitlements(PRO)
        billing.grant(PRO, "sso")
        billing.advance(6)
        assert known.has("sso")
    assert heard == [("checked", "allowed")]


def test_who_looks_and_is_not_the_customer_is_told_to_nobody(heard):
    assert default_gate().inspect(PRO).has("reports")
    assert not default_gate().inspect(FREE).check("reports")
    assert heard == []


class Receivers:
    """What projects connect, each in both colours."""

    def __init__(self):
        self.heard = []

    def plain(self, decision, **_):
        self.heard.append(decision.entitlement)

    async def coroutine(self, decision, **_):
        await asyncio.sleep(0)
        self.heard.append(decision.entitlement)

    def query(self, **_):
        User.objects.count()
        self.heard.append("query")

    async def query_async(self, **_):
        await User.objects.acount()
        self.heard.append("query")

    def failing(self, **_):
        raise LookupError("receiver")

    async def failing_async(self, **_):
        raise LookupError("receiver")

    async def cancelled(self, **_):
        task = asyncio.ensure_future(asyncio.sleep(60))
        task.cancel()
        await task

    def cancelled_plain(self, **_):
        raise asyncio.CancelledError


class Called:
    """A receiver without a name."""

    def __call__(self, **_):
        raise LookupError("receiver")


QUIET = ["plain", "coroutine", "query", "query_async"]
LOUD = ["failing", "failing_async", "cancelled", "cancelled_plain", "partial", "object"]


@pytest.fixture
def receivers():
    return Receivers()


@pytest.fixture
def connected(request, receivers):
    made = {"partial": lambda: functools.partial(receivers.failing), "object": Called}
    receiver = made[request.param]() if request.param in made else getattr(receivers, request.param)
    entitlement_checked.connect(receiver, weak=False)
    yield receivers
    entitlement_checked.disconnect(receiver)


def in_a_template():
    request = RequestFactory().get("/", headers={"X-Customer": PRO})
    page = "{% load entitlements %}{% ifentitled 'reports' %}in{% endifentitled %}"
    return Template(page).render(Context({"request": request})) == "in"


def plainly():
    return has_entitlement(PRO, "reports")


async def by_await():
    return await ahas_entitlement(PRO, "reports")


async def in_a_loop(call):
    return call()


def below_a_thread(call):
    return asyncio.run(sync_to_async(call)())


PLACES = [
    plainly,
    in_a_template,
    lambda: asyncio.run(by_await()),
    lambda: asyncio.run(in_a_loop(plainly)),
    lambda: asyncio.run(in_a_loop(in_a_template)),
    lambda: async_to_sync(in_a_loop)(in_a_template),
    lambda: below_a_thread(plainly),
    lambda: below_a_thread(lambda: async_to_sync(in_a_loop)(in_a_template)),
]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("place", PLACES, ids=range(len(PLACES)))
@pytest.mark.parametrize("connected", QUIET, indirect=True)
def test_a_receiver_of_either_colour_hears_from_wherever_a_check_is_made(connected, place, caplog):
    assert place()
    assert len(connected.heard) == 1
    assert not caplog.records


@pytest.mark.parametrize("place", PLACES, ids=range(len(PLACES)))
@pytest.mark.parametrize("connected", LOUD, indirect=True)
def test_a_receiver_that_fails_breaks_no_check_and_is_a_line_in_the_log(connected, place, caplog, request):
    assert place()
    # From 6.1 on Django runs async receivers in a task group, which takes one that cancels itself for done.
    is_silent = django.VERSION >= (6, 1) and request.node.callspec.params["connected"] == "cancelled"
    assert [record.levelname for record in caplog.records] == ([] if is_silent else ["ERROR"])


async def test_a_check_that_is_cancelled_while_a_receiver_runs_is_cancelled(receivers):
    begun = asyncio.Event()

    async def slow(**_):
        begun.set()
        await asyncio.sleep(60)

    entitlement_checked.connect(slow)
    try:
        task = asyncio.ensure_future(by_await())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    finally:
        entitlement_checked.disconnect(slow)


async def page_view(request):
    return render(request, "page.html")


urlpatterns = [path("", page_view)]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("connected", [*QUIET, "failing_async"], indirect=True)
@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_a_template_in_an_async_view_is_shown_whoever_listens(connected, settings, client):
    settings.ROOT_URLCONF = __name__
    page = "{% load entitlements %}{% ifentitled 'reports' %}in{% endifentitled %}"
    options = {
        "loaders": [("django.template.loaders.locmem.Loader", {"page.html": page})],
        "context_processors": ["django.template.context_processors.request"],
    }
    settings.TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "OPTIONS": options}]
    get = client().get
    response = (async_to_sync(get) if client is AsyncClient else get)("/", headers={"X-Customer": PRO})
    assert (response.status_code, response.content) == (200, b"in")


@override_settings(ENTITLEMENT_GATE={**SETTINGS, "SHADOW": {"reports"}})
def test_shadow_mode_allows_tells_and_logs_what_it_would_refuse(heard, caplog):
    with caplog.at_level(logging.INFO, "entitlement_gate"):
        decisions = [check_entitlement(FREE, "reports") for _ in range(2)]
    assert all(d.allowed and d.shadow and d.outcome == "denied" for d in decisions)
    assert heard == [("checked", "not_entitled"), ("denied", "not_entitled")] * 2
    assert caplog.messages == ["shadow: would refuse: reports: not_entitled"] * 2
    assert not has_entitlement(FREE, "sso")


@pytest.mark.usefixtures("no_fetch_remains")
def test_a_fetch_is_told_once_its_snapshot_serves_checks():
    heard = []

    def hear(snapshot, **_):
        heard.append((snapshot.customer_id, has_entitlement(PRO, "reports")))

    entitlements_refreshed.connect(hear)
    try:
        assert has_entitlement(PRO, "reports")
        wait_for_signals()
        assert heard == [(PRO, True)]
    finally:
        entitlements_refreshed.disconnect(hear)


@pytest.mark.usefixtures("no_fetch_remains")
def test_a_failed_fetch_is_told():
    heard = []

    def hear(customer_id, error, **_):
        heard.append((customer_id, type(error).__name__))

    source_failed.connect(hear)
    try:
        default_gate().source._transport.sandbox.fail("status", status=401)
        assert not has_entitlement(PRO, "reports")
        wait_for_signals()
        assert heard == [(PRO, "SourceRejected")]
    finally:
        source_failed.disconnect(hear)
