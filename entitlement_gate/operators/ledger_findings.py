"""What a doctor finds in the ledger, its outbox and Redis. Never here: billing (``doctor``), settings (``project``)."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from entitlement_gate.ledger.health import examined
from entitlement_gate.operators.doctor import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from entitlement_gate.engine.gate import EntitlementGate

__all__ = [
    "ledger_findings",
    "redis_findings",
]


_WORKERS = "WEB_CONCURRENCY"
_PATIENCE = 1.0  # seconds
_LONG = 900.0  # seconds that an event waits where something ships
_MANY = 1_000  # events that wait, where nobody knows how long
_SHIP = "Let `manage.py entitlements ship` run regularly, or with --watch; see the guide to shipping usage."
_UNSAID = "See for yourself that it has maxmemory-policy noeviction and appendonly yes."
_OUT_OF_REACH = {
    "redis": "Check REDIS_URL, its password, firewall and TLS, and that the server runs.",
    "database": "Check DATABASES and that the server runs.",
}


def ledger_findings(gate: EntitlementGate) -> Iterator[Finding]:
    """Yield what is found in what the gate counts with."""
    ledger: Any = gate.ledger
    if ledger is None:
        yield Finding("note", "ledger", "LEDGER is None: nothing is used up here")
    elif not hasattr(ledger, "health"):
        yield Finding("note", "ledger", f"{type(ledger).__name__} has no health() to ask")
    else:
        yield from _judged(ledger.health())


def redis_findings(url: str | None) -> Iterator[Finding]:
    """Yield whether the Redis of ``REDIS_URL`` answers; for one that is the ledger, ``ledger_findings`` says more."""
    if url is None:
        return
    parts = urlsplit(url)
    where = f"{parts.hostname}:{parts.port or 6379}" if parts.hostname else "its socket"
    try:
        redis = import_module("redis")
    except ImportError:
        text = "REDIS_URL is set, but the package redis is not installed"
        yield Finding("error", "redis", text, "Install entitlement_gate[redis].")
        return

    def look(_: dict[str, Any]) -> None:
        with redis.Redis.from_url(url, socket_timeout=_PATIENCE, socket_connect_timeout=_PATIENCE) as client:
            client.ping()

    error = examined("redis", look).get("error")
    if error:
        yield Finding("error", "redis", f"REDIS_URL ({where}) does not answer: {error}", _OUT_OF_REACH["redis"])
    else:
        yield Finding("ok", "redis", f"REDIS_URL ({where}) answers")


def _judged(health: Mapping[str, Any]) -> Iterator[Finding]:
    store = health["store"]
    if not health["reachable"] or health.get("error"):
        text = f"the ledger ({store}) does not answer: {health.get('error')}"
        yield Finding("error", "ledger", text, _OUT_OF_REACH.get(store, "Check that it runs."))
        return
    found = [*_shared(store), *_kept(health), *_unfit(health)]
    yield from found or [Finding("ok", "ledger", f"{store}: answers")]
    yield from _outbox(health)


def _shared(store: str) -> Iterator[Finding]:
    workers = os.environ.get(_WORKERS, "")
    if store == "memory" and workers.isdecimal() and int(workers) > 1:
        text = f"LEDGER is 'memory', and {_WORKERS} asks for {workers} processes: each counts for itself"
        yield Finding("warning", "ledger", text, "Set LEDGER to 'redis' or 'database'.")


def _kept(health: Mapping[str, Any]) -> Iterator[Finding]:
    """Judge how a Redis keeps what must not be lost."""
    policy = health.get("maxmemory_policy")
    if "maxmemory_policy" in health and policy is None:
        yield Finding("note", "ledger", "this Redis does not say how it keeps: INFO is refused", _UNSAID)
    if policy not in (None, "noeviction"):
        text = f"this Redis forgets when memory is short (maxmemory-policy {policy}): the ledger refuses it"
        hint = "Set maxmemory-policy noeviction, or give the ledger a server of its own."
        yield Finding("error", "ledger", text, hint)
    if health.get("appendonly") is False:
        text = "this Redis does not write down what it acknowledges (appendonly no): a restart loses what was used up"
        yield Finding("warning", "ledger", text, "Set appendonly yes.")


def _unfit(health: Mapping[str, Any]) -> Iterator[Finding]:
    if health.get("lost"):
        text = "this Redis lost what it held: the ledger admits nothing"
        hint = "Restore it; or, to go on with what is left, call default_gate().ledger.accept_loss()."
        yield Finding("error", "ledger", text, hint)
    if health.get("migrated") is False:
        text = "the tables of the ledger are not in the database as they should be"
        yield Finding("error", "ledger", text, "Run `manage.py migrate entitlement_usage`.")


def _outbox(health: Mapping[str, Any]) -> Iterator[Finding]:
    dead, pending, oldest = health.get("dead_letters"), health.get("pending"), health.get("oldest_age")
    if dead:
        text = f"{_events(dead)} set aside: billing refused"
        yield Finding("warning", "outbox", text, "`manage.py entitlements ship --dead` says why.")
    if not pending:
        return
    text = f"{_events(pending)} to be delivered" + ("" if oldest is None else f", the oldest for {oldest:.0f} s")
    is_stuck = pending >= _MANY if oldest is None else oldest >= _LONG
    yield Finding("warning" if is_stuck else "note", "outbox", text, _SHIP)


def _events(number: int) -> str:
    return f"{number} usage event{'s' if number != 1 else ''}"
