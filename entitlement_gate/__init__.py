"""May this customer do this now? Billing's entitlements as a gate for views, templates and code.

Every public name is imported on first use, so that ``import entitlement_gate`` costs nothing: neither httpx nor
pydantic nor Django's settings are touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from entitlement_gate.exports import export

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
    **{name: "api" if name.islower() else "domain.errors" for name in __all__},
    "Decision": "domain.decisions",
    "Outcome": "domain.decisions",
    "Reason": "domain.decisions",
    "EntitlementType": "domain.grants",
    "Grant": "domain.grants",
    "Snapshot": "domain.grants",
    "Requirement": "domain.requirements",
    "CustomerEntitlements": "engine.entitlements",
    "Entitlement": "engine.entitlements",
    "EntitlementGate": "engine.gate",
    "Reservation": "engine.reservations",
    "ZenskarClient": "zenskar.client",
    "requires_entitlement": "decorators",
    "entitlement_exempt": "url_rules",
}
__getattr__, __dir__ = export(__name__, _HOMES)
