"""Gates on operations and routers of Django Ninja, through Django's handlers of both colours."""

from itertools import count
from types import ModuleType

import ninja
import pytest
from asgiref.sync import async_to_sync
from django.http import HttpResponse
from django.test import AsyncClient, Client
from django.urls import path
from ninja import NinjaAPI, Router
from ninja.decorators import decorate_view
from ninja.errors import HttpError
from ninja.security import HttpBearer

from entitlement_gate import arequire_entitlement, check_entitlement, require_entitlement
from entitlement_gate.contrib.ninja import answer_refusals, requires_entitlement
from entitlement_gate.decorators import requirements_of
from entitlement_gate.testing import FakeBilling
from tests.customers import FREE, PRO, SETTINGS, STRANGER

NUMBERS = count()  # before 1.5 Django Ninja takes no name twice
GATES_ROUTERS = hasattr(ninja.router, "BoundRouter")  # Django Ninja 1.6
needs_routers = pytest.mark.skipif(not GATES_ROUTERS, reason="a gate on a router is an error before Django Ninja 1.6")


class Bearer(HttpBearer):
    """Somebody whose token is the id of a customer."""

    def authenticate(self, request, token):
        return {"customer": token}


def customer_of(request):
    return request.auth["customer"]


def gate(*args, **options):
    return requires_entitlement(*args, customer=customer_of, **options)


def functions(body=lambda: {"may": True}):
    """Return an operation of either colour."""

    def sync(request, page: int = 1):
        return body()

    async def asynchronous(request, page: int = 1):
        return body()

    return {"sync": sync, "async": asynchronous}


def add(target, name, decorator=lambda function: function, body=lambda: {"may": True}, **options):
    for colour, function in functions(body).items():
        target.post(f"/{colour}/{name}", **options)(decorator(function))


def fail():
    raise HttpError(409, "taken")


def an_api():
    return NinjaAPI(auth=Bearer(), urls_namespace=f"gated-{next(NUMBERS)}", docs_url=None)


@pytest.fixture(autouse=True)
def billing(settings):
    settings.ENTITLEMENT_GATE = SETTINGS
    with FakeBilling() as billing:
        billing.grant(PRO, "calls", 10)
        billing.grant(PRO, "sso")
        billing.grant(FREE, "other")
        yield billing


@pytest.fixture
def serve(settings, monkeypatch):
    """Serve an API, and return what visits it by either colour of Django's handlers."""

    def serve(api):
        urlconf = ModuleType("ninja_urls")
        urlconf.urlpatterns = [path("", api.urls)]
        settings.ROOT_URLCONF = urlconf

        def visit(url, customer=PRO, method="post", **options):
            headers = {"Authorization": f"Bearer {customer}"} if customer else {}
            headers |= options.pop("headers", {})
            if url.startswith("/async"):
                client = AsyncClient(raise_request_exception=False)
                return async_to_sync(getattr(client, method))(url, headers=headers, **options)
            return getattr(Client(raise_request_exception=False), method)(url, headers=headers, **options)

        return visit

    return serve


@pytest.fixture(params=["operation", pytest.param("router", marks=needs_routers)])
def visit(request, serve):
    """Return what visits an API whose operations, or whose router, have gates."""
    api = an_api()
    answer_refusals(api)
    for name, args, options in (
        ("feature", ("sso",), {}),
        ("counted", ("calls",), {"consume": True, "key": key_of}),
        ("much", ("calls", 11), {}),
    ):
        target, decorator = Router(), gate(*args, **options)
        if request.param == "router":
            target, decorator = decorator(target), lambda function: function
        add(target, name, decorator)
        add(target, f"{name}/failed", decorator, fail)
        api.add_router("", target)
    return serve(api)


def key_of(request):
    return request.GET.get("key", f"{id(request)}")


@pytest.fixture(params=["sync", "async"])
def colour(request):
    return request.param


def left():
    return int(check_entitlement(PRO, "calls").remaining)


def test_who_is_entitled_is_let_in(visit, colour):
    response = visit(f"/{colour}/feature")
    assert response.json() == {"may": True}
    assert response.headers["Cache-Control"] == "private"


def test_authentication_goes_first_then_the_arguments_then_the_gate(visit, colour, billing):
    assert visit(f"/{colour}/feature", customer=None).status_code == 401
    assert visit(f"/{colour}/feature?page=first", customer=FREE).status_code == 422
    assert visit(f"/{colour}/feature", customer=FREE).status_code == 403
    assert visit(f"/{colour}/much").status_code == 402
    billing.fail("unavailable")
    assert visit(f"/{colour}/feature", customer=STRANGER).status_code == 503


