import asyncio
import os
import subprocess
import sys
import threading
import warnings
from contextlib import contextmanager, suppress
from typing import Annotated

import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, HTTPException, WebSocket
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect

from entitlement_gate import Decision, EntitlementDenied, EntitlementGate, EntitlementType, Requirement
from entitlement_gate.contrib.starlette import (
    GateMiddleware,
    RequirementMiddleware,
    _tasks,
    customer_of,
    requires,
)
from entitlement_gate.ledger.memory import MemoryLedger
from entitlement_gate.testing import FakeSource
from tests.customers import FREE, PRO, STRANGER
from tests.docs.pages import DOCS, blocks_of

with warnings.catch_warnings(action="ignore"):  # it would rather have httpx2, which no other test needs
    from starlette.testclient import TestClient, WebSocketDenialResponse

BUDGET = 3


@pytest.fixture
def source():
    source = FakeSource()
    source.grant(PRO, "reports")
    source.grant(PRO, "calls", BUDGET)
    source.grant(FREE, "credits", 1, type=EntitlementType.CREDITS)
    return source


@pytest.fixture
def gate(source):
    with EntitlementGate(source, deadline=30) as gate:
        yield gate


def from_header(connection):
    return connection.headers.get("x-customer")


async def from_header_async(connection):
    return connection.headers.get("x-customer")


@contextmanager
def browsing(app, customer=PRO, **options):
    headers = {"x-customer": customer} if customer else {}
    with TestClient(app, headers=headers, **options) as client:
        yield client


def left(gate, customer=PRO, name="calls"):
    return gate.check(customer, name).remaining


