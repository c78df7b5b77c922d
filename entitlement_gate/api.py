"""The module-level functions: the methods of the ``EntitlementGate`` that the settings describe.

In each of them ``customer`` is a ``uuid.UUID``, its hyphenated text, or a request, whose customer the resolver
finds.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from entitlement_gate.conf import SETTING, Settings, get_settings
from entitlement_gate.project_gate import RequestGate
from entitlement_gate.resilience.fork_safety import Lock, notice_fork, remake_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable

    from entitlement_gate.domain.decisions import Decision
    from entitlement_gate.domain.requirements import Requirement
    from entitlement_gate.engine.entitlements import CustomerEntitlements
    from entitlement_gate.engine.fetcher import SnapshotSource
    from entitlement_gate.engine.reservations import Reservation

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
    "make_gate",
    "require_entitlement",
    "reserve_entitlement",
]


def make_gate(settings: Settings) -> RequestGate:
    """Return a new gate as the settings describe it. Raises ``ImproperlyConfigured``, naming the key."""
    source = _make_client(settings) if settings.source is None else _load_source(settings)
    try:
        return RequestGate(source, **_as_keywords(settings.gate))
    except ValueError as error:  # the options were checked: what is left is what is not installed, or cannot be shared
        name, _, what = str(error).partition(": ")
        raise ImproperlyConfigured(f"{SETTING}[{name.upper()!r}]: {what}") from None


def _make_client(settings: Settings) -> SnapshotSource:
    from entitlement_gate.zenskar.client import ZenskarClient  # noqa: PLC0415 - httpx costs 100 ms: on use only

    try:
        return ZenskarClient(settings.api_key, settings.organisation, **_as_keywords(settings.client))
    except ValueError as error:  # the options were checked; what is left is the scenario of a sandbox
        raise ImproperlyConfigured(f"{SETTING}['BASE_URL']: {error}") from None


def _load_source(settings: Settings) -> SnapshotSource:
    try:
        source: SnapshotSource = settings.load("source")()
    except ValueError as error:  # such as a file that cannot be read
        raise ImproperlyConfigured(f"{SETTING}['SOURCE']: {error}") from error
    if not callable(getattr(source, "fetch", None)):
        kind = type(source).__name__
        raise ImproperlyConfigured(f"{SETTING}['SOURCE']: {settings.source!r} returns {kind}, which has no fetch()")
    return source


def _as_keywords(options: Any) -> Any:
    return {f.name: getattr(options, f.name) for f in fields(options)}


class _Default:
    """The process's gate, made at the first question and again when the settings change."""

    gate: RequestGate | None = None
    _lock = Lock()
    make: Callable[[Settings], RequestGate] = make_gate

    @classmethod
    def remake(cls) -> None:
        """Make the lock anew, as in a process just forked, perhaps while another thread made the gate."""
        cls._lock = Lock()

    @classmethod
    def locked(cls) -> Lock:
        """Return the lock of this process, to be held while the gate is changed."""
        notice_fork()
        return cls._lock


def default_gate() -> RequestGate:
    """Return the gate that the settings describe.

    Raises:
        ImproperlyConfigured: the settings are missing or cannot work; the message names the key.
    """
    gate = _Default.gate
    if gate is None:
        with _Default.locked():
            gate = _Default.gate = _Default.gate or _Default.make(get_settings())
    return gate


def has_entitlement(
    customer: object, entitlement: str | Requirement, quantity: object = None, *, refresh: bool = False
) -> bool:
    """Return whether the customer may. Raises ``ValueError`` for an invalid quantity; a failing billing raises none."""
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
    """Invalidate the cached snapshot of the customer: the next check fetches. Call it after an upgrade."""
    default_gate().invalidate(customer)


async def ainvalidate_entitlements(customer: object) -> None:
    """Invalidate the cached snapshot of the customer; see ``invalidate_entitlements``."""
    await default_gate().ainvalidate(customer)


def forget_gate() -> None:
    """Close the gate that the settings describe; the next question makes another, with an empty cache."""
    with _Default.locked():
        gate, _Default.gate = _Default.gate, None
    if gate is not None:
        gate.close()


def _forget(*, setting: str, **_: Any) -> None:
    if setting == SETTING:
        forget_gate()


setting_changed.connect(_forget, dispatch_uid="entitlement_gate.api")
remake_after_fork(_Default)
