"""The end of a response is the end, however it comes: through Django's own handlers, read and closed as servers do."""

from __future__ import annotations

import asyncio
import copy
import gc
import io
import pickle
import time
import warnings
from types import ModuleType

import pytest
from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.cache import cache
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import FileResponse, Http404, HttpResponse, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.test import AsyncClient, AsyncRequestFactory, Client, RequestFactory
from django.urls import path
from django.utils.decorators import sync_and_async_middleware
from django.views import View
from django.views.decorators.cache import cache_page
from django.views.decorators.http import condition

from entitlement_gate import requires_entitlement
from entitlement_gate.api import default_gate
from entitlement_gate.holds import _RequestEnd
from entitlement_gate.testing import FakeBilling
from tests.customers import PRO, SETTINGS

pytestmark = pytest.mark.django_db(transaction=True)  # closing a response lets Django look after its connections

OURS = "entitlement_gate.middleware.EntitlementMiddleware"
DJANGOS = "django.middleware."
gate = requires_entitlement("calls", consume=True)


@gate
def page(request):
    return TemplateResponse(request, "entitlement_gate/denied.html", {}, status=int(request.GET.get("status", 200)))


class Broken(TemplateResponse):
    @property
    def rendered_content(self):
        raise LookupError("broken")


class RenderedAsync(TemplateResponse):
    async def render(self):
        await asyncio.sleep(0)
        if "broken" in self._request.GET:
            raise LookupError("broken")
        self.content = b"rendered"
        return self


@gate
def broken_page(request):
    return Broken(request, "entitlement_gate/denied.html", {})


@gate
async def async_page(request):
    return RenderedAsync(request, "entitlement_gate/denied.html", {})


def body(request):
    for number in range(3):
        if request.GET.get("fails") == str(number):
            raise LookupError("broken")
        yield b"x" * 1000


async def abody(request):
    for part in body(request):
        await asyncio.sleep(0)
        yield part


@gate
def stream(request):
    return StreamingHttpResponse(body(request), headers=_headers(request))


@gate
async def async_stream(request):
    return StreamingHttpResponse(abody(request), headers=_headers(request))


def _headers(request):
    return {"ETag": '"one"'} if "etag" in request.GET else {}


@gate
def file(request):
    return FileResponse(io.BytesIO(b"x" * 10_000), headers=_headers(request))


@gate
def plain(request):
    return HttpResponse("in", headers=_headers(request))


@gate
@condition(etag_func=lambda request: '"one"')
def conditional(request):
    return HttpResponse("in")


@cache_page(60)
@gate
def cached(request):
    return TemplateResponse(request, "entitlement_gate/denied.html", {}, headers={"Cache-Control": "public"})


@gate
class ByClass(View):
    def get(self, request):
        return StreamingHttpResponse(body(request))


urlconf = ModuleType("consuming_ends")
urlconf.urlpatterns = [
    path(f"{name.replace('_', '-')}/", view)
    for name, view in {
        "page": page,
        "broken-page": broken_page,
        "async-page": async_page,
        "stream": stream,
        "async-stream": async_stream,
        "file": file,
        "plain": plain,
        "conditional": conditional,
        "cached": cached,
        "class": ByClass.as_view(),
    }.items()
]


# Middleware of all kinds


class Replacing:
    """Answers with another template response in place of a view's."""

    sync_capable = async_capable = True

    def __init__(self, get_response):
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request):
        return self.get_response(request)

    def process_template_response(self, request, response):
        return TemplateResponse(request, "entitlement_gate/denied.html", {}, status=int(request.GET["now"]))


class Raising(Replacing):
    def process_template_response(self, request, response):
        raise LookupError("in a middleware")


class NotFound(Replacing):
    def process_template_response(self, request, response):
        raise Http404


def changing(change):
    @sync_and_async_middleware
    def middleware(get_response):
        if iscoroutinefunction(get_response):

            async def answer(request):
                return change(request, await get_response(request))
        else:

            def answer(request):
                return change(request, get_response(request))

        return answer

    return middleware


