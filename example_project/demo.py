"""Serve Fieldnotes until Ctrl-C: ``python example_project/demo.py [--port 8000] [--sandbox-server] [--redis]``.

Each run has a folder of its own, for its database and its Redis, that is removed when it ends. So any number of them
run beside each other. Nothing outlives a run, also where it is killed: a warden sees to that.
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import django
import uvicorn
from django.core.management import call_command
from django.db import connections
from fieldnotes import customers

HOST = "127.0.0.1"
_WORKERS = 2
_SANDBOX_KEY = "sandbox-key"
_SANDBOX_ORGANISATION = "00000000-0000-4000-8000-000000000001"
_PATIENCE = 2  # seconds that requests on their way get when the demo stops
_GLANCE = 0.1  # seconds between two looks at the processes that were started
# It leads the process group of all that the demo starts, and its input ends when the demo has, however that was. A fork
# then ends the group, from outside: the warden, which is in it, would end before it could remove the folder.
_WARDEN = """
import os, shutil, signal, sys
sys.stdin.read()
group = os.getpgrp()
if os.fork() == 0:
    os.setpgid(0, 0)
    os.killpg(group, signal.SIGKILL)
    shutil.rmtree(sys.argv[1], ignore_errors=True)
"""
_REDIS_IS_MISSING = """\
--redis needs redis-server, which is not installed. Install it (Debian and Ubuntu: apt install redis-server; macOS:
brew install redis), set REDIS_URL to a Redis that runs, or start the demo without --redis."""


def main() -> None:
    options = _options()
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    server = _server(is_one_of_several=options.worker is not None)
    _end_in_order(server)
    if options.worker is not None:
        server.run(sockets=[socket.socket(fileno=options.worker)])
        return
    if options.end_with_parent:
        Thread(target=_end_with, args=[os.getppid()], daemon=True).start()
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="fieldnotes-"))
        group = stack.enter_context(_warden(folder))
        if options.redis and "REDIS_URL" not in os.environ:
            stack.enter_context(_redis(Path(folder), group))
        # Two processes need one billing: the sandbox in each would be a billing of its own.
        if options.sandbox_server or (options.redis and "ZENSKAR_BASE_URL" not in os.environ):
            stack.enter_context(_sandbox_server(group))
        listener = stack.enter_context(_listening(options.port))
        port = listener.getsockname()[1]
        os.environ["FIELDNOTES_PORT"] = str(port)
        _make_database(Path(folder))
        workers = [stack.enter_context(_worker(each, group)) for each in _shares(listener)] if options.redis else []
        _say(port, options.port, workers)
        if workers:
            _watch(workers, lambda: server.should_exit)
        else:
            server.run(sockets=[listener])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Serve Fieldnotes, the example of entitlement_gate, until Ctrl-C.")
    parser.add_argument("--port", type=_port, default=8000, help="where to listen; a free port where it is taken")
    parser.add_argument("--sandbox-server", action="store_true", help="run billing's sandbox as a server of its own")
    parser.add_argument(
        "--redis", action="store_true", help="start a Redis, and two processes that share snapshots and counts in it"
    )
    parser.add_argument(
        "--end-with-parent",
        action="store_true",
        help="end too when the process that started this one, or the terminal, is gone",
    )
    parser.add_argument(
        "--worker", type=int, help=argparse.SUPPRESS
    )  # a worker of --redis: the socket that it inherits
    return parser.parse_args()


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 1 << 16):
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, not {text!r}")
    return int(text)


def _server(*, is_one_of_several: bool) -> uvicorn.Server:
    # A connection for each request lets any of the workers answer the next one.
    headers = [("Connection", "close")] if is_one_of_several else []
    return uvicorn.Server(
        uvicorn.Config(
            "config.asgi:application",
            log_level="warning",
            lifespan="off",
            headers=headers,
            timeout_graceful_shutdown=_PATIENCE,
        )
    )


def _end_in_order(server: uvicorn.Server) -> None:
    """Let a signal before the server runs end it as one afterwards does.

    A handler that raised instead would raise wherever the start has come to: in an import, or where nobody sees it.
    """

    def leave(*_: object) -> None:
        server.should_exit = True

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), leave)


def _end_with(parent: int) -> None:
    """End in order as soon as the parent is another, or the terminal is closed: a ``make`` that is killed, or that ran
    alone in its window, tells nobody.
    """
    had_terminal = os.isatty(0)
    while os.getppid() == parent and os.isatty(0) == had_terminal:
        time.sleep(_GLANCE)
    os.kill(os.getpid(), signal.SIGTERM)


def _listening(port: int) -> socket.socket:
    try:
        return _bound(port)
    except OSError:
        return _bound(0)


def _shares(listener: socket.socket) -> Iterator[socket.socket]:
    """Give each worker a socket on one port, so that Linux spreads connections over them.

    Of two that wait at one socket the same would answer nearly always. The port is shared once it is taken: who tries
    whether it is free, as ``_listening`` does, finds that it is not.
    """
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    yield listener
    for _ in range(_WORKERS - 1):
        yield _bound(listener.getsockname()[1], is_shared=True)


def _bound(port: int, *, is_shared: bool = False) -> socket.socket:
    listener = socket.socket()
    try:
        if is_shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def _make_database(folder: Path) -> None:
    os.environ.setdefault("FIELDNOTES_DATABASE", str(folder / "db.sqlite3"))
    django.setup()
    call_command("migrate", verbosity=0)
    customers.seed()
    connections.close_all()


@contextmanager
def _warden(folder: str) -> Iterator[int]:
    """Start the warden; give the process group that it leads.

    A group of its own, so that Ctrl-C reaches this process alone, which then ends the others one after the other.
    """
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # inherited: in such a group a terminal may stop who writes to it
    with _process(sys.executable, "-I", "-S", "-c", _WARDEN, folder, group=0, stdin=subprocess.PIPE) as warden:
        yield warden.pid


@contextmanager
def _process(*command: str, group: int, **options: object) -> Iterator[subprocess.Popen[str]]:
    """Run a command in a process group, and end it in order."""
    with subprocess.Popen(command, text=True, process_group=group, **options) as process:  # type: ignore[call-overload]  # noqa: S603 - what Popen takes; our own commands
        try:
            yield process
        finally:
            process.terminate()


@contextmanager
def _sandbox_server(group: int) -> Iterator[None]:
    """Run the sandbox as another process and point the settings at it."""
    command = [sys.executable, "-m", "entitlement_gate.sandbox", "--port", "0"]
    with _process(*command, group=group, stdout=subprocess.PIPE) as sandbox:
        os.environ["ZENSKAR_BASE_URL"] = _address_from(sandbox)
        os.environ["ZENSKAR_API_KEY"] = _SANDBOX_KEY
        os.environ["ZENSKAR_ORGANISATION"] = _SANDBOX_ORGANISATION
        yield


def _address_from(sandbox: subprocess.Popen[str]) -> str:
    greeting = sandbox.stdout.readline() if sandbox.stdout else ""
    address = next((word for word in greeting.split() if word.startswith("http://")), None)
    if address is None:
        sys.exit("the sandbox server did not start")
    return address


@contextmanager
def _redis(folder: Path, group: int) -> Iterator[None]:
    """Run a Redis that keeps nothing, on a socket in the folder: it needs no port, and nobody else finds it."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        sys.exit(_REDIS_IS_MISSING)
    path = folder / "redis.sock"
    command = [program, "--port", "0", "--unixsocket", str(path), "--dir", str(folder), "--save", ""]
    with _process(*command, group=group, stdout=subprocess.DEVNULL) as server:
        while not path.is_socket():
            if server.poll() is not None:
                sys.exit(f"{program} did not start: it ended with {server.returncode}")
            time.sleep(_GLANCE)
        os.environ["REDIS_URL"] = f"unix://{path}"
        yield


