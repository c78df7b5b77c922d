"""Every error the library raises, as one tree.

::

    EntitlementGateError
    ├─ EntitlementDenied(decision)       also Django's PermissionDenied: 403 with no middleware installed
    ├─ EntitlementUnavailable(decision)  the outcome was unknown
    ├─ ReservationError
    │  ├─ ReservationConflict
    │  ├─ ReservationExpired
    │  └─ ReservationNotFound
    └─ SourceError
       ├─ SourceUnavailable              network, timeout, 408/425/429/5xx, breaker open
       │  ├─ AnswerTooLate               nothing, or not all, came within the time there was
       │  └─ CredentialUnavailable       a callable did not give a key or an organisation
       ├─ SourceRejected(status)         400/401/403/422: ours to fix
       ├─ CustomerNotFound               404
       └─ SourceMalformed                the answer could not be read
          ├─ BodyTooLong                 it has more bytes than are let in
          └─ TooManyPages                it has more pages than are let in

Frameworks show an exception's arguments and text to whoever called, and task queues keep them: those of ours hold no
customer id, no key and no balance. Each survives ``pickle``, ``copy`` and ``str()``, and being made anew of its
arguments or its text alone.
"""

from __future__ import annotations

import json
import re

# The one import from outside the standard library in this folder: EntitlementDenied is caught as a PermissionDenied.
from django.core.exceptions import PermissionDenied

from entitlement_gate.domain.decisions import Decision, Reason, RequestFault

__all__ = [
    "AnswerTooLate",
    "BodyTooLong",
    "CredentialUnavailable",
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
    "TooManyPages",
    "text_to_log",
]

_ID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)
_REJECTION = re.compile(r"HTTP (\d{3})(?:: (.*))?\Z", re.DOTALL)


class EntitlementGateError(Exception):
    """The root: catches whatever this library raises on purpose."""


class EntitlementDenied(EntitlementGateError, PermissionDenied):
    """The customer may not do this now; ``error.decision`` says why.

    Raised by ``require…``, ``reserve…`` and ``consume…``.

    Attributes:
        decision: says why. Of an error made anew of its text alone, as by a task queue that keeps results as JSON, it
            says what the text does: the entitlement and the reason, and nothing of the customer.
    """

    def __init__(self, decision: Decision | str) -> None:
        text, self.decision = _read_arguments(decision, Reason.NOT_ENTITLED)
        super().__init__(text)


class EntitlementUnavailable(EntitlementGateError):
    """The truth could not be learned; ``error.decision`` says what failed. Never a statement about the customer.

    Raised by ``require…``, ``reserve…``, ``consume…``, and reading entitlements as a mapping.

    Attributes:
        decision: says what failed; made anew of a text, what that says, as of an ``EntitlementDenied``.
    """

    def __init__(self, decision: Decision | str) -> None:
        text, self.decision = _read_arguments(decision, Reason.UNAVAILABLE)
        super().__init__(text)


class ReservationError(EntitlementGateError):
    """A reservation could not be made, committed or released as asked; nor can any where ``LEDGER`` is None.

    Raised by ``reserve…`` and ``consume…``.
    """


class ReservationConflict(ReservationError):
    """The key stands for another quantity or entitlement, or was settled another way.

    Raised by ``reserve…``, ``consume…`` and a ``Reservation``.
    """


class ReservationExpired(ReservationError):
    """The reservation's time had run out.

    Raised by ``Reservation.extend``.
    """


class ReservationNotFound(ReservationError):
    """The customer has no reservation with this key.

    Raised by ledgers.
    """


class SourceError(EntitlementGateError):
    """A fetch failed, and says nothing about the customer."""


class SourceUnavailable(SourceError):
    """Network, timeout, 408, 425, 429 or 5xx after retries; or the client is closed.

    Raised by ``ZenskarClient``.
    """


class AnswerTooLate(SourceUnavailable):
    """Nothing came within the time there was, or not all of it.

    Raised by ``ZenskarClient``.
    """


class CredentialUnavailable(SourceUnavailable):
    """A callable that gives a key or an organisation failed, or gave what no header can hold.

    Raised by ``ZenskarClient``.
    """


class SourceRejected(SourceError):
    """Billing refused the request itself, with 400, 401, 403, 422 or another 4xx: ``error.status``, ``error.detail``.

    Raised by ``ZenskarClient``.

    Attributes:
        status: the HTTP status, 4xx; 0 where it was made of a text without one.
        detail: what the body said, flattened to one line; empty when it said nothing readable. Whatever was sent, such
            as the customer id, is blotted out.
    """

    def __init__(self, status: int | str, detail: str = "") -> None:
        if isinstance(status, str):  # the text, of which a task queue makes an error anew
            match = _REJECTION.match(status)
            status, detail = (int(match[1]), match[2] or "") if match else (0, status)
        super().__init__(status, detail)
        self.status = status
        self.detail = detail

    def __str__(self) -> str:
        status = f"HTTP {self.status}" if self.status else ""
        return ": ".join(filter(None, (status, self.detail)))


class CustomerNotFound(SourceError):
    """Billing does not know the customer: 404.

    Raised by ``ZenskarClient``.
    """


class SourceMalformed(SourceError):
    """Billing answered with something that is not the documented answer.

    Raised by ``ZenskarClient``.
    """


class BodyTooLong(SourceMalformed):
    """The body of an answer has more bytes than ``MAX_BODY_BYTES``.

    Raised by ``ZenskarClient``.
    """


class TooManyPages(SourceMalformed):
    """A list has more pages than ``MAX_PAGES``.

    Raised by ``ZenskarClient``.
    """


def _read_arguments(decision: Decision | str, otherwise: Reason) -> tuple[str, Decision]:
    """Return what an error about a check says, and the decision; of a text the one that it names.

    A text that names no reason of the same outcome stands for ``otherwise``.
    """
    if isinstance(decision, Decision):
        return f"{decision.entitlement}: {decision.reason}", decision
    text = str(decision)
    name, _, word = text.rpartition(": ")
    matches = (reason for reason in (*Reason, *RequestFault) if reason == word and reason.outcome is otherwise.outcome)
    return text, Decision.of(next(matches, otherwise), name)


def text_to_log(error: BaseException, *hidden: object) -> str:
    """Return what a log may say of an error: its text where it is one of ours, else its class.

    Args:
        error: anything that was raised.
        *hidden: text that is blotted out besides what looks like a customer id, such as a reservation's key.
    """
    if not isinstance(error, EntitlementGateError):
        return type(error).__name__
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a subclass is anybody's code, and a line of the log must not fail
        return type(error).__name__
    for value in filter(None, hidden):
        for form in (str(value), repr(value)[1:-1], json.dumps(str(value))[1:-1]):
            text = text.replace(form, "***")
    return _ID.sub("***", text)
