"""What is counted of a customer: what billing says was used, and what the product held and used since."""

from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

from entitlement_gate import Entitlement, EntitlementUnavailable, get_entitlements
from entitlement_gate.api import default_gate
from entitlement_gate.ledger.protocol import LedgerUnavailable


class Balance(NamedTuple):
    """Of one entitlement.

    Attributes:
        limit: granted.
        billed: used, as billing tells.
        on_hold: by requests and jobs that have not ended.
        committed: used up here, ever.
        unbilled: of that, what billing has not heard of.
        remaining: what a check goes by.
    """

    name: str
    limit: Decimal
    billed: Decimal
    on_hold: Decimal
    committed: Decimal
    unbilled: Decimal
    remaining: Decimal


_MILLION = 1_000_000  # a ledger counts in millionths


def balances_of(customer_id: str) -> list[Balance]:
    """Return what is counted; nothing where billing or the ledger cannot be asked."""
    try:
        return list(_balances(customer_id))
    except (EntitlementUnavailable, LedgerUnavailable):
        return []


def _balances(customer_id: str) -> Iterator[Balance]:
    ledger = default_gate().ledger
    charges = ledger.charges(customer_id) if ledger else {}
    for entitlement in get_entitlements(customer_id).values():
        limit, billed, remaining = entitlement.limit, entitlement.used or Decimal(0), entitlement.remaining
        if limit is None or remaining is None:
            continue
        tallies = [charges[own_id] for own_id in _ids(entitlement) if own_id in charges]
        live = [tally[row] for tally in tallies for row in entitlement.decision.grants if row in tally]
        on_hold = Decimal(sum(tally.held for tally in live)) / _MILLION
        yield Balance(
            name=entitlement.name,
            limit=limit,
            billed=billed,
            on_hold=on_hold,
            committed=Decimal(sum(tally.committed for tally in live)) / _MILLION,
            unbilled=limit - billed - on_hold - remaining,  # what is missing from the balance, beside the holds
            remaining=remaining,
        )


def _ids(entitlement: Entitlement) -> set[str]:
    return {grant.entitlement_id for grant in entitlement.grants if grant.entitlement_id}
