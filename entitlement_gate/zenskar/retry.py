"""Retries, as a generator that says what to do and is told what came of it (sans-IO).

A flow yields ``Get`` ("send this") and is sent a ``Reply`` or a ``Failure``, or yields ``Pause`` ("wait this long") and
is sent nothing. What is tried again: a connection that failed, 408, 425, 429 and 5xx; as long as the deadline, the
number of attempts and the budget let it. Never here: sockets, sleeping, threads.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from entitlement_gate.domain.errors import (
    CustomerNotFound,
    SourceMalformed,
    SourceRejected,
    SourceUnavailable,
)
from entitlement_gate.domain.grants import aware
from entitlement_gate.resilience.fork_safety import chance
from entitlement_gate.resilience.token_bucket import TokenBucket
from entitlement_gate.zenskar.parsing import read_error

if TYPE_CHECKING:
    from entitlement_gate.resilience.clock import Clock, Deadline

__all__ = [
    "Failure",
    "Flow",
    "Get",
    "Pause",
    "Reply",
    "Retries",
    "RetryBudget",
    "get_reply",
    "is_transient",
    "read_retry_after",
]

_OK = 200
_REDIRECTION = 300
_NOT_FOUND = 404
_TOO_EARLY_OR_MANY = frozenset({408, 425, 429})
_SERVER_ERROR = 500
_FIRST_BACKOFF = 0.1  # seconds, doubled at each further attempt, of which a random part is waited
_MAX_BACKOFF = 1.0
_LONGEST_SECONDS = 20  # digits of a Retry-After that are read as a number


@dataclass(frozen=True, slots=True)
class Get:
    """Send a GET with these query parameters."""

    params: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait, in seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Reply:
    """What billing answered, headers lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Failure:
    """No answer came. ``may_retry`` is False where another try could not help."""

    why: str
    error: type[SourceUnavailable] = SourceUnavailable
    may_retry: bool = True


Flow = Generator[Get | Pause, Any, Any]


class RetryBudget:
    """Bounds how much retries add to the load of a billing API that is already failing.

    Every retry spends a token and every success earns a tenth of one, five at most. Once a request was retried in
    vain, none is retried until one succeeds: an outage is met with the retries of its first request alone.
    """

    _CAPACITY = 5.0
    _EARNED = 0.1

    def __init__(self) -> None:
        self._tokens = TokenBucket(self._CAPACITY, rate=0)
        self._is_vain = False

    def record_success(self) -> None:
        """Note a success."""
        self._tokens.add(self._EARNED)
        self._is_vain = False

    def record_failure(self) -> None:
        """Note a request that failed, retried or not."""
        self._is_vain = True

    def spend(self) -> bool:
        """Return whether one more retry is within the budget, and take it."""
        return not self._is_vain and self._tokens.spend()


class Retries(NamedTuple):
    """What bounds the retries of a request.

    Attributes:
        deadline: of all attempts and the pauses between them.
        budget: of the client.
        max_attempts: the first included.
        clock: what a ``Retry-After`` that is a date is measured against.
    """

    deadline: Deadline
    budget: RetryBudget
    max_attempts: int
    clock: Clock


def get_reply(params: Mapping[str, str], retries: Retries) -> Flow:
    """Return the ``Reply`` (status 200) to one GET.

    Raises:
        SourceError: the kind that the status or failure stands for (see ``domain.errors``).
    """
    deadline, budget, max_attempts, clock = retries
    attempt = 1
    while True:
        reply: Reply | Failure = yield Get(params)
        if isinstance(reply, Reply) and not is_transient(reply.status):
            budget.record_success()
            return _check_status(reply)
        wait = _backoff(attempt, reply, clock.time())
        may_retry = isinstance(reply, Reply) or reply.may_retry
        if not may_retry or attempt >= max_attempts or wait >= deadline.remaining() or not budget.spend():
            budget.record_failure()
            kind = reply.error if isinstance(reply, Failure) else SourceUnavailable
            raise kind(_describe(reply, attempt))
        yield Pause(wait)
        attempt += 1


def is_transient(status: int) -> bool:
    """Whether a status says that the same request may fare better later."""
    return status in _TOO_EARLY_OR_MANY or status >= _SERVER_ERROR


def _check_status(reply: Reply) -> Reply:
    if reply.status == _OK:
        return reply
    if reply.status == _NOT_FOUND:
        raise CustomerNotFound("billing does not know the customer")
    if reply.status > _REDIRECTION + 99:
        raise SourceRejected(reply.status, read_error(reply.body))
    raise SourceMalformed(f"HTTP {reply.status} is no answer to a list request")


def _describe(reply: Reply | Failure, attempts: int) -> str:
    what = f"HTTP {reply.status}" if isinstance(reply, Reply) else reply.why
    return f"{what} ({attempts} attempt{'s' if attempts > 1 else ''})"


def _backoff(attempt: int, reply: Reply | Failure, wall: float) -> float:
    """Return the seconds to wait: full jitter, never less than billing asked for."""
    ceiling = min(_MAX_BACKOFF, _FIRST_BACKOFF * 2 ** (attempt - 1))
    least = read_retry_after(reply.headers.get("retry-after", ""), wall) if isinstance(reply, Reply) else 0.0
    return max(least, chance.uniform(0, ceiling))


def read_retry_after(text: str, wall: float) -> float:
    """Return the seconds that a ``Retry-After`` asks for, in either form (RFC 9110, 10.2.3).

    What cannot be read asks for none.
    """
    if text.strip().isascii() and text.strip().isdigit():
        return float(text) if len(text) <= _LONGEST_SECONDS else float("inf")
    try:
        return max(0.0, aware(parsedate_to_datetime(text)).timestamp() - wall)
    except (ValueError, OverflowError, TypeError, IndexError):
        return 0.0
