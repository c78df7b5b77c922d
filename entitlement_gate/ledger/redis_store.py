"""The way to Redis: connections, scripts, buckets, and noticing that what was kept is gone.

Never here: what is kept (``redis``, ``redis_outbox``).
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from zlib import crc32

import redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import NoScriptError, RedisError
from redis.retry import Retry

from entitlement_gate.ledger.protocol import LedgerLost, LedgerUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["BUCKETS", "RedisStore"]

BUCKETS = 64
_TIMEOUT = 0.25
_FOUNDING = 0.1  # seconds in which another process has founded all buckets, once it began
_log = logging.getLogger("entitlement_gate.ledger")


class RedisStore:
    """Runs scripts on the bucket of a customer.

    Every bucket has a *meta* hash: its ``epoch``, made when the ledger was founded, and ``seq``, which counts its
    writes. A process remembers both. Meta that is missing, of another epoch or behind what was seen is loss: a
    server that restarted empty or from an old dump, a failover that dropped writes, a flush.
    """

    def __init__(self, server: Any, *, prefix: str = "entitlements", must_exist: bool = False) -> None:
        self._client = _connected(server) if isinstance(server, str) else server
        self._prefix = prefix
        self._must_exist = must_exist
        self._is_checked = False
        self._known: dict[int, tuple[bytes, int]] = {}
        self._shift = 0.0  # seconds added to the server's clock: tests pass time with it

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._prefix!r}>"

    def close(self) -> None:
        """Close the connections; a later verb makes new ones."""
        self._client.close()

    def accept_loss(self) -> None:
        """Go on with what is left: the next admissions trust billing for whatever was lost here."""
        with _told_apart():
            for bucket in range(BUCKETS):
                meta = self._key(bucket, "meta")
                self._client.hsetnx(meta, "seq", "0")
                self._client.hset(meta, "accepted", "1")
                self._client.hset(meta, "epoch", uuid.uuid4().hex)
        self._known.clear()
        _log.warning("the loss of the ledger %r was accepted: counting starts from what is left", self._prefix)

    def run_in_epoch(self, customer_id: str, **asked: Any) -> list[Any]:
        """Run ``book.lua`` on the customer's bucket, or raise ``LedgerLost``."""
        bucket = self._bucket(customer_id)
        keys = [self._key(bucket, "meta")]
        keys += [self._key(bucket, name, customer_id) for name in ("rows", "records", "due")]
        keys += [self._key(bucket, name) for name in ("events", "event-due")]
        reply = self._run_once(bucket, keys, customer_id, asked)
        if reply[0] == b"missing" and bucket not in self._known:
            self._found(bucket)
            reply = self._run_once(bucket, keys, customer_id, asked)
        elif reply[0] == b"accepted":
            del self._known[bucket]
            reply = self._run_once(bucket, keys, customer_id, asked)
        if reply[0] in (b"missing", b"other", b"behind"):
            raise LedgerLost(f"the ledger in Redis lost what it held ({reply[0].decode()}); see accept_loss()")
        if reply[0] == b"done":
            self._remember(bucket, reply[1], int(reply[2]))
        return reply

    def run(self, name: str, keys: list[str], asked: dict[str, Any]) -> Any:
        """Run a script; safe to run twice, so it is where the connection broke. Raises ``LedgerUnavailable``.

        A server that hangs is not asked again: callers wait.
        """
        given = json.dumps({**asked, "shift": round(self._shift * 1_000_000)})
        with _told_apart():
            self._check_once()
            try:
                return self._evaluate(name, keys, given)
            except Disconnected:
                return self._evaluate(name, keys, given)

    def _run_once(self, bucket: int, keys: list[str], customer_id: str, asked: dict[str, Any]) -> list[Any]:
        epoch, seq = self._known.get(bucket, (b"", 0))
        known = {"epoch": epoch.decode(), "seq": str(seq), "customer": customer_id}
        reply: list[Any] = self.run("book", keys, asked | known)
        return reply

    def _evaluate(self, name: str, keys: list[str], given: str) -> Any:
        text, sha = _script(name)
        try:
            return self._client.evalsha(sha, len(keys), *keys, given)
        except NoScriptError:
            return self._client.eval(text, len(keys), *keys, given)

    def _remember(self, bucket: int, epoch: bytes, seq: int) -> None:
        known = self._known.get(bucket)
        if known is None or known[1] < seq:
            self._known[bucket] = epoch, seq

    def _found(self, bucket: int) -> None:
        """Found the ledger where there is none at all; a single missing bucket is loss."""
        with _told_apart():
            if self._must_exist or self._is_founded():
                deadline = time.monotonic() + _FOUNDING
                while time.monotonic() < deadline and not self._client.exists(self._key(bucket, "meta")):
                    time.sleep(_FOUNDING / 10)
                return
            _log.warning("founding the ledger %r in Redis: if there was one before, it is lost", self._prefix)
            for each in range(BUCKETS):
                self._client.hsetnx(self._key(each, "meta"), "seq", "0")
                self._client.hsetnx(self._key(each, "meta"), "epoch", uuid.uuid4().hex)

    def _is_founded(self) -> bool:
        return any(self._client.exists(self._key(bucket, "meta")) for bucket in range(BUCKETS))

    def _check_once(self) -> None:
        """Refuse a server that evicts: it would forget what was used up."""
        if self._is_checked:
            return
        policies = {info.get("maxmemory_policy") for info in _infos(self._client.info("memory"))}
        if policies - {"noeviction", None}:
            raise LedgerUnavailable(f"a ledger's Redis must have maxmemory-policy noeviction, not {policies}")
        self._is_checked = True

    def _bucket(self, customer_id: str) -> int:
        return crc32(customer_id.encode()) % BUCKETS

    def _key(self, bucket: int, *names: str) -> str:
        """Return a key; the braces put all keys of a bucket into one slot of a cluster."""
        return ":".join((f"{{{self._prefix}:{bucket}}}", *names))


@contextmanager
def _told_apart() -> Iterator[None]:
    """Turn every error of redis-py into ``LedgerUnavailable``."""
    try:
        yield
    except RedisError as error:
        raise LedgerUnavailable(f"Redis: {type(error).__name__}: {error}") from error


def _connected(url: str) -> redis.Redis:
    return redis.Redis.from_url(
        url,
        socket_timeout=_TIMEOUT,
        socket_connect_timeout=_TIMEOUT,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )


def _infos(info: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what one server says of itself, or each node of a cluster."""
    return list(info.values()) if all(isinstance(value, dict) for value in info.values()) else [info]


@cache
def _script(name: str) -> tuple[str, str]:
    from hashlib import sha1  # noqa: PLC0415 - what Redis names a script by

    text = files("entitlement_gate.ledger").joinpath(f"{name}.lua").read_text("utf-8")
    return text, sha1(text.encode(), usedforsecurity=False).hexdigest()
