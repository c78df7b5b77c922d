"""``RULES`` that use up: held before the view, settled by what the middleware gets, under WSGI and ASGI."""

import asyncio

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import request_finished
from django.db import close_old_connections, connections, transaction
from django.http import Http404, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.test import AsyncClient, AsyncRequestFactory, Client, RequestFactory
from django.urls import path
from ninja import NinjaAPI
from rest_framework.decorators import api_view
from rest_framework.exceptions import ValidationError
from rest_framework.response import Response

from entitlement_gate import EntitlementDenied, check_entitlement, entitlement_exempt, requires_entitlement
from entitlement_gate.api import default_gate
from entitlement_gate.middleware import EntitlementMiddleware
from entitlement_gate.testing import FakeBilling, override_entitlements
from tests.customers import FREE, PRO, SETTINGS

pytestmark = pytest.mark.django_db

OURS = "entitlement_gate.middleware.EntitlementMiddleware"
LIST = {"path": "^/", "requires": "calls", "consume": True}
during = []  # what was held while a view ran


def held():
    return sum(tally.held for tallies in default_gate().ledger.charges(PRO).values() for tally in tallies.values())


def left(name="calls"):
    return int(check_entitlement(PRO, name).remaining)


def note(request):
    during.append(held() // 1_000_000)


def status(request, code):
    note(request)
    return HttpResponse("done", status=code)


async def astatus(request, code):
    note(request)
    return HttpResponse("done", status=code)


def broken(request):
    note(request)
    raise LookupError


async def abroken(request):
    note(request)
    raise LookupError


def missing(request):
    note(request)
    raise Http404


def refusing(request):
    raise EntitlementDenied(check_entitlement(FREE, "calls"))


def rendered(request):
    return TemplateResponse(request, "entitlement_gate/denied.html", {})


def unrenderable(request):
    return TemplateResponse(request, "no such.html", {})


def streamed(request):
    def body():
        note(request)
        yield b"a"
        if "breaks" in request.GET:
            raise LookupError
        yield b"b"

    return StreamingHttpResponse(body())


async def astreamed(request):
    async def body():
        for part in streamed(request):
            yield part

    return StreamingHttpResponse(body())


def replayed(request, number):
    note(request)
    return HttpResponse("done")


@requires_entitlement("calls", 2, consume=True)
def decorated(request):
    note(request)
    return HttpResponse("done")


@requires_entitlement("seats", 3, consume=True, on_denied="/plans/")
def led_away(request):
    raise AssertionError("the view behind a gate that refuses")


@entitlement_exempt
def exempt(request):
    note(request)
    return HttpResponse("done")


async def shared(request):
    note(request)
    return HttpResponse("done")


api = NinjaAPI(urls_namespace="rules", docs_url=None, openapi_url=None)


@api.get("/", response=int)
@requires_entitlement("calls", consume=True)
def operation(request, number: str):
    note(request)
    return number


@api_view()
def drf(request):
    note(request)
    if request.GET["number"] == "none":
        raise ValidationError
    return Response(request.GET["number"])


urlpatterns = [
    path("ninja/", api.urls),
    path("drf/", drf),
    path("status/<int:code>/", status, name="status"),
    path("astatus/<int:code>/", astatus),
    path("broken/", broken),
    path("abroken/", abroken),
    path("missing/", missing, name="missing"),
    path("refusing/", refusing),
    path("rendered/", rendered),
    path("unrenderable/", unrenderable),
    path("streamed/", streamed),
    path("astreamed/", astreamed),
    path("replayed/<int:number>/", replayed),
    path("decorated/", decorated),
    path("led-away/", led_away),
    path("exempt/", exempt),
    path("shared/", shared),
]


def number_of(request):
    return request.resolver_match.kwargs.get("number")


async def anumber_of(request):
    return number_of(request)


def pro(request):
    return PRO


async def apro(request):
    return PRO


def fail(request):
    raise LookupError


def raise_denial(request, decision):
    raise EntitlementDenied(decision)


class Answering:
    """A middleware below ours that answers by itself: a page in place of a 404, of an error, or of any view."""

    sync_capable, async_capable = True, False

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        if request.headers.get("X-Answer") == "first":
            return HttpResponse("kept")
        response = self.get_response(request)
        if request.headers.get("X-Answer") == "again":
            response = self.get_response(request)
        return HttpResponse("flat") if response.status_code == 404 else response

    def process_exception(self, request, exception):
        return HttpResponse("sorry") if request.headers.get("X-Answer") == "excuse" else None


@pytest.fixture
def billing(settings):
    settings.ROOT_URLCONF, settings.MIDDLEWARE = __name__, [OURS]
    settings.ENTITLEMENT_GATE = SETTINGS
    during.clear()
    with FakeBilling() as billing:
        billing.grant(PRO, "calls", 10)
        billing.grant(PRO, "seats", 2)
        yield billing


@pytest.fixture
def rules(billing, settings):
    def rules(*rules, **others):
        settings.ENTITLEMENT_GATE = {**SETTINGS, "RULES": list(rules), **others}

    rules(LIST)
    return rules


def _sync(url, customer, method, headers, read):
    client = Client(raise_request_exception=False)
    response = client.generic(method, url, headers={"X-Customer": customer, **headers})
    if response.streaming:
        try:
            response.read_content = b"".join(response) if read else b""
        finally:
            _close(response)
    return response


def _close(response):
    request_finished.disconnect(close_old_connections)  # as the test client does for what it reads itself
    response.close()
    request_finished.connect(close_old_connections)


@async_to_sync
async def _async(url, customer, method, headers, read):
    client = AsyncClient(raise_request_exception=False)
    response = await client.generic(method, url, headers={"X-Customer": customer, **headers})
    if response.streaming:
        try:
            if read and response.is_async:
                response.read_content = b"".join([part async for part in response])
            elif read:
                response.read_content = await sync_to_async(b"".join)(response)
        finally:
            await sync_to_async(_close)(response)
    return response


@pytest.fixture(params=[_sync, _async], ids=["wsgi", "asgi"])
def visit(request, rules):
    def visit(url, customer=PRO, method="GET", *, read=True, **headers):
        return request.param(url, customer, method, headers, read)

    # Under WSGI an async body is Django's to warn of.
    visit.streams = ("/streamed/",) if request.param is _sync else ("/streamed/", "/astreamed/")
    return visit


class TestWhatCounts:
    @pytest.mark.parametrize("view", ["status", "astatus"])
    @pytest.mark.parametrize(("code", "count"), [(200, 1), (302, 1), (304, 1), (400, 0), (404, 0), (500, 0)])
    def test_the_status_of_the_answer_tells(self, visit, view, code, count):
        assert visit(f"/{view}/{code}/").status_code == code
        assert (during, left(), held()) == ([1], 10 - count, 0)

    @pytest.mark.parametrize("view", ["status", "astatus"])
    def test_with_nothing_left_the_view_does_not_run(self, visit, rules, view):
        rules({**LIST, "quantity": 6})
        assert [visit(f"/{view}/200/").status_code for _ in range(2)] == [200, 402]
        assert visit(f"/{view}/200/", FREE).status_code == 403
        assert (during, left(), held()) == ([6], 4, 0)

    @pytest.mark.parametrize(("url", "code"), [("/broken/", 500), ("/abroken/", 500), ("/missing/", 404)])
    def test_a_view_that_raises_gives_back(self, visit, url, code):
        assert visit(url).status_code == code
        assert (during, left(), held()) == ([1], 10, 0)

    @pytest.mark.parametrize("handler", ["entitlement_gate.responses.denied", lambda *_: HttpResponseRedirect("/p/")])
    def test_a_view_that_raises_a_denial_gives_back_however_that_is_answered(self, visit, rules, handler):
        rules(LIST, DENIED_HANDLER=handler)
        assert visit("/refusing/").status_code in (302, 403)
        assert (left(), held()) == (10, 0)

    @pytest.mark.parametrize(("url", "code", "count"), [("/rendered/", 200, 1), ("/unrenderable/", 500, 0)])
    def test_a_template_response_counts_where_it_is_rendered(self, visit, url, code, count):
        assert visit(url).status_code == code
        assert (left(), held()) == (10 - count, 0)

    def test_a_stream_counts_when_it_was_read_to_its_end(self, visit):
        for url in visit.streams:
            assert visit(url).read_content == b"ab"
        assert during == [1 for _ in visit.streams]
        assert (left(), held()) == (10 - len(visit.streams), 0)

    def test_a_stream_that_breaks_or_that_nobody_reads_gives_back(self, visit):
        for url in visit.streams:
            with pytest.raises(LookupError):
                visit(f"{url}?breaks")
            visit(url, read=False)
        assert (left(), held()) == (10, 0)

    @pytest.mark.parametrize("view", ["streamed", "status/200"])
    def test_head_counts_and_options_do_not(self, visit, view):
        visit(f"/{view}/", method="HEAD")
        assert (left(), held()) == (9, 0)
        during.clear()
        visit("/status/200/", method="OPTIONS")
        assert (during, left(), held()) == ([0], 9, 0)
        assert visit("/status/200/", FREE, method="OPTIONS").status_code == 403

    @pytest.mark.parametrize(("number", "code", "count"), [("1", 200, 1), ("none", 400, 0)])
    def test_a_view_of_django_rest_framework_counts_by_its_answer(self, visit, number, code, count):
        assert visit(f"/drf/?number={number}").status_code == code
        assert (during, left(), held()) == ([1], 10 - count, 0)

    @pytest.mark.parametrize(("value", "code"), [(5, 200), (0, 402), ("unavailable", 503), (False, 403)])
    def test_an_override_decides_and_nothing_is_counted(self, visit, value, code):
        with override_entitlements({"calls": value}):
            assert visit("/rendered/").status_code == code
        assert (left(), held()) == (10, 0)

    def test_an_exempt_view_uses_nothing_up(self, visit):
        assert visit("/exempt/").status_code == 200
        assert (during, left()) == ([0], 10)

    def test_a_rule_of_methods_uses_up_for_those_alone(self, visit, rules):
        rules({**LIST, "methods": ["POST"]})
        visit("/status/200/")
        assert left() == 10
        visit("/status/200/", method="POST")
        assert left() == 9


class TestSeveral:
    def test_every_rule_that_matches_uses_up(self, visit, rules):
        rules(LIST, {"view": "status", "requires": "seats", "consume": True})
        assert [visit("/status/200/").status_code for _ in range(3)] == [200, 200, 402]
        assert (left(), left("seats"), held()) == (8, 0, 0)

    def test_a_rule_that_refuses_gives_back_what_another_holds(self, visit, rules):
        rules(LIST, {"path": "^/", "requires": "nothing"}, DENIED_HANDLER=lambda *_: HttpResponse("see our plans"))
        assert visit("/status/200/").content == b"see our plans"
        assert (during, left(), held()) == ([], 10, 0)

    def test_a_rule_that_fails_gives_back_what_another_holds(self, visit, rules):
        rules(LIST, {**LIST, "requires": "seats", "customer": fail})
        assert visit("/status/200/").status_code == 500
        assert (during, left(), held()) == ([], 10, 0)

    def test_rule_and_decorator_use_up_each(self, visit):
        assert visit("/decorated/").status_code == 200
        assert (during, left(), held()) == ([3], 7, 0)

    @pytest.mark.parametrize(("number", "code", "count"), [("1", 200, 2), ("none", 500, 0)])
    def test_rule_and_gate_of_an_operation_count_by_the_response_that_ninja_makes(self, visit, number, code, count):
        assert visit(f"/ninja/?number={number}").status_code == code
        assert (during, left(), held()) == ([2], 10 - count, 0)

    def test_a_decorator_that_refuses_gives_back_what_the_rule_holds_also_by_a_redirect(self, visit):
        response = visit("/led-away/")
        assert (response.status_code, response.headers["Location"]) == (302, "/plans/")
        assert (left(), left("seats"), held()) == (10, 2, 0)


class TestOptions:
    @pytest.mark.parametrize("key", [number_of, anumber_of, f"{__name__}.number_of", f"{__name__}.anumber_of"])
    def test_a_key_makes_a_retry_free(self, visit, rules, key):
        rules({**LIST, "key": key})
        for url in ("/replayed/1/", "/replayed/1/", "/replayed/2/", "/status/200/", "/status/200/"):
            assert visit(url).status_code == 200
        assert (left(), held()) == (6, 0)

    def test_rule_and_decorator_of_one_key_count_once(self, rules, visit, monkeypatch):
        gated = requires_entitlement("calls", consume=True, key=lambda _: "k")(replayed)
        monkeypatch.setattr(urlpatterns[-1], "callback", lambda request: gated(request, 1))
        rules({**LIST, "key": lambda _: "k"})
        assert visit("/shared/").status_code == 200
        assert (left(), held()) == (9, 0)

    @pytest.mark.parametrize("consume", [True, False])
    @pytest.mark.parametrize("customer", [pro, apro, f"{__name__}.pro", f"{__name__}.apro"])
    def test_the_customer_may_be_another(self, visit, rules, customer, consume):
        rules({**LIST, "consume": consume, "customer": customer})
        assert visit("/status/200/", FREE).status_code == 200
        assert left() == 10 - consume

    @pytest.mark.parametrize("consume", [True, False])
    def test_a_rule_has_its_own_way_in_an_outage(self, visit, rules, billing, consume):
        rules({**LIST, "consume": consume, "on_unavailable": "allow"})
        billing.fail("status", status=503)
        assert visit("/status/200/").status_code == 200
        rules({**LIST, "consume": consume, "on_unavailable": "deny"}, ON_UNAVAILABLE="allow")
        assert visit("/status/200/").status_code == 503
        billing.recover()
        assert (left(), held()) == (10, 0)

    def test_a_path_that_leads_nowhere_lets_nobody_in(self, visit, rules):
        rules({**LIST, "key": "tests.test_using_up_rules.none"})
        assert visit("/status/200/").status_code == 500
        with pytest.raises(ImproperlyConfigured, match=r"\['RULES'\]: path \^/: key: 'tests\..*cannot be imported"):
            Client().get("/status/200/", headers={"X-Customer": PRO})
        assert (during, left()) == ([], 10)


class TestMiddlewareThatAnswers:
    @pytest.fixture(autouse=True)
    def below(self, billing, settings):
        settings.MIDDLEWARE = [OURS, f"{__name__}.Answering"]

    def test_a_page_in_place_of_the_view_counts_once(self, visit):
        assert visit("/status/200/", **{"X-Answer": "first"}).content == b"kept"
        assert (during, left(), held()) == ([], 9, 0)
        assert visit("/status/200/", FREE, **{"X-Answer": "first"}).status_code == 403

    def test_a_rule_whose_refusal_is_raised_gives_back_what_another_holds(self, visit, rules):
        rules(LIST, {"path": "^/", "requires": "nothing"}, DENIED_HANDLER=raise_denial)
        assert visit("/status/200/", **{"X-Answer": "first"}).status_code == 403
        assert (during, left(), held()) == ([], 10, 0)

    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_a_page_in_place_of_a_404_counts_once(self, visit, method):
        assert visit("/nowhere/", method=method).content == b"flat"
        assert visit("/missing/", method=method).content == b"flat"
        assert (left(), held()) == (8, 0)

    def test_a_rule_about_the_view_that_failed_does_not_pay_for_another_page(self, visit, rules):
        rules({"view": "missing", "requires": "calls", "consume": True})
        assert visit("/missing/").content == b"flat"
        assert (during, left(), held()) == ([1], 10, 0)

    def test_a_view_that_is_asked_twice_counts_once(self, visit):
        assert visit("/status/200/", **{"X-Answer": "again"}).content == b"done"
        assert (during, left(), held()) == ([1, 1], 9, 0)

    def test_an_error_that_another_middleware_makes_a_page_of_counts_by_that_page(self, visit):
        assert visit("/broken/", **{"X-Answer": "excuse"}).content == b"sorry"
        assert (during, left(), held()) == ([1], 9, 0)


class TestLeaving:
    def test_a_client_that_leaves_gives_back(self, rules):
        async def leave():
            began = asyncio.Event()

            async def answer(request):
                assert await middleware.process_view(request, answer, (), {}) is None
                began.set()
                await asyncio.sleep(3600)

            middleware = EntitlementMiddleware(answer)
            task = asyncio.create_task(middleware(AsyncRequestFactory().get("/", headers={"X-Customer": PRO})))
            await began.wait()
            assert held() == 1_000_000
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(leave())
        assert (left(), held()) == (10, 0)

    def test_a_worker_that_is_told_to_exit_gives_back(self, rules):
        def answer(request):
            assert middleware.process_view(request, answer, (), {}) is None
            note(request)
            raise SystemExit

        middleware = EntitlementMiddleware(answer)
        with pytest.raises(SystemExit):
            middleware(RequestFactory().get("/", headers={"X-Customer": PRO}))
        assert (during, left(), held()) == ([1], 10, 0)


class Around:
    """A middleware above ours whose transaction is rolled back where the request says so."""

    sync_capable, async_capable = True, False

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        with transaction.atomic():
            response = self.get_response(request)
            note(request)
            transaction.set_rollback("undo" in request.GET)
            return response


@pytest.mark.django_db(transaction=True)
class TestTransactions:
    @pytest.mark.parametrize(("url", "count"), [("/status/200/", 1), ("/status/409/", 0), ("/broken/", 0)])
    def test_a_transaction_around_the_view_has_ended_when_it_is_settled(self, visit, url, count, monkeypatch):
        monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)  # noqa: FBT003 - its value
        visit(url)
        assert (during, left(), held()) == ([1], 10 - count, 0)

    @pytest.mark.parametrize(("query", "count"), [("", 1), ("?undo", 0)])
    def test_a_transaction_around_the_middleware_has_the_last_word(self, rules, settings, query, count):
        settings.MIDDLEWARE = [f"{__name__}.Around", OURS]
        assert Client().get(f"/status/200/{query}", headers={"X-Customer": PRO}).status_code == 200
        assert during == [1, 1]  # by the view, and before the transaction ended
        assert (left(), held()) == (10 - count, 0)
