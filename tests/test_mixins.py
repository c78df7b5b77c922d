import asyncio
import json
import logging

import pytest
from asgiref.sync import iscoroutinefunction
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.test import AsyncRequestFactory, RequestFactory
from django.views import View
from django.views.generic import TemplateView

from entitlement_gate import EntitlementDenied, Requirement, check_entitlement, requires_entitlement
from entitlement_gate.mixins import EntitlementRequiredMixin
from entitlement_gate.testing import FakeBilling
from tests.customers import FREE, PRO, SETTINGS
from tests.views.browsers import asked, broken

REPORTS = Requirement("reports")


@pytest.fixture(autouse=True)
def resolver(settings):
    settings.ENTITLEMENT_GATE = SETTINGS


class Sync(View):
    def get(self, request, *args, **kwargs):
        return HttpResponse("in")


class Async(View):
    async def get(self, request, *args, **kwargs):
        return HttpResponse("in")


@pytest.fixture(params=[Sync, Async], ids=["sync", "async"])
def plain(request):
    return request.param


@pytest.fixture
def make(plain):
    """A view class over the mixin, with these attributes."""

    def make(*bases, **attributes):
        return type("Page", (*(bases or (EntitlementRequiredMixin, plain)),), attributes)

    return make


def ask(view, customer=PRO, path="/", method="GET", **kwargs):
    factory = AsyncRequestFactory() if iscoroutinefunction(view) else RequestFactory()
    request = factory.generic(method, path, headers={"X-Customer": customer, "Accept": "application/json"})
    request.user = AnonymousUser()
    return asyncio.run(view(request, **kwargs)) if iscoroutinefunction(view) else view(request, **kwargs)


def test_it_lets_in_and_refuses_in_either_colour(make, plain):
    view = make(entitlement_required="reports").as_view()
    assert iscoroutinefunction(view) is (plain is Async)
    assert ask(view, year=2026).content == b"in"
    response = ask(view, FREE)
    assert (response.status_code, json.loads(response.content)["code"]) == (403, "not_entitled")


def test_a_quantity_may_be_a_number(make):
    assert ask(make(entitlement_required="seats", entitlement_quantity=2).as_view()).content == b"in"
    assert ask(make(entitlement_required="seats", entitlement_quantity="2.5").as_view()).status_code == 402


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_quantity_may_be_a_method(make, colour):
    def quantity(self, request):
        return request.GET["n"]

    async def quantity_async(self, request):
        return quantity(self, request)

    method = quantity if colour == "sync" else quantity_async
    view = make(entitlement_required="seats", entitlement_quantity=method).as_view()
    assert ask(view, path="/?n=2").content == b"in"
    assert ask(view, path="/?n=3").status_code == 402


def test_a_requirement_may_be_combined(make):
    either = Requirement("nothing") | "reports"
    assert ask(make(entitlement_required=either).as_view()).content == b"in"


def test_the_requirement_may_depend_on_the_request(make):
    def required(self):
        return Requirement(self.request.GET["of"])

    view = make(get_entitlement_requirement=required).as_view()
    assert ask(view, path="/?of=reports").content == b"in"
    assert ask(view, path="/?of=other").status_code == 403


def test_the_requirement_of_an_async_view_may_be_awaited(make):
    async def required(self):
        return REPORTS

    view = make(EntitlementRequiredMixin, Async, get_entitlement_requirement=required).as_view()
    assert ask(view).content == b"in"
    assert ask(view, FREE).status_code == 403


def test_a_refusal_may_be_answered_by_the_view(make):
    def answer(self, decision):
        return HttpResponse(f"{decision.reason} for {self.request.path}", status=418)

    view = make(entitlement_required="reports", handle_entitlement_denied=answer).as_view()
    response = ask(view, FREE, path="/a/")
    assert (response.status_code, response.content) == (418, b"not_entitled for /a/")
    assert ask(view).content == b"in"


def test_a_refusal_may_be_awaited(make):
    async def answer(self, decision):
        return HttpResponse(status=418)

    view = make(entitlement_required="reports", handle_entitlement_denied=answer).as_view()
    assert ask(view, FREE).status_code == 418


