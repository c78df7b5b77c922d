"""Real servers in processes of their own. Never here: what they serve (``project``)."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ports import free_port

MODULE = "tests.lab.served.project"
PATIENCE = 120  # seconds: the machine may be busy
# Forks after the project is imported.
UWSGI = [
    "uwsgi",
    f"--module={MODULE}:wsgi",
    "--master",
    "--processes=4",
    "--enable-threads",
    "--need-app",
    "--die-on-term",
]
SERVERS = {
    "gunicorn sync": ["gunicorn", f"{MODULE}:wsgi", "--workers=2"],
    "gunicorn gthread": ["gunicorn", f"{MODULE}:wsgi", "--workers=2", "--threads=4"],
    "gunicorn preload": ["gunicorn", f"{MODULE}:wsgi", "--workers=2", "--threads=2", "--preload"],
    "uwsgi": UWSGI,  # tells Python nothing of it
    "uwsgi fork hooks": [*UWSGI, "--py-call-uwsgi-fork-hooks"],
    "uvicorn": ["uvicorn", f"{MODULE}:asgi", "--log-level=error"],
}


@contextmanager
def serving(server, **environment):
    """Start a server by its name and yield its address."""
    port = free_port()
    name, *rest = SERVERS[server]
    place = {"gunicorn": f"--bind=127.0.0.1:{port}", "uwsgi": f"--http-socket=127.0.0.1:{port}"}
    program = [str(Path(sys.executable).with_name(name))] if name == "uwsgi" else [sys.executable, "-m", name]
    command = [*program, *rest, place.get(name, f"--port={port}")]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env={**os.environ, **environment}, **quiet) as process:
        try:
            _wait_for(port, process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            assert process.wait(PATIENCE) is not None


def _wait_for(port, process):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        assert process.poll() is None, "the server ended at once"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail("the server did not start")
