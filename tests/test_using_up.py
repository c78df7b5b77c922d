import asyncio
import io
import pickle
import threading

import pytest
from asgiref.sync import sync_to_async
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.test import AsyncRequestFactory, RequestFactory
from django.utils.decorators import method_decorator
from django.views import View

from entitlement_gate import Requirement, check_entitlement, requires_entitlement
from entitlement_gate.api import default_gate
from entitlement_gate.ledger.memory import MemoryLedger
from entitlement_gate.ledger.protocol import LedgerUnavailable
from entitlement_gate.testing import FakeBilling
from tests.customers import FREE, PRO, SETTINGS
from tests.engine.fakes import eventually

pytestmark = pytest.mark.django_db  # closing a response lets Django look after its connections


class Away(MemoryLedger):
    """A ledger that costs I/O, and that may be out of reach for a verb."""

    is_local = False
    failing = ""

    def commit(self, *args, **keywords):
        return self._reached("commit", *args, **keywords)

    def release(self, *args, **keywords):
        return self._reached("release", *args, **keywords)

    def _reached(self, verb, *args, **keywords):
        if verb == self.failing:
            raise LedgerUnavailable("Redis: TimeoutError")
        return getattr(super(), verb)(*args, **keywords)


class Slow(Away):
    """A ledger that answers a verb when it may."""

    def __init__(self, *, waiting, **options):
        super().__init__(**options)
        self.waiting = waiting
        self.began, self.may_go_on = threading.Event(), threading.Event()

    def reserve(self, *args, **keywords):
        return self._slowly("reserve", *args, **keywords)

    def charges(self, *args):
        return self._slowly("charges", *args)

    def _slowly(self, verb, *args, **keywords):
        outcome = getattr(super(), verb)(*args, **keywords)
        if verb == self.waiting:
            self.began.set()
            assert self.may_go_on.wait(10)
        return outcome


@pytest.fixture(params=["memory", "away"])
def billing(request, settings):
    settings.ENTITLEMENT_GATE = SETTINGS
    with FakeBilling() as billing:
        if request.param == "away":
            billing._ledger = Away(clock=billing.clock)
        billing.grant(PRO, "calls", 10)
        billing.grant(PRO, "seats", 2)
        billing.grant(PRO, "sso")
        yield billing


@pytest.fixture(params=["sync", "async"])
def visit(request, billing):
    """Make a view of a body, gate it, visit it, and read what it answers to the end."""
    colour = request.param

    def visit(body, *gate, header=PRO, read=True, **options):
        if colour == "sync":
            request = RequestFactory().get("/", headers={"X-Customer": header or ""})
            return _read(requires_entitlement(*gate or ("calls",), consume=True, **options)(body)(request), read)

        async def view(request):
            return body(request)

        gated = requires_entitlement(*gate or ("calls",), consume=True, **options)(view)
        request = AsyncRequestFactory().get("/", headers={"X-Customer": header or ""})
        return asyncio.run(_aread(gated, request, read))

    visit.colour = colour
    return visit


def _read(response, read):
    if response.streaming and read:
        response.content_read = b"".join(response)
    response.close()
    return response


async def _aread(gated, request, read):
    response = await gated(request)
    if response.streaming and read:
        response.content_read = b"".join([part async for part in response])
    await sync_to_async(response.close)()
    return response


def left(name="calls"):
    return int(check_entitlement(PRO, name).remaining)


def held():
    return sum(tally.held for tallies in default_gate().ledger.charges(PRO).values() for tally in tallies.values())


def ok(request):
    return HttpResponse("ok")


def test_an_answer_commits_one(visit):
    assert visit(ok).content == b"ok"
    assert (left(), held()) == (9, 0)


def test_the_view_runs_while_it_is_held(visit):
    def look(request):
        return HttpResponse(str(held()))

    assert visit(look, "calls", 3).content == b"3000000"
    assert (left(), held()) == (7, 0)


@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_an_answer_that_is_an_error_gives_back(visit, status):
    assert visit(lambda _: HttpResponse(status=status)).status_code == status
    assert (left(), held()) == (10, 0)


@pytest.mark.parametrize("status", [200, 204, 302, 304])
def test_any_other_answer_commits(visit, status):
    visit(lambda _: HttpResponse(status=status))
    assert left() == 9


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_an_exception_gives_back_and_goes_on(visit, error):
    def fail(request):
        raise error

    with pytest.raises(error):
        visit(fail)
    assert (left(), held()) == (10, 0)


def test_a_view_that_forgets_its_response_gives_back(visit):
    with pytest.raises(AttributeError):
        visit(lambda _: None)
    assert (left(), held()) == (10, 0)


def test_with_nothing_left_the_view_does_not_run(visit):
    ran = []
    assert visit(ran.append, "calls", 11).status_code == 402
    assert visit(ran.append, "nothing").status_code == 403
    assert visit(ran.append, header=FREE).status_code == 403
    assert (ran, left(), held()) == ([], 10, 0)


