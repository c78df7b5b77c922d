"""The names of what many customers hold. Never here: how a module of them looks (``names``)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from entitlement_gate.domain.errors import CustomerNotFound, SourceError
from entitlement_gate.operators.billing import every_customer, every_grant
from entitlement_gate.operators.reports import OperatingError
from entitlement_gate.resilience.database_connections import tended_connections

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "names_held",
    "sampled",
]


_AT_ONCE = 8


def sampled(source: object, most: int, progress: Callable[[str], object]) -> list[str]:
    """Return the ids of the first ``most`` customers that billing lists.

    Raises:
        OperatingError: ``most`` is too small, billing lists none, or its listing cannot be had.
    """
    if most < 1:
        raise OperatingError(f"--sample: at least 1, not {most}")
    customers = list(every_customer(source, most, lambda number: progress(f"{number} customers listed")))
    if not customers:
        raise OperatingError("billing lists no customer: name those whose entitlements you want")
    return customers


def names_held(
    source: object, customers: Sequence[str], progress: Callable[[str], object], *, may_be_gone: bool = False
) -> set[str]:
    """Return every name that billing lists for the customers, in any status.

    Args:
        source: billing.
        customers: canonical ids.
        progress: told how far it is.
        may_be_gone: a customer that billing does not know, such as one removed since it was listed, holds nothing.

    Raises:
        OperatingError: one of them could not be asked for; names it.
    """
    names: set[str] = set()
    held = partial(_held, source, may_be_gone=may_be_gone)
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for number, found in enumerate(threads.map(held, customers), start=1):
            names |= found
            progress(f"{number} of {len(customers)} customers asked for")
    return names


def _held(source: object, customer: str, *, may_be_gone: bool) -> set[str]:
    try:
        with tended_connections():
            return {grant.name for grant in every_grant(source, customer)}
    except SourceError as error:
        if may_be_gone and isinstance(error, CustomerNotFound):
            return set()
        raise OperatingError(f"{customer}: {type(error).__name__}: {error}") from None
