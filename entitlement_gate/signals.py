"""What projects may listen to. Sent robustly, and only when somebody listens: a receiver never breaks a check.

Never here: receivers.

==========================  ==========================================================  =====================
signal                      sent                                                        arguments
==========================  ==========================================================  =====================
``entitlement_checked``     for each check through the settings' gate, warm or not      ``decision``
``entitlement_denied``      for each of them that refuses, or would outside shadow      ``decision``
``entitlements_refreshed``  when a fetch brought a snapshot, on the thread that did     ``snapshot``
``source_failed``           when a fetch failed, on the thread that tried               ``customer_id, error``
==========================  ==========================================================  =====================

The sender is the gate's class.
"""

from __future__ import annotations

from typing import Any

from django.dispatch import Signal

__all__ = ["Sent", "entitlement_checked", "entitlement_denied", "entitlements_refreshed", "source_failed"]

entitlement_checked = Signal()
entitlement_denied = Signal()
entitlements_refreshed = Signal()
source_failed = Signal()


class Sent:
    """A signal to wait for: receivers of either colour, from either door. What one raises, Django logs."""

    __slots__ = ("_arguments", "_sender", "_signal")

    def __init__(self, signal: Signal, sender: object, **arguments: Any) -> None:
        self._signal = signal
        self._sender = sender
        self._arguments = arguments

    def wait(self) -> None:
        """Send on this thread."""
        self._signal.send_robust(self._sender, **self._arguments)

    async def wait_async(self) -> None:
        """Send from this loop."""
        await self._signal.asend_robust(self._sender, **self._arguments)
