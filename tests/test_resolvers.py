import asyncio
import copy
import logging
import pickle
from types import SimpleNamespace
from unittest import mock
from uuid import UUID

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ImproperlyConfigured, ObjectDoesNotExist
from django.http import HttpResponse
from django.test import AsyncRequestFactory, RequestFactory
from django.urls import path
from django.utils.functional import SimpleLazyObject

from entitlement_gate import Reason, acheck_entitlement, check_entitlement, has_entitlement, requires_entitlement
from entitlement_gate.resolvers import afrom_user, find_request, from_user
from tests.customers import FREE, PRO
from tests.views.browsers import GATE, MIDDLEWARE, OURS, Browser, asked


@requires_entitlement("reports")
def page(request):
    return HttpResponse(check_entitlement(request, "reports").customer_id)


@requires_entitlement("reports")
async def async_page(request):
    return HttpResponse((await acheck_entitlement(request, "reports")).customer_id)


urlpatterns = [path("sync/", page), path("async/", async_page)]


@pytest.fixture(autouse=True)
def sandbox(settings):
    settings.ENTITLEMENT_GATE = GATE
    settings.MIDDLEWARE = [*MIDDLEWARE, OURS]
    settings.ROOT_URLCONF = __name__


def user(**attributes):
    return SimpleNamespace(is_authenticated=True, **attributes)


def request_of(person):
    request = RequestFactory().get("/")
    request.user = person
    return request


def find(person):
    """Whom both doors of the resolver find, which must be the same."""
    request = request_of(person)
    found = from_user(request)
    assert asyncio.run(afrom_user(request)) == found
    return found


@pytest.mark.django_db
@pytest.mark.parametrize("handler", ["WSGI", "ASGI"])
@pytest.mark.parametrize("view", ["sync", "async"])
def test_the_customer_is_the_signed_in_users(handler, view):
    response = Browser(handler, PRO).get(f"/{view}/")
    assert (response.status_code, response.content) == (200, PRO.encode())
    assert Browser(handler, FREE).get(f"/{view}/").status_code == 403
    assert Browser(handler).get(f"/{view}/", accept="application/json").json()["code"] == "no_customer"


@pytest.mark.parametrize("handler", ["WSGI", "ASGI"])
@pytest.mark.parametrize("view", ["sync", "async"])
def test_without_authentication_there_is_no_customer(settings, handler, view):
    settings.MIDDLEWARE = []
    response = Browser(handler).get(f"/{view}/", accept="application/json")
    assert (response.status_code, response.json()["code"]) == (403, "no_customer")


@pytest.mark.parametrize("person", [AnonymousUser(), None, SimpleNamespace(is_authenticated=False, username=PRO)])
def test_who_is_not_signed_in_is_no_customer(person):
    assert find(person) is None


def test_a_person_whose_field_is_empty_is_no_customer():
    assert from_user(request_of(user(zenskar_customer_id=""))) is None


def test_a_customer_may_be_a_text_that_is_worked_out_late(settings, rf):
    settings.ENTITLEMENT_GATE = {**GATE, "CUSTOMER_RESOLVER": lambda request: SimpleLazyObject(PRO.upper)}
    assert check_entitlement(rf.get("/"), "reports").customer_id == PRO


def test_a_path_may_lead_over_relations(settings):
    settings.ENTITLEMENT_GATE = {**GATE, "CUSTOMER_ATTRIBUTE": "organisation.billing.customer"}
    billing = SimpleNamespace(customer=UUID(PRO))
    assert find(user(organisation=SimpleNamespace(billing=billing))) == UUID(PRO)
    assert find(user(organisation=SimpleNamespace(billing=None))) is None
    assert find(user(organisation=None)) is None


def test_a_relation_that_leads_nowhere_is_no_customer():
    class Lonely:
        is_authenticated = True

        @property
        def username(self):
            raise ObjectDoesNotExist

    assert find(Lonely()) is None