@pytest.mark.parametrize("accept", ["text/html", "*/*", "application/json"])
def test_a_refusal_is_problem_details_whatever_is_accepted(visit, colour, accept):
    response = visit(f"/{colour}/much", headers={"Accept": accept})
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["Cache-Control"] == "no-store, private"
    told = response.json()
    assert (told["code"], told["status"], told["remaining"]) == ("insufficient_quantity", 402, "10")


def test_an_outage_says_when_to_come_again(visit, colour, billing):
    billing.fail("unavailable")
    response = visit(f"/{colour}/feature")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "5")


def test_what_is_used_up_counts_by_the_answer_and_once_for_each_key(visit, colour):
    assert visit(f"/{colour}/counted/failed").status_code == 409
    assert left() == 10
    for key in ("a", "a", "b"):
        assert visit(f"/{colour}/counted?key={key}").status_code == 200
    assert left() == 8


@pytest.fixture
def raising(serve):
    """Return what visits operations that ask in their bodies."""

    def served(api):
        @api.post("/sync/raised")
        def raised(request):
            require_entitlement(customer_of(request), "sso")

        @api.post("/async/raised")
        async def araised(request):
            await arequire_entitlement(customer_of(request), "sso")

        return serve(api)

    return served


@pytest.mark.parametrize("debug", [False, True])
def test_what_an_operation_raises_is_answered_as_by_a_gate(raising, colour, settings, billing, debug):
    settings.DEBUG = debug
    visit = raising(answer_refusals(an_api()))
    assert visit(f"/{colour}/raised").status_code == 200
    refused = visit(f"/{colour}/raised", customer=FREE)
    assert (refused.status_code, refused.json()["code"]) == (403, "not_entitled")
    billing.fail("unavailable")
    unknown = visit(f"/{colour}/raised", customer=STRANGER)
    assert (unknown.status_code, unknown.json()["code"]) == (503, "unavailable")


def test_where_more_can_be_had_may_be_looked_up_in_the_database(raising, colour, settings, transactional_db):
    from django.contrib.auth.models import User

    def upgrade_url(request, decision):
        return f"https://example.com/plans/{User.objects.count()}"

    settings.ENTITLEMENT_GATE = {**SETTINGS, "UPGRADE_URL": upgrade_url}
    visit = raising(answer_refusals(an_api()))
    assert visit(f"/{colour}/raised", customer=FREE).json()["upgrade_url"] == "https://example.com/plans/0"


def test_a_gate_may_say_itself_what_who_is_refused_is_answered(serve, colour):
    api = an_api()
    add(api, "own", gate("sso", on_denied=lambda request, decision: HttpResponse(str(decision.reason), status=418)))
    response = serve(api)(f"/{colour}/own", customer=FREE)
    assert (response.status_code, response.content) == (418, b"not_entitled")


class TestRouters:
    pytestmark = needs_routers

    def test_a_gate_is_about_all_that_is_added_to_its_router_whenever_and_about_nothing_else(self, serve, colour):
        router, inner, later, other = Router(), Router(), Router(), Router()
        add(router, "before")
        router.add_router("", inner)
        gate("sso")(router)
        add(router, "after")
        add(inner, "inner")
        api = an_api()
        api.add_router("", router)
        add(later, "later")
        router.add_router("", later)
        add(other, "other")
        api.add_router("", other)
        add(api, "own")
        visit = serve(api)
        refused = {name: visit(f"/{colour}/{name}", customer=FREE).status_code for name in ("before", "after", "inner")}
        assert refused == dict.fromkeys(refused, 403)
        assert visit(f"/{colour}/later", customer=FREE).status_code == 403
        assert visit(f"/{colour}/inner").status_code == 200
        assert [visit(f"/{colour}/{name}", customer=FREE).status_code for name in ("other", "own")] == [200, 200]

    def test_gates_on_a_router_and_on_what_is_in_it_must_all_hold(self, serve, colour):
        outer, inner = gate("sso")(gate("calls", 2)(Router())), gate("other")(Router())
        add(inner, "both", gate("calls", 3))
        outer.add_router("", inner)
        api = an_api()
        api.add_router("", outer)
        visit = serve(api)
        assert visit(f"/{colour}/both").json()["entitlement"] == "other"
        assert visit(f"/{colour}/both", customer=FREE).status_code == 403

    def test_a_router_that_is_also_mounted_in_an_open_one_is_open_there(self, serve, colour):
        shared, gated, free = Router(), gate("sso")(Router()), Router()
        add(shared, "shared")
        gated.add_router("gated", shared)
        free.add_router("", shared)
        api = an_api()
        api.add_router("", gated)
        api.add_router("", free, url_name_prefix="free")
        visit = serve(api)
        assert visit(f"/{colour}/shared", customer=FREE).status_code == 200
        assert visit(f"/gated/{colour}/shared", customer=FREE).status_code == 403

    def test_audits_see_the_gate(self, serve):
        router = gate("sso")(Router())
        add(router, "audited")
        api = an_api()
        api.add_router("", router)
        serve(api)
        (pattern, *_) = (each for each in api.urls[0] if "audited" in str(each.pattern))
        assert [each.entitlement for each in requirements_of(pattern.callback)] == ["sso"]


