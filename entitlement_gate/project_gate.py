"""The gate of a Django project: it takes requests for customers, and sends the signals."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from entitlement_gate.engine.gate import EntitlementGate
from entitlement_gate.resolvers import find_request, mark_private, resolving
from entitlement_gate.signals import (
    SendingPool,
    Sent,
    entitlement_checked,
    entitlement_denied,
    entitlements_refreshed,
    source_failed,
)

if TYPE_CHECKING:
    from entitlement_gate.domain.decisions import Decision, Reason
    from entitlement_gate.domain.grants import Snapshot
    from entitlement_gate.domain.requirements import Requirement
    from entitlement_gate.engine.entitlements import CustomerEntitlements
    from entitlement_gate.engine.fetcher import SnapshotSource
    from entitlement_gate.resilience.effects import Effects

__all__ = ["RequestGate"]

_logger = logging.getLogger("entitlement_gate")


class RequestGate(EntitlementGate):
    """A gate that takes a request where others take a customer id, and sends the signals."""

    def __init__(self, source: SnapshotSource, **options: Any) -> None:
        self._sending = SendingPool(options.get("clock", time))
        super().__init__(source, **options)
        self.webhooks = dict.fromkeys(("received", "replayed", "named_nobody", "refused"), 0)
        for signal in (entitlement_checked, entitlement_denied):
            signal.watchers.add(self)
        self.mind_observers()

    def remake(self) -> None:
        """Make locks, threads and calls anew, as in a process just forked; data stays."""
        super().remake()
        self._sending.remake()

    def close(self) -> None:
        """Start no further fetch, take no further signal and close the source; at once, and as often as you like."""
        super().close()
        self._sending.close()

    def _identifying(self, customer: object) -> Effects[str | Reason]:
        request = find_request(customer)
        if request is None:
            return self.identify(customer)
        mark_private(request)
        return self.identify((yield from resolving(request)))

    def checking(self, customer: object, requirement: Requirement) -> Effects[Decision]:
        """Answer a check as a part of other steps."""
        return self._checking(customer, requirement, None, refresh=False)

    def announcing(self, decision: Decision, due: float | None = None) -> Effects[None]:
        """Report a check to observers, the log of shadows and the receivers of signals."""
        if self._is_observed:
            self.tell_observers(decision, due)
        if decision.shadow:
            _logger.info("shadow: would refuse: %s: %s", decision.entitlement, decision.reason)
        if entitlement_checked.receivers:
            yield Sent(entitlement_checked, type(self), decision=decision)
        if entitlement_denied.receivers and (decision.shadow or not decision.allowed):
            yield Sent(entitlement_denied, type(self), decision=decision)

    def mind_listeners(self) -> None:
        """Take the long way, which reports each check, only where somebody listens or shadows are noted."""
        self.mind_observers()

    def _has_listeners(self) -> bool:
        """Whether signals are to be sent, or shadows to be noted."""
        return bool(entitlement_checked.receivers or entitlement_denied.receivers or self.options.shadow)

    def fetching(self) -> None:
        """Expect one signal, so that a test can wait for it."""
        self._sending.expect()

    def refreshed(self, snapshot: Snapshot) -> None:
        """Send the signal of a fetch, apart from the thread that did it."""
        self._sending.send(Sent(entitlements_refreshed, type(self), snapshot=snapshot))

    def failed(self, customer_id: str, error: BaseException) -> None:
        """Send the signal of a fetch that failed, apart from the thread that tried."""
        self._sending.send(Sent(source_failed, type(self), customer_id=customer_id, error=error))

    def wait_for_signals(self, seconds: float) -> bool:
        """Wait until the signal of every fetch that has begun is sent; False where that takes longer. For tests."""
        return self._sending.settle(seconds)

    def health(self) -> dict[str, Any]:
        """Return what every gate reports, and how many ``webhooks`` this process took: approximate counts, too.

        ``received`` for the first time, of them ``named_nobody``; ``replayed``: came again; ``refused``.
        """
        return {**super().health(), "webhooks": dict(self.webhooks)}

    def uses_of(self, entitlements: CustomerEntitlements) -> int:
        """Return a number that changes whenever this process uses up something of the customer's."""
        return self._ledger_client.uses_of(entitlements.customer_id)
