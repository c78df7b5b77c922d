"""Who is signed in. Fieldnotes has no accounts: a visitor picks one of its customers, kept in the session."""

import os
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest

_KEY = "customer"


@dataclass(frozen=True)
class Customer:
    """A customer by the id that billing knows it by."""

    id: str
    name: str
    note: str = ""


# The customers of the sandbox.
_SANDBOX = (
    Customer("10000000-0000-4000-8000-000000000001", "Free Fields", "free plan, allowance used up"),
    Customer("20000000-0000-4000-8000-000000000002", "Pro Plumbing", "pro plan, running"),
    Customer("30000000-0000-4000-8000-000000000003", "Lapsed Logistics", "pro plan, ended"),
)


def _customers(listed: str) -> tuple[Customer, ...]:
    """Read ``Name=id, Name=id``: the customers of a real account."""
    pairs = (pair.partition("=") for pair in listed.split(",") if pair.strip())
    return tuple(Customer(own_id.strip(), name.strip()) for name, _, own_id in pairs)


CUSTOMERS = _customers(os.environ.get("FIELDNOTES_CUSTOMERS", "")) or _SANDBOX


def from_session(request: HttpRequest) -> str | None:
    """Return the id of the customer that is signed in: the ``CUSTOMER_RESOLVER``."""
    customer = signed_in(request)
    return customer.id if customer else None


def signed_in(request: HttpRequest) -> Customer | None:
    chosen = request.session.get(_KEY)
    return next((customer for customer in CUSTOMERS if customer.id == chosen), None)


def sign_in(request: HttpRequest, customer_id: str) -> None:
    """Sign a customer in, or anybody out where there is no such customer."""
    request.session.flush()
    if any(customer.id == customer_id for customer in CUSTOMERS):
        request.session[_KEY] = customer_id


def context(request: HttpRequest) -> dict[str, Any]:
    """Give every template the customers to switch between."""
    return {"customers": CUSTOMERS, "customer": signed_in(request)}