@changing
def raising(request, response):
    raise LookupError("in a middleware")


@changing
def swallowing(request, response):
    return HttpResponse("other", status=int(request.GET.get("now", 200)))


@changing
def filling(request, response):
    response.streaming_content = _afresh() if response.is_async else iter([b"other"])
    return response


async def _afresh():
    yield b"other"


@changing
def collecting(request, response):
    return HttpResponse(b"".join(response.streaming_content))


@sync_and_async_middleware
def pausing(get_response):
    async def answer(request):
        response = await get_response(request)
        request.scope["gone"].set()
        await asyncio.Event().wait()
        return response

    return answer


def ours(name):
    return f"{__name__}.{name}"


@pytest.fixture(autouse=True)
def billing(settings):
    settings.ENTITLEMENT_GATE = SETTINGS
    settings.ROOT_URLCONF = urlconf
    settings.MIDDLEWARE = []
    settings.DEBUG = False
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    cache.clear()
    with FakeBilling() as billing:
        billing.grant(PRO, "calls", 10)
        yield billing


def used():
    """Return what is used up, when nothing is held any more."""
    end = time.monotonic() + 30
    while _tally("held") and time.monotonic() < end:
        gc.collect()  # of a response that was lost before anybody could close it
        time.sleep(0.001)
    assert _tally("held") == 0
    return _tally("committed")


def _tally(what):
    tallies = (tally for ids in default_gate().ledger.charges(PRO).values() for tally in ids.values())
    return sum(getattr(tally, what) for tally in tallies) // 10**6


class Server:
    """Asks a handler as a server does; ``leave_after`` so many parts, the client is gone."""

    def __init__(self, kind):
        self.kind = kind

    def ask(self, url, *, method="GET", leave_after=None, **headers):
        """Return the status, or "broken" where the server was told that the body failed."""
        path, _, query = url.partition("?")
        headers = {"x-customer": PRO, **headers}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Django tells of a body of the handler's other colour
            if self.kind == "WSGI":
                request = RequestFactory().generic(method, path, headers=headers, QUERY_STRING=query)
                return self._wsgi(request, leave_after)
            request = AsyncRequestFactory().generic(method, f"{path}?{query}", headers=headers)
            status = asyncio.run(self._asgi(request, leave_after))
            del request
            gc.collect()  # the file of a body, which Django leaves open where a response breaks
            return status

    def _wsgi(self, request, leave_after):
        told = []
        response = WSGIHandler()(request.environ, lambda status, headers: told.append(int(status[:3])))
        try:
            for number, _ in enumerate(response if leave_after != 0 else ()):
                if number + 1 == leave_after:
                    break
        except LookupError:
            return "broken"
        finally:
            response.close()
        return told[0]

    async def _asgi(self, request, leave_after):
        told, parts, gone = [], [], asyncio.Event()
        received = iter([{"type": "http.request", "body": b""}])

        async def receive():
            message = next(received, None)
            if message is None:
                await gone.wait()
                return {"type": "http.disconnect"}
            return message

        async def send(message):
            if message["type"] == "http.response.start":
                told.append(message["status"])
            else:
                parts.append(message)
            if leave_after is not None and len(parts) >= leave_after:
                gone.set()
                await asyncio.Event().wait()  # a socket that nobody reads

        try:
            await ASGIHandler()({**request.scope, "type": "http", "gone": gone}, receive, send)
        except LookupError:
            return "broken"
        return told[0] if told else "nothing"


@pytest.fixture(params=["WSGI", "ASGI"])
def server(request):
    return Server(request.param)


@pytest.fixture(params=["with", "without"])
def stack(request, settings):
    """Put middleware around ours, if that is there."""

    def stack(*above, below=()):
        settings.MIDDLEWARE = [*above, *([OURS] if request.param == "with" else []), *below]
        return request.param == "with"

    return stack


# Template responses


@pytest.mark.parametrize("place", ["above", "below"])
@pytest.mark.parametrize("now", [200, 302])
def test_a_replaced_template_response_counts(server, stack, place, now):
    stack(*[ours("Replacing")] * (place == "above"), below=[ours("Replacing")] * (place == "below"))
    assert server.ask(f"/page/?now={now}") == now
    assert used() == 1