@contextmanager
def _worker(listener: socket.socket, group: int) -> Iterator[subprocess.Popen[str]]:
    """Run this file once more, as a server that takes its connections from the socket."""
    descriptor = listener.fileno()
    command = [sys.executable, __file__, "--worker", str(descriptor)]
    with listener, _process(*command, group=group, pass_fds=[descriptor]) as worker:
        yield worker


def _watch(workers: list[subprocess.Popen[str]], is_to_end: Callable[[], bool]) -> None:
    """Wait until the demo is to end, or one of the workers has."""
    while not is_to_end():
        if any(worker.poll() is not None for worker in workers):
            sys.exit("a worker ended by itself")
        time.sleep(_GLANCE)
    for worker in workers:  # all at once: each gives its requests `_PATIENCE` seconds
        worker.terminate()


def _say(port: int, requested_port: int, workers: list[subprocess.Popen[str]]) -> None:
    billing = os.environ.get("ZENSKAR_BASE_URL", "sandbox:")
    where = "the sandbox, in this process" if billing == "sandbox:" else billing
    lines = [f"Fieldnotes: http://{HOST}:{port}/ (Ctrl-C stops it)", f"  billing: {where}"]
    if requested_port not in {0, port}:
        lines.append(f"  port {requested_port} is taken: this is a free one")
    if workers:
        lines.append(f"  workers: processes {' and '.join(str(worker.pid) for worker in workers)}, which share a Redis")
    lines.append("  customers to switch between:")
    lines += [f"    {customer.name:<18}{customer.note}".rstrip() for customer in customers.CUSTOMERS]
    lines.append("Open the page: it says what to try.")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
