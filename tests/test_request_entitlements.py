import asyncio
import dataclasses
import gc
import logging
import threading
import weakref

import pytest
from django.http import HttpResponse
from django.template import Context, Template
from django.test import AsyncRequestFactory, RequestFactory

from entitlement_gate import (
    EntitlementDenied,
    EntitlementUnavailable,
    Reason,
    Requirement,
    has_entitlement,
    requires_entitlement,
)
from entitlement_gate.api import default_gate
from entitlement_gate.guard import Guard, refusal
from entitlement_gate.middleware import EntitlementMiddleware
from entitlement_gate.request_entitlements import RequestEntitlements, entitlements_of
from entitlement_gate.resilience.effects import run_async, run_sync
from entitlement_gate.signals import entitlement_checked
from entitlement_gate.testing import FakeBilling, override_entitlements
from tests.customers import FREE, LAPSED, PRO, SETTINGS
from tests.views.browsers import asked, broken


@pytest.fixture(autouse=True)
def sandbox(settings):
    settings.ENTITLEMENT_GATE = SETTINGS


@pytest.fixture
def of():
    kept = []

    def of(customer=PRO):
        kept.append(RequestFactory().get("/", headers={"X-Customer": customer} if customer else {}))
        return RequestEntitlements(kept[-1])

    return of


def whole(decision):
    return {f.name: getattr(decision, f.name) for f in dataclasses.fields(decision) if f.name not in ("age", "source")}


def outcome(call, *args):
    """What a method returns or raises, comparable."""
    try:
        result = asyncio.run(call(*args)) if asyncio.iscoroutinefunction(call) else call(*args)
    except (EntitlementDenied, EntitlementUnavailable) as error:
        return type(error), whole(error.decision)
    return result if isinstance(result, bool) else whole(result)


@pytest.mark.parametrize("question", [("reports",), ("seats", 2), ("seats", 3), ("nothing",)])
@pytest.mark.parametrize("customer", [PRO, FREE, LAPSED, "no id", None])
@pytest.mark.parametrize("name", ["check", "has", "require"])
def test_a_method_and_its_twin_answer_alike(of, name, customer, question):
    plain = outcome(getattr(of(customer), name), *question)
    assert outcome(getattr(of(customer), f"a{name}"), *question) == plain


def test_it_reads_like_a_mapping(of):
    entitlements = of()
    assert "seats" in entitlements
    assert "nothing" not in entitlements
    assert entitlements["seats"].remaining == 2
    assert sorted(entitlements) == list(entitlements)
    assert len(entitlements) == len(entitlements.all()) == 12
    with pytest.raises(KeyError, match="nothing"):
        _ = entitlements["nothing"]


async def test_all_of_them_can_be_awaited():
    request = AsyncRequestFactory().get("/", headers={"X-Customer": PRO})
    entitlements = RequestEntitlements(request)
    every = await entitlements.aall()
    assert "seats" in every
    assert (await entitlements.aall()).view is every.view
    assert entitlements["seats"].remaining == 2


def test_a_request_is_gone_when_its_last_reference_is_without_the_garbage_collector():
    gc.disable()
    try:
        request = RequestFactory().get("/", headers={"X-Customer": PRO})
        request.entitlements = kept = RequestEntitlements(request)
        assert kept.has("reports")
        gone = weakref.ref(request)
        del request
        assert gone() is None
    finally:
        gc.enable()
    assert kept.has("reports")  # of what was learned
    assert "seats" in kept.all()


def test_a_denial_by_all_of_them_is_no_older_than_it_may_be(of, monkeypatch):
    entitlements = of(FREE)
    every = entitlements.all()
    assert "sso" not in every
    gate = default_gate()
    gate.source._transport.sandbox.grant(FREE, "sso")
    monkeypatch.setattr(every.view.entry, "fetched_at", every.view.entry.fetched_at - 40)
    assert every.has("sso")
    assert "sso" not in every
    assert "sso" in entitlements.all()


def test_who_first_asks_when_the_request_is_gone_is_told_so():
    entitlements = RequestEntitlements(RequestFactory().get("/"))
    with pytest.raises(RuntimeError, match="keep the request, or ask before it ends"):
        entitlements.has("reports")