def test_a_path_that_does_not_exist_is_no_customer_and_a_line_in_the_log(settings, caplog):
    settings.ENTITLEMENT_GATE = {**GATE, "CUSTOMER_ATTRIBUTE": "organisation.customer"}
    request = request_of(user(organisation=User()))
    with caplog.at_level(logging.WARNING, logger="entitlement_gate"):
        assert from_user(request) is None
        assert from_user(request) is None
    assert [record.getMessage() for record in caplog.records] == [
        "CUSTOMER_ATTRIBUTE: a User has no 'customer'; nobody to check"
    ]


@pytest.mark.django_db
def test_a_relation_that_is_not_loaded_is_loaded_beside_the_event_loop(settings):
    settings.ENTITLEMENT_GATE = {**GATE, "CUSTOMER_ATTRIBUTE": "content_type.model"}
    kind = ContentType.objects.create(app_label="tests", model=PRO)
    made = Permission.objects.create(name="p", content_type=kind, codename="p")

    async def auser():
        person = await Permission.objects.aget(pk=made.pk)
        person.is_authenticated = True
        return person

    @requires_entitlement("reports")
    async def view(request):
        return HttpResponse("in")

    async def respond():
        request = AsyncRequestFactory().get("/")
        request.auser = auser
        return await view(request)

    assert async_to_sync(respond)().content == b"in"


async def test_an_async_request_that_knows_only_user_is_understood():
    request = AsyncRequestFactory().get("/")
    request.user = user(username=PRO)
    assert (await acheck_entitlement(request, "reports")).customer_id == PRO


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("view", ["sync", "async"])
@pytest.mark.parametrize("found", [UUID(PRO), PRO, PRO.upper()])
def test_a_resolver_may_be_the_projects_own(settings, colour, view, found):
    def resolver(request):
        return found

    async def resolver_async(request):
        return found

    settings.ENTITLEMENT_GATE = {**GATE, "CUSTOMER_RESOLVER": resolver if colour == "sync" else resolver_async}
    settings.MIDDLEWARE = []
    response = Browser("WSGI" if view == "sync" else "ASGI").get(f"/{view}/")
    assert response.content == PRO.encode()


@pytest.fixture
def calls(settings):
    """The requests that the resolver was asked about; it finds what stands in the header."""
    calls = []

    def resolver(request):
        calls.append(request)
        return request.headers.get("X-Customer")

    settings.ENTITLEMENT_GATE = {**GATE, "CUSTOMER_RESOLVER": resolver}
    return calls


def check_by_both_doors(request):
    told = check_entitlement(request, "reports"), asyncio.run(acheck_entitlement(request, "reports"))
    assert len({(decision.customer_id, decision.reason) for decision in told}) == 1
    return told[0]


@pytest.mark.parametrize("found", ["nobody", FREE])
def test_somebody_is_asked_for_once_in_each_request(calls, found):
    first, second = (RequestFactory().get("/", headers={"X-Customer": found}) for _ in range(2))
    for request in (first, first, second):
        assert not has_entitlement(request, "reports")
        assert not asyncio.run(acheck_entitlement(request, "seats"))
    assert calls == [first, second]


def test_nobody_is_asked_for_at_each_check(calls):
    request = RequestFactory().get("/")
    assert check_by_both_doors(request).reason == Reason.NO_CUSTOMER
    assert calls == [request, request]
    request.META["HTTP_X_CUSTOMER"] = PRO
    del request.headers
    assert check_by_both_doors(request).customer_id == PRO
    assert check_by_both_doors(request).customer_id == PRO
    assert len(calls) == 3
    assert asked() == [asked()[0]]


@pytest.mark.parametrize("change", ["user", "auser", "settings"])
def test_somebody_is_asked_for_anew_where_the_user_or_the_settings_change(calls, settings, change):
    request = RequestFactory().get("/", headers={"X-Customer": PRO})
    request.user = user()
    assert has_entitlement(request, "reports")
    assert has_entitlement(request, "reports")
    if change == "settings":
        settings.ENTITLEMENT_GATE = {**settings.ENTITLEMENT_GATE, "TTL": 61}
    else:
        setattr(request, change, user())
    assert has_entitlement(request, "reports")
    assert has_entitlement(request, "reports")
    assert len(calls) == 2


