"""Views within transactions: what was rolled back is not counted, whatever was answered."""

import uuid
from unittest import mock

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import Group, User
from django.db import connections, transaction
from django.http import HttpResponse, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.test import AsyncClient, Client, RequestFactory, TestCase
from django.urls import path
from ninja import NinjaAPI

from entitlement_gate import check_entitlement, requires_entitlement
from entitlement_gate.api import default_gate
from entitlement_gate.holds import Transactions
from entitlement_gate.testing import FakeBilling
from tests.customers import PRO, SETTINGS

gate = requires_entitlement("calls", consume=True)
seen = []  # what was counted when the view was at its end, but not its transaction


def keep():
    Group.objects.create(name=uuid.uuid4().hex)


def break_at_commit():
    keep()
    User.groups.through.objects.create(user_id=999, group_id=999)  # a constraint that is checked at the end


def roll_back():
    keep()
    transaction.set_rollback(True)


DEEDS = {"keeps": keep, "breaks": break_at_commit, "rolls back": roll_back}


def plain(request):
    return HttpResponse("done")


def rendered(request):
    return TemplateResponse(request, "entitlement_gate/denied.html", {})


def streamed(request):
    return StreamingHttpResponse(iter([b"do", b"ne"]))


def failed(request):
    return HttpResponse(status=409)


def _doing(answer):
    @gate
    def view(request):
        DEEDS[request.GET["deed"]]()
        return answer(request)

    return view


def _within(answer):
    @transaction.atomic
    @gate
    def view(request):
        DEEDS[request.GET["deed"]]()
        return answer(request)

    return view


def _noting(request):
    response = _doing(plain)(request)
    seen.append(committed())
    return response


@transaction.non_atomic_requests
@gate
def by_hand(request):
    with transaction.atomic():
        DEEDS[request.GET["deed"]]()
    return HttpResponse("done")


api = NinjaAPI(urls_namespace="transactions")


@api.get("/")
@gate
def operation(request, deed: str):
    DEEDS[deed]()
    return {"done": True}


ANSWERS = {answer.__name__: answer for answer in (plain, rendered, streamed, failed)}
urlpatterns = [
    *(path(f"{name}/", _doing(answer)) for name, answer in ANSWERS.items()),
    path("within/", _within(plain)),
    path("noting/", _noting),
    path("by-hand/", by_hand),
    path("ninja/", api.urls),
]


class Excused:
    """A middleware of the project's that makes a page of every error."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        return self.get_response(request)

    def process_exception(self, request, exception):
        return HttpResponse("sorry", status=200)


OURS = "entitlement_gate.middleware.EntitlementMiddleware"


@pytest.fixture(autouse=True)
def billing(settings):
    settings.ENTITLEMENT_GATE = SETTINGS
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = [OURS]
    seen.clear()
    with FakeBilling() as billing:
        billing.grant(PRO, "calls", 10)
        yield billing


@pytest.fixture
def atomic_requests(monkeypatch):
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)  # noqa: FBT003 - its value


def _sync(where, deed):
    client = Client(raise_request_exception=False, headers={"X-Customer": PRO})
    response = client.get(f"/{where}/", {"deed": deed})
    if response.streaming:
        b"".join(response)
        response.close()
    return response.status_code


@async_to_sync  # so that Django runs the views on this thread, whose database it is
async def _async(where, deed):
    client = AsyncClient(raise_request_exception=False)
    response = await client.get(f"/{where}/", {"deed": deed}, headers={"X-Customer": PRO})
    if response.streaming:
        await sync_to_async(b"".join)(response)
        await sync_to_async(response.close)()
    return response.status_code


@pytest.fixture(params=[_sync, _async], ids=["wsgi", "asgi"])
def visit(request):
    return request.param


def tallies():
    charges = default_gate().ledger.charges(PRO)
    return [tally for tallies in charges.values() for tally in tallies.values()]


def committed():
    return sum(tally.committed for tally in tallies()) // 1_000_000


def held():
    return sum(tally.held for tally in tallies()) // 1_000_000


@pytest.mark.django_db(transaction=True)
class TestInTransactions:
    @pytest.mark.parametrize("middleware", [[OURS], []], ids=["ours", "none"])
    @pytest.mark.parametrize("where", ["plain", "rendered", "streamed", "within", "ninja"])
    @pytest.mark.parametrize(
        ("deed", "status", "count"), [("keeps", 200, 1), ("breaks", 500, 0), ("rolls back", 200, 0)]
    )
    def test_it_counts_where_what_was_written_was_kept(
        self, atomic_requests, settings, visit, *, where, deed, status, count, middleware
    ):
        settings.MIDDLEWARE = middleware
        assert visit(where, deed) == status
        assert (committed(), held()) == (count, 0)
        assert Group.objects.count() == count
        assert check_entitlement(PRO, "calls").remaining == 10 - count

    @pytest.mark.parametrize(("deed", "status", "count"), [("keeps", 200, 1), ("breaks", 500, 0)])
    def test_a_transaction_around_the_view_alone_is_one(self, visit, deed, status, count):
        assert visit("within", deed) == status
        assert (committed(), held()) == (count, 0)

    @pytest.mark.parametrize(("deed", "status", "count"), [("keeps", 200, 1), ("breaks", 500, 0)])
    def test_one_within_the_view_has_ended_with_it(self, visit, deed, status, count):
        assert visit("by-hand", deed) == status
        assert (committed(), held()) == (count, 0)

    def test_an_answer_that_fails_gives_back_at_once(self, atomic_requests, visit):
        assert visit("failed", "keeps") == 409
        assert (committed(), held()) == (0, 0)

    def test_it_is_counted_when_the_transaction_is_at_its_end_and_not_before(self, atomic_requests, visit):
        assert visit("noting", "keeps") == 200
        assert (seen, committed()) == ([0], 1)

    def test_an_error_that_becomes_a_page_gives_back_all_the_same(self, atomic_requests, settings, visit):
        settings.MIDDLEWARE = [f"{__name__}.Excused"]
        assert visit("plain", "breaks") == 200
        assert (committed(), held()) == (0, 0)

    def test_of_two_databases_both_have_to_keep_it(self):
        told = []
        with connections["default"].cursor(), transaction.atomic():
            around = Transactions(lambda: told.append("kept"))
            other = connections.create_connection("default")
            around._hooks[other] = lambda: around._note_commit(other)
            other.run_on_commit = [(set(), around._hooks[other], True)]
        assert (told, around.are_open, around.is_one_undone) == ([], True, False)
        around._hooks[other]()
        assert (told, around.are_open, around.is_one_undone) == (["kept"], False, False)


class TestInATestCase(TestCase):
    """Django's own puts a transaction around each test that never ends."""

    def setUp(self):
        patched = mock.patch.dict(connections.settings["default"], ATOMIC_REQUESTS=True)
        patched.start()
        self.addCleanup(patched.stop)

    def test_a_view_that_is_called_counts_at_its_end(self):
        view = gate(lambda request: HttpResponse("done"))
        assert view(RequestFactory().get("/", headers={"X-Customer": PRO})).status_code == 200
        assert (committed(), held()) == (1, 0)

    def test_a_request_counts_at_its_end_where_what_it_wrote_was_kept(self):
        assert _sync("plain", "keeps") == 200
        assert (committed(), held()) == (1, 0)
        assert _sync("plain", "rolls back") == 200
        assert (committed(), held()) == (1, 0)

    def test_callbacks_that_are_captured_count_once(self):
        with self.captureOnCommitCallbacks(execute=True):
            assert _sync("plain", "keeps") == 200
        assert (committed(), held()) == (1, 0)