def test_nothing_is_asked_until_something_is(of):
    entitlements = of()
    assert repr(entitlements) == "<RequestEntitlements: nothing asked yet>"
    assert asked() == []
    assert entitlements.has("reports")
    assert repr(entitlements) == f"<RequestEntitlements: <CustomerEntitlements of {PRO}>>"
    assert repr(of(None)) == "<RequestEntitlements: nothing asked yet>"
    assert len(asked()) == 1


def test_a_customer_without_entitlements_has_been_asked_for_too(of):
    entitlements = of(None)
    assert len(entitlements) == 0
    assert repr(entitlements) == "<RequestEntitlements: <CustomerEntitlements of None>>"


def test_what_is_no_quantity_is_a_value_error_before_any_work(of):
    with pytest.raises(ValueError, match="a quantity is"):
        of().check("seats", 0)
    assert asked() == []


def test_a_request_is_answered_from_one_snapshot_even_when_data_changes_midway(of):
    entitlements = of()
    assert entitlements.has("reports")
    default_gate().source._transport.sandbox.revoke(PRO, "reports")
    default_gate().invalidate(PRO)
    assert entitlements.has("reports")
    assert not of().has("reports")


@pytest.mark.parametrize("verb", ["check", "show"])
def test_a_denial_is_not_made_from_data_that_is_too_old_to_deny(of, settings, verb):
    settings.ENTITLEMENT_GATE = {**SETTINGS, "DENIAL_MAX_AGE": 0}
    entitlements = of(FREE)
    ask = getattr(entitlements, verb)
    assert not ask("sso")
    default_gate().source._transport.sandbox.grant(FREE, "sso")
    assert ask("sso")
    assert entitlements["sso"].allowed


def test_a_young_denial_stands(of):
    entitlements = of(FREE)
    assert not entitlements.has("sso")
    default_gate().source._transport.sandbox.grant(FREE, "sso")
    assert not entitlements.has("sso")
    assert len(asked()) == 1


def test_an_outage_raises_where_it_is_read_as_a_mapping(of, settings, tmp_path):
    settings.ENTITLEMENT_GATE = broken(tmp_path)
    entitlements = of()
    assert entitlements.check("reports").reason == Reason.MALFORMED_RESPONSE
    for read in (len, list, lambda those: those["reports"]):
        with pytest.raises(EntitlementUnavailable):
            read(entitlements)


def test_the_middlewares_entitlements_are_used():
    request = RequestFactory().get("/")
    request.entitlements = RequestEntitlements(request)
    assert entitlements_of(request) is request.entitlements


@pytest.mark.parametrize("other", [None, "something of the project's own"])
def test_without_the_middleware_a_request_gets_entitlements(other):
    request = RequestFactory().get("/", headers={"X-Customer": PRO})
    if other:
        request.entitlements = other
    assert entitlements_of(request).has("reports")
    assert entitlements_of(request) is request.entitlements


def test_gates_of_one_request_share_one_snapshot():
    request = RequestFactory().get("/", headers={"X-Customer": PRO})
    for name in ("reports", "sso", "seats"):
        assert run_sync(Guard(requirement=Requirement(name)).admitting(request, None)) is None
    assert len(asked()) == 1


@pytest.mark.parametrize("on_denied", [None, "/pricing/"])
def test_a_refused_request_is_one_line_in_the_log_without_its_customer(caplog, on_denied):
    request = RequestFactory().get("/", headers={"X-Customer": FREE})
    with caplog.at_level(logging.INFO, logger="entitlement_gate"):
        run_sync(Guard(requirement=Requirement("reports"), on_denied=on_denied).admitting(request, None))
    assert [record.getMessage() for record in caplog.records] == ["refused: reports: not_entitled"]
    assert caplog.records[0].decision.entitlement == "reports"


def test_a_refusal_that_is_raised_is_one_line_in_the_log(caplog, settings):
    settings.ENTITLEMENT_GATE = SETTINGS
    request = RequestFactory().get("/", headers={"X-Customer": FREE})
    with caplog.at_level(logging.INFO, logger="entitlement_gate"):
        with pytest.raises(EntitlementDenied) as caught:
            run_sync(Guard(requirement=Requirement("reports"), on_denied="raise").admitting(request, None))
        assert [record.getMessage() for record in caplog.records] == ["refused: reports: not_entitled"]
        EntitlementMiddleware(lambda _: None).process_exception(request, caught.value)
    assert len(caplog.records) == 1


