"""May this customer do this now? Billing's entitlements as a gate for views, templates and code.

Every public name is imported on first use, so that ``import entitlement_gate`` costs nothing: neither httpx nor
pydantic nor Django's settings are touched.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from entitlement_gate.api import (
        acheck_entitlement,
        aconsume_entitlement,
        aget_entitlements,
        ahas_entitlement,
        ainvalidate_entitlements,
        arequire_entitlement,
        areserve_entitlement,
        check_entitlement,
        consume_entitlement,
        get_entitlements,
        has_entitlement,
        invalidate_entitlements,
        require_entitlement,
        reserve_entitlement,
    )
    from entitlement_gate.decorators import requires_entitlement
    from entitlement_gate.domain.decisions import Decision, Outcome, Reason
    from entitlement_gate.domain.errors import (
        CustomerNotFound,
        EntitlementDenied,
        EntitlementGateError,
        EntitlementUnavailable,
        ReservationConflict,
        ReservationError,
        ReservationExpired,
        ReservationNotFound,
        SourceError,
        SourceMalformed,
        SourceRejected,
        SourceUnavailable,
    )
    from entitlement_gate.domain.grants import EntitlementType, Grant, Snapshot
    from entitlement_gate.domain.requirements import Requirement
    from entitlement_gate.engine.entitlements import CustomerEntitlements, Entitlement
    from entitlement_gate.engine.gate import EntitlementGate
    from entitlement_gate.engine.reservations import Reservation
    from entitlement_gate.url_rules import entitlement_exempt
    from entitlement_gate.zenskar.client import ZenskarClient

__version__ = "0.1.0"

__all__ = [
    "CustomerEntitlements",
    "CustomerNotFound",
    "Decision",
    "Entitlement",
    "EntitlementDenied",
    "EntitlementGate",
    "EntitlementGateError",
    "EntitlementType",
    "EntitlementUnavailable",
    "Grant",
    "Outcome",
    "Reason",
    "Requirement",
    "Reservation",
    "ReservationConflict",
    "ReservationError",
    "ReservationExpired",
    "ReservationNotFound",
    "Snapshot",
    "SourceError",
    "SourceMalformed",
    "SourceRejected",
    "SourceUnavailable",
    "ZenskarClient",
    "acheck_entitlement",
    "aconsume_entitlement",
    "aget_entitlements",
    "ahas_entitlement",
    "ainvalidate_entitlements",
    "arequire_entitlement",
    "areserve_entitlement",
    "check_entitlement",
    "consume_entitlement",
    "entitlement_exempt",
    "get_entitlements",
    "has_entitlement",
    "invalidate_entitlements",
    "require_entitlement",
    "requires_entitlement",
    "reserve_entitlement",
]

_HOMES = {
    "domain.decisions": ("Decision", "Outcome", "Reason"),
    "domain.grants": ("EntitlementType", "Grant", "Snapshot"),
    "domain.requirements": ("Requirement",),
    "engine.entitlements": ("CustomerEntitlements", "Entitlement"),
    "engine.gate": ("EntitlementGate",),
    "engine.reservations": ("Reservation",),
    "zenskar.client": ("ZenskarClient",),
    "decorators": ("requires_entitlement",),
    "url_rules": ("entitlement_exempt",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def _home(name: str) -> str:
    if name in _HOME_OF:
        return _HOME_OF[name]
    return "api" if name.islower() else "domain.errors"


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_home(name)}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
