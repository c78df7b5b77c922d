"""Dates that mean "never" or "always" can be shown wherever a project shows dates."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.template import engines
from django.test import Client, RequestFactory, override_settings
from django.utils import timezone

from entitlement_gate import Decision, Reason, check_entitlement, get_entitlements
from entitlement_gate.domain.grants import Grant, Snapshot
from entitlement_gate.responses import denied
from entitlement_gate.shared.records import Seal, SharedRecord, Stamp, read, write
from entitlement_gate.testing import FakeBilling, override_entitlements
from entitlement_gate.zenskar.parsing import read_instant
from tests.customers import PRO, SETTINGS
from tests.operators.world import run

LAST, FIRST = "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"
TEMPLATES = [
    {"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True},
    {
        "BACKEND": "django.template.backends.jinja2.Jinja2",
        "NAME": "jinja2",
        "OPTIONS": {"extensions": ["entitlement_gate.contrib.jinja2.EntitlementsExtension"]},
    },
]
ZONES = pytest.mark.parametrize("zone", ["Asia/Tokyo", "Pacific/Kiritimati", "America/New_York", "UTC"])


@pytest.fixture(autouse=True)
def _project(settings):
    settings.ENTITLEMENT_GATE = SETTINGS
    settings.TEMPLATES = TEMPLATES[:1]


@pytest.fixture
def endless():
    with FakeBilling() as billing:
        billing.grant(PRO, "sso", active_from=FIRST, expiry_at=LAST)
        yield billing


def _render(text, **context):
    return engines["django"].from_string("{% load tz l10n entitlements %}" + text).render(context)


SHOWING = [
    "{{ e.expires_at }}{{ e.active_from }}",
    "{{ e.decision.expires_at }}{{ e.grants.0.expires_at }}{{ e.grants.0.active_from }}",
    "{{ e.expires_at|date:'c' }} {{ e.active_from|date:'DATETIME_FORMAT' }} {{ e.expires_at|date:'U e T r' }}",
    "{{ e.expires_at|time }} {{ e.expires_at|localtime }} {{ e.active_from|localtime }} {{ e.expires_at|utc }}",
    "{{ e.expires_at|timezone:'Pacific/Kiritimati' }}{{ e.active_from|timezone:'Pacific/Honolulu' }}",
    "{{ e.expires_at|timeuntil }} {{ e.active_from|timesince }} {{ e.expires_at|localize }}",
    "{% localtime on %}{{ e.expires_at }}{% endlocaltime %}{% localtime off %}{{ e.expires_at }}{% endlocaltime %}",
]


@ZONES
@pytest.mark.parametrize("text", SHOWING)
def test_a_template_shows_them_in_any_zone(endless, zone, text):
    with timezone.override(zone):
        assert _render(text, e=get_entitlements(PRO)["sso"])


@ZONES
def test_a_view_can_make_them_local_or_naive(endless, zone):
    decision = check_entitlement(PRO, "sso")
    with timezone.override(zone):
        for instant in (decision.expires_at, decision.active_from):
            assert timezone.localtime(instant) == instant
            assert timezone.make_naive(instant)


@ZONES
def test_a_refusal_that_shows_the_end_can_be_rendered(zone, settings):
    loader = ("django.template.loaders.locmem.Loader", {"entitlement_gate/denied.html": "{{ decision.expires_at }}"})
    settings.TEMPLATES = [{"BACKEND": TEMPLATES[0]["BACKEND"], "OPTIONS": {"loaders": [loader]}}]
    ends = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    with override_entitlements({"sso": Decision.of(Reason.DRAFT, "sso", expires_at=ends)}), timezone.override(zone):
        decision = check_entitlement(PRO, "sso")
        assert b"9999" in denied(RequestFactory().get("/"), decision).content


@ZONES
@override_settings(ROOT_URLCONF="tests.included_urls")
def test_programs_and_commands_are_told_the_dates_as_they_are(endless, zone):
    with timezone.override(zone), override_settings(TIME_ZONE=zone):
        told = Client(headers={"X-Customer": PRO}).get("/entitlements/me/").json()["entitlements"][0]
        assert (told["active_from"], told["expires_at"]) == ("0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59+00:00")
        code, out, _ = run("show", PRO, "--format", "json")
        assert (code, "9999-12-31T23:59:59+00:00" in out) == (0, True)
        for action in (("show", PRO, "--rows"), ("explain", PRO, "sso"), ("check", PRO, "sso")):
            assert run(*action)[0] == 0


@pytest.mark.parametrize(("text", "zone"), [(LAST, "Asia/Tokyo"), (FIRST, "America/New_York")])
def test_what_was_shared_is_as_safe(text, zone):
    seal = Seal("key", "scope")
    grant = Grant(id="r", name="sso", active_from=read_instant(text), expires_at=read_instant(text))
    record = SharedRecord(Snapshot(PRO, (grant,), 1.0), 1.0, Stamp("g", 1))
    shared = read(write(record, seal), seal, PRO).snapshot.grants[0]
    assert shared == grant
    with timezone.override(zone):
        assert timezone.localtime(shared.expires_at) == grant.expires_at
