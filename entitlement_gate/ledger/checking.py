"""What a verb may be given: refused with ``ValueError`` before anything is touched, whatever the store."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from entitlement_gate.ledger.rule import MOST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from entitlement_gate.ledger.protocol import Demand

__all__ = [
    "LONGEST_KEY",
    "LONGEST_OWNER",
    "LONGEST_TTL",
    "checked_actual",
    "checked_demands",
    "checked_key",
    "checked_owner",
    "checked_ttl",
]

LONGEST_KEY = 200
LONGEST_OWNER = 64
LONGEST_TTL = 30 * 86_400.0
# PostgreSQL keeps no NUL, and nothing that is no UTF-8 reaches a server.
_NOT_KEPT = re.compile("[\0\ud800-\udfff]")


def checked_key(key: str) -> str:
    """Return the key, or raise ``ValueError``."""
    if not isinstance(key, str) or not 1 <= len(key) <= LONGEST_KEY or _NOT_KEPT.search(key):
        raise ValueError(f"a reservation's key is text of 1 to {LONGEST_KEY} characters, and holds no NUL")
    return key


def checked_owner(owner: str) -> str:
    """Return the owner of a hold, or raise ``ValueError``."""
    if not isinstance(owner, str) or len(owner) > LONGEST_OWNER or _NOT_KEPT.search(owner):
        raise ValueError(f"a reservation's owner is text of at most {LONGEST_OWNER} characters")
    return owner


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
