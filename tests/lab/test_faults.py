"""Every fault of billing, met cold and warm, through both doors, over real sockets.

Whatever billing does: nobody waits past the deadline, ``has`` raises nothing, nothing is allowed that was not
granted, and what was known before is served as stale.
"""

import resource
import socket

import pytest

from tests.busyness import Timed
from tests.engine.fakes import eventually
from tests.lab.conftest import DEADLINE, LATEST

PRO = "20000000-0000-4000-8000-000000000002"
UNAVAILABLE, REJECTED, MALFORMED = "unavailable", "rejected", "malformed_response"

FAULTS = {
    "reset": ({"kind": "reset"}, UNAVAILABLE),
    "truncated": ({"kind": "truncate"}, UNAVAILABLE),
    "garbage": ({"kind": "garbage"}, MALFORMED),
    "html": ({"kind": "html"}, MALFORMED),
    "wrong shape": ({"kind": "wrong_shape"}, MALFORMED),
    "null": ({"kind": "null"}, MALFORMED),
    "204": ({"kind": "empty"}, MALFORMED),
    "deep nesting": ({"kind": "deep"}, MALFORMED),
    "gzip bomb": ({"kind": "gzip_bomb"}, MALFORMED),
    "drip": ({"kind": "drip"}, UNAVAILABLE),
    "hang": ({"kind": "hang"}, UNAVAILABLE),
    "redirect": ({"kind": "redirect"}, MALFORMED),
    "cursor loop": ({"kind": "cursor_loop"}, MALFORMED),
    "rows of others": ({"kind": "foreign"}, MALFORMED),
    "page 2 fails": ({"kind": "status", "status": 503, "page": 2}, UNAVAILABLE),
    "page 2 is gone": ({"kind": "status", "status": 404, "page": 2}, MALFORMED),
    "page 2 hangs": ({"kind": "hang", "page": 2}, UNAVAILABLE),
    **{str(status): ({"kind": "status", "status": status}, REJECTED) for status in (400, 401, 403, 422)},
    **{str(status): ({"kind": "status", "status": status}, UNAVAILABLE) for status in (408, 425, 500, 502, 503)},
    **{
        f"429, Retry-After: {after}": ({"kind": "status", "status": 429, "retry_after": after}, UNAVAILABLE)
        for after in (
            None,
            0,
            1,
            3600,
            -1,
            "soon",
            "9" * 30,
            "Wed, 21 Oct 2099 07:28:00 GMT",
            "Mon, 1 Jan 2001 00:00:00 GMT",
        )
    },
}


AS_LONG_AS_IT_TAKES = 60  # seconds, where time is not the subject


@pytest.fixture(params=FAULTS.values(), ids=FAULTS)
def fault(request):
    return request.param


@pytest.fixture
def gate(make_gate, server, shifted):
    return make_gate(server.url, client={"page_size": 5}, clock=shifted)


def timed(ask, gate, verb, *arguments, latest=LATEST):
    with Timed() as timed:
        answer = ask(gate, verb, *arguments)
    assert timed.within(latest), timed.seconds
    return answer


def test_cold_nothing_is_allowed_and_the_reason_is_told(gate, sandbox, ask, fault):
    options, reason = fault
    sandbox.fail(**options)
    with Timed() as took:
        decision = ask(gate, "check", PRO, "reports")
    assert took.within(LATEST), took.seconds
    assert (decision.outcome, decision.source) == ("unknown", "fallback")
    assert decision.reason == reason or took.seconds >= DEADLINE  # on a busy machine the answer outlasts who waits
    assert timed(ask, gate, "has", PRO, "reports") is False
    sandbox.recover()
    eventually(lambda: ask(gate, "check", PRO, "reports", refresh=True).allowed)


def test_warm_what_was_known_is_served_and_marked(gate, sandbox, ask, fault):
    shifted = gate._clock
    began = shifted.monotonic()
    eventually(lambda: ask(gate, "has", PRO, "reports"))  # as above
    assert not ask(gate, "has", PRO, "nothing of the kind")
    sandbox.fail(**fault[0])
    shifted.ahead += 130
    decision = timed(ask, gate, "check", PRO, "reports")
    assert (decision.allowed, decision.source) == (True, "stale")
    assert 130 <= decision.age <= shifted.monotonic() - began
    assert timed(ask, gate, "has", PRO, "reports") is True
    assert timed(ask, gate, "has", PRO, "nothing of the kind") is False
    shifted.ahead += 3_600
    decision = timed(ask, gate, "check", PRO, "reports")
    assert (decision.allowed, decision.outcome) == (False, "unknown")


def test_64_mb_are_not_read(gate, sandbox, shifted, ask):
    """The sandbox lives in this process and copies its 64 MB with the interpreter's lock held: that is not ours."""
    sandbox.fail("big", bytes=64 << 20)
    decision = timed(ask, gate, "check", PRO, "reports", latest=LATEST + 1)
    assert (decision.outcome, decision.reason in (MALFORMED, UNAVAILABLE)) == ("unknown", True)
    sandbox.recover()
    eventually(lambda: ask(gate, "has", PRO, "reports"))  # on a busy machine the fetch outlasts who waited for it
    sandbox.fail("big", bytes=64 << 20)
    shifted.ahead += 130
    decision = timed(ask, gate, "check", PRO, "reports", latest=LATEST + 1)
    assert (decision.allowed, decision.source) == (True, "stale")


def test_a_customer_that_is_gone_is_an_answer_cold_and_warm(gate, sandbox, shifted, ask):
    sandbox.fail("status", status=404)
    eventually(lambda: ask(gate, "check", PRO, "reports").reason == "customer_not_found")  # as above
    sandbox.recover()
    shifted.ahead += 5.1
    eventually(lambda: ask(gate, "has", PRO, "reports"))
    sandbox.fail("status", status=404)
    shifted.ahead += 130
    assert timed(ask, gate, "check", PRO, "reports").reason == "customer_not_found"


def test_nobody_listens(make_gate, shifted, ask):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        gate = make_gate(f"http://127.0.0.1:{taken.getsockname()[1]}", clock=shifted)
        assert timed(ask, gate, "check", PRO, "reports").reason == "unavailable"
        assert timed(ask, gate, "has", PRO, "reports") is False


def test_the_server_goes_away_while_data_is_warm(make_gate, server, shifted, ask):
    gate = make_gate(server.url, clock=shifted)
    eventually(lambda: ask(gate, "has", PRO, "reports"))  # as above
    server.stop()
    shifted.ahead += 130
    decision = timed(ask, gate, "check", PRO, "reports")
    assert (decision.allowed, decision.source) == (True, "stale")


def test_a_bomb_of_200_mb_stays_small(make_gate, server, sandbox):
    gate = make_gate(server.url, client={"deadline": AS_LONG_AS_IT_TAKES}, deadline=AS_LONG_AS_IT_TAKES)
    sandbox.fail("gzip_bomb")
    gate.has(PRO, "reports")  # the sandbox makes its bomb once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert gate.check(PRO, "reports").reason == "malformed_response"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # kB
