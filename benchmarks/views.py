"""What a gate adds to a view of Django REST framework: permissions and the decorator over a bare ``APIView``."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.http import HttpRequest
from django.test.utils import override_settings
from django.utils.decorators import method_decorator

from benchmarks.ours import settle
from benchmarks.project import configure
from benchmarks.rounds import COMPUTING, Batch, interleaved, walk
from benchmarks.tables import Table, micros
from benchmarks.world import ASKED, MODEL, World
from entitlement_gate import requires_entitlement

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.effort import Effort

__all__ = ["tables"]

BARE = "a bare `APIView`"


def tables(effort: Effort) -> list[Table]:
    """Measure a customer whose snapshot is in memory, found by a resolver that needs no database."""
    configure()
    world = World(1)
    (customer,) = world.customers
    seconds, rounds = effort.fetches
    with override_settings(ENTITLEMENT_GATE={**settings.ENTITLEMENT_GATE, "CUSTOMER_RESOLVER": lambda _: customer}):
        settle(world)
        batches = {name: _batch(view) for name, view in _views().items()}
        assert [batch([None]) for batch in batches.values()] == [None] * len(batches)  # the first request imports
        timers = {name: walk(batch, [None], seconds=seconds, clock=COMPUTING) for name, batch in batches.items()}
        samples = interleaved(timers, rounds)
    table = Table("A view of Django REST framework", _HOW, ["view", "adds", "a request"])
    for name, own in samples.items():
        extra = median(mine - bare for mine, bare in zip(own, samples[BARE], strict=True))
        table.rows.append([name, "" if name == BARE else micros(extra), micros(median(own))])
    return [table]


def _views() -> dict[str, Callable[[HttpRequest], Any]]:
    """Return the views; the framework reads Django's settings where it is imported."""
    from rest_framework.permissions import AllowAny  # noqa: PLC0415 - see above
    from rest_framework.response import Response  # noqa: PLC0415 - as above
    from rest_framework.views import APIView  # noqa: PLC0415 - as above

    from entitlement_gate.contrib.rest_framework import HasEntitlement  # noqa: PLC0415 - as above

    class Bare(APIView):
        authentication_classes = ()
        permission_classes = (AllowAny,)

        def get(self, _: Any) -> Response:
            return Response(MODEL)

    class Decorated(Bare):
        @method_decorator(requires_entitlement(ASKED))
        def get(self, request: Any) -> Response:
            return super().get(request)

    ours = HasEntitlement.of(ASKED)
    return {
        BARE: Bare.as_view(),
        "`HasEntitlement`": Bare.as_view(permission_classes=[ours]),
        "`AllowAny & HasEntitlement`": Bare.as_view(permission_classes=[AllowAny & ours]),
        "`@requires_entitlement` on the method": Decorated.as_view(),
    }


def _batch(view: Callable[[HttpRequest], Any]) -> Batch:
    def batch(turns: Sequence[None]) -> Any:
        for _ in turns:
            request = HttpRequest()
            request.method = "GET"
            response = view(request)
            if response.status_code != 200:
                return response
            # Its requests refer to themselves: with the garbage collector away they would fill the memory.
            vars(response.renderer_context["view"]).clear()
            response.renderer_context["request"].parser_context.clear()
        return None

    return batch


_HOW = (
    "The view alone, from Django's request to a response that is not rendered, the customer's snapshot in memory. "
    f"*adds*: the median, over the rounds, of what a view takes longer than {BARE} in the same round."
)