def counted(gate):
    """Return what is committed and what is held."""
    tallies = [tally for rows in gate.ledger.charges(PRO).values() for tally in rows.values()]
    return tuple(sum(each) // 1_000_000 for each in ([t.committed for t in tallies], [t.held for t in tallies]))


uses_a_call = requires("calls", consume=True)


async def sign_in(request: Request):
    if "authorization" not in request.headers:
        raise HTTPException(401, headers={"WWW-Authenticate": "Bearer"})


def make_fastapi(gate, **options):
    app = FastAPI()
    app.add_middleware(GateMiddleware, gate=gate, **{"customer": from_header, **options})
    app.state.gate, app.state.told = gate, []
    app.include_router(reports)
    app.include_router(uses)
    return app


reports, uses = APIRouter(), APIRouter(prefix="/use")


@reports.get("/sync", dependencies=[Depends(requires("reports"))])
def sync_reports():
    return "let in"


@reports.get("/async")
async def async_reports(decision: Annotated[Decision, Depends(requires("reports"))]):
    return str(decision.reason)


@reports.get("/signed-in", dependencies=[Depends(sign_in), Depends(requires("reports"))])
def signed_in():
    return "let in"


@reports.get("/enough/{quantity}")
async def enough(quantity: int, request: Request, customer: Annotated[str, Depends(customer_of)]):
    return request.app.state.gate.require(customer, "calls", quantity).remaining


@reports.get("/open")
async def nothing_required():
    return "open"


@reports.websocket("/socket")
async def socket(websocket: WebSocket, decision: Annotated[Decision, Depends(uses_a_call)]):
    await websocket.accept()
    await websocket.send_text(str(decision.remaining))
    with suppress(WebSocketDisconnect):
        while True:
            websocket.app.state.gate.require(PRO, await websocket.receive_text())


@uses.api_route("/sync", methods=["GET", "POST", "OPTIONS"], dependencies=[Depends(uses_a_call)])
def use_sync():
    return "used"


@uses.get("/async", dependencies=[Depends(uses_a_call)])
async def use_async():
    return "used"


@uses.get("/twice", dependencies=[Depends(uses_a_call), Depends(uses_a_call)])
async def use_twice():
    return "used"


@uses.get("/key", dependencies=[Depends(requires("calls", 2, consume=True, key=lambda _: "invoice 7"))])
async def use_key():
    return "used"


@uses.get("/number/{number}", dependencies=[Depends(uses_a_call)])
async def use_number(number: int):
    if number >= 500:
        raise RuntimeError("a bug")
    raise HTTPException(number)


@uses.get("/both", dependencies=[Depends(uses_a_call), Depends(requires("in nobody's plan"))])
async def use_both():
    return "used"


@uses.get("/stream/{is_failing}", dependencies=[Depends(uses_a_call)])
async def use_stream(is_failing: int, request: Request):
    async def parts():
        yield b"one"
        assert left(request.app.state.gate) == BUDGET - 1  # it is held while the answer is sent
        if is_failing:
            raise RuntimeError("half way")
        yield b"two"

    return StreamingResponse(parts())


@uses.get("/background", dependencies=[Depends(uses_a_call)])
async def use_background(request: Request, tasks: BackgroundTasks):
    tasks.add_task(lambda: request.app.state.told.append(counted(request.app.state.gate)))
    return "used"


@pytest.fixture(params=[from_header, from_header_async], ids=["sync customer", "async customer"])
def app(request, gate):
    return make_fastapi(gate, customer=request.param)


@pytest.mark.parametrize("url", ["/sync", "/async"])
def test_who_may_is_let_in(app, url):
    with browsing(app) as client:
        assert client.get(url).json() in {"let in", "allowed"}


@pytest.mark.parametrize("url", ["/sync", "/async"])
@pytest.mark.parametrize(
    ("customer", "reason"), [(None, "no_customer"), (FREE, "not_entitled"), ("x", "invalid_customer")]
)
def test_who_may_not_gets_problem_details(app, url, customer, reason):
    with browsing(app, customer) as client:
        answer = client.get(url)
    assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")
    problem = answer.json()
    assert (problem["status"], problem["code"], problem["entitlement"]) == (403, reason, "reports")
    assert problem["type"] == f"urn:entitlement-gate:{reason}"
    assert problem["title"]
    assert answer.headers["cache-control"] == "no-store, private"
    assert answer.headers["vary"] == "Accept, Cookie, Authorization"


def test_what_the_endpoint_itself_requires_is_answered_too(app):
    with browsing(app) as client:
        answer = client.get("/enough/5")
    assert answer.status_code == 402
    assert {name: answer.json()[name] for name in ("code", "requested", "remaining")} == {
        "code": "insufficient_quantity",
        "requested": "5",
        "remaining": "3",
    }


def test_an_outage_is_a_503_that_says_when_to_come_again(app, source):
    source.fail()
    with browsing(app) as client:
        answer = client.get("/sync")
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "unavailable", "5")


def test_who_is_not_signed_in_is_told_that_first(app, source):
    with browsing(app, None) as client:
        assert client.get("/signed-in").status_code == 401
        assert client.get("/signed-in", headers={"authorization": "x"}).status_code == 403
        source.fail()
        signed_in = {"authorization": "x", "x-customer": PRO}
        assert client.get("/signed-in", headers=signed_in).status_code == 503


def test_the_customer_is_asked_for_once_a_request_and_not_without_need(gate):
    asked = []

    def find(connection):
        asked.append(threading.current_thread())
        return PRO

    with browsing(make_fastapi(gate, customer=find)) as client:
        assert client.get("/open").json() == "open"
        assert asked == []
        assert client.get("/use/both").status_code == 403
    assert len(asked) == 1


def test_statuses_and_the_way_to_more_are_ones_own(gate):
    def leads(connection, decision):
        return f"{connection.base_url}plans?for={decision.entitlement}"

    app = make_fastapi(gate, status_codes={"not_entitled": 404}, upgrade_url=leads)
    with browsing(app, FREE) as client:
        answer = client.get("/sync")
    assert (answer.status_code, answer.json()["status"]) == (404, 404)
    assert answer.json()["upgrade_url"] == "http://testserver/plans?for=reports"


def test_an_address_that_a_browser_would_run_is_left_out(gate, caplog):
    with browsing(make_fastapi(gate, upgrade_url=lambda *_: "javascript:alert(1)"), FREE) as client:
        assert "upgrade_url" not in client.get("/sync").json()
    assert "no address to visit" in caplog.text


