"""What a gate adds to a request: the whole of Django's handler, under WSGI and ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from importlib.util import find_spec
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.core.handlers.base import BaseHandler
from django.http import HttpRequest, HttpResponse
from django.test.utils import override_settings
from django.urls import path
from django.utils.deprecation import MiddlewareMixin

from benchmarks.ours import settle
from benchmarks.project import configure
from benchmarks.rounds import COMPUTING, Batch, interleaved, walk
from benchmarks.tables import Table, micros
from benchmarks.world import ASKED, MODEL, World
from entitlement_gate import requires_entitlement

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.effort import Effort

__all__ = ["tables"]

BARE = "a bare view"
_OURS = "entitlement_gate.middleware.EntitlementMiddleware"


class Chain(NamedTuple):
    """A way through Django: its name, its middleware, and what gates the view."""

    name: str
    middleware: tuple[str, ...] = ()
    gate: Callable[[Any], Any] = lambda view: view


class EmptyMixin(MiddlewareMixin):
    """The least that a middleware on Django's mixin can be: it does nothing to the response."""

    def process_response(self, _: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Return the response as it is."""
        return response


def tables(effort: Effort) -> list[Table]:
    """Measure a customer whose snapshot is in memory, found by a resolver that needs no database."""
    configure()
    prefix = "entitlement_gate: "
    chains = [
        Chain(BARE),
        Chain("a middleware on `MiddlewareMixin`", (f"{__name__}.EmptyMixin",)),
        Chain(f"{prefix}middleware, nothing asked", (_OURS,)),
        Chain(f"{prefix}decorator alone", (), requires_entitlement(ASKED)),
        Chain(f"{prefix}middleware and decorator", (_OURS,), requires_entitlement(ASKED)),
    ]
    peers = _peers() if effort.with_peers else []
    wsgi = _measured("A request, WSGI", [*chains, *peers], effort, _through_wsgi)
    asgi = _measured("A request, ASGI", chains, effort, _through_asgi)
    asgi.notes = ["django-waffle's and django-flags' decorators cannot gate an async view."] if peers else []
    return [wsgi, asgi]


def _peers() -> list[Chain]:
    """Return the libraries with a decorator for Django's views, their flag on for everybody."""
    chains = []
    if find_spec("waffle"):
        from waffle.decorators import waffle_flag  # noqa: PLC0415 - not installed everywhere
        from waffle.models import Flag  # noqa: PLC0415 - as above

        Flag.objects.update_or_create(name=ASKED, defaults={"everyone": True})
        chains.append(Chain("django-waffle", ("waffle.middleware.WaffleMiddleware",), waffle_flag(ASKED)))
    if find_spec("flags"):
        from flags.decorators import flag_required  # type: ignore[import-untyped]  # noqa: PLC0415 - as above

        settings.FLAG_SOURCES = ("flags.sources.SettingsFlagsSource",)
        settings.FLAGS = {ASKED: [{"condition": "boolean", "value": True}]}
        chains.append(Chain("django-flags", (), flag_required(ASKED)))
    return chains


Through = Callable[["Chain", asyncio.Runner], Batch]


def _measured(title: str, chains: Sequence[Chain], effort: Effort, through: Through) -> Table:
    seconds, rounds = effort.fetches
    with asyncio.Runner() as runner, _project(through):
        batches = {chain.name: through(chain, runner) for chain in chains}
        timers = {name: walk(batch, [None], seconds=seconds, clock=COMPUTING) for name, batch in batches.items()}
        samples = interleaved(timers, rounds)
    table = Table(title, _HOW, ["chain", "adds", "a request"])
    for name, own in samples.items():
        extra = median(mine - bare for mine, bare in zip(own, samples[BARE], strict=True))
        table.rows.append([name, "" if name == BARE else micros(extra), micros(median(own))])
    return table


@contextmanager
def _project(through: Through) -> Iterator[None]:
    """Let the settings' gate answer for one customer, whom a resolver of the chain's own colour names."""
    world = World(1)
    customer = UUID(world.customers[0])  # as a `UUIDField` gives it

    def resolver(_: HttpRequest) -> UUID:
        return customer

    async def async_resolver(_: HttpRequest) -> UUID:
        return customer

    own = {"CUSTOMER_RESOLVER": async_resolver if through is _through_asgi else resolver}
    with override_settings(ENTITLEMENT_GATE={**settings.ENTITLEMENT_GATE, **own}):
        settle(world)
        yield


def _through_wsgi(chain: Chain, _: asyncio.Runner) -> Batch:
    handler, urls = _handler(chain, is_async=False), _urls(chain, _view)

    def batch(turns: Sequence[None]) -> Any:
        for _ in turns:
            response = handler.get_response(_request(urls))
            if response.status_code != 200:
                return response
        return None

    return batch


def _through_asgi(chain: Chain, runner: asyncio.Runner) -> Batch:
    handler, urls = _handler(chain, is_async=True), _urls(chain, _async_view)

    async def all_of(turns: Sequence[None]) -> Any:
        for _ in turns:
            response = await handler.get_response_async(_request(urls))
            if response.status_code != 200:
                return response
        return None

    return lambda turns: runner.run(all_of(turns))


def _handler(chain: Chain, *, is_async: bool) -> Any:
    handler = BaseHandler()
    with override_settings(MIDDLEWARE=chain.middleware):
        handler.load_middleware(is_async=is_async)
    return handler


def _urls(chain: Chain, view: Callable[[HttpRequest], HttpResponse | Awaitable[HttpResponse]]) -> tuple[Any, ...]:
    return (path("gated/", chain.gate(view)),)


def _request(urls: tuple[Any, ...]) -> HttpRequest:
    """Return a request as the handlers make it, of nobody in particular."""
    request = HttpRequest()
    request.method = "GET"
    request.path = request.path_info = "/gated/"
    request.urlconf = urls  # type: ignore[attr-defined]  # Django's own name for a request's URLs
    return request


def _view(_: HttpRequest) -> HttpResponse:
    return HttpResponse(MODEL)


async def _async_view(_: HttpRequest) -> HttpResponse:
    return HttpResponse(MODEL)


_HOW = (
    "Django's handler from request to response, the view an empty one, the customer's snapshot in memory. *adds*: the "
    f"median, over the rounds, of what a chain takes longer than {BARE} in the same round."
)
