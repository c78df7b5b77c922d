"""An HTTP server that does byte for byte what a test says, on a free loopback port."""

import contextlib
import json
import socket
import threading
import time
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest

from entitlement_gate.domain.errors import SourceError

CUSTOMER = "11111111-1111-4111-8111-111111111111"
KEY = "sk_live_0123456789abcdef"
ORGANISATION = "0a0a0a0a-0000-4000-8000-000000000001"


def a_row(number=1, **fields):
    return {
        "id": f"aaaaaaaa-0000-4000-8000-{number:012d}",
        "entitlement": "aaaaaaaa-0000-4000-8000-000000000101",
        "name": "api_calls",
        "type": "Quantity",
        "units": "calls",
        "customer": CUSTOMER,
        "active_from": "2026-01-01T00:00:00Z",
        "expiry_at": "2026-02-01T00:00:00Z",
        "quantity": 1000,
        "quantity_used": 250,
        "quantity_remaining": 750,
        "status": "active",
        **fields,
    }


def a_page(*rows, cursor=None, **envelope):
    return json.dumps({"results": list(rows), "next": cursor, "previous": None, **envelope}).encode()


class Seen(NamedTuple):
    method: str
    target: str
    headers: dict

    @property
    def query(self):
        return {name: values[0] for name, values in parse_qs(urlsplit(self.target).query).items()}


def reply(status=200, body=b"", **headers):
    """Answer and keep the connection."""
    fields = {"content-length": str(len(body)), **{name.replace("_", "-"): text for name, text in headers.items()}}
    head = "".join(f"{name}: {text}\r\n" for name, text in fields.items())

    def send(connection):
        connection.sendall(f"HTTP/1.1 {status} Told\r\n{head}\r\n".encode() + body)
        return True

    return send


def raw(told):
    """Send these bytes as they are, then close."""
    return lambda connection: connection.sendall(told)


def drip(first, *, every=0.02):
    """Send some bytes, then one more at a time until the other side is gone."""

    def send(connection):
        connection.sendall(first)
        while True:
            connection.sendall(b"x")
            time.sleep(every)

    return send


def hang(connection):
    """Say nothing until the other side is gone."""
    connection.recv(1)


def then_hang(first):
    """Send some bytes, then say nothing until the other side is gone."""

    def send(connection):
        connection.sendall(first)
        hang(connection)

    return send


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")


class ScriptedServer:
    """Follows the script, one step a request; the last step is repeated."""

    def __init__(self, *script):
        self.script = list(script)
        self.seen = []
        self.gone = threading.Event()
        self.connections = []
        self._stopping = False
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def stop(self):
        self._stopping = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(timeout=2)

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection):
        with connection, contextlib.suppress(OSError):
            while head := self._head(connection):
                with self._lock:
                    self.seen.append(head)
                    step = self.script[min(len(self.seen), len(self.script)) - 1]
                if not step(connection):
                    break
        self.gone.set()

    @staticmethod
    def _head(connection):
        """Read a whole request: a connection that is closed before its body is read is reset, not ended."""
        received = b""
        while b"\r\n\r\n" not in received:
            more = connection.recv(65536)
            if not more:
                return None
            received += more
        head, _, body = received.partition(b"\r\n\r\n")
        first, *fields = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): text.strip() for name, text in (field.split(":", 1) for field in fields)}
        missing = int(headers.get("content-length", 0)) - len(body)
        while missing > 0 and (more := connection.recv(missing)):
            missing -= len(more)
        return Seen(method, target, headers)


GOOD = reply(200, a_page(a_row()))
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


PROMPTLY = 10.0
"""Seconds that separate what is bounded by a deadline of less than one from what hangs, on however busy a machine."""


def took(work):
    """Give the seconds that a failing fetch took, and its error."""
    began = time.monotonic()
    with pytest.raises(SourceError) as caught:
        work()
    return time.monotonic() - began, caught.value
