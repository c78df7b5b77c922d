"""``python -m entitlement_gate.sandbox``: serve a scenario until a signal comes."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from entitlement_gate.sandbox.core import Sandbox
from entitlement_gate.sandbox.scenario import Scenario, ScenarioError
from entitlement_gate.sandbox.server import HOST, SandboxServer

__all__ = ["main"]

_BAD_USAGE = 2
_POLL = 0.2  # seconds: a signal that comes just before a wait begins is seen when the wait ends


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; the answer is the exit code."""
    options = _parse_options(arguments)
    # Raised out of whatever waits: a handler that set an Event could find the main thread holding its lock.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    server = None
    try:
        scenario = Scenario.load(options.scenario) if options.scenario else Scenario.default()
        server = SandboxServer(Sandbox(scenario), options.port).start()
        _print_greeting(_make_greeting(server.url, scenario))
        while True:
            time.sleep(_POLL)
    except ScenarioError as error:
        return _print_error(str(error))
    except OSError as error:
        return _print_error(f"cannot listen on {HOST}:{options.port}: {error.strerror}")
    except KeyboardInterrupt:
        return 0
    finally:
        if server is not None:
            server.stop()


def _parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m entitlement_gate.sandbox", description="A local Zenskar billing API to develop against."
    )
    parser.add_argument("--port", type=_parse_port, default=8808, help="where to listen; 0 takes a free port")
    parser.add_argument("--host", choices=(HOST,), default=HOST, help="the loopback address, and no other")
    parser.add_argument("--scenario", metavar="FILE", help="a scenario in JSON; the one that ships by default")
    return parser.parse_args(arguments)


def _parse_port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 1 << 16):
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, not {text!r}")
    return int(text)


def _make_greeting(url: str, scenario: Scenario) -> str:
    lines = [
        f"Zenskar sandbox at {url} (Ctrl-C stops it)",
        f"  x-api-key:    {scenario.api_key}",
        f"  organisation: {scenario.organisation}",
        "  customers:",
    ]
    lines += [f"    {customer.id}  {customer.name}" for customer in scenario.customers]
    return "\n".join(lines) + "\n"


def _print_greeting(text: str) -> None:
    if sys.stdout is None:  # closed by who started this
        return
    try:
        sys.stdout.write(text.encode(sys.stdout.encoding, "backslashreplace").decode(sys.stdout.encoding))
        sys.stdout.flush()
    except OSError:
        # Who read the greeting has left; the server is wanted all the same, and the flush at exit must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_error(text: str) -> int:
    with suppress(AttributeError, OSError):  # there may be no standard error, and the exit code says it too
        sys.stderr.write(f"sandbox: {text}\n")
    return _BAD_USAGE


if __name__ == "__main__":
    sys.exit(main())
