"""The tutorial, followed to the letter: its commands are run, its files written, its answers compared."""

import shlex
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.docs.pages import DOCS, blocks_of
from tests.example.conftest import environment
from tests.ports import free_port

TUTORIAL = blocks_of(DOCS / "tutorial" / "first-gate.md")
_PATIENCE = 30


class Follower:
    """Does in a directory what the tutorial says; the port that it names is another one here."""

    def __init__(self, place, stack):
        self.place = place
        self.stack = stack
        self.port = free_port()
        self.said = ""
        # What `. .venv/bin/activate` does.
        self.environment = environment(PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin")

    def follow(self, block):
        kind, _, path = block.mark.partition(": ")
        if kind == "file":
            (self.place / path).write_text(block.text)
        elif kind == "append":
            with (self.place / path).open("a") as file:
                file.write(f"\n{block.text}")
        elif kind == "serve":
            self._serve(self._command(block))
        elif block.language == "sh" and kind == "run":
            command = self._command(block)
            self.said = _curl(command[1:]) if command[0] == "curl" else self._run(command)
        elif block.language == "text":
            for line in block.text.splitlines():
                assert line in self.said, self.said

    def _command(self, block):
        [line] = block.text.splitlines()
        return shlex.split(line.replace("8000", str(self.port)))

    def _run(self, command):
        done = subprocess.run(
            command, cwd=self.place, env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _serve(self, command):
        # Reloading needs another process, which a test could not end.
        server = subprocess.Popen(
            [*command, "--noreload"],
            cwd=self.place,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.stack.enter_context(server)
        self.stack.callback(server.terminate)
        _wait_for(self.port)


def _wait_for(port):
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("the tutorial's server does not listen")


def _curl(arguments):
    """Do what curl does with ``-i``, ``-H`` and an address, and write JSON as the tutorial shows it."""
    headers = {"Accept": "*/*"}
    while arguments[0] == "-H" or arguments[0] == "-i":
        if arguments.pop(0) == "-H":
            name, _, value = arguments.pop(0).partition(": ")
            headers[name] = value
    answer = httpx.get(arguments[0], headers=headers, trust_env=False, timeout=_PATIENCE)
    head = [f"HTTP/1.1 {answer.status_code} {answer.reason_phrase}"]
    head += [f"{name.title()}: {value}" for name, value in answer.headers.items()]
    return "\n".join([*head, answer.text])


def test_the_tutorial_works_as_written(tmp_path):
    with ExitStack() as stack:
        follower = Follower(tmp_path, stack)
        for block in TUTORIAL:
            if block.mark.startswith("file:") and "export" in block.text and block.mark.endswith("urls.py"):
                # A server that reloads sees the new files; this one is started again.
                follower.follow(block)
                stack.pop_all().close()
                follower.stack = stack
                follower.port = free_port()
                follower._serve(["python", "manage.py", "runserver", str(follower.port)])
            else:
                follower.follow(block)


def test_the_tutorial_has_every_kind_of_step():
    assert {block.mark.partition(":")[0] for block in TUTORIAL} >= {"run", "file", "append", "serve"}
