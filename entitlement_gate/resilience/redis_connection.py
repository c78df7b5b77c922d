"""Clients of Redis, and what to do where it is another server by now. Never here: what Redis is asked.

After a failover a connection that was open leads to the demoted server still, behind whatever name or proxy there is,
and would for ever: it works. What says "not here any more" closes the connections that nobody uses, and the next
call connects to whoever has the name now.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    ReadOnlyError,
    RedisError,
)
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import TimeoutError as TimedOut
from redis.retry import Retry

from entitlement_gate.resilience.redis_url import read_redis_url

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "ask",
    "connect",
    "drop_idle",
    "is_elsewhere",
    "on_primary",
]


_NOT_HERE = (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    Disconnected,
    MasterDownError,
    NoPermissionError,
    ReadOnlyError,
    TimedOut,
)
# What redis-py has no class for, and what older servers say in the middle of a script's error.
_NOT_HERE_CODES = re.compile(r"\b(?:READONLY|MISCONF|NOREPLICAS|UNBLOCKED)\b")
# A replica answers reads, with what it once knew: a write that changes nothing tells whether this is one. It comes
# last, because Redis looks at its memory only until a script's first write.
_GUARDED = """local function run()
{script}
end
local reply = run()
local refused = redis.pcall('HDEL', KEYS[{hash_key}], '')
if type(refused) == 'table' and string.find(refused.err or '', 'READONLY', 1, true) then
  return redis.error_reply('READONLY this server is a replica')
end
return reply
"""


def connect(url: str, *, timeout: float, patience: float = 0.0) -> redis.Redis:
    """Return a client that tries each call once; it connects on use.

    Args:
        url: its options win over what follows.
        timeout: seconds for connecting, and for each answer.
        patience: seconds that an answer may take at least, whatever the URL says.

    Raises:
        ValueError: the URL cannot work.
    """
    place, given = read_redis_url(url)
    options = {"socket_timeout": timeout, "socket_connect_timeout": timeout, "protocol": 2, **given}
    options["socket_timeout"] = max(options["socket_timeout"], patience)
    return redis.Redis.from_url(place, retry=Retry(NoBackoff(), 0), **options)


def ask(client: Any, call: Callable[[], Any], left: Callable[[], None] = lambda: None) -> Any:
    """Return what a call gives, which is safe to make twice; made again, over a new connection, where that may help.

    A server that hangs is not asked again: callers wait. ``left`` is called where the next call may meet another one.
    """

    def tried() -> Any:
        try:
            return call()
        except RedisError as error:
            if is_elsewhere(error):
                drop_idle(client)
                left()
            raise

    try:
        return tried()
    except RedisError as error:
        if not is_elsewhere(error) or isinstance(error, TimedOut):
            raise
    return tried()


def is_elsewhere(error: RedisError) -> bool:
    """Whether a server refuses, or is silent, where another one of the same name might answer."""
    return isinstance(error, _NOT_HERE) or _NOT_HERE_CODES.search(str(error)) is not None


def drop_idle(client: Any) -> None:
    """Close the connections that nobody uses now; those in use find out by themselves.

    A client with another kind of pool, as that of a cluster, sees to that itself.
    """
    pool = getattr(client, "connection_pool", None)
    if isinstance(pool, redis.ConnectionPool) and not isinstance(pool, redis.BlockingConnectionPool):
        pool.disconnect(inuse_connections=False)


def on_primary(script: str, hash_key: int) -> str:
    """Return a script that only a primary runs, also where it only reads. ``hash_key`` tells which key is a hash."""
    return _GUARDED.format(script=script, hash_key=hash_key)
