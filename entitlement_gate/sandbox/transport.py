"""The sandbox inside the process, as an httpx transport.

Replies are made in ``core``. A fault that waits longer than the request's read timeout raises as a network would.
"""

import time
from collections.abc import Callable, Iterator

import httpx

from entitlement_gate.sandbox.core import Sandbox
from entitlement_gate.sandbox.messages import Reply, Request

__all__ = ["SandboxTransport"]

Sleep = Callable[[float], object]


class SandboxTransport(httpx.BaseTransport):
    """Answer an ``httpx.Client``'s requests from a sandbox, whatever their host.

    >>> from entitlement_gate.sandbox import Sandbox
    >>> client = httpx.Client(transport=SandboxTransport(Sandbox()), base_url="http://sandbox")
    >>> client.get("/customers").status_code
    401
    """

    def __init__(self, sandbox: Sandbox, *, sleep: Sleep = time.sleep) -> None:
        """Carry a sandbox's replies.

        Args:
            sandbox: Who answers.
            sleep: Waits for a number of seconds; only faults wait.
        """
        self.sandbox = sandbox
        self._sleep = sleep

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request, or raise what a network would raise."""
        target = request.url.raw_path.decode("ascii")
        reply = self.sandbox.respond(Request(request.method, target, dict(request.headers), request.read()))
        how = reply.delivery
        _wait(how.delay, request, self._sleep)
        if how.reset:
            raise httpx.ReadError("connection reset by peer", request=request)
        if how.drop:
            raise httpx.RemoteProtocolError("server disconnected without sending a response", request=request)
        length = {} if reply.length is None else {"Content-Length": str(reply.length)}
        body = _Body(reply, request, self._sleep)
        return httpx.Response(reply.status, headers={**reply.headers, **length}, stream=body, request=request)


def _wait(seconds: float, request: httpx.Request, sleep: Sleep) -> None:
    """Wait as long as the request lets the other side be silent, then give up as httpx does."""
    patience = request.extensions.get("timeout", {}).get("read")
    if patience is not None and seconds > patience:
        sleep(patience)
        raise httpx.ReadTimeout("timed out", request=request)
    if seconds:
        sleep(seconds)


class _Body(httpx.SyncByteStream):
    """A reply's body, made and delayed as it is read."""

    def __init__(self, reply: Reply, request: httpx.Request, sleep: Sleep) -> None:
        self._reply = reply
        self._request = request
        self._sleep = sleep

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._reply.pieces():
            _wait(self._reply.delivery.pause, self._request, self._sleep)
            yield piece
        if self._reply.delivery.truncate:
            raise httpx.RemoteProtocolError(
                "peer closed connection without sending complete message body", request=self._request
            )
