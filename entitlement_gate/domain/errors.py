"""Every error the library raises, as one tree.

::

    EntitlementGateError
    ├─ EntitlementDenied(decision)       also django PermissionDenied: 403 with no middleware installed
    ├─ EntitlementUnavailable(decision)  the outcome was unknown
    ├─ ReservationError
    │  ├─ ReservationConflict
    │  ├─ ReservationExpired
    │  └─ ReservationNotFound
    └─ SourceError
       ├─ SourceUnavailable              network, timeout, 408/425/429/5xx, breaker open
       ├─ SourceRejected(status)         400/401/403/422: ours to fix
       ├─ CustomerNotFound               404
       └─ SourceMalformed                the answer could not be read

Never here: what to do about an error. ``django.core.exceptions`` is the one import from outside the standard
library in this folder: an exception can be caught as ``PermissionDenied`` only by being one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.core.exceptions import PermissionDenied

if TYPE_CHECKING:
    from entitlement_gate.domain.decisions import Decision

__all__ = [
    "CustomerNotFound",
    "EntitlementDenied",
    "EntitlementGateError",
    "EntitlementUnavailable",
    "ReservationConflict",
    "ReservationError",
    "ReservationExpired",
    "ReservationNotFound",
    "SourceError",
    "SourceMalformed",
    "SourceRejected",
    "SourceUnavailable",
]


class EntitlementGateError(Exception):
    """The root: catches whatever this library raises on purpose."""


class EntitlementDenied(EntitlementGateError, PermissionDenied):
    """The customer may not do this now; ``decision`` says why."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision)
        self.decision = decision

    def __str__(self) -> str:
        return f"{self.decision.entitlement}: {self.decision.reason}"


class EntitlementUnavailable(EntitlementGateError):
    """The truth could not be learned; ``decision`` says what failed. Never a statement about the customer."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision)
        self.decision = decision

    def __str__(self) -> str:
        return f"{self.decision.entitlement}: {self.decision.reason}"


class ReservationError(EntitlementGateError):
    """A reservation could not be made, committed or released as asked."""


class ReservationConflict(ReservationError):
    """The key is in use with another quantity."""


class ReservationExpired(ReservationError):
    """The reservation's time ran out before it was used."""


class ReservationNotFound(ReservationError):
    """No reservation has this key."""


class SourceError(EntitlementGateError):
    """A fetch failed; nothing is known that was not known before."""


class SourceUnavailable(SourceError):
    """Billing could not be reached in time, or said to come back later."""


class SourceRejected(SourceError):
    """Billing refused the request itself: credentials, permissions or parameters are wrong.

    Attributes:
        status: the HTTP status, 4xx.
        detail: what the body said, flattened to one line; empty when it said nothing readable.
    """

    def __init__(self, status: int, detail: str = "") -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail

    def __str__(self) -> str:
        return f"HTTP {self.status}: {self.detail}" if self.detail else f"HTTP {self.status}"


class CustomerNotFound(SourceError):
    """Billing does not know the customer."""


class SourceMalformed(SourceError):
    """Billing answered with something that is not the documented answer."""
