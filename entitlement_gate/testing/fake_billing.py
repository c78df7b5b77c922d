"""``FakeBilling``: the settings' gate over a sandbox of the test's own, empty at first; pytest's ``entitlements``."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from entitlement_gate.api import _as_keywords
from entitlement_gate.ledger.memory import MemoryLedger
from entitlement_gate.project_gate import RequestGate
from entitlement_gate.sandbox import Sandbox, SandboxTransport, Scenario
from entitlement_gate.testing.fakes import MovableClock, canonical_customer
from entitlement_gate.testing.overrides import reset_billing, use_billing
from entitlement_gate.zenskar.client import ZenskarClient
from entitlement_gate.zenskar.client_options import SANDBOX

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta
    from uuid import UUID

    from entitlement_gate.conf import Settings

__all__ = ["FakeBilling"]

_KEY = "test"
_ORGANISATION = "00000000-0000-4000-8000-000000000000"
_FAILURES: Mapping[str, dict[str, Any]] = {
    "unavailable": {"kind": "status", "status": 503},
    "down": {"kind": "status", "status": 503},
    "error": {"kind": "status", "status": 500},
    "rejected": {"kind": "status", "status": 401},
    "unauthorized": {"kind": "status", "status": 401},
    "not_found": {"kind": "status", "status": 404},
    "malformed_response": {"kind": "garbage"},
    "malformed": {"kind": "garbage"},
    "timeout": {"kind": "hang"},
    "connection": {"kind": "reset"},
}


class FakeBilling:
    """A billing that the test controls, for its ``with`` block. Every change takes effect at once.

    >>> with FakeBilling() as entitlements:  # doctest: +SKIP - needs Django's settings
    ...     entitlements.grant(customer, "seats", 5)
    ...     entitlements.use(customer, "seats", 2)
    ...     check_entitlement(customer, "seats").remaining
    Decimal('3')

    Everything but the network is the project's own: aliases, policies, freshness, the rule. Three things differ: a
    request that fails is not tried again, waiting for a slow billing moves the clock instead of the test, and what is
    used up is counted in memory, whatever ``LEDGER`` says, for as long as the block.

    Attributes:
        sandbox: the sandbox itself, for what is not offered here (its requests, usage events).
        clock: what the gate and the sandbox go by.
    """

    def __init__(self) -> None:
        self.clock = MovableClock()
        self.sandbox = Sandbox(Scenario(_KEY, _ORGANISATION), clock=self.clock)
        self._ledger = MemoryLedger(clock=self.clock)
        self._gate: _FakeBillingGate | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(use_billing(self._make_gate))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def grant(self, customer: UUID | str, name: str, quantity: object = None, **fields: Any) -> str:
        """Give a customer an entitlement; a Feature without a quantity. Returns the id of the row.

        ``fields`` are a row's own: ``type``, ``units``, ``status``, ``active_from`` and ``expiry_at`` (an instant, or
        relative to now: ``"-1h"``, ``"+30d"``), ``quantity_used`` …
        """
        row_id = self.sandbox.grant(customer, name, quantity, **fields)
        self._invalidate(customer)
        return row_id

    def revoke(self, customer: UUID | str, name: str) -> None:
        """Take every row of a name away."""
        self.sandbox.revoke(customer, name)
        self._invalidate(customer)

    def use(self, customer: UUID | str, name: str, quantity: object = 1) -> None:
        """Use a balance up, as an invoice does. Raises ``LookupError`` where there is none."""
        self.sandbox.use(customer, name, quantity)
        self._invalidate(customer)

    def expire(self, customer: UUID | str, name: str) -> None:
        """End every row of a name a second ago. Raises ``LookupError`` where there is none."""
        self.sandbox.expire(customer, name)
        self._invalidate(customer)

    def fail(self, kind: str | int = "unavailable", **options: Any) -> None:
        """Break billing from now on.

        ``kind`` is what a decision shall say (``"unavailable"``, ``"rejected"``, ``"malformed_response"``), what goes
        wrong in a word (``"timeout"``, ``"connection"``, ``"not_found"``), a status (``503``), or one of the sandbox's
        faults with its options: ``fail("status", status=503, times=2)``.

        What was fetched before is served as stale, as in production: ``advance`` past ``STALE_IF_ERROR``, or ask of
        a customer not asked of before, to see what nobody knows.
        """
        is_status = isinstance(kind, int) and not isinstance(kind, bool)
        fault = {"kind": "status", "status": kind} if is_status else _FAILURES.get(str(kind), {"kind": kind})
        self.sandbox.fail(**{**fault, **options})
        if self._gate is not None:
            self._gate.invalidate_all()

    def recover(self) -> None:
        """Let billing answer again; the cache is emptied."""
        self.sandbox.recover()
        reset_billing()

    def freeze(self, at: datetime | None = None) -> None:
        """Let time stand still for the gate and billing, now or at an instant (a naive one is UTC)."""
        self.clock.freeze(at)

    def advance(self, by: float | timedelta) -> None:
        """Let seconds, or a ``timedelta``, pass at once for the gate and billing, frozen or not."""
        self.clock.advance(by)

    def _invalidate(self, customer: UUID | str) -> None:
        if self._gate is not None:
            self._gate.invalidate(canonical_customer(customer))

    def _make_gate(self, settings: Settings) -> RequestGate:
        transport = SandboxTransport(self.sandbox, sleep=self.clock.advance)
        options = {**_as_keywords(settings.client), "base_url": SANDBOX, "max_attempts": 1}
        client = ZenskarClient(_KEY, _ORGANISATION, transport=transport, clock=self.clock, **options)
        ledger = None if settings.gate.ledger is None else self._ledger
        own = {**_as_keywords(settings.gate), "ledger": ledger, "redis_url": None}
        self._gate = _FakeBillingGate(client, clock=self.clock, **own)
        return self._gate


class _FakeBillingGate(RequestGate):
    """The gate, and one thing that only tests ask of it."""

    def invalidate_all(self) -> None:
        for customer_id in tuple(self._snapshots.entries):
            self._snapshots.invalidate(customer_id)
