"""What operators ask of billing beyond checks: rows of every status, the list of customers, warming, all names.

Only ``warm`` fetches through a gate, to fill its cache before the first check.
"""

from __future__ import annotations

import keyword
import re
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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from entitlement_gate.domain.grants import Grant
    from entitlement_gate.engine.gate import EntitlementGate
    from entitlement_gate.zenskar.client import ZenskarClient

__all__ = [
    "WarmReport",
    "collect_names",
    "fetch_all_grants",
    "format_enum",
    "list_customers",
    "parse_ids",
    "require_client",
    "sample_customers",
    "warm",
]

_INSTEAD = "name the customers yourself"


def require_client(source: object) -> ZenskarClient:
    """Return a gate's source where it is billing.

    Raises:
        OperatingError: it is something else.
    """
    from entitlement_gate.zenskar.client import ZenskarClient  # noqa: PLC0415 - httpx costs 100 ms: on use only

    if not isinstance(source, ZenskarClient):
        raise OperatingError(f"{type(source).__name__} is no ZenskarClient: this needs billing itself")
    return source


def fetch_all_grants(source: object, customer_id: str) -> tuple[Grant, ...]:
    """Return the customer's grants of every status, whatever ``STATUS_FILTER`` asks for.

    Raises:
        SourceError: see ``domain.errors``.
    """
    try:
        client = require_client(source)
    except OperatingError as error:
        raise SourceError(str(error)) from None
    return client.fetch(customer_id, every_status=True).grants


def list_customers(
    source: object, most: int | None = None, progress: Callable[[str], object] = lambda _: None
) -> Iterator[str]:
    """Yield the ids of billing's customers, all or the first ``most``; report how many there are so far.

    Raises:
        OperatingError: billing's listing cannot be had; says what to do instead.
    """
    try:
        for number, customer in enumerate(islice(require_client(source).customers(), most), start=1):
            progress(f"{number} customers listed")
            yield customer
    except (SourceRejected, SourceMalformed) as error:
        raise OperatingError(f"billing's list of customers cannot be used: {error}; {_INSTEAD}") from None
    except SourceError as error:
        raise OperatingError(f"billing's list of customers cannot be had: {error}") from None


_CONCURRENCY = 8


def sample_customers(source: object, most: int, progress: Callable[[str], object]) -> list[str]:
    """Return the ids of the first ``most`` customers that billing lists.

    Raises:
        OperatingError: ``most`` is too small, billing lists none, or its listing cannot be had.
    """
    if most < 1:
        raise OperatingError(f"--sample: at least 1, not {most}")
    customers = list(list_customers(source, most, progress))
    if not customers:
        raise OperatingError("billing lists no customer: name those whose entitlements you want")
    return customers


def collect_names(
    source: object, customers: Sequence[str], progress: Callable[[str], object], *, may_be_gone: bool = False
) -> set[str]:
    """Return every name that billing lists for the customers, in any status.

    Args:
        source: billing.
        customers: canonical ids.
        progress: called with how far it is.
        may_be_gone: a customer that billing does not know, such as one removed since it was listed, holds nothing.

    Raises:
        OperatingError: one of them could not be asked for; names it.
    """
    names: set[str] = set()
    fetch = partial(_fetch_names, source, may_be_gone=may_be_gone)
    with ThreadPoolExecutor(_CONCURRENCY) as threads:
        for number, more in enumerate(threads.map(fetch, customers), start=1):
            names |= more
            progress(f"{number} of {len(customers)} customers asked for")
    return names


def _fetch_names(source: object, customer: str, *, may_be_gone: bool) -> set[str]:
    try:
        with tended_connections():
            return {grant.name for grant in fetch_all_grants(source, customer)}
    except SourceError as error:
        if may_be_gone and isinstance(error, CustomerNotFound):
            return set()
        raise OperatingError(f"{customer}: {type(error).__name__}: {error}") from None


Result = Literal["fetched", "cached", "missing", "failed", "invalid"]
_ANY = "*"
_BYTE_ORDER_MARK = "\ufeff"  # a byte-order mark, also where files were joined
_QUEUED = 4  # pieces of work waiting for each thread


