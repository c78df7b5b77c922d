"""No line of a log holds whom it is about: each way to fail is driven, and everything that a handler sees is searched.

Everything: the text, its arguments, what is given as ``extra``, and the traceback with the errors it is chained to.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import logging
import time
import traceback
from contextlib import suppress

import httpx
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.http import HttpResponse
from django.template import Context, Template
from django.test import AsyncRequestFactory, RequestFactory

import entitlement_gate
import entitlement_gate.views as views_module
from entitlement_gate import (
    EntitlementGate,
    EntitlementGateError,
    ReservationConflict,
    SourceMalformed,
    SourceRejected,
    SourceUnavailable,
    ZenskarClient,
    acheck_entitlement,
    check_entitlement,
    requires_entitlement,
)
from entitlement_gate.domain.errors import text_to_log
from entitlement_gate.ledger.memory import MemoryLedger
from entitlement_gate.ledger.protocol import LedgerOverflow, LedgerUnavailable
from entitlement_gate.ledger.redis import RedisLedger
from entitlement_gate.project_gate import RequestGate
from entitlement_gate.resilience.failure_log import traceback_to_log
from entitlement_gate.signals import entitlement_checked, entitlement_denied, entitlements_refreshed, source_failed
from entitlement_gate.testing import FakeSource
from entitlement_gate.testing.ledger_contract import demand
from entitlement_gate.testing.overrides import use_billing
from entitlement_gate.webhooks import StandardWebhooks
from tests.customers import SETTINGS
from tests.ledger.servers import RedisServer
from tests.usage.conftest import postgres, postgres_alias, sqlite_alias, usage_app
from tests.usage.test_ledger import emptied

__all__ = ["postgres", "postgres_alias", "sqlite_alias", "usage_app"]

CUSTOMER = "ca9a4700-0000-4000-8000-00000000ca9a"
KEY = "canary'order/4711"
API_KEY = "sk_live_canary_key"
ORGANISATION = "0ca9a470-0000-4000-8000-000000000001"
SECRET = base64.b64encode(b"the canary's secret of a webhook").decode()
SECRETS = (CUSTOMER, CUSTOMER.replace("-", ""), KEY, repr(KEY)[1:-1], "order/4711", API_KEY, ORGANISATION, SECRET)


class Everything(logging.Handler):
    """Writes down what any formatter could."""

    def __init__(self):
        super().__init__(logging.DEBUG)
        self.lines = []
        self.others = []

    def emit(self, record):
        told = [logging.Formatter().format(record), *map(repr, vars(record).values()), *map(str, vars(record).values())]
        if record.exc_info:
            error = record.exc_info[1]
            while error is not None:
                told += [*traceback.format_exception(error), repr(vars(error)), repr(error.args)]
                error = error.__cause__ or error.__context__
        decision = getattr(record, "decision", None)
        if decision is not None:
            told.append(json.dumps(decision.as_dict()))
        # What receivers are told on a thread may be told when the test that listened is over.
        is_ours = record.name.startswith("entitlement_gate") and "a receiver" not in record.msg
        (self.lines if is_ours else self.others).append("\n".join(told))


@pytest.fixture
def everything():
    """Fails where a secret is in the log."""
    handler, root = Everything(), logging.getLogger()
    quiet = [logging.getLogger(name) for name in ("httpx", "httpcore", "asyncio")]  # which have loggers of their own
    levels = [root.level, *(logger.level for logger in quiet)]
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    for logger in quiet:
        logger.setLevel(logging.WARNING)
    yield handler
    root.removeHandler(handler)
    for logger, level in zip([root, *quiet], levels, strict=True):
        logger.setLevel(level)
    for line in handler.lines + handler.others:
        assert not [secret for secret in SECRETS if secret.lower() in line.lower()], line


@pytest.fixture
def log(everything):
    """The lines of our logger; the test says how many it wants."""
    return everything.lines


@pytest.fixture
def _project(settings):
    settings.ENTITLEMENT_GATE = SETTINGS


def _shown(error):
    """What any reporter could show of an error and what is chained to it."""
    return "".join(traceback.format_exception(error)) + repr(error) + repr(error.args)


# Sources


@pytest.mark.parametrize(
    "error",
    [
        SourceUnavailable(f"no answer for {CUSTOMER}"),
        SourceMalformed(f"nothing of {CUSTOMER.upper()}"),
        SourceRejected(401, f"no such customer {CUSTOMER.replace('-', '')}"),
        SourceRejected(422, f"customer_id: {CUSTOMER}"),
        KeyError(CUSTOMER),
        ExceptionGroup(CUSTOMER, [KeyError(CUSTOMER)]),
        UnicodeDecodeError("utf-8", CUSTOMER.encode(), 0, 1, API_KEY),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_source_that_fails_names_nobody(log, error):
    source = FakeSource()
    with EntitlementGate(source) as gate:
        source.fail(error)
        assert gate.check(CUSTOMER, "sso").reason in {"unavailable", "rejected", "malformed_response"}
    assert len(log) == 1


class Chained:
    def fetch(self, customer_id):
        try:
            {}[customer_id]
        except KeyError as error:
            raise ValueError(f"no row of {customer_id}") from error


def test_a_source_whose_errors_are_chained_names_nobody_and_says_where(log):
    with EntitlementGate(Chained()) as gate:
        assert gate.check(CUSTOMER, "sso").reason == "unavailable"
    assert len(log) == 1
    assert "the source of entitlements is broken: ValueError" in log[0]
    assert "test_canary.py" in log[0]


def test_billing_that_quotes_what_was_sent_names_nobody(log):
    def quoting(request):
        detail = f"{request.url.path} {request.headers['x-api-key']} {request.headers['organisation']}"
        return httpx.Response(422, json={"detail": detail})

    client = ZenskarClient(API_KEY, ORGANISATION, transport=httpx.MockTransport(quoting))
    with EntitlementGate(client) as gate:
        assert gate.check(CUSTOMER, "sso").reason == "rejected"
        with pytest.raises(SourceRejected) as caught:
            client.fetch(CUSTOMER)

    assert len(log) == 1
    assert not [secret for secret in SECRETS if secret in _shown(caught.value)]
    assert caught.value.detail.endswith("/entitlements/customer/*** *** ***")


# Ledgers


class Quoting(MemoryLedger):
    """Fails at a verb, and says of whom."""

    is_local = False

    def __init__(self, verb, error):
        super().__init__()
        self.verb, self.error = verb, error

    def _failing(self, verb, customer_id, key=""):
        if self.verb == verb:
            self.verb = ""
            raise self.error(f"Key (customer_id, key)=({customer_id}, {key}), {key!r}, {json.dumps(key)} exists")

    def reserve(self, customer_id, demands, *, key, **others):
        self._failing("reserve", customer_id, key)
        return super().reserve(customer_id, demands, key=key, **others)

    def consume(self, customer_id, demands, *, key):
        self._failing("consume", customer_id, key)
        return super().consume(customer_id, demands, key=key)

    def commit(self, customer_id, key, *, actual=None, late=True):
        self._failing("commit", customer_id, key)
        return super().commit(customer_id, key, actual=actual, late=late)

    def release(self, customer_id, key, **others):
        self._failing("release", customer_id, key)
        return super().release(customer_id, key, **others)

    def charges(self, customer_id):
        self._failing("charges", customer_id)
        return super().charges(customer_id)

    def adopt_upstream(self, customer_id, rows, ticket):
        self._failing("adopt", customer_id)
        return super().adopt_upstream(customer_id, rows, ticket)


def _try(gate, verb):
    if verb in ("charges", "adopt"):
        gate.check(CUSTOMER, "calls")
    elif verb == "consume":
        gate.consume(CUSTOMER, "calls", key=KEY)
    elif verb in ("commit", "reserve"):
        with gate.reserve(CUSTOMER, "calls", key=KEY):
            pass
    else:
        with gate.reserve(CUSTOMER, "calls", key=KEY):
            raise EOFError


@pytest.mark.parametrize("error", [LedgerUnavailable, LedgerOverflow])
@pytest.mark.parametrize("verb", ["reserve", "consume", "charges", "adopt", "release"])
def test_a_ledger_that_fails_names_neither_customer_nor_key(log, verb, error):
    source = FakeSource()
    source.grant(CUSTOMER, "calls", 10)
    with EntitlementGate(source, ledger=Quoting(verb, error)) as gate, suppress(EOFError, EntitlementGateError):
        _try(gate, verb)
    assert log


@requires_entitlement("calls", 1, consume=True, key=lambda request: KEY, customer=lambda request: CUSTOMER)
def counted(request):
    return HttpResponse(status=int(request.GET.get("status", 200)))


@requires_entitlement("calls", 1, consume=True, key=lambda request: KEY, customer=lambda request: CUSTOMER)
async def counted_async(request):
    return HttpResponse(status=int(request.GET.get("status", 200)))


@pytest.mark.usefixtures("_project")
@pytest.mark.parametrize("error", [LedgerUnavailable, ReservationConflict])
@pytest.mark.parametrize(("verb", "status"), [("commit", 200), ("release", 500)])
async def test_use_that_was_not_counted_names_neither(log, verb, status, error):
    source = FakeSource()
    source.grant(CUSTOMER, "calls", 10)
    for view, make in ((counted, RequestFactory), (counted_async, AsyncRequestFactory)):
        with use_billing(lambda settings: RequestGate(source, ledger=Quoting(verb, error))):
            response = view(make().get("/", {"status": status}))
            response = response if isinstance(response, HttpResponse) else await response
            assert response.status_code == status
    assert len([line for line in log if "usage was not" in line or "release" in line]) == 2


@pytest.fixture(scope="module")
def strict_redis(tmp_path_factory):
    """A server that refuses scripts, and quotes their arguments as it does."""
    where = tmp_path_factory.mktemp("redis")
    server = RedisServer(where, "--rename-command", "EVALSHA", "", "--rename-command", "EVAL", "")
    yield server.patient_url
    server.kill()


def test_redis_that_quotes_what_it_refuses_names_neither(log, strict_redis):
    source = FakeSource()
    source.grant(CUSTOMER, "calls", 10)
    ledger = RedisLedger(strict_redis, prefix="canary")
    with pytest.raises(LedgerUnavailable) as caught:
        ledger.consume(CUSTOMER, [demand(1)], key=KEY)
    with EntitlementGate(source, ledger=ledger) as gate:
        assert gate.check(CUSTOMER, "calls").reason == "unavailable"

    assert not [secret for secret in SECRETS if secret in _shown(caught.value)]
    assert str(caught.value).startswith("Redis: ResponseError")
    assert len(log) == 1


TRIGGERS = {
    "sqlite_alias": """
        CREATE TRIGGER canary BEFORE INSERT ON entitlement_usage_hold
        BEGIN SELECT CASE WHEN 1 THEN RAISE(ABORT, 'nothing of order/4711') END; END
    """,
    "postgres_alias": """
        CREATE OR REPLACE FUNCTION canary() RETURNS trigger AS $$ BEGIN
            RAISE EXCEPTION 'no % of %', NEW."key", NEW.customer_id
            USING ERRCODE = 'unique_violation', DETAIL = format('Key (key)=(%s) of %s', NEW."key", NEW.customer_id);
        END $$ LANGUAGE plpgsql;
        CREATE TRIGGER canary BEFORE INSERT ON entitlement_usage_hold FOR EACH ROW EXECUTE FUNCTION canary()
    """,
}


@pytest.mark.parametrize("database", TRIGGERS)
def test_a_database_that_quotes_a_row_names_neither(log, request, database):
    alias = request.getfixturevalue(database)
    ledger = emptied(alias)
    with connections[alias].cursor() as cursor:
        cursor.execute(TRIGGERS[database])
    try:
        with pytest.raises(LedgerUnavailable) as caught:
            ledger.consume(CUSTOMER, [demand(1)], key=KEY)
    finally:
        with connections[alias].cursor() as cursor:
            cursor.execute("DROP TRIGGER canary" + (" ON entitlement_usage_hold" if "postgres" in database else ""))
        connections[alias].close()
        ledger.close()
    assert not [secret for secret in SECRETS if secret in _shown(caught.value)]
    assert "IntegrityError" in str(caught.value)


def test_a_table_that_is_not_there_is_named(log, postgres_alias):
    ledger = emptied(postgres_alias)
    with connections[postgres_alias].cursor() as cursor:
        cursor.execute("ALTER TABLE entitlement_usage_hold RENAME TO elsewhere")
    try:
        with pytest.raises(LedgerUnavailable, match='relation "entitlement_usage_hold" does not exist') as caught:
            ledger.consume(CUSTOMER, [demand(1)], key=KEY)
    finally:
        with connections[postgres_alias].cursor() as cursor:
            cursor.execute("ALTER TABLE elsewhere RENAME TO entitlement_usage_hold")
        connections[postgres_alias].close()
        ledger.close()
    assert not [secret for secret in SECRETS if secret in _shown(caught.value)]


# Receivers


def broken_receiver(sender, **told):
    raise KeyError(str(told))


async def broken_async_receiver(sender, **told):
    raise KeyError(str(told))


class Partial:
    """No function, and without a name of its own."""

    def __call__(self, sender, **told):
        raise KeyError(str(told))


@pytest.mark.usefixtures("_project")
@pytest.mark.parametrize(
    "receiver",
    [broken_receiver, broken_async_receiver, functools.partial(broken_receiver), Partial()],
    ids=["function", "coroutine function", "partial", "object"],
)
@pytest.mark.parametrize(
    "signal", [entitlement_checked, entitlement_denied, entitlements_refreshed, source_failed], ids=range(4)
)
async def test_a_receiver_that_fails_names_nobody_and_breaks_no_check(everything, signal, receiver):
    source = FakeSource()
    source.grant(CUSTOMER, "calls", 10)
    if signal is source_failed:
        source.fail("unavailable")
    signal.connect(receiver, weak=False)
    try:
        with use_billing(lambda settings: RequestGate(source)):
            await acheck_entitlement(CUSTOMER, "nothing")
            entitlement_gate.invalidate_entitlements(CUSTOMER)
            await acheck_entitlement(CUSTOMER, "nothing")
            until = time.monotonic() + 30  # what a fetch tells is told on its thread
            while not _is_told(everything) and time.monotonic() < until:  # noqa: ASYNC110 - a thread
                await asyncio.sleep(0.01)
    finally:
        signal.disconnect(receiver)
    assert _is_told(everything)


def _is_told(everything):
    return any("a receiver of a signal failed" in line for line in everything.others)


# Requests


@requires_entitlement("sso", customer=lambda request: CUSTOMER)
def gated(request):
    return HttpResponse("in")


def test_a_refusal_names_nobody_in_text_or_extra(log, settings):
    settings.ENTITLEMENT_GATE = {**SETTINGS, "SHADOW": {"reports"}}
    assert gated(RequestFactory().get("/")).status_code == 403
    assert check_entitlement(CUSTOMER, "reports").shadow
    assert len(log) == 2


@pytest.mark.parametrize("url", [f"javascript:alert('{CUSTOMER}')", f"no-such-{CUSTOMER}"])
def test_an_upgrade_url_of_somebodys_own_names_nobody(log, settings, url):
    settings.ENTITLEMENT_GATE = {**SETTINGS, "UPGRADE_URL": lambda request, decision: url}
    assert gated(RequestFactory().get("/")).status_code == 403
    assert len([line for line in log if "UPGRADE_URL" in line]) == 1


@pytest.mark.parametrize(
    "error", [ValueError(SECRET), ImproperlyConfigured(SECRET), KeyError(API_KEY), EntitlementGateError(CUSTOMER)]
)
def test_a_verifier_that_fails_tells_no_secret(log, settings, error):
    def verify(request):
        raise error

    settings.ENTITLEMENT_GATE = {**SETTINGS, "WEBHOOK_VERIFIER": verify}
    body = json.dumps({"customer": CUSTOMER})
    assert views_module.webhook(RequestFactory().post("/", body, content_type="application/json")).status_code == 403
    assert any("WEBHOOK_VERIFIER" in line for line in log)


def test_a_secret_that_is_none_is_not_told():
    with pytest.raises(ValueError, match="base64") as caught:
        StandardWebhooks(f"{SECRET}!")
    assert SECRET not in _shown(caught.value)


def test_a_template_without_a_request_names_nobody(log, settings):
    settings.ENTITLEMENT_GATE = SETTINGS
    context = Context({"customer": CUSTOMER})
    assert Template("{% load entitlements %}{% ifentitled 'sso' %}in{% endifentitled %}").render(context) == ""
    assert len([line for line in log if "without a request" in line]) == 1


# What the lines are made of


class Unsayable(EntitlementGateError):
    def __str__(self):
        raise ValueError(CUSTOMER)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (SourceUnavailable("HTTP 503"), "HTTP 503"),
        (SourceUnavailable(f"x {CUSTOMER} y"), "x *** y"),
        (ReservationConflict(f"{KEY} {KEY!r} {json.dumps(KEY)}"), "*** '***' \"***\""),
        (KeyError(CUSTOMER), "KeyError"),
        (Unsayable("x"), "Unsayable"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_text_to_log_is_ours_or_a_class(error, text):
    assert text_to_log(error, KEY, None).replace('"***"', "'***'") == text.replace('"***"', "'***'")


def test_a_traceback_to_log_has_the_class_and_the_place_alone():
    try:
        Chained().fetch(CUSTOMER)
    except ValueError as error:
        kind, value, place = traceback_to_log(error)
    assert kind is ValueError
    shown = "".join(traceback.format_exception(kind, value, place))
    assert shown.splitlines()[-1] == "ValueError"
    assert "in fetch" in shown
    assert CUSTOMER not in shown
