"""The two lists: a customer's entitlements and the customers themselves.

Never here: who may ask, faults, or how pages are cut.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from entitlement_gate.sandbox import facts, paging, rows
from entitlement_gate.sandbox.messages import Refusal, Reply, Request, invalid
from entitlement_gate.sandbox.reading import ScenarioError, identifier
from entitlement_gate.sandbox.rows import Row
from entitlement_gate.sandbox.state import State

__all__ = ["customers", "entitlements"]

_PARAMETERS = ("cursor", "limit", "sort_key", "sort_type", "search", "populate", "status")


def entitlements(state: State, request: Request, *, foreign: bool = False) -> dict[str, Any]:
    """List one customer's rows as the request asks.

    Args:
        state: Where customers and rows are.
        request: For ``/entitlements/customer/{customer_id}``.
        foreign: Give other customers' rows instead: a fault.

    Raises:
        Refusal: 422 for an id or a parameter that cannot be, then 404 for an unknown customer.
    """
    customer_id = _customer_id(request.segments[-1])
    given = paging.parameters(request, _PARAMETERS)
    populate = _populate(given)
    customer = state.customer(customer_id)
    found = _sorted(state.foreign_rows(customer_id) if foreign else state.rows(customer_id), given)
    kept = [row for row in found if _matches(row, given)]
    if customer is None:
        paging.limit_of(given)
        raise Refusal(Reply.json({"detail": "Customer not found"}, 404))
    return paging.sliced(kept, given, customer_id, lambda row: rows.rendered(row, populate, customer))


def _customer_id(text: str) -> str:
    try:
        return identifier(text, "customer_id")
    except ScenarioError:
        raise invalid(["path", "customer_id"], "value is not a valid uuid", "type_error.uuid") from None


def _populate(given: Mapping[str, str]) -> frozenset[str]:
    if "populate" not in given:
        return frozenset()
    kinds = frozenset(given["populate"].split(","))
    if not kinds <= frozenset(facts.POPULATES):
        raise invalid(["query", "populate"], "value is not a permitted value", "type_error.enum")
    return kinds


def _sorted(found: Sequence[Row], given: Mapping[str, str]) -> Sequence[Row]:
    """Order the rows: nulls last either way, equals in the order they were granted."""
    key = paging.one_of(given, "sort_key", facts.sort_keys(), "")
    descending = paging.one_of(given, "sort_type", facts.SORTS, "asc") == "desc"
    if not key:
        return found
    known = [row for row in found if row.fields[key] is not None]
    nulls = [row for row in found if row.fields[key] is None]
    return sorted(known, key=lambda row: rows.order(row, key), reverse=descending) + nulls


def _matches(row: Row, given: Mapping[str, str]) -> bool:
    """Whether a row passes ``status`` and ``search``; a null status passes no filter."""
    statuses = {status.strip().lower() for status in given.get("status", "").split(",")} - {""}
    named = given.get("search", "").casefold() in row.name.casefold()
    return named and (not statuses or row.status in statuses)


def customers(state: State, request: Request) -> dict[str, Any]:
    """List the customers, or those with one ``external_id``."""
    given = paging.parameters(request, ("external_id", "cursor", "limit"))
    wanted = given.get("external_id")
    found = [customer for customer in state.customers if wanted in {None, customer.external_id}]
    return paging.sliced(
        found,
        given,
        f"customers:{wanted}",
        lambda customer: {
            "id": customer.id,
            "external_id": customer.external_id,
            "name": customer.name,
            "email": customer.email,
        },
    )
