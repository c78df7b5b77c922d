"""Gates over the real stores: what a project gets by its settings alone."""

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.template import Context, Template
from django.test import AsyncRequestFactory, RequestFactory

from entitlement_gate import (
    EntitlementDenied,
    EntitlementGate,
    EntitlementUnavailable,
    acheck_entitlement,
    aconsume_entitlement,
    aget_entitlements,
    ahas_entitlement,
    areserve_entitlement,
    check_entitlement,
    consume_entitlement,
    has_entitlement,
    reserve_entitlement,
)
from entitlement_gate.api import default_gate
from entitlement_gate.context_processors import TemplateEntitlements
from entitlement_gate.ledger.redis import RedisLedger
from entitlement_gate.request_entitlements import entitlements_of
from tests.customers import FREE, PRO, SETTINGS
from tests.ledger.conftest import redis_url  # noqa: F401 - a fixture
from tests.ledger.servers import RedisServer
from tests.usage.test_ledger import emptied

NAME = "API Calls"  # of which 950 are left
USAGE = {NAME: {"slug": "api_calls", "field": "count"}}


@pytest.fixture
def over_redis(redis_url, settings):  # noqa: F811 - the fixture
    redis = RedisLedger(redis_url)
    redis._client.flushall()
    redis.close()
    settings.ENTITLEMENT_GATE = {**SETTINGS, "LEDGER": "redis", "REDIS_URL": redis_url, "USAGE": USAGE}


@pytest.fixture
def over_sqlite(sqlite_alias, settings, monkeypatch):
    _over(sqlite_alias, settings, monkeypatch)


@pytest.fixture
def over_postgres(postgres_alias, settings, monkeypatch):
    _over(postgres_alias, settings, monkeypatch)


def _over(alias, settings, monkeypatch):
    emptied(alias).close()
    monkeypatch.setattr("django.db.router.db_for_write", lambda *_, **__: alias)
    settings.ENTITLEMENT_GATE = {**SETTINGS, "LEDGER": "database", "USAGE": USAGE}


@pytest.fixture(params=["redis", "sqlite", "postgres"])
def store(request):
    request.getfixturevalue(f"over_{request.param}")
    yield request.param
    default_gate().close()


def left():
    return check_entitlement(PRO, NAME).remaining


def test_what_is_used_up_counts_at_every_check(store):
    assert left() == 950
    with reserve_entitlement(PRO, NAME, 100) as held:
        assert left() == 850
        held.commit(60)
    assert consume_entitlement(PRO, NAME, "0.5").remaining == left() == Decimal("889.5")
    with pytest.raises(EntitlementDenied) as denied:
        consume_entitlement(PRO, NAME, 890)
    assert denied.value.decision.remaining == Decimal("889.5")
    assert has_entitlement(PRO, "reports")


def test_the_async_door_does_the_same(store):
    async def use():
        async with await areserve_entitlement(PRO, NAME, 100):
            assert not await ahas_entitlement(PRO, NAME, 851)
        await aconsume_entitlement(PRO, NAME, 50)
        return (await aget_entitlements(PRO))[NAME].remaining

    assert asyncio.run(use()) == left() == 800


def test_who_has_just_bought_something_counted_is_let_in_by_the_async_door_too(store, settings):
    settings.ENTITLEMENT_GATE = {**settings.ENTITLEMENT_GATE, "DENIAL_MAX_AGE": 0}

    async def visit():
        request = AsyncRequestFactory().get("/", headers={"X-Customer": FREE})
        assert not await ahas_entitlement(FREE, NAME)
        assert not await entitlements_of(request).ahas(NAME)
        await asyncio.to_thread(default_gate().source._transport.sandbox.grant, FREE, NAME, 5)
        assert (await acheck_entitlement(FREE, NAME)).remaining == 5
        assert (await entitlements_of(request).acheck(NAME, 5)).allowed
        every = await entitlements_of(request).aall()
        return every[NAME].remaining, entitlements_of(request)[NAME].remaining

    assert asyncio.run(visit()) == (5, 5)


def test_threads_that_race_are_let_in_as_often_as_was_granted(store):
    def use(number):
        try:
            return bool(consume_entitlement(PRO, NAME, 50, key=f"work {number}"))
        except EntitlementDenied:
            return False

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(use, range(30))) == 19
    assert left() == 0


def test_a_commit_leaves_one_event(store):
    for _ in range(2):
        consume_entitlement(PRO, NAME, 3, key="order 7")
    (event,) = default_gate().ledger.take(10)
    assert (event.key, event.customer_id, event.quantity) == ("order 7", PRO, 3_000_000)
    assert (event.target.slug, event.target.field) == ("api_calls", "count")


@pytest.mark.parametrize("ends", [("fails", "succeeds"), ("succeeds", "fails"), ("fails", "fails")], ids="-".join)
@pytest.mark.parametrize("is_owner_first", [True, False])
def test_of_two_with_one_key_who_succeeds_is_counted(store, ends, *, is_owner_first):
    both = [reserve_entitlement(PRO, NAME, 100, key="export 7") for _ in range(2)]
    for held, end in zip(both if is_owner_first else both[::-1], ends, strict=True):
        if end == "succeeds":
            held.commit()
        else:
            with suppress(KeyError), held:
                raise KeyError
    assert left() == (850 if "succeeds" in ends else 950)
    assert default_gate().ledger.pending() == ("succeeds" in ends)


def test_two_gates_share_one_count(store):
    other = EntitlementGate(default_gate().source, ledger=default_gate().ledger)
    consume_entitlement(PRO, NAME, 900)
    assert other.check(PRO, NAME).remaining == 50
    other.consume(PRO, NAME, 50)
    assert not has_entitlement(PRO, NAME)