@dataclass(slots=True)
class WarmReport:
    """The ids by what warming found, each list in the order given.

    Attributes:
        fetched: fetched now.
        cached: in the cache before.
        missing: unknown to billing.
        failed: not fetched, and worth another try.
        invalid: no customer ids.
    """

    fetched: list[str] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    invalid: list[str] = field(default_factory=list)

    @property
    def done(self) -> int:
        """How many ids are done."""
        return sum(map(len, (self.fetched, self.cached, self.missing, self.failed, self.invalid)))

    @property
    def is_complete(self) -> bool:
        """Whether every id is in the cache."""
        return not (self.missing or self.failed or self.invalid)

    def __str__(self) -> str:
        parts = [f"{len(self.fetched)} fetched", f"{len(self.cached)} held before"]
        others = {"unknown to billing": self.missing, "failed": self.failed, "no customer id": self.invalid}
        return ", ".join(parts + [f"{len(ids)} {what}" for what, ids in others.items() if ids])


def parse_ids(lines: Iterable[str]) -> list[str]:
    """Return the ids of a file, one a line, each once; blank lines and what follows ``#`` are left out."""
    words = (line.partition("#")[0].replace(_BYTE_ORDER_MARK, "").strip() for line in lines)
    return list(dict.fromkeys(word for word in words if word))


def warm(
    gate: EntitlementGate,
    customers: Iterable[str],
    *,
    concurrency: int = 8,
    progress: Callable[[WarmReport], object] = lambda _: None,
) -> WarmReport:
    """Fetch every customer that is not cached, at most ``concurrency`` at a time; call ``progress`` after each.

    A run that was cut short may be repeated where a shared store keeps what was fetched. A long-lived process may call
    this with its own gate at start-up.
    """
    report = WarmReport()
    underway: deque[tuple[str, Future[Result]]] = deque()

    def collect_next() -> None:
        customer, future = underway.popleft()
        getattr(report, future.result()).append(customer)
        progress(report)

    with ThreadPoolExecutor(concurrency) as threads:
        for customer in customers:
            underway.append((customer, threads.submit(_warm_customer, gate, customer)))
            if len(underway) >= concurrency * _QUEUED:
                collect_next()
        while underway:
            collect_next()
    return report


def _warm_customer(gate: EntitlementGate, customer: str) -> Result:
    if canonical_uuid(customer) is None:
        return "invalid"
    basis = gate.inspect(customer).check(_ANY)
    if basis.outcome is Outcome.UNKNOWN or basis.source == "stale":
        return "failed"
    if basis.reason is Reason.CUSTOMER_NOT_FOUND:
        return "missing"
    return "fetched" if basis.source == "live" else "cached"


_HEAD = '''"""What billing lists, spelled as billing spells it.

Written by `manage.py entitlements names`; write it again when billing changes.
"""

from enum import StrEnum

__all__ = ["Entitlements"]


class Entitlements(StrEnum):
    """Every entitlement; a member is accepted wherever a name is."""

'''


def format_enum(names: Iterable[str]) -> str:
    """Return Python source of a ``StrEnum`` with a member for each name."""
    members: dict[str, str] = {}
    for name in sorted(set(names)):
        members[_make_unique(_make_member_name(name), members)] = name
    lines = [f"    {member} = {_quote(name)}\n" for member, name in members.items()]
    return _HEAD + ("".join(lines) or "    pass\n")


def _make_member_name(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode("ascii")
    member = re.sub(r"[^0-9A-Za-z]+", "_", plain).strip("_").upper() or "UNNAMED"
    return f"N{member}" if member[0].isdigit() else member


def _make_unique(member: str, others: Iterable[str]) -> str:
    unique, number = member, 1
    while unique in others or keyword.iskeyword(unique):
        number += 1
        unique = f"{member}_{number}"
    return unique


def _quote(name: str) -> str:
    """Return the literal in double quotes where that needs no escape, as a formatter leaves it."""
    return repr(name) if '"' in name else f'"{repr(chr(39) + name)[2:]}'
