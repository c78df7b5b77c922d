"""Usage events on their way to billing: one request an event, its key as ``Idempotency-Key``, at least once.

Never here: where events come from (an outbox of ``entitlement_gate.ledger``), when they are shipped.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote

from entitlement_gate.domain.errors import SourceError, SourceMalformed
from entitlement_gate.ledger.balances import quantity_of
from entitlement_gate.resilience.fork_safety import chance
from entitlement_gate.zenskar.parsing import read_error, read_json
from entitlement_gate.zenskar.retry import is_transient, read_retry_after

if TYPE_CHECKING:
    from collections.abc import Callable

    from entitlement_gate.ledger.protocol import Outbox, UsageEvent
    from entitlement_gate.resilience.clock import Clock
    from entitlement_gate.zenskar.client import ZenskarClient
    from entitlement_gate.zenskar.retry import Reply

__all__ = ["DeliveryReport", "ship"]

_FAILURES_IN_A_ROW = 3
_FIRST_PAUSE = 2.0  # seconds, doubled at each attempt, of which at least half is waited
_LONGEST_PAUSE = 3_600.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OURS_TO_FIX = frozenset({401, 403})
_GOOD, _REDIRECTS = range(200, 300), range(300, 400)


@dataclass(slots=True)
class DeliveryReport:
    """What one run did.

    Attributes:
        delivered: events that billing took.
        postponed: events that are tried again later.
        buried: events that billing refuses; they wait among the dead letters.
        stopped: why the run ended before the outbox was empty; empty text when it did not.
        last_failure: why the last event that was postponed did not arrive.
    """

    delivered: int = 0
    postponed: int = 0
    buried: int = 0
    stopped: str = ""
    last_failure: str = field(default="", compare=False)


def ship(
    outbox: Outbox,
    client: ZenskarClient,
    *,
    limit: int | None = 1_000,
    batch: int = 50,
    should_stop: Callable[[], bool] = lambda: False,
    progress: Callable[[DeliveryReport], object] = lambda _: None,
    clock: Clock = time,
) -> DeliveryReport:
    """Deliver up to ``limit`` events that are due; several processes may ship at once.

    An event that billing refuses (4xx) is set aside. One that did not arrive (network, 408, 425, 429, 5xx) is
    postponed, longer each time, and the run ends after three of them in a row. What is no fault of the event's ends
    the run and sets nothing aside: refused credentials (401, 403), and an answer that is not billing's (a redirect, a
    page of HTML).

    Args:
        outbox: where the events are; a ledger is one.
        client: where they go.
        limit: events that one run takes out; None for all that are due.
        batch: events that are taken out at a time.
        should_stop: asked before each event; the rest of what was taken out is put back.
        progress: called with the report so far after each batch.
        clock: what a ``Retry-After`` that is a date is measured against.

    Raises:
        LedgerUnavailable: the outbox could not be asked.
    """
    run, count = _Delivery(outbox, client, clock), 0
    lease = 2 * batch * client.options.deadline
    while not run.report.stopped and (limit is None or count < limit):
        events = outbox.take(batch if limit is None else min(batch, limit - count), lease=lease)
        if not events:
            break
        count += len(events)
        for event in events:
            run.ship_or_return(event, should_stop)
        progress(run.report)
    return run.report


def body_of(event: UsageEvent) -> bytes:
    """Return what is sent, the same bytes each time: a key with another body is refused."""
    at = (_EPOCH + timedelta(microseconds=round(event.at * 1_000_000))).isoformat().replace("+00:00", "Z")
    # An exact number, which `json` could only write as a float.
    data = f"{{{json.dumps(event.target.field)}: {quantity_of(event.quantity):f}}}"
    text = f'{{"customer_id": {json.dumps(event.customer_id)}, "timestamp": "{at}", "data": {data}}}'
    return text.encode()


class _Delivery:
    """One run: its report, and how many events in a row did not arrive."""

    def __init__(self, outbox: Outbox, client: ZenskarClient, clock: Clock) -> None:
        self.report = DeliveryReport()
        self._clock = clock
        self._outbox = outbox
        self._client = client
        self._failures = 0

    def ship_or_return(self, event: UsageEvent, should_stop: Callable[[], bool]) -> None:
        """Send the event, or give it back where the run is over."""
        if not self.report.stopped and should_stop():
            self.report.stopped = "interrupted"
        if self.report.stopped:
            self._outbox.postpone(event, 0.0)
            return
        self._failures = 0 if self._ship(event) else self._failures + 1
        if self._failures >= _FAILURES_IN_A_ROW:
            self.report.stopped = "billing does not answer"

    def _ship(self, event: UsageEvent) -> bool:
        """Send the event and note what came of it; return whether billing answered."""
        try:
            reply = _post(event, self._client)
        except SourceError as error:
            return self._postpone(event, str(error))
        except ValueError as error:  # a slug that no path can hold
            return self._bury(event, str(error))
        if is_transient(reply.status):
            return self._postpone(event, f"HTTP {reply.status}", reply.headers.get("retry-after", ""))
        if why := _diagnose(reply):
            self._outbox.postpone(event, 0.0)
            self.report.postponed += 1
            self.report.stopped = why
            return True
        if why := _read_refusal(event, reply):
            return self._bury(event, why)
        self._outbox.delivered(event)
        self.report.delivered += 1
        return True

    def _postpone(self, event: UsageEvent, why: str, retry_after: str = "") -> bool:
        self._outbox.postpone(event, _backoff(event, retry_after, self._clock.time()))
        self.report.postponed += 1
        self.report.last_failure = why
        return False

    def _bury(self, event: UsageEvent, why: str) -> bool:
        self._outbox.bury(event, why)
        self.report.buried += 1
        return True


def _post(event: UsageEvent, client: ZenskarClient) -> Reply:
    path = f"usage/{quote(event.target.slug, safe='')}"
    return client.post(path, body_of(event), {"idempotency-key": quote(event.key, safe=_HEADER_TEXT)})


_HEADER_TEXT = "".join(map(chr, range(0x21, 0x7F))).replace("%", "")
"""What a key keeps as it is; the rest is percent-encoded, because a header is ASCII."""


def _diagnose(reply: Reply) -> str:
    """Return why any other event would fail, too; empty when billing judged this one."""
    if reply.status in _OURS_TO_FIX:
        return f"billing refuses the credentials: HTTP {reply.status}"
    if reply.status in _REDIRECTS:
        return f"something answers that is not billing: a redirect (HTTP {reply.status})"
    try:
        read_json(reply.body or b"{}")
    except SourceMalformed:
        return f"something answers that is not billing: HTTP {reply.status} without JSON"
    return ""


def _read_refusal(event: UsageEvent, reply: Reply) -> str:
    """Return why billing does not take the event; empty when it does."""
    if reply.status not in _GOOD:
        return f"HTTP {reply.status}: {read_error(reply.body)}"
    if reply.body.strip() == b"null":
        return f"billing has no meter {event.target.slug!r}"
    return ""


def _backoff(event: UsageEvent, retry_after: str, wall: float) -> float:
    longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(event.attempts, 20))
    pause = longest * chance.uniform(0.5, 1.0)
    return min(_LONGEST_PAUSE, max(pause, read_retry_after(retry_after, wall)))
