import socket
import struct
import threading
import time

import httpx
import pytest
from freezegun import freeze_time

from entitlement_gate.sandbox import SandboxServer
from tests.busyness import Timed


@pytest.fixture
def client(server, headers):
    with httpx.Client(base_url=server.url, headers=headers, timeout=30, trust_env=False) as made:
        yield made


@pytest.fixture
def get(client, ids):
    return lambda **options: client.get(f"/entitlements/customer/{ids.PRO}", **options)


def speak(server, data):
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def soon(is_so):
    end = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_requests_are_answered_on_one_connection(get, sandbox, client):
    first, second = get(), get()
    assert first.json() == second.json()
    assert first.http_version == "HTTP/1.1"
    streams = [r.extensions["network_stream"].get_extra_info("client_addr") for r in (first, second)]
    assert streams[0] == streams[1]
    assert sandbox.request_count == 2


def test_a_body_is_read(client, sandbox):
    event = {"customer_id": "c", "timestamp": "2026-01-15", "data": {}}
    assert client.post("/usage/api_calls", json=event).json()["count"] == 1


def test_any_method_reaches_the_sandbox_and_head_has_no_body(client):
    assert client.request("BREW", "/customers").status_code == 405
    assert client.head("/customers").status_code == 405
    assert client.get("/customers").status_code == 200


def test_a_delay_ends_though_a_test_has_frozen_the_clock(get, sandbox):
    sandbox.fail("delay", seconds=0.1)
    with freeze_time("2030-01-01"):
        assert get().status_code == 200


def test_many_clients_are_answered_at_once(server, headers, sandbox):
    sandbox.fail("delay", seconds=0.5)

    def get():
        httpx.get(f"{server.url}/customers", headers=headers, trust_env=False, timeout=30)

    threads = [threading.Thread(target=get) for _ in range(8)]
    with Timed() as timed:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert timed.within(3), timed.seconds
    assert sandbox.request_count == 8


def test_an_answer_waits_for_no_acknowledgement(get):
    get()
    taken = []
    for _ in range(20):
        start = time.monotonic()
        get()
        taken.append(time.monotonic() - start)
    assert min(taken) < 0.03  # Nagle against delayed acknowledgements costs 40 ms each


@pytest.mark.parametrize("kind", ["delay", "hang", "drip"])
def test_an_answer_beyond_the_timeout_is_a_read_timeout(get, sandbox, kind):
    sandbox.fail(kind, seconds=30)
    with pytest.raises(httpx.ReadTimeout):
        get(timeout=0.1)


def test_a_late_answer_comes(get, sandbox):
    sandbox.fail("delay", seconds=0.15)
    start = time.monotonic()
    assert get().status_code == 200
    assert time.monotonic() - start >= 0.15


def test_a_dripping_answer_comes_whole(get, sandbox):
    sandbox.fail("drip", seconds=0.001, bytes=500)
    assert len(get().json()["results"]) == 10


@pytest.mark.parametrize(
    ("kind", "error"),
    [("truncate", httpx.RemoteProtocolError), ("reset", httpx.ReadError), ("hang", httpx.RemoteProtocolError)],
)
def test_a_broken_connection_is_felt_and_the_next_one_works(get, sandbox, kind, error):
    sandbox.fail(kind, times=1, seconds=0)
    with pytest.raises(error):
        get()
    assert get().status_code == 200


@pytest.mark.parametrize(
    "kind", ["garbage", "html", "null", "redirect", "empty", "wrong_shape", "cursor_loop", "foreign"]
)
def test_a_spoiled_answer_keeps_the_connection(get, sandbox, kind):
    sandbox.fail(kind, times=1)
    get()
    assert get().status_code == 200


def test_a_bomb_and_a_big_body_arrive(client, sandbox, ids):
    sandbox.fail("gzip_bomb", bytes=3_000_000, times=1)
    path = f"/entitlements/customer/{ids.PRO}"
    response = client.get(path)
    assert len(response.content) == 3_000_000
    assert int(response.headers["content-length"]) < 20_000
    sandbox.fail("big", bytes=3_000_000)
    assert len(client.get(path).content) == 3_000_000


