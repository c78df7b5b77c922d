"""The sandbox on a loopback port: HTTP/1.1 over real sockets, with faults carried out on them.

It listens on 127.0.0.1 only. Replies are made in ``core``.
"""

import contextlib
import selectors
import socket
import struct
import sys
import time
from http import HTTPStatus
from http.client import responses
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Any, Self

from entitlement_gate.resilience.clock import Deadline
from entitlement_gate.sandbox.core import Sandbox
from entitlement_gate.sandbox.messages import Reply, Request

__all__ = ["HOST", "SandboxServer"]

HOST = "127.0.0.1"
_LARGEST_BODY = 16 << 20
_POLL = 0.05  # seconds between two looks at whether the client has left or the server stops
_PATIENCE = 2.0  # seconds that stop() waits for handlers, in all
_ABORT = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 seconds: closing sends RST


class SandboxServer:
    """Serve a sandbox from a thread; starting and stopping twice is harmless.

    >>> with SandboxServer(Sandbox()) as server:
    ...     server.url.startswith("http://127.0.0.1:")
    True
    """

    def __init__(self, sandbox: Sandbox, port: int = 0) -> None:
        """Prepare to serve; nothing listens before ``start``.

        Args:
            sandbox: Who answers.
            port: Where to listen; 0 takes a free port at each start.
        """
        self.sandbox = sandbox
        self._port = port
        self._running: tuple[_Listener, Thread] | None = None

    @property
    def url(self) -> str:
        """The address clients use.

        Raises:
            RuntimeError: The server is not started.
        """
        if self._running is None:
            raise RuntimeError("the sandbox server is not started")
        return f"http://{HOST}:{self._running[0].server_address[1]}"

    def start(self) -> Self:
        """Listen and serve.

        Raises:
            OSError: The port is taken.
        """
        if self._running is None:
            listener = _Listener(self.sandbox, self._port)
            thread = Thread(target=listener.serve_forever, args=(_POLL,), name="sandbox", daemon=True)
            thread.start()
            self._running = (listener, thread)
        return self

    def stop(self) -> None:
        """Stop serving, closing the connections that still wait for a reply."""
        if self._running is not None:
            (listener, thread), self._running = self._running, None
            listener.stopping.set()
            listener.shutdown()
            listener.server_close()
            listener.hang_up()
            thread.join(_PATIENCE)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Listener(ThreadingHTTPServer):
    """The socket and a daemon thread for each connection, all of them known so that they can be ended."""

    request_queue_size = 128

    def __init__(self, sandbox: Sandbox, port: int) -> None:
        self.sandbox = sandbox
        self.stopping = Event()
        self._guard = Lock()
        self._open: dict[socket.socket, Thread] = {}
        super().__init__((HOST, port), _Handler)

    def server_bind(self) -> None:
        # HTTPServer looks its own name up in the DNS here, which can take seconds offline.
        TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = Thread(target=self.process_request_thread, args=(request, client_address), daemon=True)
        with self._guard:
            self._open[request] = thread
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        with self._guard:
            self._open.pop(request, None)
        if request.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, len(_ABORT)) == _ABORT:
            # Shutting down first would send FIN, an orderly end, before the reset.
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that leaves early is what faults are for; anything else is a mistake of ours, to be seen.
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def hang_up(self) -> None:
        """Wake every handler by ending its connection, and wait ``_PATIENCE`` seconds for them at most."""
        with self._guard:
            connections = list(self._open.items())
        end = time.monotonic() + _PATIENCE
        for connection, _ in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for _, thread in connections:
            thread.join(max(0.0, end - time.monotonic()))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60
    server: _Listener

    def __getattr__(self, name: str) -> Any:
        # Every method goes to the core, which knows what it allows.
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the standard library's
        pass

    def _answer(self) -> None:
        body = self._read_body()
        if body is not None:
            headers = dict(self.headers.items())
            self._deliver(self.server.sandbox.respond(Request(self.command, self.path, headers, body)))

    def _read_body(self) -> bytes | None:
        """Read the body, or refuse it and end the connection, whose next byte means nothing then."""
        length = self.headers.get("Content-Length", "0")
        refusal = None
        if "Transfer-Encoding" in self.headers:
            refusal = HTTPStatus.LENGTH_REQUIRED
        elif not (length.isascii() and length.isdigit()):
            refusal = HTTPStatus.BAD_REQUEST
        elif len(length) > 9 or int(length) > _LARGEST_BODY:  # noqa: PLR2004 - int() of a long text is slow
            refusal = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        if refusal is not None:
            self.close_connection = True
            self._send(Reply.json({"detail": refusal.phrase}, refusal))
            return None
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            # The client left half-way: half a body must not be carried out.
            self.close_connection = True
            return None
        return body

    def _deliver(self, reply: Reply) -> None:
        how = reply.delivery
        is_here = self._wait(how.delay)
        if how.reset and is_here:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        if how.reset or how.drop or not is_here:
            self.close_connection = True
        else:
            self.close_connection = self.close_connection or how.truncate
            self._send(reply)

    def _send(self, reply: Reply) -> None:
        pieces = reply.pieces()
        how = reply.delivery
        if how.chunk is None:
            self.wfile.write(self._head(reply) + b"".join(pieces))
            return
        self.wfile.write(self._head(reply))
        for piece in pieces:
            if not self._wait(how.pause):
                self.close_connection = True
                return
            self.wfile.write(piece)

    def _head(self, reply: Reply) -> bytes:
        lines = [f"HTTP/1.1 {reply.status} {responses.get(reply.status, 'Unknown')}"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        if reply.length is not None:
            lines.append(f"Content-Length: {reply.length}")
        if self.close_connection:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def _wait(self, seconds: float) -> bool:
        """Wait, unless the server stops or the client leaves first: then the answer is no."""
        deadline, stopping = Deadline(seconds, time), self.server.stopping
        while deadline.remaining():
            deadline.pause(_POLL, stopping.wait)
            if stopping.is_set() or self._client_left():
                return False
        return True

    def _client_left(self) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(self.connection, selectors.EVENT_READ)
            if not selector.select(0):
                return False
        try:
            return not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True
