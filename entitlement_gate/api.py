"""The module-level functions: the same questions as an ``EntitlementGate``, asked of the one the settings describe.

In each of them ``customer`` is a ``uuid.UUID``, its hyphenated text, or a request, whose customer the resolver
finds. Never here: how a gate answers.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.http import HttpRequest

from entitlement_gate.conf import SETTING, Settings, get_settings
from entitlement_gate.forking import remake_after_fork
from entitlement_gate.resolvers import resolving
from entitlement_gate.runtime.gate import EntitlementGate
from entitlement_gate.signals import (
    Sent,
    entitlement_checked,
    entitlement_denied,
    entitlements_refreshed,
    source_failed,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from entitlement_gate.domain.decisions import Decision
    from entitlement_gate.domain.grants import Snapshot
    from entitlement_gate.domain.requirements import Requirement
    from entitlement_gate.runtime.entitlements import CustomerEntitlements
    from entitlement_gate.runtime.reservation import Reservation
    from entitlement_gate.runtime.steps import Steps
    from entitlement_gate.runtime.views import SnapshotSource

_logger = logging.getLogger("entitlement_gate")

__all__ = [
    "acheck_entitlement",
    "aconsume_entitlement",
    "aget_entitlements",
    "ahas_entitlement",
    "ainvalidate_entitlements",
    "arequire_entitlement",
    "areserve_entitlement",
    "check_entitlement",
    "consume_entitlement",
    "default_gate",
    "forget_gate",
    "get_entitlements",
    "has_entitlement",
    "invalidate_entitlements",
    "require_entitlement",
    "reserve_entitlement",
]


class RequestGate(EntitlementGate):
    """A gate that takes a request where others take a customer id, and sends the signals."""

    def __init__(self, source: SnapshotSource, **options: Any) -> None:
        super().__init__(source, **options)
        for signal in (entitlement_checked, entitlement_denied):
            signal.watchers.add(self)
        self.mind_listeners()

    def _resolving(self, customer: object) -> Steps[object]:
        # A framework's own request, such as Django REST framework's, carries Django's in `_request`.
        request = customer if isinstance(customer, HttpRequest) else getattr(customer, "_request", None)
        if isinstance(request, HttpRequest):
            return (yield from resolving(request))
        return (yield from super()._resolving(customer))

    def checking(self, customer: object, requirement: Requirement) -> Steps[Decision]:
        """Answer a check as a part of other steps."""
        return self._checking(customer, requirement, None, refresh=False)

    def announcing(self, decision: Decision) -> Steps[None]:
        """Tell whoever listens of a check."""
        if decision.shadow:
            _logger.info("shadow: would refuse: %s: %s", decision.entitlement, decision.reason)
        if entitlement_checked.receivers:
            yield Sent(entitlement_checked, type(self), decision=decision)
        if entitlement_denied.receivers and (decision.shadow or not decision.allowed):
            yield Sent(entitlement_denied, type(self), decision=decision)

    def _checking(
        self, customer: object, entitlement: str | Requirement, quantity: object, *, refresh: bool
    ) -> Steps[Decision]:
        decision = yield from super()._checking(customer, entitlement, quantity, refresh=refresh)
        yield from self.announcing(decision)
        return decision

    def mind_listeners(self) -> None:
        """Take the long way, which tells of each check, only where somebody listens or shadows are noted."""
        self.is_heard = bool(entitlement_checked.receivers or entitlement_denied.receivers or self.options.shadow)
        self._answers = {} if self.is_heard else self._fetching.answers

    def refreshed(self, snapshot: Snapshot) -> None:
        """Tell whoever listens of a fetch, on the thread that did it."""
        entitlements_refreshed.send_robust(type(self), snapshot=snapshot)

    def failed(self, customer_id: str, error: BaseException) -> None:
        """Tell whoever listens of a fetch that failed, on the thread that tried."""
        source_failed.send_robust(type(self), customer_id=customer_id, error=error)

    def deciding(
        self, requirement: Requirement, known: CustomerEntitlements
    ) -> Steps[tuple[Decision, CustomerEntitlements]]:
        """Answer from what a request knows; return also what it knows then, newer where that was too old to deny."""
        decision, newer = yield from self._renewing(requirement, known)
        yield from self.announcing(decision)
        return decision, newer

    def getting(self, customer: object) -> Steps[CustomerEntitlements]:
        """Get all entitlements as a part of other steps."""
        return self._getting(customer)


class _Default:
    """The process's gate, made at the first question and again when the settings change."""

    gate: RequestGate | None = None
    lock = threading.Lock()
    make: Callable[[Settings], RequestGate] | None = None  # in place of `_made`: tests answer by gates of their own

    @classmethod
    def remake(cls) -> None:
        """Make the lock anew, as in a process just forked, perhaps while another thread made the gate."""
        cls.lock = threading.Lock()


def default_gate() -> RequestGate:
    """Return the gate that the settings describe.

    Raises:
        ImproperlyConfigured: the settings are missing or cannot work; the message names the key.
    """
    gate = _Default.gate
    if gate is None:
        with _Default.lock:
            gate = _Default.gate = _Default.gate or (_Default.make or _made)(get_settings())
    return gate