def test_an_unusual_status_has_a_phrase(get, sandbox):
    sandbox.fail("status", status=599)
    assert (get().status_code, get().reason_phrase) == (599, "Unknown")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"Transfer-Encoding: chunked", b"411"),
        (b"Content-Length: x", b"400"),
        (b"Content-Length: -1", b"400"),
        (b"Content-Length: 99999999999999999999", b"413"),
        (b"Content-Length: 16777217", b"413"),
    ],
)
def test_a_body_of_unknown_or_absurd_size_is_refused_and_the_connection_ended(server, head, status):
    answer = speak(server, b"POST /usage/x HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"Connection: close" in answer


def test_half_a_body_is_not_carried_out(server, sandbox):
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(b"POST /usage/x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    assert sandbox.request_count == 0


def test_an_old_client_is_answered_and_left(server):
    answer = speak(server, b"GET /customers HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 401")


def test_a_client_that_leaves_early_makes_no_noise(server, sandbox, capfd):
    sandbox.fail("drip", seconds=0.01, times=1)
    sandbox.fail("big", bytes=10_000_000)
    host, port = server.url.removeprefix("http://").split(":")
    for _ in range(3):
        connection = socket.create_connection((host, int(port)))
        connection.sendall(b"GET /entitlements/customer/x HTTP/1.1\r\nHost: x\r\n\r\n")
        connection.recv(10)
        connection.close()
    server.stop()
    assert capfd.readouterr().err == ""


def test_a_client_that_resets_while_it_waits_is_let_go(server, sandbox):
    sandbox.fail("hang", seconds=30)
    host, port = server.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    connection.sendall(b"GET /customers HTTP/1.1\r\nHost: x\r\n\r\n")
    soon(lambda: sandbox.request_count)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    listener = server._running[0]
    soon(lambda: not listener._open)


def test_what_is_no_http_is_refused_quietly(server, capfd):
    assert b"Error code: 400" in speak(server, b"what is this\r\n\r\n")
    assert capfd.readouterr().err == ""


def test_a_mistake_of_ours_is_seen(server, sandbox, capfd, monkeypatch):
    def fail(request):
        raise ZeroDivisionError

    monkeypatch.setattr(sandbox, "respond", fail)
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(server.url, trust_env=False)
    server.stop()
    assert "ZeroDivisionError" in capfd.readouterr().err


@pytest.mark.parametrize("kind", ["hang", "delay", "drip"])
def test_stopping_is_prompt_while_clients_wait(sandbox, headers, kind):
    sandbox.fail(kind, seconds=30)
    server = SandboxServer(sandbox).start()
    seen = []

    def wait():
        try:
            httpx.get(f"{server.url}/customers", headers=headers, timeout=20, trust_env=False)
        except httpx.TransportError as error:
            seen.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    soon(lambda: sandbox.request_count)
    with Timed() as timed:
        server.stop()
        waiter.join(20)
    assert timed.within(10)
    assert len(seen) == 1


def test_stopping_ends_idle_connections(sandbox, headers):
    before = set(threading.enumerate())
    server = SandboxServer(sandbox).start()
    with httpx.Client(base_url=server.url, headers=headers, trust_env=False) as client:
        client.get("/customers")
        server.stop()
        assert set(threading.enumerate()) <= before


def test_starting_and_stopping_twice_is_harmless(sandbox):
    server = SandboxServer(sandbox)
    server.stop()
    assert server.start() is server
    url = server.url
    assert server.start().url == url
    server.stop()
    server.stop()
    with pytest.raises(RuntimeError, match="not started"):
        _ = server.url
    server.start()
    assert httpx.get(f"{server.url}/_sandbox", trust_env=False).status_code == 200
    server.stop()


def test_a_taken_port_is_an_os_error(server, sandbox):
    port = int(server.url.rsplit(":", 1)[1])
    with pytest.raises(OSError, match="in use"):
        SandboxServer(sandbox, port).start()


def test_other_attributes_of_a_handler_are_still_missing():
    from entitlement_gate.sandbox.server import _Handler

    with pytest.raises(AttributeError, match="nothing"):
        _ = _Handler.__new__(_Handler).nothing
