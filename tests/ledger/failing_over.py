"""Two Redis servers behind one address: the primary, and the replica that takes its place."""

import time

import redis

from tests.ledger.servers import DroppingProxy, RedisServer


class Pair:
    """A primary and its replica; who connects by ``url`` meets the primary of that moment."""

    def __init__(self, directory):
        self.old, self.new = (RedisServer(directory, "--repl-diskless-sync-delay", "0") for _ in range(2))
        with redis.Redis(port=self.new.port) as client:
            client.replicaof("127.0.0.1", self.old.port)
        self.proxy = DroppingProxy(self.old.port)
        self.url = f"redis://127.0.0.1:{self.proxy.port}/0?socket_timeout=5&socket_connect_timeout=5"

    def fail_over(self):
        """Let the replica take the primary's place, and cut the other off; connections to that one stay open."""
        self.catch_up()
        with redis.Redis(port=self.new.port) as new, redis.Redis(port=self.old.port) as old:
            new.replicaof("NO", "ONE")
            old.replicaof("127.0.0.1", 1)  # of nobody who answers: it stays as it is, and answers reads
        self.proxy.target = self.new.port

    def catch_up(self):
        """Wait until the replica has everything."""
        until = time.monotonic() + 30
        with redis.Redis(port=self.old.port) as old:
            while time.monotonic() < until:
                old.set("nudge", 1)  # WAIT is for what its own connection has written
                if old.wait(1, 100):
                    return
        raise RuntimeError("the replica did not catch up")

    def stop(self):
        self.proxy.stop()
        self.old.kill()
        self.new.kill()
