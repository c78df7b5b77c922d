"""What operators ask of billing beyond a gate's own questions: one bare call, rows of every status, all customers.

Never here: caches or policies; what is learned here decides nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from entitlement_gate.domain.errors import SourceError, SourceMalformed, SourceRejected
from entitlement_gate.operators.reports import OperatingError
from entitlement_gate.zenskar.flow import Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from entitlement_gate.domain.grants import Grant
    from entitlement_gate.zenskar.client import ZenskarClient
    from entitlement_gate.zenskar.flow import Clock

__all__ = [
    "Probe",
    "client_of",
    "every_customer",
    "every_grant",
    "probe",
]


_INSTEAD = "name the customers yourself"


@dataclass(frozen=True, slots=True)
class Probe:
    """What one call brought.

    Attributes:
        reply: as it came, whatever its status.
        sent_at: POSIX seconds by the wall clock here, half-way through the call.
        seconds: how long it took.
    """

    reply: Reply
    sent_at: float
    seconds: float


def probe(client: ZenskarClient, customer_id: str, clock: Clock = time) -> Probe:
    """List the customer's entitlements once: no retry, one page as large as a gate's.

    Raises:
        SourceError: no answer came, a credential cannot be had, or the body is longer than ``MAX_BODY_BYTES``.
    """
    options = client.options
    statuses = ",".join(options.status_filter or ())
    params = {"limit": str(options.page_size), **({"status": statuses} if statuses else {})}
    began, wall = clock.monotonic(), clock.time()
    reply = client.get(f"entitlements/customer/{customer_id}", params)
    seconds = clock.monotonic() - began
    return Probe(reply, wall + seconds / 2, seconds)


def client_of(source: object) -> ZenskarClient:
    """Return a gate's source where it is billing.

    Raises:
        OperatingError: it is something else.
    """
    from entitlement_gate.zenskar.client import ZenskarClient  # noqa: PLC0415 - httpx costs 100 ms: on use only

    if not isinstance(source, ZenskarClient):
        raise OperatingError(f"{type(source).__name__} is no ZenskarClient: this needs billing itself")
    return source


def every_grant(source: object, customer_id: str) -> tuple[Grant, ...]:
    """Return the customer's grants of every status, whatever ``STATUS_FILTER`` asks for.

    Raises:
        SourceError: see ``domain.errors``.
    """
    try:
        client = client_of(source)
    except OperatingError as error:
        raise SourceError(str(error)) from None
    return client.fetch(customer_id, every_status=True).grants


def every_customer(
    source: object, most: int | None = None, progress: Callable[[int], object] = lambda _: None
) -> Iterator[str]:
    """Yield the ids of billing's customers, all or the first ``most``; tell of each how many there are so far.

    Raises:
        OperatingError: billing's listing cannot be had; says what to do instead.
    """
    try:
        for number, customer in enumerate(islice(client_of(source).customers(), most), start=1):
            progress(number)
            yield customer
    except (SourceRejected, SourceMalformed) as error:
        raise OperatingError(f"billing's list of customers cannot be used: {error}; {_INSTEAD}") from None
    except SourceError as error:
        raise OperatingError(f"billing's list of customers cannot be had: {error}") from None
