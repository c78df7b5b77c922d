"""What listens: always on the loopback address, always ended by whoever started it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

from benchmarks.world import KEY, MODEL, grants
from entitlement_gate.sandbox import Sandbox, SandboxServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["SandboxUpstream", "ScriptedUpstream", "Upstream", "separate_sandbox"]

_DELAY = 0.05  # seconds that a healthy upstream takes in the behaviour table: long enough for calls to overlap
_HANG = 60.0


@contextmanager
def separate_sandbox(rows: int) -> Iterator[str]:
    """Serve one customer with so many rows from a process of its own, whose work is on another core."""
    customer = {"id": MODEL, "name": "Measured", "grants": grants(rows)}
    scenario = {"api_key": KEY, "organisation": MODEL, "customers": [customer]}
    with TemporaryDirectory() as directory:
        path = Path(directory) / "scenario.json"
        path.write_text(json.dumps(scenario), encoding="utf-8")
        command = [sys.executable, "-m", "entitlement_gate.sandbox", "--port", "0", "--scenario", str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                yield next(word for word in process.stdout.readline().split() if word.startswith("http://"))
            finally:
                process.terminate()


class Upstream(Protocol):
    """A remote service in good and bad days."""

    url: str

    @property
    def calls(self) -> int:
        """Requests so far."""

    def be_well(self, *, delay: float = _DELAY) -> None:
        """Answer, so many seconds late."""

    def fail(self) -> None:
        """Answer 503."""

    def hang(self) -> None:
        """Answer nothing."""

    def stop(self) -> None:
        """Leave, cutting off whoever waits."""


class SandboxUpstream:
    """The sandbox as an upstream."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._server = SandboxServer(sandbox).start()
        self.url = self._server.url
        self.be_well()

    @property
    def calls(self) -> int:
        """Requests so far."""
        return self._sandbox.request_count

    def be_well(self, *, delay: float = _DELAY) -> None:
        """Answer."""
        self._sandbox.recover()
        self._sandbox.fail("delay", seconds=delay)

    def fail(self) -> None:
        """Answer 503."""
        self._sandbox.recover()
        self._sandbox.fail("status", status=503)

    def hang(self) -> None:
        """Answer nothing."""
        self._sandbox.recover()
        self._sandbox.fail("hang", seconds=_HANG)

    def stop(self) -> None:
        """Leave, cutting off whoever waits."""
        self._server.stop()


class _Listener(ThreadingHTTPServer):
    request_queue_size = 128  # 32 threads connect at once

    def handle_error(self, *_: object) -> None:
        """Say nothing: whoever is cut off is meant to be."""


class ScriptedUpstream:
    """A service that answers every POST with what ``reply(path, body)`` makes of it."""

    def __init__(self, reply: Callable[[str, Any], Any]) -> None:
        self.calls = 0
        self.be_well()
        self._leaving = threading.Event()
        self._reply = reply
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = _Listener(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._listener.server_address[1]}"
        threading.Thread(target=self._listener.serve_forever, args=(0.05,), daemon=True).start()

    def be_well(self, *, delay: float = _DELAY) -> None:
        """Answer."""
        self._mood, self._delay = "well", delay

    def fail(self) -> None:
        """Answer 503."""
        self._mood = "failing"

    def hang(self) -> None:
        """Answer nothing."""
        self._mood = "hung"

    def stop(self) -> None:
        """Leave, cutting off whoever waits."""
        self._leaving.set()
        self._listener.shutdown()
        self._listener.server_close()
        for connection in tuple(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                upstream._open.add(self.connection)

            def finish(self) -> None:
                upstream._open.discard(self.connection)
                super().finish()

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, payload = upstream.answer(self.path, body)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler

    def answer(self, path: str, body: Any) -> tuple[int, bytes]:
        """Return what is sent, in the mood of the day."""
        with self._lock:
            self.calls += 1
        if self._mood == "hung":
            self._leaving.wait(_HANG)
        if self._mood != "well":
            return 503, b"{}"
        self._leaving.wait(self._delay)
        return 200, json.dumps(self._reply(path, body)).encode()
