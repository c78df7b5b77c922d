import time

import httpx
import pytest

from entitlement_gate.sandbox import SandboxTransport


class Sleeps(list):
    def __call__(self, seconds):
        self.append(seconds)


@pytest.fixture
def sleeps():
    return Sleeps()


@pytest.fixture
def client(sandbox, headers, sleeps):
    transport = SandboxTransport(sandbox, sleep=sleeps)
    with httpx.Client(transport=transport, base_url="http://sandbox", headers=headers, timeout=1.0) as made:
        yield made


@pytest.fixture
def get(client, ids):
    return lambda **options: client.get(f"/entitlements/customer/{ids.PRO}", **options)


def test_a_request_is_answered_without_a_network(get, sandbox, sleeps):
    response = get(params={"limit": 2})
    assert response.status_code == 200
    assert len(response.json()["results"]) == 2
    assert response.headers["content-length"] == str(len(response.content))
    assert sandbox.requests[0][1].endswith("?limit=2")
    assert sleeps == []


def test_a_body_reaches_the_sandbox(client, sandbox):
    event = {"customer_id": "c", "timestamp": "2026-01-15", "data": {}}
    assert client.post("/usage/api_calls", json=event).status_code == 200
    assert client.post("/usage/api_calls", content=iter([b"[", b"]"])).status_code == 422
    assert len(sandbox.usage_events) == 1


def test_an_answer_within_the_timeout_is_late(get, sandbox, sleeps):
    sandbox.fail("delay", seconds=0.9)
    assert get().status_code == 200
    assert sleeps == [0.9]


@pytest.mark.parametrize("kind", ["delay", "hang"])
def test_an_answer_beyond_the_timeout_is_a_read_timeout(get, sandbox, sleeps, kind):
    sandbox.fail(kind, seconds=1.5)
    with pytest.raises(httpx.ReadTimeout) as caught:
        get()
    assert caught.value.request.method == "GET"
    assert sleeps == [1.0]


def test_a_drip_within_the_timeout_outlasts_it_in_all(get, sandbox, sleeps):
    sandbox.fail("drip", seconds=0.5, bytes=1000)
    assert get().status_code == 200
    assert sum(sleeps) > 1.0


def test_a_drip_beyond_the_timeout_is_a_read_timeout(get, sandbox):
    sandbox.fail("drip", seconds=1.5)
    with pytest.raises(httpx.ReadTimeout):
        get()


def test_without_a_timeout_a_hang_ends_in_a_disconnection(get, sandbox, sleeps):
    sandbox.fail("hang", seconds=5)
    with pytest.raises(httpx.RemoteProtocolError):
        get(timeout=None)
    assert sleeps == [5]


@pytest.mark.parametrize(("kind", "error"), [("truncate", httpx.RemoteProtocolError), ("reset", httpx.ReadError)])
def test_a_broken_connection_is_what_a_network_would_raise(get, sandbox, kind, error):
    sandbox.fail(kind)
    with pytest.raises(error):
        get()


def test_a_body_is_read_piece_by_piece(client, sandbox, ids):
    sandbox.fail("gzip_bomb", bytes=10_000_000)
    with client.stream("GET", f"/entitlements/customer/{ids.PRO}") as response:
        seen = sum(len(piece) for piece in response.iter_raw())
    assert seen < 100_000


def test_an_empty_answer_has_no_length(get, sandbox):
    sandbox.fail("empty")
    response = get()
    assert (response.status_code, response.content) == (204, b"")
    assert "content-length" not in response.headers


def test_the_real_clock_sleeps_by_default(sandbox, headers):
    sandbox.fail("delay", seconds=0.05)
    with httpx.Client(transport=SandboxTransport(sandbox), headers=headers) as client:
        start = time.monotonic()
        client.get("http://sandbox/customers")
    assert time.monotonic() - start >= 0.05
