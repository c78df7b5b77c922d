"""Usage events on their way to billing: one request an event, its key as ``Idempotency-Key``, at least once.

Never here: where events come from (an outbox of ``entitlement_gate.ledger``), when they are shipped.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx

from entitlement_gate.domain.errors import SourceError
from entitlement_gate.ledger.rule import quantity_of
from entitlement_gate.zenskar.flow import Deadline, Failure, Reply
from entitlement_gate.zenskar.wire import read_error

if TYPE_CHECKING:
    from entitlement_gate.ledger.protocol import Outbox, UsageEvent
    from entitlement_gate.zenskar.client import ZenskarClient

__all__ = ["Report", "ship"]

_BATCH = 50
_FAILURES_IN_A_ROW = 3
_FIRST_PAUSE = 2.0  # seconds, doubled at each attempt, of which at least half is waited
_LONGEST_PAUSE = 3_600.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAY_COME_LATER = frozenset({408, 425, 429})
_OURS_TO_FIX = frozenset({401, 403})


@dataclass(slots=True)
class Report:
    """What one run did.

    Attributes:
        delivered: events that billing took.
        postponed: events that are tried again later.
        buried: events that billing refuses; they wait among the dead letters.
        stopped: why the run ended before the outbox was empty; empty text when it did not.
    """

    delivered: int = 0
    postponed: int = 0
    buried: int = 0
    stopped: str = ""


def ship(outbox: Outbox, client: ZenskarClient, *, limit: int = 1_000) -> Report:
    """Deliver up to ``limit`` events that are due; several may ship at once, from anywhere.

    An event that billing refuses (4xx) is set aside. One that did not arrive (network, 408, 425, 429, 5xx) is
    postponed, longer each time, and the run ends after three of them in a row. Refused credentials (401, 403) end the
    run and set nothing aside: they are no fault of the event's.

    Raises:
        LedgerUnavailable: the outbox could not be asked.
    """
    report, failures, left = Report(), 0, limit
    lease = 2 * _BATCH * client.options.deadline
    while left > 0 and not report.stopped:
        events = outbox.take(min(_BATCH, left), lease=lease)
        if not events:
            break
        left -= len(events)
        for event in events:
            if report.stopped:
                outbox.postpone(event, 0.0)
                continue
            failures = 0 if _shipped(event, outbox, client, report) else failures + 1
            if failures >= _FAILURES_IN_A_ROW:
                report.stopped = report.stopped or "billing does not answer"
    return report


def body_of(event: UsageEvent) -> bytes:
    """Return what is sent, the same bytes each time: a key with another body is refused."""
    at = (_EPOCH + timedelta(microseconds=round(event.at * 1_000_000))).isoformat().replace("+00:00", "Z")
    # An exact number, which `json` could only write as a float.
    data = f"{{{json.dumps(event.target.field)}: {quantity_of(event.quantity):f}}}"
    text = f'{{"customer_id": {json.dumps(event.customer_id)}, "timestamp": "{at}", "data": {data}}}'
    return text.encode()


def _shipped(event: UsageEvent, outbox: Outbox, client: ZenskarClient, report: Report) -> bool:
    """Send one event and note what came of it; return whether billing answered."""
    try:
        reply = _sent(event, client)
    except SourceError as error:
        reply = Failure(str(error))
    if isinstance(reply, Failure) or reply.status in _MAY_COME_LATER or httpx.codes.is_server_error(reply.status):
        outbox.postpone(event, _pause(event, reply))
        report.postponed += 1
        return False
    if reply.status in _OURS_TO_FIX:
        outbox.postpone(event, 0.0)
        report.postponed += 1
        report.stopped = f"billing refuses the credentials: HTTP {reply.status}"
    elif why := _refusal(event, reply):
        outbox.bury(event, why)
        report.buried += 1
    else:
        outbox.delivered(event)
        report.delivered += 1
    return True


def _sent(event: UsageEvent, client: ZenskarClient) -> Reply | Failure:
    deadline = Deadline(client.options.deadline, client._clock)  # noqa: SLF001 - the client's other half
    http = client._connected(deadline)  # noqa: SLF001 - as above
    headers = {"content-type": "application/json", "idempotency-key": quote(event.key, safe=_HEADER_TEXT)}
    timeout = httpx.Timeout(deadline.seconds, connect=client.options.connect_timeout)
    path = f"usage/{quote(event.target.slug, safe='')}"
    try:
        with http.stream("POST", path, content=body_of(event), headers=headers, timeout=timeout) as response:
            return client._reply(response, deadline)  # noqa: SLF001 - as above
    except (httpx.HTTPError, RuntimeError) as error:  # RuntimeError: closed by another thread meanwhile
        return Failure(f"no connection ({type(error).__name__})")


_HEADER_TEXT = "".join(map(chr, range(0x21, 0x7F))).replace("%", "")
"""What a key keeps as it is; the rest is percent-encoded, because a header is ASCII."""


def _refusal(event: UsageEvent, reply: Reply) -> str:
    """Return why billing does not take the event; empty when it does."""
    if not httpx.codes.is_success(reply.status):
        return f"HTTP {reply.status}: {read_error(reply.body)}"
    if reply.body.strip() == b"null":
        return f"billing has no meter {event.target.slug!r}"
    return ""


def _pause(event: UsageEvent, reply: Reply | Failure) -> float:
    asked = reply.headers.get("retry-after", "") if isinstance(reply, Reply) else ""
    longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(event.attempts, 20))
    pause = longest * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
    return min(_LONGEST_PAUSE, max(pause, float(asked))) if asked.isdecimal() and asked.isascii() else pause