@pytest.mark.parametrize("place", ["above", "below"])
@pytest.mark.parametrize("now", [404, 500])
def test_a_template_response_replaced_by_an_error_gives_back(server, settings, place, now):
    settings.MIDDLEWARE = [OURS, ours("Replacing")] if place == "below" else [ours("Replacing"), OURS]
    assert server.ask(f"/page/?now={now}") == now
    assert used() == 0


@pytest.mark.unmeasured
@pytest.mark.parametrize("place", ["above", "below"])
@pytest.mark.parametrize(
    "what", [("/page/", "Raising"), ("/page/", "raising"), ("/stream/", "raising"), ("/async-stream/", "raising")]
)
def test_what_ends_in_an_exception_of_a_middleware_gives_back(server, stack, what, place):
    url, name = what
    stack(*[ours(name)] * (place == "above"), below=[ours(name)] * (place == "below"))
    assert server.ask(url) == 500
    assert used() == (what == ("/page/", "raising"))  # which was rendered before


def test_a_template_response_that_a_middleware_calls_not_found_gives_back(server, settings):
    settings.MIDDLEWARE = [OURS, ours("NotFound")]
    assert server.ask("/page/") == 404
    assert used() == 0


@pytest.mark.parametrize(("url", "status"), [("/page/?status=500", 500), ("/broken-page/", 500)])
def test_a_template_response_that_is_or_becomes_an_error_gives_back(server, stack, url, status):
    stack()
    assert server.ask(url) == status
    assert used() == 0


@pytest.mark.parametrize(("url", "status", "expected"), [("/async-page/", 200, 1), ("/async-page/?broken", 500, 0)])
def test_a_template_response_that_renders_itself_in_the_loop_is_counted(url, status, expected):
    assert Server("ASGI").ask(url) == status
    assert used() == expected


def test_a_page_that_is_cached_is_pickled_without_what_was_held(server, stack):
    stack()
    assert [server.ask("/cached/") for _ in range(3)] == [200] * 3
    assert used() == 1


# Streaming responses

STREAMS = ("/stream/", "/async-stream/", "/class/")


