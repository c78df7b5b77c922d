"""A ledger's Redis: connections, scripts, buckets, and noticing that a ledger was lost."""

from __future__ import annotations

import json
import logging
import time
import uuid
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any
from zlib import crc32

from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as TimedOut

from entitlement_gate.ledger.protocol import LONE_RETENTION, RETENTION, LedgerLost, LedgerUnavailable
from entitlement_gate.resilience.fork_safety import Lock, PerProcess, remake_after_fork
from entitlement_gate.resilience.redis_connection import (
    Script,
    call_with_retry,
    close_idle_connections,
    connect,
    is_failover,
    read_lua,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["BUCKETS", "RedisStore", "load_script", "read_script"]

BUCKETS = 64
_TIMEOUT = 0.24  # twice, where a connection is made anew, is less than half a second
_FOUNDING = 0.1  # seconds in which another process has founded all buckets, once it began
_REMEMBERED = (round(RETENTION * 1_000_000), round(LONE_RETENTION * 1_000_000))  # how long keys are, in microseconds
_ANY_VERSION = ("", 0)  # whatever epoch there is will do
_SWEEPS = 100  # round trips of a verb, where more holds of its customer ran out together than a script gives back
_LOST = ("missing", "other", "behind")
_encoded = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_log = logging.getLogger("entitlement_gate.ledger")


class RedisStore:
    """Runs scripts on the bucket of a customer.

    Every bucket has a *meta* hash: its ``epoch``, made when the ledger was founded, and ``seq``, which counts its
    writes. A process remembers both, as the bucket's version. Meta that is missing, of another epoch or behind that is
    loss: a server that restarted empty or from an old dump, a failover that dropped writes, a flush.
    """

    _client: PerProcess[Any] = PerProcess()
    _lock: PerProcess[Lock] = PerProcess()

    def __init__(self, server: Any, *, prefix: str = "entitlements", must_exist: bool = False) -> None:
        self._server = server
        self._prefix = prefix
        self._must_exist = must_exist
        self._changes = 0  # how often another server may have come
        self._checked = -1  # the change after which the server was found not to evict
        self._is_closed = False
        self._is_warned = False
        self._versions: dict[int, tuple[str, int]] = {}
        self._tags = [f"{{{prefix}:{bucket}}}" for bucket in range(BUCKETS)]
        self._load_script = load_script
        self.remake()
        remake_after_fork(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._prefix!r}>"

    def remake(self) -> None:
        """Forget the connections, as in a process just forked; a client that was given does so itself."""
        self._client = connect(self._server, timeout=_TIMEOUT) if isinstance(self._server, str) else self._server
        self._lock = Lock()

    def close(self) -> None:
        """Close the connections, those in use after their verb; a later verb makes one for itself."""
        self._is_closed = True
        close_idle_connections(self._client)  # redis-py answers who uses one that is closed with a ValueError

    def accept_loss(self) -> None:
        """Go on with what is left: the next admissions trust billing for whatever was lost here."""
        commands: list[tuple[str, ...]] = []
        for bucket in range(BUCKETS):
            meta = self._key(bucket, "meta")
            commands += ("HSETNX", meta, "seq", "0"), ("HSET", meta, "accepted", "1", "epoch", uuid.uuid4().hex)
        self._run_pipeline(commands)
        with self._lock:
            self._versions.clear()
        _log.warning("the loss of the ledger %r was accepted: counting starts from what is left", self._prefix)

    def server_facts(self) -> dict[str, Any]:
        """Return the policy by which the server evicts, and whether it writes down what it acknowledges."""
        with self._wrap_errors():
            self._client.ping()
            memory, disk = self._info("memory"), self._info("persistence")
        policies = sorted({str(info.get("maxmemory_policy")) for info in memory or ()})
        return {
            "maxmemory_policy": ", ".join(policies) or None,
            "appendonly": None if disk is None else all(info.get("aof_enabled") for info in disk),
        }

    def is_lost(self) -> bool:
        """Return whether a verb on some bucket would raise ``LedgerLost``."""
        versions = dict(self._versions)  # before the server is asked: what it says then is at least as new
        metas = self.ask_each("HMGET", "meta", "epoch", "seq", "accepted")
        is_founded = any(meta[0] for meta in metas)
        if not is_founded:
            return self._must_exist or bool(versions)
        return any(_is_loss(meta, *versions.get(bucket, (None, 0))) for bucket, meta in enumerate(metas))

    def ask_each(self, command: str, name: str, *arguments: str) -> list[Any]:
        """Return what a command says of each bucket, in one round trip."""
        return self._run_pipeline([(command, self._key(bucket, name), *arguments) for bucket in range(BUCKETS)])

    def run_each(self, name: str, key_lists: Sequence[Sequence[str]], requests: Sequence[dict[str, Any]]) -> list[Any]:
        """Run a script for each of several lists of keys, in one round trip; as safe to run twice as by ``run``."""
        # As text: a pipeline could not be sure that the server has the hash, and that of a cluster refuses it.
        text = self._load_script(name).text
        runs = zip(key_lists, map(_encoded, requests), strict=True)
        return self._run_pipeline([("EVAL", text, len(keys), *keys, request) for keys, request in runs])

    def run_in_epoch(self, verb: str, customer_id: str, request: dict[str, Any], *extra: str) -> tuple[str, str]:
        """Run a verb on the customer's book; return ``done`` or ``failed``, and its reply. Raises ``LedgerLost``.

        Args:
            verb: which script.
            customer_id: whose book.
            request: what the script is to know besides.
            extra: the bucket's keys that the verb needs besides those of the book.
        """
        bucket = self._bucket(customer_id)
        tag = self._tags[bucket]
        keys = [f"{tag}:meta", *(f"{tag}:{name}:{customer_id}" for name in ("rows", "holds", "due"))]
        if "key" in request:
            keys.append(f"{tag}:kept:{len(customer_id)}:{customer_id}:{request['key']}")
        keys += [f"{tag}:{name}" for name in extra]
        version = self._versions.get(bucket, _ANY_VERSION)
        status, reply = self._run_verb(verb, bucket, keys, request, version=version)
        if status == "missing" and version is _ANY_VERSION:  # which other threads may know by now
            self._found_ledger(bucket, keys)
            status, reply = self._run_verb(verb, bucket, keys, request, version=version)
        elif status == "accepted":  # the epoch that this thread knew is over; others may know either by now
            status, reply = self._run_verb(verb, bucket, keys, request, version=_ANY_VERSION)
        if status in _LOST:
            raise LedgerLost(f"the ledger in Redis lost what it held ({status}); see accept_loss()")
        return status, reply

    def run(self, name: str, keys: list[str], request: dict[str, Any], *more: str | int) -> Any:
        """Run a script; safe to run twice, so it is where the connection broke. Raises ``LedgerUnavailable``.

        A server that hangs is not asked again: callers wait.
        """
        arguments = (_encoded(request), *more)
        with self._wrap_errors():
            return call_with_retry(self._client, lambda: self._evaluate(name, keys, arguments), self._look_anew)

    def _run_verb(
        self, verb: str, bucket: int, keys: list[str], request: dict[str, Any], *, version: tuple[str, int]
    ) -> tuple[str, str]:
        """Run a verb, and remember the bucket's new version."""
        for _ in range(_SWEEPS):
            status, _, reply = _text(self.run(verb, keys, request, *version, *_REMEMBERED)).partition(" ")
            if status != "more":
                break
        else:
            raise LedgerUnavailable("Redis: more holds ran out than are given back at once; the next verb goes on")
        if status == "done":
            epoch, seq, reply = reply.split(" ", 2)
            with self._lock:
                latest = self._versions.get(bucket)
                if latest is None or latest[0] != epoch or latest[1] < int(seq):
                    self._versions[bucket] = epoch, int(seq)
        return status, reply

    def _run_pipeline(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Return what each command says, in one round trip; all must be safe to give twice."""

        def call() -> list[Any]:
            with self._client.pipeline(transaction=False) as pipe:
                for command in commands:
                    pipe.execute_command(*command)
                replies: list[Any] = pipe.execute(raise_on_error=False)  # which would quote the command
            for reply in replies:
                if isinstance(reply, RedisError):
                    raise reply
            return replies

        with self._wrap_errors():
            replies: list[Any] = call_with_retry(self._client, call, self._look_anew)
        return replies

    def _evaluate(self, name: str, keys: list[str], arguments: tuple[str | int, ...]) -> Any:
        if self._checked != self._changes:
            self._check()
        return self._load_script(name).run(self._client, keys, *arguments)

    def _found_ledger(self, bucket: int, keys: list[str]) -> None:
        """Found the ledger where there is none at all; a single missing bucket is loss."""
        with self._wrap_errors():
            was_known = bool(self._versions)  # before the server is asked: another thread may found it meanwhile
            is_founded = self._is_founded()
            if was_known and not is_founded:
                raise LedgerLost("the ledger in Redis is gone, which this process has known; see accept_loss()")
            if self._must_exist or is_founded:
                for _ in range(10):
                    if self._client.exists(self._key(bucket, "meta")):
                        return
                    time.sleep(_FOUNDING / 10)
                return
            if self._has_remains(keys) and not self._is_founded():  # what another founded meanwhile leaves some too
                _log.warning("founding the ledger %r in Redis among the remains of one that is lost", self._prefix)
            else:
                _log.info("founding the ledger %r in Redis, which holds none", self._prefix)
            metas = [self._key(each, "meta") for each in range(BUCKETS)]
            new = [
                (meta, field, value) for meta in metas for field, value in (("seq", "0"), ("epoch", uuid.uuid4().hex))
            ]
            self._run_pipeline([("HSETNX", *each) for each in new])

    def _is_founded(self) -> bool:
        return any(self.ask_each("EXISTS", "meta"))

    def _has_remains(self, keys: list[str]) -> bool:
        """Return whether something is left of another ledger: of the customer who is asked about, or an event."""
        remains = self._client.exists(*keys[1:])
        return bool(remains or any(self.ask_each("EXISTS", "events")) or any(self.ask_each("EXISTS", "dead")))

    def _check(self) -> None:
        """Refuse a server that evicts: it would forget what was used up."""
        changes = self._changes  # before the server is asked: another thread may meet the next one meanwhile
        infos = self._info("memory")
        policies = {info.get("maxmemory_policy") for info in infos or ()}
        if policies - {"noeviction", None}:
            raise LedgerUnavailable(f"a ledger's Redis must have maxmemory-policy noeviction, not {policies}")
        if infos is None and not self._is_warned:
            _log.warning("Redis refuses INFO: see for yourself that its maxmemory-policy is noeviction")
            self._is_warned = True
        self._checked = changes

    def _info(self, section: str) -> list[dict[str, Any]] | None:
        """Return what the server, or each node of a cluster, says of itself; None where it does not say it to us."""
        try:
            info = self._client.info(section)
        except ResponseError:  # `-@dangerous` takes it away, and some who run Redis for others rename it
            return None
        return list(info.values()) if all(isinstance(value, dict) for value in info.values()) else [info]

    def _look_anew(self) -> None:
        """Look at the next server before it is used: it may be another one."""
        self._changes += 1

    @contextmanager
    def _wrap_errors(self) -> Iterator[None]:
        """Turn every error of redis-py into ``LedgerUnavailable``; disconnect where another server may answer."""
        try:
            yield
        except RedisError as error:
            if is_failover(error):
                close_idle_connections(self._client)
                self._look_anew()
            raise LedgerUnavailable(f"Redis: {_kind(error)}") from None  # Redis quotes what it does not run
        finally:
            if self._is_closed:
                close_idle_connections(self._client)

    def _bucket(self, customer_id: str) -> int:
        return crc32(customer_id.encode()) % BUCKETS

    def _key(self, bucket: int, name: str) -> str:
        """Return a key; the braces put all keys of a bucket into one slot of a cluster."""
        return f"{self._tags[bucket]}:{name}"


def _is_loss(meta: list[bytes | None], epoch: str | None, seq: int) -> bool:
    """Return whether a bucket's meta is not what a process that knows this epoch and this count may find."""
    current, count, accepted = meta
    if current is None:
        return True
    if epoch is None or _text(current) == epoch:
        return int(count or 0) < seq
    return accepted is None


def _kind(error: RedisError) -> str:
    """Return what may be told of an error: its class and, where no command can be quoted, its text."""
    name = type(error).__name__
    if isinstance(error, (Disconnected, TimedOut)):
        return f"{name}: {error}"
    code = str(error).partition(" ")[0]
    return f"{name} {code}" if code.isupper() and code.isalpha() else name


def _text(reply: bytes | str) -> str:
    """Return a reply as text, whether the client was made to decode or not."""
    return reply if isinstance(reply, str) else reply.decode()


_SCRIPTS: dict[str, tuple[str, ...]] = {
    "reserve": ("book", "reserve", "return done(reserve)"),
    "consume": ("book", "reserve", "settle", "consume", "return done(consume)"),
    "commit": ("book", "settle", "return done(commit)"),
    "release": ("book", "settle", "return done(release)"),
    "extend": ("book", "settle", "return done(extend)"),
    "adopt": ("book", "news", "return done(adopt_all)"),
    "charges": ("book", "news", "return done(charges, told)"),
    "outbox": ("outbox", ""),
}
"""The files of each script, one after the other, and its last line: a verb pays for what it needs."""


def read_script(name: str) -> str:
    """Return the text of a script."""
    *parts, ending = _SCRIPTS[name]
    return f"{read_lua('entitlement_gate.ledger', *parts)}\n{ending}"


@cache
def load_script(name: str) -> Script:
    """Return a script, read once."""
    return Script(read_script(name), hash_key=1)
