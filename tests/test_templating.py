from __future__ import annotations

import logging

import pytest
from django.core.exceptions import SynchronousOnlyOperation
from django.template import Context, Engine, RequestContext, TemplateSyntaxError
from django.test import override_settings

from entitlement_gate.access import RequestEntitlements
from entitlement_gate.api import default_gate
from entitlement_gate.context_processors import entitlements
from tests.customers import FREE, PRO, SETTINGS

ENGINE = Engine(libraries={"entitlements": "entitlement_gate.templatetags.entitlements"})


@pytest.fixture(autouse=True)
def _project():
    with override_settings(ENTITLEMENT_GATE=SETTINGS):
        yield


@pytest.fixture
def render(rf):
    def render(source, customer=PRO, **context):
        request = rf.get("/", headers={"X-Customer": customer})
        template = ENGINE.from_string("{% load entitlements %}" + source)
        return template.render(RequestContext(request, {**context, **entitlements(request)}))

    return render


@pytest.mark.parametrize(
    ("source", "customer", "shown"),
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
def test_a_template_shows_what_the_customer_may(render, source, customer, shown):
    assert render(source, customer, name="API Calls", many=2) == shown


def test_an_outage_never_breaks_a_page(render):
    default_gate().source._transport.sandbox.fail("status", status=503)
    source = '{% ifentitled "reports" %}yes{% else %}no{% endifentitled %}{{ entitlements.seats.reason }}'
    assert render(source + "{% for name in entitlements %}x{% endfor %}") == "nounavailable"


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
    return request.headers.get("X-Customer")


async def test_a_template_in_an_event_loop_is_told_to_have_the_view_ask_first(rf):
    template = ENGINE.from_string('{% load entitlements %}{% ifentitled "reports" %}yes{% endifentitled %}')
    with override_settings(ENTITLEMENT_GATE={**SETTINGS, "CUSTOMER_RESOLVER": async_resolver}):
        request = rf.get("/", headers={"X-Customer": PRO})
        with pytest.raises(SynchronousOnlyOperation, match=r"await request.entitlements.aall\(\)"):
            template.render(Context({"request": request}))
        request.entitlements = RequestEntitlements(request)
        await request.entitlements.aall()
        assert template.render(Context({"request": request})) == "yes"


@pytest.mark.parametrize("arguments", ["", '"a" 1 2'])
def test_a_tag_with_too_few_or_too_many_arguments_is_a_syntax_error(arguments):
    with pytest.raises(TemplateSyntaxError, match="takes a name"):
        ENGINE.from_string("{% load entitlements %}{% ifentitled " + arguments + " %}{% endifentitled %}")


def test_jinja2_asks_the_same(rf):
    from django.template.backends.jinja2 import Jinja2

    options = {"extensions": ["entitlement_gate.contrib.jinja2.EntitlementsExtension"]}
    engine = Jinja2({"NAME": "jinja2", "DIRS": [], "APP_DIRS": False, "OPTIONS": options})
    source = '{{ entitled("reports") }} {{ entitled("API Calls", 951) }} {{ entitlement("seats").limit }}'
    template = engine.from_string(source)
    assert template.render(request=rf.get("/", headers={"X-Customer": PRO})).startswith("True False ")
    assert template.render() == "False False None"