def test_a_refusal_may_be_raised(make):
    def answer(self, decision):
        raise EntitlementDenied(decision)

    with pytest.raises(EntitlementDenied, match="reports: not_entitled"):
        ask(make(entitlement_required="reports", handle_entitlement_denied=answer).as_view(), FREE)


def test_a_view_may_add_to_the_usual_answer(make, plain):
    class Added(EntitlementRequiredMixin, plain):
        entitlement_required = "reports"

        def handle_entitlement_denied(self, decision):
            if self.view_is_async:
                return self._marked_async(decision)
            return self._marked(super().handle_entitlement_denied(decision))

        async def _marked_async(self, decision):
            return self._marked(await super().handle_entitlement_denied(decision))

        def _marked(self, response):
            response.headers["X-Marked"] = "yes"
            return response

    response = ask(Added.as_view(), FREE)
    assert (response.status_code, response.headers["X-Marked"]) == (403, "yes")


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_the_projects_handler_answers_in_any_colour(make, settings, colour):
    def handler(request, decision):
        return HttpResponse(status=418)

    async def handler_async(request, decision):
        return handler(request, decision)

    chosen = handler if colour == "sync" else handler_async
    settings.ENTITLEMENT_GATE = {**settings.ENTITLEMENT_GATE, "DENIED_HANDLER": chosen}
    assert ask(make(entitlement_required="reports").as_view(), FREE).status_code == 418


def test_a_refusal_is_logged_once(make, caplog):
    with caplog.at_level(logging.INFO, logger="entitlement_gate"):
        ask(make(entitlement_required="reports").as_view(), FREE)
    assert [record.getMessage() for record in caplog.records] == ["refused: reports: not_entitled"]


def test_an_outage_is_answered_as_such(make, settings, tmp_path):
    settings.ENTITLEMENT_GATE = broken(tmp_path)
    assert ask(make(entitlement_required="reports").as_view()).status_code == 503


def test_a_view_that_requires_nothing_is_improperly_configured(make):
    with pytest.raises(ImproperlyConfigured, match=r"^Page requires nothing: define Page.entitlement_required or"):
        ask(make().as_view())
    assert asked() == []


@pytest.mark.parametrize(
    "attributes",
    [
        {"entitlement_required": 5},
        {"entitlement_required": ""},
        {"entitlement_required": "seats", "entitlement_quantity": 0},
        {"entitlement_required": Requirement("seats", 1), "entitlement_quantity": 1},
    ],
)
def test_a_requirement_that_cannot_work_names_the_class_at_start_up(make, attributes):
    with pytest.raises(ImproperlyConfigured, match=r"^Page\.entitlement_required: "):
        make(**attributes).as_view()


def test_its_place_among_the_bases_does_not_matter(plain):
    last = type("Last", (plain, EntitlementRequiredMixin), {"entitlement_required": "reports"})
    assert ask(last.as_view()).content == b"in"
    assert ask(last.as_view(), FREE).status_code == 403


def test_a_dispatch_of_an_async_view_may_answer_at_once():
    class Closed(View):
        def dispatch(self, request):
            return HttpResponse("closed", status=503)

    closed = type("Page", (EntitlementRequiredMixin, Closed, Async), {"entitlement_required": "reports"})
    assert ask(closed.as_view()).content == b"closed"


def test_what_it_requires_is_listed_on_the_view(make):
    page = make(entitlement_required="seats", entitlement_quantity=2)
    assert page.as_view().entitlement_requirements == (Requirement("seats", 2),)
    assert page.as_view(entitlement_quantity=3).entitlement_requirements == (Requirement("seats", 3),)
    given = make(entitlement_quantity=lambda self, request: 1).as_view(entitlement_required="seats")
    assert given.entitlement_requirements == (Requirement("seats"),)
    assert not hasattr(make().as_view(), "entitlement_requirements")


def test_it_and_the_decorator_hold_together(make):
    page = requires_entitlement("seats", 6)(make(entitlement_required="reports"))
    assert page.as_view().entitlement_requirements == (Requirement("seats", 6), REPORTS)
    assert ask(page.as_view()).status_code == 402


