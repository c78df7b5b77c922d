"""What passes between a gate and the shared store. Never here: Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from entitlement_gate.domain.grants import Snapshot
    from entitlement_gate.shared.signing import Seal

__all__ = ["Found", "Hearer", "Stamp", "Turn", "Wanted"]


class Stamp(NamedTuple):
    """Names one fetch in the fleet.

    Attributes:
        generation: the customer's when the fetch began; an invalidation makes a new one.
        begun: microseconds by the clock of Redis, the one clock that all share, when the fetch began.
    """

    generation: str
    begun: int


class Wanted(NamedTuple):
    """What would do in place of a fetch.

    Attributes:
        max_age: seconds that a record must be younger than; whatever its age, one begun since the look will do.
        unlike: the stamp of data that is held already.
        patience: seconds to wait for the fetch of somebody else.
    """

    max_age: float
    unlike: Stamp | None
    patience: float


class Found(NamedTuple):
    """A snapshot that somebody fetched.

    Attributes:
        snapshot: as it was fetched.
        age: seconds since that fetch began, never negative.
        stamp: of that fetch.
        is_new: the fetch began after the look.
    """

    snapshot: Snapshot
    age: float
    stamp: Stamp
    is_new: bool


class Turn(NamedTuple):
    """It is on the caller to fetch.

    Attributes:
        seal: None where the store could not be asked: there is nothing to keep afterwards.
        token: of the lease; empty for who fetches without one, having waited for somebody long enough.
        stamp: of the fetch that begins now.
        older: a record that does not do, but is better than nothing.
    """

    seal: Seal | None = None
    token: str = ""
    stamp: Stamp | None = None
    older: Found | None = None


class Hearer(Protocol):
    """What hears that data no longer counts."""

    def overtaken(self, customer_id: str | None, generation: str | None) -> None:
        """Let what was fetched for a customer in another generation no longer count; None: for any, in whichever."""