def test_an_address_may_have_to_be_waited_for(gate):
    async def leads(connection, decision):
        return f"/plans?for={decision.entitlement}"

    with browsing(make_fastapi(gate, upgrade_url=leads), FREE) as client:
        assert client.get("/sync").json()["upgrade_url"] == "/plans?for=reports"


def test_an_address_that_cannot_be_found_is_left_out(gate, caplog):
    with browsing(make_fastapi(gate, upgrade_url=lambda _, decision: {}[decision.customer_id]), FREE) as client:
        answer = client.get("/sync")
    assert (answer.status_code, "upgrade_url" in answer.json()) == (403, False)
    assert "raised KeyError" in caplog.text
    assert FREE not in caplog.text


def test_a_handler_of_the_applications_own_comes_first(gate):
    app = make_fastapi(gate)

    @app.exception_handler(EntitlementDenied)
    async def handle(request, error):
        return PlainTextResponse(f"no: {error.decision.reason}", 418)

    with browsing(app, FREE) as client:
        assert client.get("/sync").text == "no: not_entitled"


def test_a_refusal_is_logged_and_names_nobody(app, caplog):
    caplog.set_level("INFO", logger="entitlement_gate")
    with browsing(app, FREE) as client:
        client.get("/sync")
    (record,) = [record for record in caplog.records if record.name == "entitlement_gate"]
    assert record.message == "refused: reports: not_entitled"
    assert record.decision.customer_id is None


def test_without_the_middleware_an_error_says_so():
    app = FastAPI()

    @app.get("/", dependencies=[Depends(requires("reports"))])
    def nothing():
        return "let in"

    with browsing(app) as client, pytest.raises(RuntimeError, match="add GateMiddleware"):
        client.get("/")


# Using up


@pytest.mark.parametrize("url", ["/use/sync", "/use/async", "/use/stream/0", "/use/twice"])
def test_an_answer_uses_up(app, gate, url):
    with browsing(app) as client:
        assert client.get(url).status_code == 200
        assert left(gate) == BUDGET - 1


def test_exactly_the_budget_is_let_in(app, gate):
    with browsing(app) as client:
        seen = [client.get("/use/async" if number % 2 else "/use/sync").status_code for number in range(BUDGET + 2)]
    assert seen == [200] * BUDGET + [402] * 2
    assert left(gate) == 0


@pytest.mark.parametrize("url", ["/use/number/404", "/use/number/500", "/use/number/x", "/use/stream/1", "/use/both"])
def test_what_fails_uses_nothing_up(app, gate, url):
    with browsing(app, raise_server_exceptions=False) as client:
        client.get(url)
    assert left(gate) == BUDGET


def test_a_question_about_options_uses_nothing_up_and_is_gated(app, gate):
    with browsing(app) as client:
        assert client.options("/use/sync").status_code == 200
        assert client.options("/use/sync", headers={"x-customer": FREE}).status_code == 403
    assert left(gate) == BUDGET


def test_it_counts_before_background_tasks_begin(app, gate):
    with browsing(app) as client:
        client.get("/use/background")
    assert app.state.told == [(1, 0)]


def test_what_is_required_after_the_answer_counts_at_once(gate):
    async def answer(request):
        return PlainTextResponse("later", background=BackgroundTask(uses_a_call, request))

    async def talk(websocket):
        await websocket.accept()
        async for _ in websocket.iter_text():
            await uses_a_call(websocket)
            await websocket.send_text(str(counted(gate)))

    routes = [Route("/", answer), WebSocketRoute("/socket", talk)]
    with browsing(GateMiddleware(Starlette(routes=routes), gate=gate, customer=from_header)) as client:
        client.get("/")
        assert counted(gate) == (1, 0)
        with client.websocket_connect("/socket") as socket:
            for used in (2, 3):
                socket.send_text("more")
                assert socket.receive_text() == f"({used}, 0)"
    assert counted(gate) == (3, 0)