def test_a_copy_of_a_request_asks_for_itself(calls):
    request = RequestFactory().get("/", headers={"X-Customer": PRO})
    assert check_entitlement(request, "reports").customer_id == PRO
    other = copy.copy(request)
    other.META = {**request.META, "HTTP_X_CUSTOMER": FREE}
    del other.headers
    assert check_by_both_doors(other).customer_id == FREE
    assert check_by_both_doors(request).customer_id == PRO


@pytest.mark.parametrize("door", ["sync", "async"])
@pytest.mark.parametrize("path", ["from_user", "afrom_user"])
def test_a_test_may_put_something_else_in_a_resolvers_place(settings, path, door):
    settings.ENTITLEMENT_GATE = {**GATE, "CUSTOMER_RESOLVER": f"entitlement_gate.resolvers.{path}"}

    def check():
        request = request_of(user(username=FREE))
        check = {"sync": check_entitlement, "async": async_to_sync(acheck_entitlement)}[door]
        return check(request, "reports").customer_id

    def found(_):
        return PRO

    async def afound(_):
        return PRO

    for instead in (found, afound):
        with mock.patch(f"entitlement_gate.resolvers.{path}", instead):
            assert check() == PRO
    with mock.patch(f"entitlement_gate.resolvers.{path}", return_value=PRO):
        assert check() == PRO
    assert check() == FREE


def test_whose_a_request_is_does_not_travel_with_it_nor_does_a_key(calls, settings):
    settings.ENTITLEMENT_GATE = {**settings.ENTITLEMENT_GATE, "API_KEY": "sk-travels"}
    request = RequestFactory().get("/", headers={"X-Customer": PRO})
    assert has_entitlement(request, "reports")
    del request.environ, request._stream, request.META["wsgi.input"], request.META["wsgi.errors"]
    pickled = pickle.dumps(request)
    assert b"sk-travels" not in pickled
    assert check_by_both_doors(pickle.loads(pickled)).customer_id == PRO


def test_a_user_who_changes_while_the_customer_is_looked_for_is_not_remembered(settings):
    def resolver(request):
        found, request.user = request.user.username, user(username=FREE)
        return found

    settings.ENTITLEMENT_GATE = {**GATE, "CUSTOMER_RESOLVER": resolver}
    request = request_of(user(username=PRO))
    assert [check_entitlement(request, "reports").customer_id for _ in range(2)] == [PRO, FREE]


def test_looking_whether_the_user_is_the_same_never_reads_a_lazy_one(calls):
    request = RequestFactory().get("/", headers={"X-Customer": PRO})
    request.user = SimpleLazyObject(lambda: pytest.fail("read"))
    for _ in range(2):
        assert check_by_both_doors(request).allowed
    assert len(calls) == 1


def test_an_error_of_a_resolver_is_not_hidden(settings):
    def resolver(request):
        raise LookupError("the tenant is gone")

    settings.ENTITLEMENT_GATE = {**GATE, "CUSTOMER_RESOLVER": resolver}
    with pytest.raises(LookupError, match="the tenant is gone"):
        has_entitlement(RequestFactory().get("/"), "reports")


@pytest.mark.parametrize("resolver", ["no.such.module", "entitlement_gate.resolvers.nothing", "tests.customers.PRO", 5])
def test_a_resolver_that_cannot_be_called_names_the_setting(settings, resolver):
    settings.ENTITLEMENT_GATE = {**GATE, "CUSTOMER_RESOLVER": resolver}
    with pytest.raises(ImproperlyConfigured, match=r"ENTITLEMENT_GATE\['CUSTOMER_RESOLVER'\]"):
        has_entitlement(RequestFactory().get("/"), "reports")


def test_what_the_resolver_found_may_be_no_customer_id(settings):
    settings.ENTITLEMENT_GATE = {**GATE, "CUSTOMER_RESOLVER": lambda request: "me@example.com"}
    assert check_entitlement(RequestFactory().get("/"), "reports").reason == Reason.INVALID_CUSTOMER


def test_a_lazy_request_is_the_one_in_it():
    request = RequestFactory().get("/")
    assert find_request(SimpleLazyObject(lambda: request)) is request