def test_a_redis_that_is_gone_makes_counted_answers_unknown_and_no_others(settings, tmp_path):
    server = RedisServer(tmp_path)
    settings.ENTITLEMENT_GATE = {**SETTINGS, "LEDGER": "redis", "REDIS_URL": server.patient_url}
    assert consume_entitlement(PRO, NAME, 50)
    server.kill()
    assert has_entitlement(PRO, "reports")
    assert check_entitlement(PRO, NAME).outcome == "unknown"
    with pytest.raises(EntitlementUnavailable):
        reserve_entitlement(PRO, NAME)
    default_gate().close()


def test_a_ledger_that_is_not_installed_says_what_to_do(settings, monkeypatch):
    settings.ENTITLEMENT_GATE = {**SETTINGS, "LEDGER": "redis", "REDIS_URL": "redis://127.0.0.1:1/0"}
    monkeypatch.setitem(sys.modules, "entitlement_gate.ledger.redis", None)
    with pytest.raises(ImproperlyConfigured, match=r"LEDGER.*install entitlement_gate\[redis\]"):
        default_gate()


def test_a_database_ledger_needs_its_app_whichever_models_were_imported(settings):
    settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "entitlement_gate.usage"]
    settings.ENTITLEMENT_GATE = {**SETTINGS, "LEDGER": "database"}
    with pytest.raises(ImproperlyConfigured, match=r'LEDGER.*add "entitlement_gate.usage" to INSTALLED_APPS'):
        default_gate()


class TestWhatARequestReads:
    """The numbers of a shared ledger, which cost a round trip."""

    @pytest.fixture
    def asked(self, store, monkeypatch):
        """The questions to the ledger, each noted by its thread."""
        assert has_entitlement(PRO, "reports")  # what is fetched is told to the ledger, which looks too
        asked, ledger = [], default_gate().ledger
        charges = ledger.charges

        def noted(customer_id):
            asked.append(threading.current_thread())
            return charges(customer_id)

        monkeypatch.setattr(ledger, "charges", noted)
        return asked

    @pytest.fixture
    def request_(self):
        return RequestFactory().get("/", headers={"X-Customer": PRO})

    def test_a_mapping_is_read_by_one_question(self, asked, request_):
        entitlements = entitlements_of(request_)
        read = {name: entitlements[name].remaining for name in entitlements}
        assert (len(read), read[NAME], len(asked)) == (12, 950, 1)
        assert NAME in entitlements.all()
        assert dict(entitlements.all()).keys() == read.keys()
        assert len(asked) == 1

    def test_a_page_is_rendered_by_one_question(self, asked, request_):
        page = (
            "{% load entitlements %}{% for name in entitlements %}{{ name }}{% endfor %}"
            "{% for _ in 'abc' %}{% ifentitled 'API Calls' %}"
            "{{ entitlements.seats.remaining }}{% endifentitled %}{% endfor %}"
            "{% entitlement 'API Calls' as calls %}{{ calls.remaining }}"
        )
        context = {"request": request_, "entitlements": TemplateEntitlements(request_)}
        assert Template(page).render(Context(context)).endswith("222950")
        assert len(asked) == 1

    def test_a_page_that_denies_is_rendered_by_one_question(self, asked, request_):
        page = (
            "{% load entitlements %}{% for more in 'abc' %}"
            "{% ifentitled 'API Calls' 951 %}in{% else %}out{% endifentitled %}"
            "{% entitlement 'API Calls' 2000 as calls %}{{ calls.remaining }}"
            "{% endfor %}"
        )
        context = {"request": request_, "entitlements": TemplateEntitlements(request_)}
        assert Template(page).render(Context(context)) == "out950" * 3
        assert len(asked) == 1

    def test_what_the_request_uses_up_is_read_anew(self, asked, request_):
        entitlements = entitlements_of(request_)
        assert entitlements[NAME].remaining == 950
        consume_entitlement(request_, NAME, 50)
        assert [entitlements[NAME].remaining for _ in range(3)] == [900] * 3
        with reserve_entitlement(PRO, NAME, 100) as held:
            assert entitlements[NAME].remaining == 800
            held.commit(60)
        assert [entitlements[NAME].remaining for _ in range(3)] == [840] * 3
        assert len(asked) == 4

    def test_a_check_asks_each_time(self, asked, request_):
        entitlements = entitlements_of(request_)
        assert entitlements[NAME].remaining == 950
        other = EntitlementGate(default_gate().source, ledger=default_gate().ledger)
        other.consume(PRO, NAME, 900)  # elsewhere
        assert [entitlements.check(NAME).remaining, entitlements.has(NAME, 51)] == [50, False]
        assert entitlements[NAME].remaining == 950
        assert not entitlements.show(NAME, 951)

    def test_a_denial_on_a_page_is_as_exact_as_any(self, asked, request_):
        entitlements = entitlements_of(request_)
        consume_entitlement(PRO, NAME, 950)
        assert not entitlements.show(NAME)
        assert entitlements.show(NAME).reason == "insufficient_quantity"

    def test_in_a_loop_reading_what_was_awaited_costs_nothing(self, asked):
        async def visit():
            request = AsyncRequestFactory().get("/", headers={"X-Customer": PRO})
            entitlements = entitlements_of(request)
            await entitlements.aall()
            await aconsume_entitlement(request, NAME, 50)
            asked_before = len(asked)
            read = [entitlements[NAME].remaining for _ in range(3)]
            assert len(asked) == asked_before
            return read, (await entitlements.aall())[NAME].remaining, entitlements[NAME].remaining

        assert asyncio.run(visit()) == ([950] * 3, 900, 900)
        assert threading.current_thread() not in asked
