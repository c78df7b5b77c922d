"""Requests that use something up under one key at once: what only one of them does right is counted, and once."""

import asyncio
import threading

import pytest
from django.http import HttpResponse
from django.test import AsyncRequestFactory, RequestFactory

from entitlement_gate import requires_entitlement
from tests.customers import PRO
from tests.test_using_up import billing, held, left  # noqa: F401 - a fixture among them

pytestmark = pytest.mark.django_db
gate = requires_entitlement("calls", 4, consume=True, key=lambda _: "export 7")


@pytest.mark.parametrize("status", [409, None], ids=["refused", "raised"])
def test_who_comes_second_and_fails_takes_nothing_from_the_first(billing, status):  # noqa: F811 - the fixture
    has_begun, may_end = threading.Event(), threading.Event()
    answers = []

    @gate
    def export(request):
        if not has_begun.is_set():
            has_begun.set()
            assert may_end.wait(30)
            return HttpResponse("done")
        if status is None:
            raise KeyError
        return HttpResponse(status=status)

    def visit():
        answers.append(export(RequestFactory().get("/", headers={"X-Customer": PRO})).status_code)

    first = threading.Thread(target=visit)
    first.start()
    assert has_begun.wait(30)
    if status is None:
        with pytest.raises(KeyError):
            visit()
    else:
        visit()
    assert (left(), held()) == (6, 4_000_000)
    may_end.set()
    first.join()
    assert answers == ([status, 200] if status else [200])
    assert (left(), held()) == (6, 0)


@pytest.mark.parametrize("second", ["done", "gone", "failed"])
@pytest.mark.parametrize("first", ["done", "gone", "failed"])
@pytest.mark.parametrize("is_first_first", [True, False])
def test_a_client_that_leaves_and_comes_back_is_counted_if_and_as_often_as_it_was_served(
    billing,  # noqa: F811 - the fixture
    *,
    first,
    second,
    is_first_first,
):
    async def visit_twice():
        begun, ends = asyncio.Semaphore(0), {"/first": asyncio.Event(), "/second": asyncio.Event()}

        @gate
        async def export(request):
            begun.release()
            await ends[request.path].wait()
            return HttpResponse(status=409 if {"/first": first, "/second": second}[request.path] == "failed" else 200)

        tasks = {}
        for path in ends:
            request = AsyncRequestFactory().get(path, headers={"X-Customer": PRO})
            tasks[path] = asyncio.create_task(export(request))
            await begun.acquire()
        outcomes = [("/first", first), ("/second", second)]
        for path, outcome in outcomes if is_first_first else outcomes[::-1]:
            if outcome == "gone":
                tasks[path].cancel()
            ends[path].set()
            await asyncio.wait([tasks[path]])
        return [task.cancelled() or task.result().status_code for task in tasks.values()]

    answered = asyncio.run(visit_twice())
    assert answered == [{"done": 200, "gone": True, "failed": 409}[each] for each in (first, second)]
    assert (left(), held()) == (6 if "done" in (first, second) else 10, 0)