@pytest.fixture
def document(settings):
    """Return the responses that the document of an API tells, by the path of an operation."""

    def document(api):
        urlconf = ModuleType("ninja_urls")
        urlconf.urlpatterns = [path("", api.urls)]
        settings.ROOT_URLCONF = urlconf
        paths = Client().get("/openapi.json").json()["paths"]
        return {path: methods["post"]["responses"] for path, methods in paths.items()}

    return document


def test_the_refusals_of_an_operation_are_documented_and_of_no_other(document):
    api = an_api()
    api.post("/gated")(gate("sso")(functions()["sync"]))
    api.post("/open")(functions()["async"])
    told = document(api)
    assert set(told["/gated"]) == {"200", "402", "403", "503"}
    assert set(told["/open"]) == {"200"}
    codes = {
        status: answer["content"]["application/problem+json"]["schema"]["properties"]["code"]["enum"]
        for status, answer in told["/gated"].items()
        if "content" in answer
    }
    assert codes["402"] == ["insufficient_quantity", "insufficient_credits"]
    assert {"not_entitled", "no_customer", "expired"} <= set(codes["403"])
    assert "unavailable" in codes["503"]
    assert told["/gated"]["503"]["headers"]["Retry-After"]["schema"] == {"type": "integer"}


def test_what_an_operation_documents_itself_stands_and_statuses_are_those_of_the_settings(document, settings):
    class Refused(ninja.Schema):
        why: str

    api = an_api()
    own = {"responses": {"402": {"description": "pay"}, 418: {"description": "tea"}}, "x-tier": "pro"}
    add(api, "own", gate("sso"), response={200: dict, 403: Refused}, openapi_extra=own)
    settings.ENTITLEMENT_GATE = {**SETTINGS, "STATUS_CODES": {"expired": 410}}
    for told in document(api).values():
        assert set(told) == {"200", "402", "403", "410", "418", "503"}
        assert told["402"] == {"description": "pay"}
        assert "application/json" in told["403"]["content"]
        assert told["410"]["description"] == "Gone"


@needs_routers
def test_the_refusals_of_a_router_are_documented_wherever_it_is_mounted(document):
    def unseen(run):
        def running(request, *args, **kwargs):
            return run(request, *args, **kwargs)

        return running

    router, api = Router(), an_api()
    router.post("/plain")(gate("sso")(functions()["sync"]))
    router.post("/decorated")(decorate_view(unseen)(functions()["sync"]))
    gate("calls")(router)
    api.add_router("a", router)
    api.add_router("b", router, url_name_prefix="b")
    told = document(api)
    for mount in "ab":
        assert set(told[f"/{mount}/plain"]) == {"200", "402", "403", "503"}
        assert set(told[f"/{mount}/decorated"]) == {"200"}  # the decorator hides which operation it is


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: requires_entitlement(""), ValueError),
        (lambda: requires_entitlement("calls", 0), ValueError),
        (lambda: requires_entitlement("calls", key=customer_of), ValueError),
        (lambda: requires_entitlement("calls", on_denied=17), TypeError),
        (lambda: requires_entitlement("calls", colour="red"), TypeError),
        (lambda: requires_entitlement("calls")(an_api()), TypeError),
        (lambda: requires_entitlement("calls")(an_api().get("/")(functions()["sync"])), TypeError),
    ],
)
def test_what_cannot_work_is_said_where_it_is_declared(make, error):
    with pytest.raises(error):
        make()


def test_a_router_is_refused_where_ninja_hands_nothing_down(monkeypatch):
    monkeypatch.delattr(ninja.router, "BoundRouter", raising=False)
    with pytest.raises(ValueError, match=r"1\.6"):
        requires_entitlement("calls")(Router())