@pytest.mark.unmeasured
@pytest.mark.parametrize("url", [*STREAMS, "/file/"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_body_that_is_read_counts(server, stack, url, packed):
    stack(*[f"{DJANGOS}gzip.GZipMiddleware"] * packed)
    assert server.ask(url, **{"accept-encoding": "gzip"}) == 200
    assert used() == 1


@pytest.mark.unmeasured
@pytest.mark.parametrize("url", STREAMS)
@pytest.mark.parametrize("where", [(0, False), (1, False), (2, False), (0, True), (1, True), (2, True)])
def test_a_body_that_raises_gives_back(server, stack, url, where):
    number, packed = where
    stack(*[f"{DJANGOS}gzip.GZipMiddleware"] * packed)
    assert server.ask(f"{url}?fails={number}", **{"accept-encoding": "gzip"}) == "broken"
    assert used() == 0


@pytest.mark.unmeasured
@pytest.mark.parametrize("where", [(0, False), (1, False), (2, False), (0, True), (1, True)])
@pytest.mark.parametrize("kind", ["WSGI", "ASGI"])
def test_a_client_that_leaves_in_the_middle_of_a_body_gets_it_back(stack, kind, where):
    after, packed = where
    stack(*[f"{DJANGOS}gzip.GZipMiddleware"] * packed)
    url = "/stream/" if kind == "WSGI" else "/async-stream/"
    Server(kind).ask(url, leave_after=after, **{"accept-encoding": "gzip"})
    assert used() == 0


@pytest.mark.parametrize("url", ["/async-stream/", "/stream/"])
@pytest.mark.parametrize("place", ["above", "below"])
def test_a_client_that_leaves_while_a_middleware_has_the_response_gets_it_back(stack, url, place):
    stack(*[ours("pausing")] * (place == "above"), below=[ours("pausing")] * (place == "below"))
    assert Server("ASGI").ask(url) == "nothing"
    assert used() == 0


@pytest.mark.unmeasured
@pytest.mark.parametrize("url", [*STREAMS, "/file/", "/plain/", "/page/"])
def test_head_counts_as_get_does(server, stack, url):
    stack()
    assert server.ask(url, method="HEAD", leave_after=0 if server.kind == "WSGI" else None) == 200
    assert used() == 1


@pytest.mark.unmeasured
@pytest.mark.parametrize("url", ["/stream/", "/async-stream/", "/file/", "/plain/", "/conditional/"])
def test_not_modified_counts(server, stack, url):
    stack(f"{DJANGOS}http.ConditionalGetMiddleware")
    assert server.ask(f"{url}?etag", **{"if-none-match": '"one"'}) == 304
    assert used() == 1


@pytest.mark.unmeasured
@pytest.mark.parametrize("place", ["above", "below"])
@pytest.mark.parametrize("url", STREAMS)
def test_a_streaming_response_that_is_swallowed_counts(server, stack, url, place):
    stack(*[ours("swallowing")] * (place == "above"), below=[ours("swallowing")] * (place == "below"))
    assert server.ask(url) == 200
    assert used() == 1


@pytest.mark.parametrize("url", STREAMS)
def test_a_streaming_response_swallowed_by_an_error_gives_back(server, settings, url):
    settings.MIDDLEWARE = [OURS, ours("swallowing")]
    assert server.ask(f"{url}?now=503") == 503
    assert used() == 0


@pytest.mark.parametrize("url", STREAMS)
def test_a_body_that_is_filled_anew_counts(server, stack, url):
    stack(ours("filling"))
    assert server.ask(url) == 200
    assert used() == 1


def test_a_body_that_a_middleware_collects_counts(server, stack):
    stack(ours("collecting"))
    assert server.ask("/stream/") == 200
    assert used() == 1


@pytest.mark.parametrize("url", [*STREAMS, "/page/", "/file/", "/plain/"])
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_djangos_test_clients_are_servers_too(stack, kind, url):
    stack()
    if kind is Client:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            response = Client().get(url, headers={"X-Customer": PRO})
            b"".join(response)
    else:
        asyncio.run(_read(url))
    assert used() == 1


async def _read(url):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        response = await AsyncClient().get(url, headers={"X-Customer": PRO})
        if response.streaming:
            async for _ in response:
                pass


# Beside a handler


def test_a_response_that_nobody_closes_gives_back_when_it_is_gone():
    response = stream(RequestFactory().get("/", headers={"X-Customer": PRO}))
    assert _tally("held") == 1
    del response
    assert used() == 0


def test_a_request_with_something_held_can_be_pickled_and_copied_and_is_closed_once():
    request = RequestFactory().post("/", {"file": io.BytesIO(b"file")}, headers={"X-Customer": PRO})
    (uploaded,) = request.FILES.values()
    response = stream(request)
    for name in ("environ", "_upload_handlers", "_files"):
        delattr(request, name)
    for name in ("input", "errors"):
        del request.META[f"wsgi.{name}"]
    assert isinstance(pickle.loads(pickle.dumps(request)).close, _RequestEnd)
    copy.copy(request)
    pickle.loads(pickle.dumps(request)).close()
    assert _tally("held") == 1
    response.close()
    request.close()
    assert used() == 0
    uploaded.close()


def test_both_of_two_gates_are_settled_by_one_response(billing, server, stack):
    stack(f"{DJANGOS}http.ConditionalGetMiddleware")
    billing.grant(PRO, "seats", 10)
    urlconf.urlpatterns.append(path("two/", requires_entitlement("seats", consume=True)(stream)))
    try:
        assert server.ask("/two/?etag", **{"if-none-match": '"one"'}) == 304
        assert used() == 2
        assert server.ask("/two/?fails=1") == "broken"
        assert used() == 2
    finally:
        urlconf.urlpatterns.pop()