def has_entitlement(
    customer: object, entitlement: str | Requirement, quantity: object = None, *, refresh: bool = False
) -> bool:
    """Return whether the customer may. Raises ``ValueError`` for what is no quantity, nothing because of billing."""
    return (_Default.gate or default_gate()).has(customer, entitlement, quantity, refresh=refresh)


async def ahas_entitlement(
    customer: object, entitlement: str | Requirement, quantity: object = None, *, refresh: bool = False
) -> bool:
    """Return whether the customer may; see ``has_entitlement``."""
    return await default_gate().ahas(customer, entitlement, quantity, refresh=refresh)


def check_entitlement(
    customer: object, entitlement: str | Requirement, quantity: object = None, *, refresh: bool = False
) -> Decision:
    """Return the decision: whether the customer may, and why."""
    return default_gate().check(customer, entitlement, quantity, refresh=refresh)


async def acheck_entitlement(
    customer: object, entitlement: str | Requirement, quantity: object = None, *, refresh: bool = False
) -> Decision:
    """Return the decision; see ``check_entitlement``."""
    return await default_gate().acheck(customer, entitlement, quantity, refresh=refresh)


def require_entitlement(
    customer: object, entitlement: str | Requirement, quantity: object = None, *, refresh: bool = False
) -> Decision:
    """Return the decision, or raise ``EntitlementDenied`` or ``EntitlementUnavailable``."""
    return default_gate().require(customer, entitlement, quantity, refresh=refresh)


async def arequire_entitlement(
    customer: object, entitlement: str | Requirement, quantity: object = None, *, refresh: bool = False
) -> Decision:
    """Return the decision, or raise; see ``require_entitlement``."""
    return await default_gate().arequire(customer, entitlement, quantity, refresh=refresh)


def get_entitlements(customer: object) -> CustomerEntitlements:
    """Return all of the customer's entitlements, from one snapshot."""
    return default_gate().get(customer)


async def aget_entitlements(customer: object) -> CustomerEntitlements:
    """Return all of the customer's entitlements, from one snapshot."""
    return await default_gate().aget(customer)


def reserve_entitlement(
    customer: object, entitlement: str | Requirement, quantity: object = 1, *, key: str | None = None, ttl: float = 60
) -> Reservation:
    """Hold a quantity for ``ttl`` seconds; best in a ``with`` block, which commits on success and releases on an error.

    Raises ``EntitlementDenied`` or ``EntitlementUnavailable``, and what else ``EntitlementGate.reserve`` raises.
    """
    return default_gate().reserve(customer, entitlement, quantity, key=key, ttl=ttl)


async def areserve_entitlement(
    customer: object, entitlement: str | Requirement, quantity: object = 1, *, key: str | None = None, ttl: float = 60
) -> Reservation:
    """Hold a quantity for ``ttl`` seconds, for ``async with``; see ``reserve_entitlement``."""
    return await default_gate().areserve(customer, entitlement, quantity, key=key, ttl=ttl)


def consume_entitlement(
    customer: object, entitlement: str | Requirement, quantity: object = 1, *, key: str | None = None
) -> Decision:
    """Reserve and commit at once; the decision's ``remaining`` is what is left. Raises as ``reserve_entitlement``."""
    return default_gate().consume(customer, entitlement, quantity, key=key)


async def aconsume_entitlement(
    customer: object, entitlement: str | Requirement, quantity: object = 1, *, key: str | None = None
) -> Decision:
    """Reserve and commit at once; see ``consume_entitlement``."""
    return await default_gate().aconsume(customer, entitlement, quantity, key=key)


def invalidate_entitlements(customer: object) -> None:
    """Let what is known of the customer no longer count: the next check fetches. Call it after an upgrade."""
    default_gate().invalidate(customer)


async def ainvalidate_entitlements(customer: object) -> None:
    """Let what is known of the customer no longer count; see ``invalidate_entitlements``."""
    await default_gate().ainvalidate(customer)


def _made(settings: Settings) -> RequestGate:
    from entitlement_gate.zenskar.client import ZenskarClient  # noqa: PLC0415 - httpx costs 100 ms: on use only

    try:
        client = ZenskarClient(settings.api_key, settings.organisation, **_as_keywords(settings.client))
    except ValueError as error:  # the options were checked; what is left is the scenario of a sandbox
        raise ImproperlyConfigured(f"{SETTING}['BASE_URL']: {error}") from None
    try:
        return RequestGate(client, **_as_keywords(settings.gate))
    except ValueError as error:  # as above: what is left is a ledger that is not installed
        raise ImproperlyConfigured(f"{SETTING}['LEDGER']: {error}") from None


def _as_keywords(options: Any) -> Any:
    return {f.name: getattr(options, f.name) for f in fields(options)}


def forget_gate() -> None:
    """Close the gate that the settings describe; the next question makes another, which knows nothing yet."""
    with _Default.lock:
        gate, _Default.gate = _Default.gate, None
    if gate is not None:
        gate.close()


def _forget(*, setting: str, **_: Any) -> None:
    if setting == SETTING:
        forget_gate()


setting_changed.connect(_forget, dispatch_uid="entitlement_gate.api")
remake_after_fork(_Default)