def test_a_key_makes_a_retry_free(visit):
    for _ in range(3):
        visit(ok, "calls", 4, key=lambda _: 17)
    assert left() == 6
    for _ in range(2):
        visit(ok, "calls", 2, key=lambda _: None)
    assert left() == 2


def test_quantity_key_and_customer_may_be_async(visit):
    async def quantity(request):
        return 4

    async def key(request):
        return "k"

    async def customer(request):
        return PRO

    for _ in range(2):
        assert visit(ok, "calls", quantity, key=key, customer=customer, header=None).status_code == 200
    assert left() == 6


def test_several_entitlements_are_used_up_together(visit):
    both = Requirement("calls", 4) & Requirement("seats", 1) & "sso"
    assert [visit(ok, both).status_code for _ in range(3)] == [200, 200, 402]
    assert (left(), left("seats")) == (2, 0)


def test_gates_above_each_other_use_up_each_or_give_back(billing):
    view = requires_entitlement("calls", consume=True)(requires_entitlement("seats", consume=True)(ok))
    request = RequestFactory().get("/", headers={"X-Customer": PRO})
    assert [view(request).status_code for _ in range(3)] == [200, 200, 402]
    assert (left(), left("seats"), held()) == (8, 0, 0)


def test_a_gate_below_that_refuses_gives_back_what_one_above_holds_also_where_it_leads_away(billing):
    refusing = requires_entitlement("seats", 3, on_denied="/plans/")(ok)
    response = requires_entitlement("calls", consume=True)(refusing)(
        RequestFactory().get("/", headers={"X-Customer": PRO})
    )
    assert (response.status_code, left(), held()) == (302, 10, 0)


def test_a_streaming_body_commits_at_its_end(visit):
    during = []

    def body():
        during.append(held())
        yield b"a"
        during.append(held())
        yield b"b"

    async def abody():
        for part in body():
            yield part

    make = body if visit.colour == "sync" else abody
    assert visit(lambda _: StreamingHttpResponse(make())).content_read == b"ab"
    assert during == [1_000_000, 1_000_000]
    assert (left(), held()) == (9, 0)


def test_a_streaming_body_that_nobody_reads_gives_back(visit):
    visit(lambda _: StreamingHttpResponse(iter([b"a"])), read=False)
    assert (left(), held()) == (10, 0)


def test_a_streaming_body_that_breaks_gives_back(billing):
    def body():
        yield b"a"
        raise KeyError

    gated = requires_entitlement("calls", consume=True)(lambda _: StreamingHttpResponse(body()))
    response = gated(RequestFactory().get("/", headers={"X-Customer": PRO}))
    with pytest.raises(KeyError):
        list(response)
    response.close()  # as every server does
    assert (left(), held()) == (10, 0)


def test_a_file_commits_when_it_was_sent(billing):
    gated = requires_entitlement("calls", consume=True)(lambda _: FileResponse(io.BytesIO(b"file")))
    response = gated(RequestFactory().get("/", headers={"X-Customer": PRO}))
    assert response.file_to_stream is None  # or a server would send the file past the count
    assert b"".join(response) == b"file"
    assert (left(), held()) == (9, 0)


def test_a_template_response_commits_when_it_is_rendered(visit):
    def page(request):
        return TemplateResponse(request, "entitlement_gate/denied.html", {})

    response = visit(page)
    assert held() == 1_000_000
    response.render()
    assert (left(), held()) == (9, 0)


def test_a_template_response_that_turns_into_an_error_gives_back(visit):
    def page(request):
        return TemplateResponse(request, "entitlement_gate/denied.html", {})

    response = visit(page)
    response.status_code = 500
    response.render()
    assert (left(), held()) == (10, 0)


class Broken(TemplateResponse):
    @property
    def rendered_content(self):
        raise LookupError("broken")


def test_a_template_response_that_fails_to_render_gives_back(visit):
    response = visit(lambda request: Broken(request, "entitlement_gate/denied.html", {}))
    assert held() == 1_000_000
    with pytest.raises(LookupError):
        response.render()
    assert (left(), held()) == (10, 0)


