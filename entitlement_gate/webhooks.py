"""Webhooks: verifying who sent one, and reading which customers it is about.

What billing signs, and how, is not documented, so the receiver is off until a project names a verifier. The only
effect of a webhook is that its customers are fetched again.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from typing import TYPE_CHECKING, Any

from django.core.cache import caches
from django.core.exceptions import PermissionDenied

from entitlement_gate.domain.rule import canonical_uuid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.http import HttpRequest

__all__ = [
    "KEYS",
    "REMEMBERED_BY",
    "Malformed",
    "Replayed",
    "StandardWebhooks",
    "VerifierUnavailable",
    "customers_named",
]

REMEMBERED_BY = "entitlement_gate.webhook_verifier"
"""Where a request's ``META`` says who accepted it and can forget it: a verifier may stand in a function around it."""

_MOST_BYTES = 256 * 1024
_MOST_CUSTOMERS = 100
_DEEPEST = 12
KEYS = ("customer", "customerid", "customeruuid", "customers", "customerids", "customeruuids")
"""What names a customer in a body, in small letters and without underscores."""


class Malformed(Exception):
    """The body cannot be read as an event."""


class Replayed(PermissionDenied):
    """Raised by a verifier where the call is genuine and was accepted before: it is answered as then, without effect.

    A sender that never got the answer sends again, and switches off an address that refuses.
    """


class VerifierUnavailable(Exception):
    """Raised by a verifier that cannot tell now: the sender is asked to try again, and not refused."""


class StandardWebhooks:
    """Verifies the Standard Webhooks scheme: signed, timely, and not seen before.

    Args:
        secret: base64, with or without the prefix ``whsec_``.
        tolerance: seconds that a timestamp may be off, either way.
        cache: the Django cache that remembers ids, shared by all processes if replays must not reach any of them.

    Raises:
        ValueError: the secret is no base64, or empty.
    """

    def __init__(self, secret: str, *, tolerance: float = 300, cache: str = "default") -> None:
        try:
            self._key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            self._key = b""
        secret = ""
        if not self._key:
            raise ValueError("a webhook secret is base64 text, with or without the prefix whsec_")
        self._tolerance = tolerance
        self._cache = cache

    def __repr__(self) -> str:
        return "<StandardWebhooks>"

    def __call__(self, request: HttpRequest) -> None:
        """Return nothing when the request is genuine and new; raise ``PermissionDenied`` otherwise.

        An accepted call is remembered until ``forget``: of several at once one is new, and the others are
        ``Replayed``. While the cache cannot be asked, a genuine call raises ``VerifierUnavailable``.
        """
        message = request.headers.get("webhook-id", "")
        timestamp = request.headers.get("webhook-timestamp", "")
        if not (message and timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):  # noqa: PLR2004 - digits until 33658
            raise PermissionDenied
        if abs(time.time() - int(timestamp)) > self._tolerance:
            raise PermissionDenied
        content = f"{message}.{timestamp}.".encode() + request.body
        expected = base64.b64encode(hmac.new(self._key, content, hashlib.sha256).digest())
        signatures = [
            s.removeprefix("v1,") for s in request.headers.get("webhook-signature", "").split() if s[:3] == "v1,"
        ]
        if not any(hmac.compare_digest(expected, signature.encode()) for signature in signatures):
            raise PermissionDenied
        try:
            is_new = caches[self._cache].add(_make_cache_key(request), 1, timeout=2 * self._tolerance)
        except Exception as error:
            raise VerifierUnavailable(f"the cache {self._cache!r} cannot be asked: {type(error).__name__}") from error
        if not is_new:
            raise Replayed
        request.META[REMEMBERED_BY] = self

    def forget(self, request: HttpRequest) -> None:
        """Forget a call that had no effect, so that it is accepted again: senders retry with the same id."""
        caches[self._cache].delete(_make_cache_key(request))


def _make_cache_key(request: HttpRequest) -> str:
    """Return the key of a call: of its id and body; each attempt has a time and a signature of its own."""
    content = f"{request.headers['webhook-id']}.".encode() + request.body
    return f"entitlement_gate.webhook.{hashlib.sha256(content).hexdigest()}"


def customers_named(body: bytes) -> frozenset[str]:
    """Return the canonical ids of the customers that a JSON body names, wherever in it.

    Raises:
        Malformed: no JSON object or list of objects, larger or deeper than an event is, or more than 100 customers.
    """
    if len(body) > _MOST_BYTES:
        raise Malformed("the body is too large for an event")
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        raise Malformed("the body is no JSON") from None
    events = event if isinstance(event, list) else [event]
    if not events or not all(isinstance(one, dict) for one in events):
        raise Malformed("the body is no JSON object, and no list of objects")
    customers = frozenset(customer_id for one in events for customer_id in _find_customers(one, _DEEPEST))
    if len(customers) > _MOST_CUSTOMERS:
        raise Malformed(f"the body names more than {_MOST_CUSTOMERS} customers")
    return customers


def _find_customers(value: Any, depth: int) -> Iterator[str]:
    if depth == 0:
        raise Malformed("the body is nested too deeply for an event")
    if isinstance(value, list):
        for item in value:
            yield from _find_customers(item, depth - 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key.replace("_", "").lower() in KEYS:
                yield from filter(None, map(_read_customer, item if isinstance(item, list) else [item]))
            yield from _find_customers(item, depth - 1)


def _read_customer(value: Any) -> str | None:
    """Return the canonical id where a value is a customer's id, or an object with one."""
    customer_id = value.get("id") if isinstance(value, dict) else value
    return canonical_uuid(customer_id) if isinstance(customer_id, str) else None