async def test_tasks_that_ask_at_once_look_the_customer_up_once(gate):
    asked = []

    async def look_up(connection):
        asked.append(connection)
        await asyncio.sleep(0)
        return PRO

    async def answer(request):
        assert await asyncio.gather(customer_of(request), customer_of(request)) == [PRO, PRO]
        return PlainTextResponse("once")

    async def send(message):
        pass

    await GateMiddleware(Starlette(routes=[Route("/", answer)]), gate=gate, customer=look_up)(scope_of("/"), None, send)
    assert len(asked) == 1


async def test_what_is_admitted_as_the_answer_fails_uses_nothing_up(source):
    asked, may_answer = threading.Event(), threading.Event()

    class Slow(MemoryLedger):
        is_local = False

        def reserve(self, *args, **kwargs):
            asked.set()
            may_answer.wait()
            return super().reserve(*args, **kwargs)

    tasks = []

    async def fail(request):
        tasks.append(asyncio.ensure_future(uses_a_call(request)))
        await asyncio.to_thread(asked.wait)
        return PlainTextResponse("no", 503)

    async def send(message):
        pass

    with EntitlementGate(source, ledger=Slow(), deadline=30) as gate:
        app = GateMiddleware(Starlette(routes=[Route("/", fail)]), gate=gate, customer=from_header)
        try:
            await app(scope_of("/"), None, send)
        finally:
            may_answer.set()
        assert (await tasks[0]).allowed
        assert counted(gate) == (0, 0)


def test_a_key_counts_once(app, gate):
    with browsing(app) as client:
        assert [client.get("/use/key").status_code for _ in range(3)] == [200] * 3
    assert left(gate) == BUDGET - 2


async def test_a_client_that_leaves_a_stream_uses_nothing_up(gate):
    left_half_way = asyncio.Event()

    async def endless(request):
        await uses_a_call(request)

        async def parts():
            yield b"one"
            await asyncio.Event().wait()

        return StreamingResponse(parts())

    app = GateMiddleware(Starlette(routes=[Route("/", endless)]), gate=gate, customer=from_header)

    async def receive():
        await left_half_way.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        if message.get("body") == b"one":
            left_half_way.set()

    await app(scope_of("/"), receive, send)
    assert left(gate) == BUDGET


async def test_a_cancelled_request_uses_nothing_up(gate):
    begun = asyncio.Event()

    async def slow(request):
        await uses_a_call(request)
        begun.set()
        await asyncio.Event().wait()

    app = GateMiddleware(Starlette(routes=[Route("/", slow)]), gate=gate, customer=from_header)
    task = asyncio.ensure_future(app(scope_of("/"), None, None))
    await begun.wait()
    assert left(gate) == BUDGET - 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert left(gate) == BUDGET


async def test_who_leaves_as_the_answer_ends_has_used_it_up(gate):
    """The commit is carried to its end, though the task that waits for it is cancelled."""

    async def quick(request):
        await uses_a_call(request)
        return PlainTextResponse("used")

    app = GateMiddleware(Starlette(routes=[Route("/", quick)]), gate=gate, customer=from_header)
    task = None

    async def send(message):
        if message["type"] == "http.response.body":
            task.cancel()

    task = asyncio.ensure_future(app(scope_of("/"), None, send))
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.gather(*_tasks)
    assert counted(gate) == (1, 0)


def test_a_request_that_is_destroyed_uses_nothing_up(gate):
    async def slow(request):
        await uses_a_call(request)
        await Forever()

    app = GateMiddleware(Starlette(routes=[Route("/", slow)]), gate=gate, customer=from_header_async)
    gate.check(PRO, "calls")  # from here on nothing waits for billing
    coroutine = app(scope_of("/"), None, None)
    coroutine.send(None)
    assert left(gate) == BUDGET - 1
    coroutine.close()
    for thread in threading.enumerate():
        if thread.name == "entitlement_gate-return":
            thread.join()
    assert left(gate) == BUDGET


