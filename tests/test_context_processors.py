from __future__ import annotations

import logging
from unittest.mock import MagicMock

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.core.exceptions import SynchronousOnlyOperation
from django.shortcuts import render
from django.template import Context, Engine, RequestContext, TemplateSyntaxError
from django.template.backends.jinja2 import Jinja2
from django.test import override_settings
from django.utils.functional import SimpleLazyObject
from jinja2 import Undefined
from rest_framework.renderers import TemplateHTMLRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from entitlement_gate.api import default_gate
from entitlement_gate.context_processors import entitlements
from entitlement_gate.request_entitlements import RequestEntitlements
from tests.customers import FREE, PRO, SETTINGS

ENGINE = Engine(libraries={"entitlements": "entitlement_gate.templatetags.entitlements"})


@pytest.fixture(autouse=True)
def _project():
    with override_settings(ENTITLEMENT_GATE=SETTINGS):
        yield


@pytest.fixture(name="shown")
def _shown(rf):
    def shown(source, customer=PRO, **context):
        request = rf.get("/", headers={"X-Customer": customer})
        template = ENGINE.from_string("{% load entitlements %}" + source)
        return template.render(RequestContext(request, {**context, **entitlements(request)}))

    return shown


@pytest.mark.parametrize(
    ("source", "customer", "expected"),
    [
        ('{% ifentitled "reports" %}yes{% else %}no{% endifentitled %}', PRO, "yes"),
        ('{% ifentitled "reports" %}yes{% else %}no{% endifentitled %}', FREE, "no"),
        ('{% ifentitled "reports" %}yes{% endifentitled %}', FREE, ""),
        ('{% ifentitled "API Calls" 950 %}yes{% endifentitled %}', PRO, "yes"),
        ('{% ifentitled "API Calls" 951 %}yes{% else %}no{% endifentitled %}', PRO, "no"),
        ("{% ifentitled name many %}yes{% else %}no{% endifentitled %}", PRO, "yes"),
        ('{% entitlement "API Calls" as calls %}{{ calls.remaining }} of {{ calls.limit }}', PRO, "950 of 1200"),
        ('{% entitlement "reports" as r %}{% if r %}yes{% else %}{{ r.reason }}{% endif %}', FREE, "not_entitled"),
        ("{{ entitlements.ai_credits.remaining }}", PRO, "54.8"),
        ("{{ entitlements.nothing.reason }}", PRO, "not_entitled"),
        ("{% for name in entitlements %}{% if forloop.first %}{{ name }}{% endif %}{% endfor %}", PRO, "API Calls"),
    ],
)
def test_a_template_shows_what_the_customer_may(shown, source, customer, expected):
    assert shown(source, customer, name="API Calls", many=2) == expected


def test_an_outage_never_breaks_a_page(shown):
    default_gate().source._transport.sandbox.fail("status", status=503)
    source = '{% ifentitled "reports" %}yes{% else %}no{% endifentitled %}{{ entitlements.seats.reason }}'
    assert shown(source + "{% for name in entitlements %}x{% endfor %}") == "nounavailable"


def test_a_missing_request_is_not_entitled_and_one_line_in_the_log(caplog):
    template = ENGINE.from_string('{% load entitlements %}{% ifentitled "reports" %}yes{% else %}no{% endifentitled %}')
    with caplog.at_level(logging.WARNING, "entitlement_gate"):
        assert template.render(Context()) == "no"
    assert [record.message for record in caplog.records] == [
        "a template asked for 'reports' without a request in its context: not entitled"
    ]


def test_without_a_request_there_is_no_name_to_go_through():
    template = ENGINE.from_string("{% for name in entitlements %}x{% endfor %}nothing")
    assert template.render(RequestContext(None, entitlements(None))) == "nothing"


async def async_resolver(request):
    return await sync_to_async(request.headers.get)("X-Customer")


async def test_a_template_in_an_event_loop_asks_an_async_resolver(rf):
    template = ENGINE.from_string('{% load entitlements %}{% ifentitled "reports" %}yes{% endifentitled %}')
    with override_settings(ENTITLEMENT_GATE={**SETTINGS, "CUSTOMER_RESOLVER": async_resolver}):
        assert template.render(Context({"request": rf.get("/", headers={"X-Customer": PRO})})) == "yes"