def forgetful(request, decision):
    """A handler that does something, and forgets to answer."""


async def aforgetful(request, decision):
    """Its twin."""


@pytest.mark.parametrize("handler", [forgetful, aforgetful])
@pytest.mark.parametrize("is_setting", [True, False])
@pytest.mark.parametrize("options", [{}, {"consume": True}], ids=["checks", "consumes"])
def test_who_is_refused_by_a_handler_that_gives_no_response_is_not_let_in(settings, handler, is_setting, options):
    settings.ENTITLEMENT_GATE = {**SETTINGS, **({"DENIED_HANDLER": handler} if is_setting else {})}
    gate = requires_entitlement("reports", on_denied=None if is_setting else handler, **options)
    headers = {"X-Customer": FREE}
    with pytest.raises(TypeError, match=r"needs an HttpResponse, and a?forgetful gave None"):
        gate(lambda request: pytest.fail("let in"))(RequestFactory().get("/", headers=headers))

    async def view(request):
        pytest.fail("let in")

    with pytest.raises(TypeError, match=r"needs an HttpResponse, and a?forgetful gave None"):
        asyncio.run(gate(view)(AsyncRequestFactory().get("/", headers=headers)))


async def test_a_refusal_is_answered_by_the_settings_handler():
    request = AsyncRequestFactory().get("/", headers={"X-Customer": FREE})
    decision = await entitlements_of(request).acheck("reports")
    assert (await run_async(refusal(request, decision))).status_code == 403


@pytest.fixture
def resolved(settings):
    """The threads on which the resolver ran."""
    threads = []

    def resolver(request):
        threads.append(threading.get_ident())
        return request.headers.get("X-Customer")

    settings.ENTITLEMENT_GATE = {**SETTINGS, "CUSTOMER_RESOLVER": resolver}
    has_entitlement(PRO, "reports")
    return threads


def request_of(customer=PRO, factory=RequestFactory):
    return factory().get("/", headers={"X-Customer": customer})


gated = requires_entitlement("reports")(lambda _: HttpResponse("in"))


@requires_entitlement("reports")
async def agated(_):
    return HttpResponse("in")


def test_a_warm_gate_takes_and_keeps_the_one_snapshot_of_the_request(resolved):
    request, hits = request_of(), default_gate().health()["hits"]
    assert gated(request).content == b"in"
    snapshot = request.entitlements.all()
    assert gated(request).content == b"in"
    assert request.entitlements.all().view is snapshot.view
    assert (default_gate().health()["hits"], len(resolved)) == (hits + 1, 1)
    default_gate().source._transport.sandbox.revoke(PRO, "reports")
    default_gate().invalidate(PRO)
    assert gated(request).content == b"in"
    assert gated(request_of()).status_code == 403


def counts():
    health = default_gate().health()
    return health["hits"], health["stale"], health["misses"]


def counted(before):
    """What was counted since: hits, stale, misses."""
    return tuple(now - then for now, then in zip(counts(), before, strict=True))


async def ask_async(request, name):
    return await entitlements_of(request).ahas(name)


ASKING = {
    "gate": lambda request, name: requires_entitlement(name)(lambda _: HttpResponse("in"))(request),
    "has": lambda request, name: entitlements_of(request).has(name),
    "ahas": lambda request, name: asyncio.run(ask_async(request, name)),
    "all": lambda request, name: entitlements_of(request).all().has(name),
    "get": lambda request, name: default_gate().get(request).has(name),
    "check": lambda request, name: default_gate().check(request, name),
    "acheck": lambda request, name: asyncio.run(default_gate().acheck(request, name)),
}


@pytest.mark.parametrize("ask", ASKING)
def test_health_counts_where_the_answer_of_a_request_came_from(ask):
    look_up = 1 if ask in ("all", "get") else 0  # which is a question of its own
    asking = ASKING[ask]
    with FakeBilling() as billing:
        before = counts()
        asking(request_of(), "reports")
        assert counted(before) == (0, 0, 1)
        before = counts()
        asking(request_of(), "reports")
        assert counted(before) == (1, 0, 0)
        billing.advance(6)
        before = counts()
        asking(request_of(), "nothing")  # too old to deny: waits for a fetch
        assert counted(before) == (look_up, 0, 1)
        before = counts()
        asking(request_of(), "nothing")
        assert counted(before) == (1, 0, 0)
        billing.advance(6)
        billing.fail("unavailable")
        before = counts()
        asking(request_of(), "nothing")  # fetching fails
        assert counted(before)[2] == 0
        assert counted(before)[1] >= 1