class Forever:
    def __await__(self):
        yield


def scope_of(path, **more):
    headers = [(b"x-customer", PRO.encode())]
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": headers}
    return {**scope, "asgi": {"version": "3.0", "spec_version": "2.3"}, **more}


# WebSockets


def test_a_socket_is_let_in_and_used_up_when_it_is_accepted(app, gate):
    with browsing(app) as client, client.websocket_connect("/socket") as socket:
        assert socket.receive_text() == str(BUDGET - 1)
        assert left(gate) == BUDGET - 1
    assert left(gate) == BUDGET - 1  # though the client left


def test_a_socket_that_is_refused_is_answered_as_a_request(app):
    with (
        browsing(app, FREE) as client,
        pytest.raises(WebSocketDenialResponse) as refused,
        client.websocket_connect("/socket"),
    ):
        pytest.fail("let in")
    answer = refused.value
    assert (answer.status_code, answer.json()["code"]) == (403, "not_entitled")
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(("is_failing", "code"), [(False, 1008), (True, 1013)])
async def test_a_server_that_cannot_answer_a_socket_closes_it(gate, source, is_failing, code):
    if is_failing:
        source.fail()
    sent = []

    async def send(message):
        sent.append(message)

    app = RequirementMiddleware(None, "in nobody's plan")
    gated = GateMiddleware(app, gate=gate, customer=from_header)
    await gated(scope_of("/", type="websocket"), None, send)
    reason = "unavailable" if is_failing else "not_entitled"
    assert sent == [{"type": "websocket.close", "code": code, "reason": reason}]


def test_a_socket_that_asks_for_too_much_later_is_closed(app):
    with browsing(app) as client, client.websocket_connect("/socket") as socket:
        socket.receive_text()
        socket.send_text("reports")
        socket.send_text("in nobody's plan")
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_text()
    assert (closed.value.code, closed.value.reason) == (1008, "not_entitled")


def test_an_answer_that_has_begun_is_not_answered_again(gate):
    async def late(request):
        async def parts():
            yield b"one"
            gate.require(PRO, "in nobody's plan")

        return StreamingResponse(parts())

    app = GateMiddleware(Starlette(routes=[Route("/", late)]), gate=gate, customer=from_header)
    with browsing(app) as client, pytest.raises(EntitlementDenied):
        client.get("/")


# Without FastAPI


def plain(request):
    return PlainTextResponse("let in")


async def plain_async(request):
    await requires("reports")(request)
    return PlainTextResponse("let in")


@pytest.fixture
def routed(gate):
    reports = [Middleware(RequirementMiddleware, Requirement("reports") | Requirement("credits"))]
    uses = [Middleware(RequirementMiddleware, "calls", 2, consume=True)]
    routes = [
        Route("/route", plain, middleware=reports),
        Route("/use", plain, middleware=uses),
        Route("/own", plain_async),
        Mount("/mount", routes=[Route("/below", plain)], middleware=reports),
    ]
    return Starlette(routes=routes, middleware=[Middleware(GateMiddleware, gate=gate, customer=from_header)])


@pytest.mark.parametrize(("url", "refused"), [("/route", STRANGER), ("/own", FREE), ("/mount/below", STRANGER)])
def test_routes_and_mounts_of_starlette_are_gated(routed, url, refused):
    with browsing(routed) as client:
        assert client.get(url).text == "let in"
        assert client.get(url, headers={"x-customer": refused}).status_code == 403


def test_a_route_of_starlette_uses_up(routed, gate):
    with browsing(routed) as client:
        assert [client.get("/use").status_code for _ in range(2)] == [200, 402]
    assert left(gate) == BUDGET - 2