@pytest.mark.django_db(transaction=True)
async def test_a_template_that_would_ask_the_database_in_an_event_loop_is_told_to_have_the_view_ask_first(rf):
    template = ENGINE.from_string('{% load entitlements %}{% ifentitled "reports" %}yes{% endifentitled %}')
    await User.objects.acreate(username=PRO)
    request = rf.get("/")
    request.user = SimpleLazyObject(lambda: User.objects.get(username=PRO))
    with override_settings(ENTITLEMENT_GATE={"BASE_URL": "sandbox:", "DEADLINE": 30, "CUSTOMER_ATTRIBUTE": "username"}):
        with pytest.raises(SynchronousOnlyOperation, match=r"await request.entitlements.aall\(\)"):
            template.render(Context({"request": request}))
        request.entitlements = RequestEntitlements(request)
        await request.entitlements.aall()
        assert template.render(Context({"request": request})) == "yes"


PAGE = (
    '{% load entitlements %}{% ifentitled "reports" %}yes{% else %}no{% endifentitled %}{{ entitlements.seats.limit }}'
)


class Wrapper:
    def __init__(self, request):
        self._request = request


def lazily(request):
    return SimpleLazyObject(lambda: Wrapper(SimpleLazyObject(lambda: request)))


def twice(request):
    return Wrapper(Wrapper(request))


def framework_request(request):
    return Request(request)


@pytest.mark.parametrize("wrap", [framework_request, Wrapper, twice, lazily])
@pytest.mark.parametrize("kind", ["Context", "RequestContext", "Jinja2"])
def test_a_frameworks_own_request_is_known_for_djangos(rf, wrap, kind):
    request = wrap(rf.get("/", headers={"X-Customer": PRO}))
    if kind == "Jinja2":
        assert jinja2().from_string('{{ entitled("reports") }}').render(request=request) == "True"
    else:
        context = Context({"request": request}) if kind == "Context" else RequestContext(request)
        context.update(entitlements(request))
        assert (
            ENGINE.from_string(PAGE + "{% for name in entitlements %}.{% endfor %}").render(context)
            == f"yes5{12 * '.'}"
        )


class Page(APIView):
    renderer_classes = (TemplateHTMLRenderer,)
    template_name = "page.html"

    def get(self, request):
        if "render" in request.GET:
            return render(request, "page.html")
        return Response({})


@pytest.mark.parametrize("query", ["", "?render"])
def test_a_page_of_django_rest_framework_knows_its_request(rf, settings, query):
    processors = ["django.template.context_processors.request", "entitlement_gate.context_processors.entitlements"]
    loaders = [("django.template.loaders.locmem.Loader", {"page.html": PAGE})]
    options = {"loaders": loaders, "context_processors": processors}
    settings.TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "OPTIONS": options}]
    settings.REST_FRAMEWORK = {"UNAUTHENTICATED_USER": None}
    response = Page.as_view()(rf.get(f"/{query}", headers={"X-Customer": PRO}))
    if not query:
        response.render()
    assert response.content == b"yes5"


class Proxy:
    """As of a framework whose request is not there."""

    def __getattr__(self, name):
        raise RuntimeError("out of context")


@pytest.mark.parametrize(
    "other", [Request, MagicMock, lambda: Wrapper(Wrapper(None)), Proxy, str, Undefined], ids=range(6)
)
def test_what_is_no_request_is_a_missing_one(caplog, other):
    made = Request if other is Request else other()
    with caplog.at_level(logging.WARNING, "entitlement_gate"):
        assert ENGINE.from_string(PAGE).render(Context({"request": made})) == "no"
        assert jinja2().from_string('{{ entitled("reports") }}').render(request=made) == "False"
    assert caplog.messages == ["a template asked for 'reports' without a request in its context: not entitled"] * 2


@pytest.mark.parametrize("arguments", ["", '"a" 1 2'])
def test_a_tag_with_too_few_or_too_many_arguments_is_a_syntax_error(arguments):
    with pytest.raises(TemplateSyntaxError, match="takes a name"):
        ENGINE.from_string("{% load entitlements %}{% ifentitled " + arguments + " %}{% endifentitled %}")


def jinja2():
    options = {"extensions": ["entitlement_gate.contrib.jinja2.EntitlementsExtension"]}
    return Jinja2({"NAME": "jinja2", "DIRS": [], "APP_DIRS": False, "OPTIONS": options})


def test_jinja2_asks_the_same(rf):
    source = '{{ entitled("reports") }} {{ entitled("API Calls", 951) }} {{ entitlement("seats").limit }}'
    template = jinja2().from_string(source)
    assert template.render(request=rf.get("/", headers={"X-Customer": PRO})).startswith("True False ")
    assert template.render() == "False False None"