def test_a_request_counts_the_snapshot_that_answers_it_once():
    request = request_of()
    before = counts()
    for _ in range(2):
        assert gated(request).content == b"in"
        assert not entitlements_of(request).has("nothing")
        assert "seats" in entitlements_of(request)
        assert entitlements_of(request).all().has("seats")
    assert counted(before) == (0, 0, 1)


@pytest.mark.parametrize(("name", "expected"), [("seats", (1, 0, 0)), ("nothing", (1, 0, 0))])
def test_what_uses_something_up_is_counted_too(name, expected):
    has_entitlement(PRO, "reports")
    before = counts()
    view = requires_entitlement(name, consume=True)(lambda _: HttpResponse("in"))
    view(request_of())
    assert counted(before) == expected


def test_a_warm_gate_is_heard_once(resolved):
    heard = []

    def hear(decision, **_):
        heard.append(decision.entitlement)

    entitlement_checked.connect(hear)
    try:
        gated(request_of())
    finally:
        entitlement_checked.disconnect(hear)
    assert heard == ["reports"]


def test_an_override_that_begins_within_a_request_answers_it(resolved):
    request = request_of()
    assert gated(request).content == b"in"
    with override_entitlements({"reports": False}):
        assert gated(request).status_code == 403
    assert gated(request).content == b"in"
    assert len(resolved) == 1
    with override_entitlements({"reports": True}):
        assert gated(request_of(FREE)).content == b"in"


def test_a_gate_that_denies_in_an_outage_denies_what_the_settings_allow(settings):
    settings.ENTITLEMENT_GATE = {**SETTINGS, "ON_UNAVAILABLE": "allow"}
    default_gate().source._transport.sandbox.fail("status", status=503)
    request = request_of()
    assert gated(request).content == b"in"
    strict = requires_entitlement("reports", on_unavailable="deny")(lambda _: HttpResponse("in"))
    assert strict(request).status_code == 503


async def test_an_async_gate_runs_a_sync_resolver_once_and_beside_the_loop(resolved):
    request = request_of(factory=AsyncRequestFactory)
    assert [(await agated(request)).content for _ in range(2)] == [b"in", b"in"]
    assert len(resolved) == 1
    assert resolved[0] != threading.get_ident()


@pytest.mark.parametrize("ask", ["gate", "has", "template"])
def test_a_denial_within_a_request_is_not_older_than_it_may_be_either(settings, ask):
    with FakeBilling() as billing:
        assert gated(request_of(FREE)).status_code == 403
        billing.advance(4)
        billing.sandbox.grant(FREE, "reports")  # an upgrade that nobody tells of
        assert gated(request_of(FREE)).status_code == 403
        billing.advance(1)
        if ask == "gate":
            assert gated(request_of(FREE)).content == b"in"
        elif ask == "has":
            assert entitlements_of(request_of(FREE)).has("reports")
        else:
            page = "{% load entitlements %}{% ifentitled 'reports' %}in{% endifentitled %}"
            assert Template(page).render(Context({"request": request_of(FREE)})) == "in"


@pytest.mark.parametrize("customer", [None, FREE])
def test_a_gate_that_refuses_asks_the_resolver_once(resolved, customer):
    asked_by = len(resolved)
    assert gated(request_of(customer) if customer else RequestFactory().get("/")).status_code == 403
    request = request_of(customer, AsyncRequestFactory) if customer else AsyncRequestFactory().get("/")
    assert asyncio.run(agated(request)).status_code == 403
    assert len(resolved) == asked_by + 2


def test_the_snapshot_of_a_request_is_its_customers(resolved):
    request = request_of()
    entitlements = entitlements_of(request)
    every = entitlements.all()
    assert gated(request).content == b"in"
    request.META["HTTP_X_CUSTOMER"], request.user = FREE, object()
    del request.headers
    assert gated(request).status_code == 403
    assert "sso" not in entitlements
    assert entitlements.check("reports").customer_id == FREE
    assert every.customer_id == PRO
    assert every.has("reports")
    assert every.check("nothing").customer_id == PRO  # renewed as whose it was
    assert entitlements.all().customer_id == FREE
