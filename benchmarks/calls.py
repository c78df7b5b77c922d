"""What a question makes the package do: functions entered, changes of file, decisions worked out. Counts, not speed.

Counted is each entry into a function of the package on the thread that asks, from the gate of a view on; neither
comprehensions nor generators that go on count. A change of file is an entry into a function of another file than that
of the entry before. The numbers are the same in every run, but for two or three where a worker comes first.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections import Counter
from contextlib import contextmanager, suppress
from functools import partial
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.test.utils import override_settings

import entitlement_gate
from benchmarks.ledger import running_redis
from benchmarks.ours import settle
from benchmarks.project import configure
from benchmarks.tables import Table
from benchmarks.world import ASKED, REFUSED, World
from entitlement_gate import EntitlementDenied, invalidate_entitlements, requires_entitlement
from entitlement_gate.api import default_gate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from benchmarks.effort import Effort

__all__ = ["Trace", "tables"]

_PACKAGE = str(Path(entitlement_gate.__file__).parent)
_GOES_ON = CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR
_WARMING_UP = 2


class Trace:
    """The functions of the package that this thread entered in a ``with`` block."""

    def __init__(self) -> None:
        self.entered: list[tuple[str, str]] = []
        self._begun: set[FrameType] = set()

    def __enter__(self) -> Self:
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event != "call" or frame in self._begun or code.co_name.startswith("<"):
            return
        if code.co_flags & _GOES_ON:
            self._begun.add(frame)
        if code.co_filename.startswith(_PACKAGE):
            self.entered.append((code.co_filename, code.co_name))

    @property
    def changes(self) -> int:
        """How often the next function is one of another file."""
        files = [file for file, _ in self.entered]
        return sum(before != after for before, after in pairwise(files))

    @property
    def decisions(self) -> int:
        """How often the rule was asked."""
        return Counter(self.entered)[f"{_PACKAGE}/domain/rule.py", "decide"]


def tables(_: Effort) -> list[Table]:
    """Trace the questions that take a longer way than a dictionary."""
    configure()
    table = Table("Calls that a question takes", _HOW, ["question", "functions", "changes of file", "decisions"])
    with _project() as customer:
        _add(table, "a cold check through the decorator", _asking(ASKED), partial(invalidate_entitlements, customer))
    with _project(DENIAL_MAX_AGE=0) as customer:
        forget = partial(default_gate().first_charged, str(customer))  # what was worked out, and not the data
        _add(table, "a denial that fetches first", _asking(REFUSED), forget)
    with _project(), asyncio.Runner() as runner:
        _add(table, "`consume=True`, async, in memory", _using_up(runner))
    if shutil.which("redis-server") or shutil.which("valkey-server"):
        with running_redis() as url, _project(LEDGER="redis", REDIS_URL=url), asyncio.Runner() as runner:
            _add(table, "`consume=True`, async, over Redis", _using_up(runner))
    else:
        table.notes.append("Not counted: using up over Redis (there is no redis-server here).")
    return [table]


def _add(table: Table, name: str, ask: Callable[[], object], before: Callable[[], object] = lambda: None) -> None:
    for _ in range(_WARMING_UP):
        before()
        ask()
    before()
    with Trace() as trace:
        ask()
    table.rows.append([name, f"{len(trace.entered)}", f"{trace.changes}", f"{trace.decisions}"])


@contextmanager
def _project(**own: Any) -> Iterator[UUID]:
    """Let the settings' gate answer for one customer, whose id is a UUID as Django's fields have it."""
    world = World(1)
    customer = UUID(world.customers[0])
    options = {**settings.ENTITLEMENT_GATE, "CUSTOMER_RESOLVER": lambda _: customer, **own}
    with override_settings(ENTITLEMENT_GATE=options):
        settle(world)
        yield customer


def _asking(name: str) -> Callable[[], None]:
    @requires_entitlement(name, on_denied="raise")
    def view(_: HttpRequest) -> HttpResponse:
        return HttpResponse()

    def ask() -> None:
        with suppress(EntitlementDenied):
            assert (view(_request()).status_code, name) == (200, ASKED)

    return ask


def _using_up(runner: asyncio.Runner) -> Callable[[], None]:
    @requires_entitlement("API Calls", consume=True)
    async def view(_: HttpRequest) -> HttpResponse:
        return HttpResponse()

    def ask() -> None:
        assert runner.run(view(_request())).status_code == 200

    return ask


def _request() -> HttpRequest:
    request = HttpRequest()
    request.method = "GET"
    request.path = request.path_info = "/gated/"
    return request


_HOW = (
    "Functions of the package entered on the thread of whoever asks; how often the next of them is one of another "
    "file; how often the rule was asked. The customer is a `uuid.UUID`."
)