@pytest.mark.parametrize("order", [1, -1], ids=["above", "below"])
def test_a_middleware_that_is_a_function_is_no_obstacle(gate, order):
    async def pass_on(request, call_next):
        return await call_next(request)

    answering = Middleware(GateMiddleware, gate=gate, customer=from_header)
    route = Route("/use", plain, middleware=[Middleware(RequirementMiddleware, "calls", 2, consume=True)])
    app = Starlette(routes=[route], middleware=[answering, Middleware(BaseHTTPMiddleware, dispatch=pass_on)][::order])
    with browsing(app) as client:
        assert [client.get("/use").status_code for _ in range(2)] == [200, 402]
    assert left(gate) == BUDGET - 2


async def test_what_is_neither_a_request_nor_a_socket_passes(gate):
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["type"])

    gated = GateMiddleware(RequirementMiddleware(app, "reports"), gate=gate, customer=from_header)
    await gated({"type": "lifespan"}, None, None)
    assert seen == ["lifespan"]


def test_the_applications_of_the_guide_do_what_it_says():
    namespace = {}
    for block in blocks_of(DOCS / "how-to" / "fastapi.md"):
        if block.mark == "run":
            exec(block.text, namespace)
    with browsing(namespace["app"]) as client:
        assert client.get("/reports").json() == "for those who paid"
        assert client.get("/seats").json() == {"left": 2, "of": 5}
        assert client.post("/export").json() == "done"
        told = client.get("/openapi.json").json()["paths"]["/sso"]["get"]["responses"]
        assert {status: list(said["content"]) for status, said in told.items() if status > "4"} == {
            status: ["application/problem+json"] for status in ("402", "403", "503")
        }
    with browsing(namespace["starlette"]) as client:
        assert client.get("/reports/monthly").text == "for those who paid"
        assert client.get("/reports/monthly", headers={"x-customer": FREE}).status_code == 403
    namespace["gate"].close()


# What cannot work


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gate", None),
        ("customer", PRO),
        ("status_codes", {"not_entitled": 200}),
        ("status_codes", {"nonsense": 403}),
        ("upgrade_url", 5),
    ],
)
def test_an_argument_that_cannot_work_is_named(gate, name, value):
    with pytest.raises(ValueError, match=f"^{name}: "):
        GateMiddleware(None, **{"gate": gate, "customer": from_header, name: value})


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (("",), {}),
        (("calls", 0), {}),
        (("calls", "many"), {}),
        (("calls", "0.0000001"), {"consume": True}),
        (("calls",), {"key": from_header}),
        (("calls",), {"key": "text", "consume": True}),
    ],
)
def test_a_requirement_that_cannot_be_is_refused_where_it_is_made(arguments, options):
    with pytest.raises(ValueError, match=r"."):
        requires(*arguments, **options)


def test_no_django_settings_are_needed():
    code = """
import warnings
warnings.simplefilter("ignore")  # as above
from fastapi import Depends, FastAPI
from starlette.testclient import TestClient
from entitlement_gate import EntitlementGate, ZenskarClient
from entitlement_gate.contrib.starlette import GateMiddleware, requires

gate = EntitlementGate(ZenskarClient(base_url="sandbox:"), deadline=30)
app = FastAPI()
app.add_middleware(GateMiddleware, gate=gate, customer=lambda connection: connection.headers["x-customer"])

@app.get("/", dependencies=[Depends(requires("reports"))])
def reports():
    return "let in"

with TestClient(app) as client:
    for customer in ("20000000-0000-4000-8000-000000000002", "30000000-0000-4000-8000-000000000003"):
        print(client.get("/", headers={"x-customer": customer}).status_code)
from django.conf import settings
print(settings.configured)
gate.close()
"""
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout.split() == ["200", "403", "False"], done.stderr


def test_a_key_that_comes_again_with_another_quantity_is_a_conflict(gate):
    app = make_fastapi(gate)
    again = requires("calls", 1, consume=True, key=lambda _: "invoice 7")
    app.get("/again", dependencies=[Depends(again)])(lambda: "done")
    with browsing(app) as browser:
        assert browser.get("/use/key").status_code == 200
        answer = browser.get("/again")
    assert (answer.status_code, answer.headers["content-type"]) == (409, "application/problem+json")
    assert answer.json()["code"] == "key_conflict"
    assert counted(gate) == (2, 0)
