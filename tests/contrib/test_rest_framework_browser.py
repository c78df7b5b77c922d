"""A refusal in the browsable API, in a real browser; the look of the page is the framework's."""

from types import ModuleType

import pytest
from django.urls import path
from rest_framework.renderers import BrowsableAPIRenderer, JSONRenderer
from rest_framework.views import APIView

from entitlement_gate.contrib.rest_framework import HasEntitlement
from tests.browser import serving
from tests.customers import FREE

pytestmark = pytest.mark.django_db(transaction=True)


class Reports(APIView):
    authentication_classes = ()
    permission_classes = (HasEntitlement.of("reports"),)
    renderer_classes = (JSONRenderer, BrowsableAPIRenderer)

    def get(self, request):
        raise AssertionError("nobody gets here")


urls = ModuleType("urls")
urls.urlpatterns = [path("reports/", Reports.as_view())]


@pytest.fixture
def address(settings):
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "django.contrib.staticfiles", "rest_framework"]
    settings.STATIC_URL, settings.ROOT_URLCONF = "/static/", urls
    settings.ENTITLEMENT_GATE = {"BASE_URL": "sandbox:", "DEADLINE": 30, "CUSTOMER_RESOLVER": lambda request: FREE}
    settings.REST_FRAMEWORK = {"EXCEPTION_HANDLER": "entitlement_gate.contrib.rest_framework.exception_handler"}
    with serving() as address:
        yield address


def test_a_person_reads_why(address, browser):
    async def go(page):
        answer = await page.goto("/reports/")
        assert answer.status == 403
        assert "Not part of your plan" in await page.inner_text(".response-info")

    browser.visit(go, base_url=address)
