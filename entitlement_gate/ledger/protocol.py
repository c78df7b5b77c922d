"""What a ledger promises, and the values it takes and gives.

The theory of operation. A ledger keeps one book for each customer: a *tally* for each row that was ever charged, and a
*record* for each key. What may become of a key:

==========  ====================================================================================
state       next
==========  ====================================================================================
unknown     held, by a reserve that admits
held        committed, released by its owner, or expired when its time is over
committed   unknown again, after ``RETENTION``
released    held, by another reserve; committed, late; or unknown again, after ``RETENTION``
expired     as released
==========  ====================================================================================

``consume`` is reserve and commit in one step. A reserve of a key that is held or committed replays: it changes nothing.

Every verb is one atomic step on one book, which nobody else sees half done: under the lock of the ledger in memory, in
one Lua script, in one transaction that holds the lock of the customer's row. No lock is held between two verbs, nor
while a verb waits for anything but its store. Time is the store's, and takes effect when a book is next opened: a hold
that ran out is given back before anything else is decided.

Between two verbs of one caller anything may happen: others hold and commit, a hold runs out, billing sends other rows,
the process dies. What is lost on the way, a verb or its reply, is tried again under the same key, and a key counts
once. What never may happen: more is admitted than is available unless it was demanded so; a key counts twice or gives
back what another owner holds; an acknowledged commit is undone; a store that lost its books admits anything before
somebody has accepted the loss; a commit that is reported leaves no event, or two.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from entitlement_gate.domain.errors import EntitlementGateError
from entitlement_gate.ledger.balances import MOST, Row, Share, Tallies

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "LONGEST_KEY",
    "LONGEST_TTL",
    "LONGEST_WORD",
    "Charges",
    "DeadLetter",
    "Demand",
    "Ledger",
    "LedgerLost",
    "LedgerOverflow",
    "LedgerUnavailable",
    "Outbox",
    "Receipt",
    "Refusal",
    "State",
    "UsageEvent",
    "UsageTarget",
    "checked_actual",
    "checked_demands",
    "checked_key",
    "checked_ttl",
    "checked_word",
    "examined",
]

RETENTION = 86_400.0
"""Seconds for which a key is remembered after it was committed, was released or ran out: as long as billing does."""

LONE_RETENTION = 600.0
"""The same for a key that nobody else knows: long enough for its holder to try the commit once more."""

FORGOTTEN_AFTER = 90 * 86_400.0
"""Seconds after which the tally of a row that left is dropped."""

CLOCK_SKEW = 1.0
"""Seconds by which the clocks of those who share a ledger, and its own, may differ."""

Charges = Mapping[str, Tallies]
"""The tallies of one customer by entitlement id; empty when there are none."""


class LedgerUnavailable(EntitlementGateError):
    """The store could not be asked, or cannot be relied on; nothing is known to have changed."""


class LedgerLost(LedgerUnavailable):
    """The store no longer holds what it held: it admits nothing until somebody accepts the loss."""


class LedgerOverflow(LedgerUnavailable):
    """A number is wider than the store counts: nothing can be said of this customer; others are not affected."""


class State(StrEnum):
    """What became of a reservation."""

    HELD = "held"
    COMMITTED = "committed"
    RELEASED = "released"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class UsageTarget:
    """Where committed usage is reported: the meter's slug, and the field of ``data`` that holds the number."""

    slug: str
    field: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """A quantity of one entitlement, and the rows that can pay.

    Attributes:
        entitlement_id: the id whose rows are summed; tallies are kept under it.
        quantity: millionths, 1 to 2**53.
        rows: its live metered rows, those that end first in front (``balances.rows_of``); at least one.
        ticket: ``Snapshot.fetched_at`` of the snapshot the rows are from, in POSIX seconds.
        overdraw: admit even what is not available.
        target: where a commit is reported; None ships nothing.
    """

    entitlement_id: str
    quantity: int
    rows: tuple[Row, ...]
    ticket: float
    overdraw: bool = False
    target: UsageTarget | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a key stands for after a verb.

    Attributes:
        key: as the application chose it.
        state: what became of it.
        shares: which rows paid how much: what is held, or what was committed.
        expires_at: when a hold runs out, POSIX seconds by the store's clock.
        available: what was available to each demand before; empty where nothing was newly admitted.
        is_replay: the verb had been done before and changed nothing.
        is_overage: more was admitted than was available, as demanded.
        is_late: committed after the hold had run out, was released by its owner, or was forgotten.
    """

    key: str
    state: State
    shares: tuple[Share, ...]
    expires_at: float
    available: tuple[int, ...] = ()
    is_replay: bool = False
    is_overage: bool = False
    is_late: bool = False

    @property
    def quantity(self) -> int:
        """All shares together, in millionths."""
        return sum(share.amount for share in self.shares)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Nothing was reserved: this entitlement has only so much ``available``, in millionths."""

    entitlement_id: str
    available: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageEvent:
    """One commit, to be reported once.

    Attributes:
        key: the ``Idempotency-Key``: the reservation's own, with ``/entitlement id`` where it ships several.
        customer_id: who used it.
        target: where it goes.
        quantity: millionths.
        at: when it was committed, POSIX seconds.
        attempts: how often it has been taken out for delivery, this time included.
    """

    key: str
    customer_id: str
    target: UsageTarget
    quantity: int
    at: float
    attempts: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that billing refuses, and why."""

    event: UsageEvent
    why: str


class Ledger(Protocol):
    """Counts what customers use up. Thread-safe, and works in a forked child.

    A key belongs to its customer: to any other it is unknown. Every verb may raise ``LedgerUnavailable``.
    """

    @property
    def is_local(self) -> bool:
        """Whether ``charges()`` needs no I/O, so that every check may ask; a class attribute will do."""

    def reserve(
        self,
        customer_id: str,
        demands: Sequence[Demand],
        *,
        key: str,
        ttl: float,
        owner: str = "",
        purpose: str = "",
        is_lone: bool = False,
    ) -> Receipt | Refusal:
        """Hold every demand or none, for ``ttl`` seconds.

        A key that is held or committed replays; one that ran out or was released is reserved anew, in the same
        quantities, though other entitlements may pay now. It is the same where its ``purpose``, a word of the caller's
        for what was asked, is the same, whatever paid for it; without one, where the same is demanded. What is newly
        held belongs to ``owner``, a word of the caller's own: who replays does not own it. A key that ``is_lone`` was
        made for this reservation, so that nobody else can retry it, and is soon forgotten.

        Raises:
            ValueError: a key, quantity or time that cannot be; nothing changed.
            ReservationConflict: the key was used for something else.
        """

    def consume(
        self, customer_id: str, demands: Sequence[Demand], *, key: str, purpose: str = "", is_lone: bool = False
    ) -> Receipt | Refusal:
        """Reserve and commit at once; commits what the key already holds."""

    def commit(self, customer_id: str, key: str, *, actual: int | None = None, late: bool = True) -> Receipt:
        """Turn a hold into use, whoever owns it: what was held or, of a single entitlement, the ``actual`` millionths.

        One that ran out, or that its owner released, counts all the same and is marked late: the work was done.

        Raises:
            ValueError: ``actual`` cannot be.
            ReservationConflict: it was committed with another quantity; or released, and ``late`` is False.
            ReservationExpired: it ran out, and ``late`` is False.
            ReservationNotFound: the customer has no such key.
        """

    def release(self, customer_id: str, key: str, *, owner: str = "") -> Receipt:
        """Give back what ``owner`` holds; what another owner holds, what ran out or was released stays so.

        Raises:
            ReservationConflict: it was the owner's, and is committed.
            ReservationNotFound: the customer has no such key.
        """

    def extend(self, customer_id: str, key: str, ttl: float) -> Receipt:
        """Let a hold run out ``ttl`` seconds from now.

        Raises:
            ReservationConflict: it is committed or released.
            ReservationExpired: it ran out.
            ReservationNotFound: the customer has no such key.
        """

    def adopt_upstream(self, customer_id: str, rows: Mapping[str, Sequence[Row]], ticket: float) -> None:
        """Learn a newer snapshot: the live metered rows of each entitlement id. Older news changes nothing."""

    def charges(self, customer_id: str) -> Charges:
        """Return what is held and committed, for ``balances.burden`` and ``balances.available``."""

    def close(self) -> None:
        """Close the connections; again is harmless."""


class Outbox(Protocol):
    """The events that commits left, until they are delivered. Several may take from it at once."""

    def take(self, limit: int, *, lease: float = 60.0) -> Sequence[UsageEvent]:
        """Take out events that are due, oldest first where the store can; nobody else gets them for ``lease``."""

    def delivered(self, event: UsageEvent) -> None:
        """Forget an event that arrived."""

    def postpone(self, event: UsageEvent, seconds: float) -> None:
        """Let an event be due again in so many seconds."""

    def bury(self, event: UsageEvent, why: str) -> None:
        """Set an event aside for people to look at."""

    def pending(self) -> int:
        """Return how many events wait to be delivered."""

    def dead_letters(self, limit: int = 100) -> Sequence[DeadLetter]:
        """Return events that were set aside."""

    def revive(self, event: UsageEvent) -> None:
        """Let an event that was set aside be delivered again."""


LONGEST_KEY = 200
LONGEST_WORD = 64
LONGEST_TTL = 30 * 86_400.0
# PostgreSQL keeps no NUL, and nothing that is no UTF-8 reaches a server.
_NOT_KEPT = re.compile("[\0\ud800-\udfff]")


def checked_key(key: str) -> str:
    """Return the key, or raise ``ValueError``."""
    if not isinstance(key, str) or not 1 <= len(key) <= LONGEST_KEY or _NOT_KEPT.search(key):
        raise ValueError(f"a reservation's key is text of 1 to {LONGEST_KEY} characters, and holds no NUL")
    return key


def checked_word(word: str) -> str:
    """Return the owner of a hold or the purpose of a key, or raise ``ValueError``."""
    if not isinstance(word, str) or len(word) > LONGEST_WORD or _NOT_KEPT.search(word):
        raise ValueError(f"a reservation's owner and purpose are texts of at most {LONGEST_WORD} characters")
    return word


def checked_ttl(ttl: float) -> float:
    """Return the time to live in seconds, or raise ``ValueError``."""
    if isinstance(ttl, bool) or not (isinstance(ttl, (int, float)) and math.isfinite(ttl) and 0 < ttl <= LONGEST_TTL):
        raise ValueError(f"a reservation lives for seconds above 0 and up to {LONGEST_TTL:.0f}, not {ttl!r}")
    return float(ttl)


def checked_actual(actual: int) -> int:
    """Return a quantity in millionths, or raise ``ValueError``."""
    if isinstance(actual, bool) or not isinstance(actual, int) or not 0 < actual <= MOST:
        raise ValueError(f"a ledger counts 1 to {MOST} millionths, not {actual!r}")
    return actual


def checked_demands(demands: Sequence[Demand]) -> Sequence[Demand]:
    """Return the demands, or raise ``ValueError``."""
    ids = {demand.entitlement_id for demand in demands}
    if not demands or len(ids) < len(demands):
        raise ValueError("a reservation is of at least one entitlement, and of each at most once")
    for demand in demands:
        checked_actual(demand.quantity)
        if not demand.rows:
            raise ValueError(f"no row can pay for {demand.entitlement_id}")
    return demands


# A URL's user and password, and passwords as libpq's messages may repeat them.
_SECRET = re.compile(r"(?<=://)[^\s/@]*(?=@)|(?<=password=)(?:'[^']*'|\S+)", re.IGNORECASE)


def examined(store: str, look: Callable[[dict[str, Any]], None], **more: Any) -> dict[str, Any]:
    """Return what a store says of itself: what ``look`` found out as far as it got, the rest None. Raises nothing.

    An error is reported as ``"error": "<class>: <text>"``, without secrets.
    """
    report: dict[str, Any] = {"store": store, "reachable": False, "pending": None, "dead_letters": None, **more}
    try:
        look(report)
    except Exception as error:  # noqa: BLE001 - a report of what is wrong must not fail of it
        report["error"] = _SECRET.sub("***", f"{type(error).__name__}: {error}")
    return report
