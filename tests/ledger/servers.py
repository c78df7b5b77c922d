"""A Redis of our own: its port, its directory, its end; and a proxy that loses replies."""

import contextlib
import shutil
import socket
import subprocess
import threading
import time

import redis

from tests.ports import free_port

# Of a URL, for tests whose subject is no time-out: a machine may be too busy to answer within 0.25 s.
PATIENT = "socket_timeout=10&socket_connect_timeout=10"


class RedisServer:
    def __init__(self, directory, *options):
        self.program = shutil.which("redis-server") or shutil.which("valkey-server")
        if self.program is None:
            raise RuntimeError("these tests need redis-server: apt-get install redis-server")
        self.directory = directory
        self.options = options
        self.choose_port()
        self.start()

    def choose_port(self):
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.patient_url = f"{self.url}?{PATIENT}"

    def start(self):
        where = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)]
        log = self.directory / f"redis-{self.port}.log"
        self.process = subprocess.Popen([self.program, *where, "--save", "", "--logfile", str(log), *self.options])
        deadline = time.monotonic() + 60
        with redis.Redis(port=self.port) as client:
            while self.process.poll() is None and time.monotonic() < deadline:
                try:
                    client.ping()
                except redis.ConnectionError:
                    time.sleep(0.01)
                else:
                    return
        self.kill()
        raise RuntimeError(f"redis-server did not start: {log.read_text()}")

    def kill(self):
        self.process.kill()
        self.process.wait()


class DroppingProxy:
    """Passes requests on; drops the next replies and the connection when told to."""

    def __init__(self, port):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.target = port
        self.to_drop = 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            for source, sink, is_reply in ((client, server, False), (server, client, True)):
                threading.Thread(target=self.pump, args=(source, sink, is_reply), daemon=True).start()

    def stop(self):
        """Accept nobody else; ``close`` alone would not wake who waits for one."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def pump(self, source, sink, is_reply):
        try:
            while data := source.recv(65_536):
                if is_reply and self.to_drop:
                    self.to_drop -= 1
                    break
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
