"""What operators ask of billing beyond a gate's own questions: one bare call, every row, and many customers.

Nothing is cached here, and what is learned here decides nothing; ``warm`` alone fetches through a gate, so that its
cache is full before the first check.
"""

from __future__ import annotations

import keyword
import re
import time
import unicodedata
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Literal

from entitlement_gate.domain.decisions import Outcome, Reason
from entitlement_gate.domain.errors import CustomerNotFound, SourceError, SourceMalformed, SourceRejected
from entitlement_gate.domain.rule import canonical_uuid
from entitlement_gate.operators.terminal import OperatingError
from entitlement_gate.resilience.database_connections import tended_connections
from entitlement_gate.zenskar.retry import Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from entitlement_gate.domain.grants import Grant
    from entitlement_gate.engine.gate import EntitlementGate
    from entitlement_gate.resilience.clock import Clock
    from entitlement_gate.zenskar.client import ZenskarClient

__all__ = [
    "Probe",
    "Warmth",
    "client_of",
    "enum_source",
    "every_customer",
    "every_grant",
    "ids_in",
    "names_held",
    "probe",
    "sampled",
    "warm",
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
    source: object, most: int | None = None, progress: Callable[[str], object] = lambda _: None
) -> Iterator[str]:
    """Yield the ids of billing's customers, all or the first ``most``; tell of each how many there are so far.

    Raises:
        OperatingError: billing's listing cannot be had; says what to do instead.
    """
    try:
        for number, customer in enumerate(islice(client_of(source).customers(), most), start=1):
            progress(f"{number} customers listed")
            yield customer
    except (SourceRejected, SourceMalformed) as error:
        raise OperatingError(f"billing's list of customers cannot be used: {error}; {_INSTEAD}") from None
    except SourceError as error:
        raise OperatingError(f"billing's list of customers cannot be had: {error}") from None


_AT_ONCE = 8


def sampled(source: object, most: int, progress: Callable[[str], object]) -> list[str]:
    """Return the ids of the first ``most`` customers that billing lists.

    Raises:
        OperatingError: ``most`` is too small, billing lists none, or its listing cannot be had.
    """
    if most < 1:
        raise OperatingError(f"--sample: at least 1, not {most}")
    customers = list(every_customer(source, most, progress))
    if not customers:
        raise OperatingError("billing lists no customer: name those whose entitlements you want")
    return customers


def names_held(
    source: object, customers: Sequence[str], progress: Callable[[str], object], *, may_be_gone: bool = False
) -> set[str]:
    """Return every name that billing lists for the customers, in any status.

    Args:
        source: billing.
        customers: canonical ids.
        progress: told how far it is.
        may_be_gone: a customer that billing does not know, such as one removed since it was listed, holds nothing.

    Raises:
        OperatingError: one of them could not be asked for; names it.
    """
    names: set[str] = set()
    held = partial(_held, source, may_be_gone=may_be_gone)
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for number, found in enumerate(threads.map(held, customers), start=1):
            names |= found
            progress(f"{number} of {len(customers)} customers asked for")
    return names


def _held(source: object, customer: str, *, may_be_gone: bool) -> set[str]:
    try:
        with tended_connections():
            return {grant.name for grant in every_grant(source, customer)}
    except SourceError as error:
        if may_be_gone and isinstance(error, CustomerNotFound):
            return set()
        raise OperatingError(f"{customer}: {type(error).__name__}: {error}") from None


Result = Literal["fetched", "held", "missing", "failed", "invalid"]
_ANY = "*"
_BYTE_ORDER_MARK = "\ufeff"  # a byte-order mark, also where files were joined
_AHEAD = 4  # pieces of work waiting for each thread


@dataclass(slots=True)
class Warmth:
    """What became of the ids, each list in their order.

    Attributes:
        fetched: now held.
        held: were held before.
        missing: billing does not know them.
        failed: could not be fetched now; worth another try.
        invalid: are no customer ids.
    """

    fetched: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    invalid: list[str] = field(default_factory=list)

    @property
    def done(self) -> int:
        """How many ids are dealt with."""
        return sum(map(len, (self.fetched, self.held, self.missing, self.failed, self.invalid)))

    @property
    def is_complete(self) -> bool:
        """Whether every id is held."""
        return not (self.missing or self.failed or self.invalid)

    def __str__(self) -> str:
        said = [f"{len(self.fetched)} fetched", f"{len(self.held)} held before"]
        others = {"unknown to billing": self.missing, "failed": self.failed, "no customer id": self.invalid}
        return ", ".join(said + [f"{len(ids)} {what}" for what, ids in others.items() if ids])


def ids_in(lines: Iterable[str]) -> list[str]:
    """Return the ids of a file, one a line, each once; blank lines and what follows ``#`` are left out."""
    words = (line.partition("#")[0].replace(_BYTE_ORDER_MARK, "").strip() for line in lines)
    return list(dict.fromkeys(word for word in words if word))


def warm(
    gate: EntitlementGate,
    customers: Iterable[str],
    *,
    concurrency: int = 8,
    progress: Callable[[Warmth], object] = lambda _: None,
) -> Warmth:
    """Fetch every customer that is not held, at most ``concurrency`` at a time; report after each.

    A run that was cut short is simply run again, where a shared store keeps what was fetched; a long-lived process may
    call this with its own gate at start-up.
    """
    warmth = Warmth()
    underway: deque[tuple[str, Future[Result]]] = deque()

    def land() -> None:
        customer, future = underway.popleft()
        getattr(warmth, future.result()).append(customer)
        progress(warmth)

    with ThreadPoolExecutor(concurrency) as threads:
        for customer in customers:
            underway.append((customer, threads.submit(_warm, gate, customer)))
            if len(underway) >= concurrency * _AHEAD:
                land()
        while underway:
            land()
    return warmth


def _warm(gate: EntitlementGate, customer: str) -> Result:
    if canonical_uuid(customer) is None:
        return "invalid"
    basis = gate.inspect(customer).check(_ANY)
    if basis.outcome is Outcome.UNKNOWN or basis.source == "stale":
        return "failed"
    if basis.reason is Reason.CUSTOMER_NOT_FOUND:
        return "missing"
    return "fetched" if basis.source == "live" else "held"


_HEAD = '''"""What billing lists, spelled as billing spells it.

Written by `manage.py entitlements names`; write it again when billing changes.
"""

from enum import StrEnum

__all__ = ["Entitlements"]


class Entitlements(StrEnum):
    """Every entitlement; a member is accepted wherever a name is."""

'''


def enum_source(names: Iterable[str]) -> str:
    """Return Python source of a ``StrEnum`` with a member for each name."""
    members: dict[str, str] = {}
    for name in sorted(set(names)):
        members[_free(_member(name), members)] = name
    lines = [f"    {member} = {_quoted(name)}\n" for member, name in members.items()]
    return _HEAD + ("".join(lines) or "    pass\n")


def _member(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode("ascii")
    member = re.sub(r"[^0-9A-Za-z]+", "_", plain).strip("_").upper() or "UNNAMED"
    return f"N{member}" if member[0].isdigit() else member


def _free(member: str, taken: Iterable[str]) -> str:
    free, number = member, 1
    while free in taken or keyword.iskeyword(free):
        number += 1
        free = f"{member}_{number}"
    return free


def _quoted(name: str) -> str:
    """Return the literal as a formatter would leave it: in double quotes where that needs no escape."""
    return repr(name) if '"' in name else f'"{repr(chr(39) + name)[2:]}'
