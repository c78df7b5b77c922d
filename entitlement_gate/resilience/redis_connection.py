"""Clients of Redis, scripts, and what to do where it is another server by now.

After a failover a connection that was open leads to the demoted server still, behind whatever name or proxy there is,
and would for ever: it works. What says "not here any more" closes the connections that nobody uses, and the next
call connects to whoever has the name now.
"""

from __future__ import annotations

import re
from hashlib import sha1
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
)
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import TimeoutError as TimedOut
from redis.retry import Retry

from entitlement_gate.resilience.redis_url import read_redis_url

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Script", "call_with_retry", "close_idle_connections", "connect", "is_failover", "read_lua"]

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
    place, url_options = read_redis_url(url)
    options = {"socket_timeout": timeout, "socket_connect_timeout": timeout, "protocol": 2, **url_options}
    options["socket_timeout"] = max(options["socket_timeout"], patience)
    return redis.Redis.from_url(place, retry=Retry(NoBackoff(), 0), **options)


def call_with_retry(client: Any, call: Callable[[], Any], on_failover: Callable[[], None] = lambda: None) -> Any:
    """Return what a call gives, which is safe to make twice; made again, over a new connection, where that may help.

    A server that hangs is not asked again: callers wait. ``on_failover`` is called where the next call may meet another
    server.
    """

    def attempt() -> Any:
        try:
            return call()
        except RedisError as error:
            if is_failover(error):
                close_idle_connections(client)
                on_failover()
            raise

    try:
        return attempt()
    except RedisError as error:
        if not is_failover(error) or isinstance(error, TimedOut):
            raise
    return attempt()


def is_failover(error: RedisError) -> bool:
    """Whether a server refuses, or is silent, where another one of the same name might answer."""
    return isinstance(error, _NOT_HERE) or _NOT_HERE_CODES.search(str(error)) is not None


def close_idle_connections(client: Any) -> None:
    """Close the connections that nobody uses now; those in use find out by themselves.

    A client with another kind of pool, as that of a cluster, sees to that itself.
    """
    pool = getattr(client, "connection_pool", None)
    if isinstance(pool, redis.ConnectionPool) and not isinstance(pool, redis.BlockingConnectionPool):
        pool.disconnect(inuse_connections=False)


class Script:
    """A Lua script that only a primary runs, also where it only reads.

    Args:
        lua: the body of a function.
        hash_key: which of the script's keys, counted from 1, is a hash.
    """

    __slots__ = ("_sha", "text")

    def __init__(self, lua: str, *, hash_key: int) -> None:
        self.text = _GUARDED.format(script=lua, hash_key=hash_key)
        self._sha = sha1(self.text.encode(), usedforsecurity=False).hexdigest()  # what Redis names it by

    def run(self, client: Any, keys: Sequence[str], *arguments: str | bytes | int) -> Any:
        """Run it by its name; where the server does not have it yet, send it."""
        try:
            return client.evalsha(self._sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return client.eval(self.text, len(keys), *keys, *arguments)


def read_lua(package: str, *names: str) -> str:
    """Return the Lua files of a package, one after the other."""
    return "\n".join(files(package).joinpath(f"{name}.lua").read_text("utf-8") for name in names)
