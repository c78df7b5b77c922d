"""What passes between a gate and its fetching: where snapshots come from, what is known of a customer, who hears.

Never here: fetching itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from entitlement_gate.domain.decisions import Reason, Source
    from entitlement_gate.domain.grants import Snapshot
    from entitlement_gate.runtime.cache import Entry

__all__ = ["Listener", "SnapshotSource", "View"]


class SnapshotSource(Protocol):
    """Where snapshots come from: ``ZenskarClient``, or anything with this method."""

    def fetch(self, customer_id: str) -> Snapshot:
        """Return all grants of a customer, or raise a ``SourceError``. May block; called on a worker thread."""


class Listener(Protocol):
    """What hears of fetches: the gate."""

    def fetching(self) -> None:
        """Hear that a fetch begins: ``refreshed`` or ``failed`` will tell what came of it."""

    def adopting(self, snapshot: Snapshot) -> None:
        """Take note of what a fetch brought, on the thread that did it, before any check sees it; never raises."""

    def refreshed(self, snapshot: Snapshot) -> None:
        """Hear of a fetch, on the thread that did it, once its snapshot serves checks."""

    def failed(self, customer_id: str, error: BaseException) -> None:
        """Hear of a fetch that failed, on the thread that tried."""


class View(NamedTuple):
    """What can be said about a customer now.

    Attributes:
        customer_id: canonical.
        entry: the data, or None when there is none fit to use.
        source: where it came from.
        failure: why there is none.
        was_tried: a fetch was waited for on the way here.
    """

    customer_id: str
    entry: Entry | None
    source: Source
    failure: Reason | None = None
    was_tried: bool = False
