"""Ports for servers that are to start."""

import contextlib
import random
import socket

# Not the seeded one: processes of one seed would choose the same ports.
_chance = random.SystemRandom()


def free_port():
    """Return a port that nobody has, nor gets by asking for any: those begin at 32,768.

    The one 10,000 above is free as well: a Redis that is to be part of a cluster takes it.
    """
    while True:
        port = _chance.randrange(11_000, 22_000)
        with socket.socket() as probe, socket.socket() as above, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            above.bind(("127.0.0.1", port + 10_000))
            return port
