"""Passing time in Redis, whose clock nobody can set."""

from functools import cache

from entitlement_gate.ledger.redis_client import read_script
from entitlement_gate.resilience.redis_connection import Script

_NOW = "time[1] * 1000000 + time[2]"


def pass_time_in_redis(ledger, seconds):
    """Let it be so much later for the scripts that a ledger runs from now on."""
    ledger.ahead = getattr(ledger, "ahead", 0) + round(seconds * 1_000_000)
    now = f"{_NOW} + {ledger.ahead}"

    def later(name):
        lua = read_script(name)
        assert lua.count(_NOW) == 1, name
        return Script(lua.replace(_NOW, now), hash_key=1)

    ledger._load_script = cache(later)
