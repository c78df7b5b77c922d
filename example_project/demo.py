"""Serve Fieldnotes until Ctrl-C: ``python example_project/demo.py [--port 8000] [--sandbox-server]``."""

import argparse
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import uvicorn
from fieldnotes.customers import CUSTOMERS

HOST = "127.0.0.1"
_SANDBOX_KEY = "sandbox-key"
_SANDBOX_ORGANISATION = "00000000-0000-4000-8000-000000000001"
_PATIENCE = 2  # seconds that requests on their way get when the demo stops


def main() -> None:
    options = _options()
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    server = uvicorn.Server(
        uvicorn.Config(
            "config.asgi:application", log_level="warning", lifespan="off", timeout_graceful_shutdown=_PATIENCE
        )
    )
    _end_in_order(server)
    with _sandbox_server() if options.sandbox_server else nullcontext(), _listening(options.port) as listener:
        _say(listener.getsockname()[1])
        server.run(sockets=[listener])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Serve Fieldnotes, the example of entitlement_gate, until Ctrl-C.")
    parser.add_argument("--port", type=_port, default=8000, help="where to listen; a free port where it is taken")
    parser.add_argument("--sandbox-server", action="store_true", help="run billing's sandbox as a server of its own")
    return parser.parse_args()


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 1 << 16):
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, not {text!r}")
    return int(text)


def _end_in_order(server: uvicorn.Server) -> None:
    """Let a signal before the server runs end it as one afterwards does.

    A handler that raised instead would raise wherever the start has come to: in an import, or where nobody sees it.
    """

    def leave(*_: object) -> None:
        server.should_exit = True

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), leave)


def _listening(port: int) -> socket.socket:
    try:
        return _bound(port)
    except OSError:
        return _bound(0)


def _bound(port: int) -> socket.socket:
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


@contextmanager
def _sandbox_server() -> Iterator[None]:
    """Run the sandbox as another process and point the settings at it."""
    command = [sys.executable, "-m", "entitlement_gate.sandbox", "--port", "0"]
    # A session of its own: Ctrl-C reaches this process alone, which then ends the sandbox in order.
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as sandbox:  # noqa: S603 - our own module
        try:
            os.environ["ZENSKAR_BASE_URL"] = _address_from(sandbox)
            os.environ["ZENSKAR_API_KEY"] = _SANDBOX_KEY
            os.environ["ZENSKAR_ORGANISATION"] = _SANDBOX_ORGANISATION
            yield
        finally:
            sandbox.terminate()


def _address_from(sandbox: subprocess.Popen[str]) -> str:
    greeting = sandbox.stdout.readline() if sandbox.stdout else ""
    address = next((word for word in greeting.split() if word.startswith("http://")), None)
    if address is None:
        sys.exit("the sandbox server did not start")
    return address


def _say(port: int) -> None:
    billing = os.environ.get("ZENSKAR_BASE_URL", "sandbox:")
    where = "the sandbox, in this process" if billing == "sandbox:" else billing
    lines = [
        f"Fieldnotes: http://{HOST}:{port}/ (Ctrl-C stops it)",
        f"  billing: {where}",
        "  customers to switch between:",
    ]
    lines += [f"    {customer.name:<18}{customer.note}".rstrip() for customer in CUSTOMERS]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
