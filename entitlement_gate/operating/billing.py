"""What operators ask of billing beyond a gate's own questions: one bare call, and rows of every status.

Never here: caches or policies; what is learned here decides nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from entitlement_gate.domain.errors import SourceError
from entitlement_gate.zenskar.flow import Call, Deadline, Failure, Reply, RetryBudget, all_rows
from entitlement_gate.zenskar.wire import grants_of

if TYPE_CHECKING:
    from entitlement_gate.domain.grants import Grant
    from entitlement_gate.zenskar.client import ZenskarClient
    from entitlement_gate.zenskar.flow import Clock, Flow

__all__ = ["Probe", "every_grant", "probe"]


@dataclass(frozen=True, slots=True)
class Probe:
    """What one call brought.

    Attributes:
        told: the reply as it came, or why there is none.
        sent_at: POSIX seconds by the wall clock here, half-way through the call.
        seconds: how long it took.
    """

    told: Reply | Failure
    sent_at: float
    seconds: float


def probe(client: ZenskarClient, customer_id: str, clock: Clock = time) -> Probe:
    """List the customer's entitlements once: no retry, one page as large as a gate's.

    Raises:
        SourceError: a credential cannot be had, or the body is longer than ``MAX_BODY_BYTES``.
    """
    options = client.options
    statuses = ",".join(options.status_filter or ())
    params = {"limit": str(options.page_size), **({"status": statuses} if statuses else {})}
    began, wall = clock.monotonic(), clock.time()
    told = _run(client, _once(params), customer_id, Deadline(options.deadline, time))
    seconds = clock.monotonic() - began
    return Probe(told, wall + seconds / 2, seconds)


def every_grant(source: object, customer_id: str) -> tuple[Grant, ...]:
    """Return the customer's grants of every status, whatever ``STATUS_FILTER`` asks for.

    Raises:
        SourceError: see ``domain.errors``.
    """
    from entitlement_gate.zenskar.client import ZenskarClient  # noqa: PLC0415 - httpx costs 100 ms: on use only

    if not isinstance(source, ZenskarClient):
        raise SourceError("this source cannot list other statuses")
    options = source.options
    deadline = Deadline(options.deadline, time)
    limits = {"max_attempts": options.max_attempts, "max_pages": options.max_pages}
    flow = all_rows({"limit": str(options.page_size)}, deadline, RetryBudget(), **limits)
    return grants_of(_run(source, flow, customer_id, deadline), customer_id)


def _once(params: dict[str, str]) -> Flow:
    return (yield Call(params))


def _run(client: ZenskarClient, flow: Flow, customer_id: str, deadline: Deadline) -> Any:
    # No public method of the client hands over headers, or other statuses than `status_filter` asks for.
    return client._run(flow, customer_id, deadline)  # noqa: SLF001 - its own door for flows