def test_a_callback_that_fails_after_rendering_gives_back(visit):
    response = visit(lambda request: TemplateResponse(request, "entitlement_gate/denied.html", {}))
    response.add_post_render_callback(lambda rendered: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        response.render()
    assert (left(), held()) == (10, 0)


def test_a_rendered_response_can_be_pickled_and_two_gates_conclude_it(billing):
    gates = requires_entitlement("seats", consume=True), requires_entitlement("calls", consume=True)

    def view(request):
        return TemplateResponse(request, "entitlement_gate/denied.html", {})

    for gate in gates:
        view = gate(view)
    response = view(RequestFactory().get("/", headers={"X-Customer": PRO})).render()
    assert (left(), held()) == (9, 0)
    assert check_entitlement(PRO, "seats").remaining == 1
    assert pickle.loads(pickle.dumps(response)).content == response.content


def test_an_outage_is_a_503_or_as_the_gate_says(visit, billing):
    billing.fail("status", status=503)
    assert visit(ok).status_code == 503
    assert visit(ok, on_unavailable="allow").status_code == 200
    billing.recover()
    assert (left(), held()) == (10, 0)


def test_use_that_could_not_be_counted_is_an_error_in_the_log_not_in_the_answer(visit, billing, caplog):
    billing._ledger.failing = "commit"
    visit(ok)
    if isinstance(billing._ledger, Away):
        assert "usage was not counted: 1 of calls" in caplog.text
        billing._ledger.failing = "release"
        assert visit(lambda _: HttpResponse(status=500)).status_code == 500
        assert "returns when its time is up" in caplog.text
        assert (left(), held()) == (8, 2_000_000)
        billing.advance(60)
        assert (left(), held()) == (10, 0)


def test_an_async_view_that_is_cancelled_gives_back(billing):
    began = asyncio.Event()

    @requires_entitlement("calls", consume=True)
    async def view(request):
        began.set()
        await asyncio.sleep(60)

    async def leave():
        task = asyncio.create_task(view(AsyncRequestFactory().get("/", headers={"X-Customer": PRO})))
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    assert (left(), held()) == (10, 0)


@pytest.mark.parametrize("on_denied", [None, "/plans/"])
@pytest.mark.parametrize(("quantity", "verb"), [(1, "reserve"), (11, "reserve"), (11, "charges")])
def test_a_client_that_leaves_while_the_ledger_is_asked_leaves_no_hold(billing, *, quantity, verb, on_denied):
    ledger = billing._ledger = Slow(clock=billing.clock, waiting=verb)
    gated = requires_entitlement("calls", quantity, consume=True, on_denied=on_denied)(_never)

    async def leave():
        task = asyncio.create_task(gated(AsyncRequestFactory().get("/", headers={"X-Customer": PRO})))
        await asyncio.to_thread(ledger.began.wait, 10)
        task.cancel()
        await asyncio.sleep(0)
        ledger.may_go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    eventually(lambda: (left(), held()) == (10, 0))  # by the thread that asked, once it has its answer


async def _never(request):
    raise AssertionError("the view of a client that left")


@pytest.mark.parametrize("is_async", [False, True])
def test_classes_and_their_dispatch_use_up_once(billing, is_async):
    def get(self, request):
        return HttpResponse("ok")

    async def aget(self, request):
        return HttpResponse("ok")

    gate = requires_entitlement("calls", consume=True)
    plain = type("Plain", (View,), {"get": aget if is_async else get})
    bound = method_decorator(gate, name="dispatch")(type("Bound", (View,), {"get": aget if is_async else get}))
    for view in (gate(type("Own", (View,), {"get": plain.get})).as_view(), bound.as_view(), gate(plain.as_view())):
        before = left()
        factory = AsyncRequestFactory if is_async else RequestFactory
        response = view(factory().get("/", headers={"X-Customer": PRO}))
        assert (asyncio.run(_only(response)) if is_async else response).content == b"ok"
        assert left() == before - 1


async def _only(awaitable):
    return await awaitable


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("shape", ["function", "class", "dispatch"])
def test_options_are_checked_and_use_nothing_up(billing, shape, is_async):
    gate, answer = requires_entitlement("calls", 4, consume=True), lambda *_: HttpResponse("ok")

    async def aanswer(*_):
        return HttpResponse("ok")

    handler = aanswer if is_async else answer
    view_class = type("Page", (View,), {"get": handler, "options": handler})
    view = {
        "function": lambda: gate(handler),
        "class": lambda: gate(view_class).as_view(),
        "dispatch": lambda: method_decorator(gate, name="dispatch")(view_class).as_view(),
    }[shape]()
    factory = AsyncRequestFactory() if is_async else RequestFactory()

    def ask(method, customer):
        response = view(factory.generic(method, "/", headers={"X-Customer": customer}))
        return (asyncio.run(_only(response)) if is_async else response).status_code

    assert [ask("OPTIONS", PRO) for _ in range(3)] == [200] * 3
    assert (left(), held()) == (10, 0)
    assert ask("OPTIONS", FREE) == 403
    assert [ask("GET", PRO) for _ in range(3)] == [200, 200, 402]
    assert ask("OPTIONS", PRO) == 402
    assert ask("HEAD", PRO) == 402


def test_what_cannot_work_is_refused_at_import():
    with pytest.raises(ValueError, match="consume=True"):
        requires_entitlement("calls", key=lambda _: "k")
    with pytest.raises(TypeError, match="key"):
        requires_entitlement("calls", consume=True, key="constant")
