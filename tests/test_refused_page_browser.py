"""The package's own refused page in a real browser: each reason, in languages of either direction."""

from decimal import Decimal
from types import ModuleType

import pytest
from django.urls import path
from django.utils.translation import override

from entitlement_gate import Decision, Reason
from entitlement_gate.responses import denied
from tests.browser import PHONE, assert_usable, is_too_wide, serving, violations

pytestmark = pytest.mark.django_db(transaction=True)

REASONS = [reason for reason in Reason if reason.outcome != "allowed"]
SETTINGS = {"BASE_URL": "sandbox:", "UPGRADE_URL": "plans"}
LONG = "a-name-of-billing-that-nobody-thought-would-be-shown-to-a-person-on-a-telephone"


def refused(request, language, reason):
    numbers = {"requested": Decimal(1), "remaining": Decimal("0.123456789")} if "insufficient" in reason else {}
    with override(language):
        return denied(request, Decision.of(Reason(reason), LONG, **numbers))


urls = ModuleType("urls")
urls.urlpatterns = [path("<language>/<reason>/", refused), path("plans/", lambda request: None, name="plans")]


@pytest.fixture
def visit(browser, settings):
    settings.ROOT_URLCONF, settings.STATIC_URL = urls, "/static/"
    settings.ENTITLEMENT_GATE = SETTINGS
    with serving() as address:
        yield lambda go, **options: browser.visit(go, base_url=address, **options)


@pytest.mark.parametrize("language", ["en", "de", "ar"])
@pytest.mark.parametrize("reason", ["not_entitled", "insufficient_quantity", "unavailable"])
def test_anybody_can_use_the_page(visit, reason, language):
    async def go(page):
        await page.goto(f"/{language}/{reason}/")
        await assert_usable(page)

    visit(go)


def test_the_words_of_each_reason_fit_a_phone(visit):
    async def go(page):
        for reason in REASONS:
            await page.goto(f"/de/{reason}/")  # the longer words
            assert not await is_too_wide(page), reason
            assert await violations(page.locator("html")) == [], reason

    visit(go, viewport={"width": PHONE, "height": 800}, color_scheme="dark")
