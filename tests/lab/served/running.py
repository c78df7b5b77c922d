"""Real servers in processes of their own. Never here: what they serve (``project``)."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

MODULE = "tests.lab.served.project"
SERVERS = {
    "gunicorn sync": ["gunicorn", f"{MODULE}:wsgi", "--workers=2"],
    "gunicorn gthread": ["gunicorn", f"{MODULE}:wsgi", "--workers=2", "--threads=4"],
    "gunicorn preload": ["gunicorn", f"{MODULE}:wsgi", "--workers=2", "--threads=2", "--preload"],
    "uvicorn": ["uvicorn", f"{MODULE}:asgi", "--log-level=error"],
}


@contextmanager
def serving(server, **environment):
    """Start a server by its name and yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    name, *rest = SERVERS[server]
    place = [f"--bind=127.0.0.1:{port}"] if name == "gunicorn" else [f"--port={port}"]
    command = [sys.executable, "-m", name, *rest, *place]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env={**os.environ, **environment}, **quiet) as process:
        try:
            _wait_for(port, process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            assert process.wait(15) is not None


def _wait_for(port, process):
    until = time.monotonic() + 20
    while time.monotonic() < until:
        assert process.poll() is None, "the server ended at once"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail("the server did not start")