def test_generic_views_work_under_it():
    class Page(EntitlementRequiredMixin, TemplateView):
        entitlement_required = "reports"
        template_name = "entitlement_gate/denied.html"

    assert ask(Page.as_view()).status_code == 200
    assert ask(Page.as_view(), FREE).status_code == 403


@pytest.fixture
def billing():
    with FakeBilling() as billing:
        billing.grant(PRO, "calls", 10)
        yield billing


@pytest.fixture
def using_up(make, billing):
    def using_up(**attributes):
        return make(**{"entitlement_required": "calls", "entitlement_consume": True, **attributes}).as_view()

    return using_up


def left():
    return int(check_entitlement(PRO, "calls").remaining)


def test_it_uses_up_what_it_requires(using_up):
    view = using_up(entitlement_quantity=4)
    assert [ask(view).status_code for _ in range(3)] == [200, 200, 402]
    assert ask(view, FREE).status_code == 403
    assert left() == 2


def test_it_uses_up_what_the_request_requires(using_up):
    view = using_up(entitlement_required=None, get_entitlement_requirement=lambda self: Requirement("calls", 3))
    assert [ask(view).status_code for _ in range(4)] == [200, 200, 200, 402]
    assert left() == 1


@pytest.mark.parametrize(("status", "count"), [(302, 1), (400, 0), (500, 0)])
def test_it_counts_what_succeeds_alone(plain, using_up, status, count):
    def get(self, request):
        return HttpResponse(status=status)

    async def aget(self, request):
        return HttpResponse(status=status)

    assert ask(using_up(get=get if plain is Sync else aget)).status_code == status
    assert left() == 10 - count


def test_options_are_checked_and_use_nothing_up(plain, using_up):
    view = using_up(options=plain.get)
    assert ask(view, method="OPTIONS").content == b"in"
    assert left() == 10
    assert ask(view, FREE, method="OPTIONS").status_code == 403


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_key_makes_a_retry_free(using_up, colour):
    def key(self):
        return self.request.GET.get("of")

    async def akey(self):
        return self.request.GET.get("of")

    view = using_up(get_entitlement_key=key if colour == "sync" else akey)
    for path in ("/?of=1", "/?of=1", "/?of=2", "/", "/"):
        assert ask(view, path=path).status_code == 200
    assert left() == 6


@pytest.mark.parametrize("consume", [True, False])
def test_the_customer_may_be_another(using_up, consume):
    view = using_up(get_entitlement_customer=lambda self: PRO, entitlement_consume=consume)
    assert ask(view, FREE).status_code == 200
    assert left() == 10 - consume


@pytest.mark.parametrize("consume", [True, False])
def test_customer_and_key_may_be_left_to_what_they_are_by_default(make, billing, consume):
    base = make(entitlement_required="calls", entitlement_consume=consume)

    class Page(base):
        def get_entitlement_customer(self):
            return super().get_entitlement_customer()

        def get_entitlement_key(self):
            return super().get_entitlement_key()

    assert ask(Page.as_view()).status_code == 200
    assert left() == 10 - consume
    assert ask(Page.as_view(), FREE).status_code == 403


@pytest.mark.parametrize("consume", [True, False])
def test_it_has_its_own_way_in_an_outage(using_up, billing, consume):
    views = [using_up(entitlement_on_unavailable=way, entitlement_consume=consume) for way in ("allow", "deny", None)]
    billing.fail("status", status=503)
    assert [ask(view).status_code for view in views] == [200, 503, 503]
    billing.recover()
    assert left() == 10


@pytest.mark.parametrize(
    ("name", "value"), [("entitlement_consume", "no"), ("entitlement_consume", None), ("entitlement_on_unavailable", 1)]
)
def test_an_option_that_cannot_work_names_the_class_at_start_up(make, name, value):
    with pytest.raises(ImproperlyConfigured, match=rf"^Page\.{name}: one of .*, not {value!r}"):
        make(**{"entitlement_required": "calls", name: value}).as_view()
    with pytest.raises(ImproperlyConfigured, match=rf"^Page\.{name}: one of .*, not {value!r}"):
        make(entitlement_required="calls").as_view(**{name: value})
