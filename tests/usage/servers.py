"""A PostgreSQL of our own: its directory, its socket, its end."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path


def program(name):
    found = shutil.which(name) or next(
        iter(sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)), None
    )
    if found is None:
        raise RuntimeError(f"these tests need PostgreSQL's {name}: apt-get install postgresql")
    return os.path.realpath(found)


def unprivileged():
    """PostgreSQL refuses to run as root."""
    if os.geteuid():
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise RuntimeError("PostgreSQL does not run as root, and there is no user to run it as")


class PostgresServer:
    def __init__(self):
        self.directory = Path(tempfile.mkdtemp(prefix="eg-"))
        self.data = self.directory / "data"
        self.who = unprivileged()
        if self.who:
            os.chown(self.directory, self.who["user"], self.who["group"])
        self.run("initdb", "-D", str(self.data), "-U", "gate", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C")
        self.start()

    def run(self, name, *arguments):
        done = subprocess.run([program(name), *arguments], check=False, capture_output=True, cwd="/", **self.who)
        assert done.returncode == 0, done.stderr.decode()

    def start(self):
        options = ["-D", str(self.data), "-k", str(self.directory), "-c", "listen_addresses=", "-c", "fsync=off"]
        self.process = subprocess.Popen(
            [program("postgres"), *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            **self.who,
        )
        import psycopg

        until = time.monotonic() + 120
        while self.process.poll() is None and time.monotonic() < until:
            try:
                psycopg.connect(host=str(self.directory), user="gate", dbname="postgres").close()
            except psycopg.OperationalError:
                time.sleep(0.02)
            else:
                return
        self.stop()
        raise RuntimeError("postgres did not start")

    @property
    def settings(self):
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "postgres",
            "USER": "gate",
            "HOST": str(self.directory),
        }

    def stop(self):
        self.process.send_signal(signal.SIGINT)  # it waits for no client
        self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)
