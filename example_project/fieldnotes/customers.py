"""The users of the demo, one for each customer, and the bar on every page that switches between them.

A demo alone lets anybody be anybody. What your project needs of this is the model ``Profile``.
"""

import os
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model, login, logout
from django.contrib.auth.hashers import make_password
from django.http import HttpRequest

_BACKEND = "django.contrib.auth.backends.ModelBackend"


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


def _customers(text: str) -> tuple[Customer, ...]:
    """Read ``Name=id, Name=id``: the customers of a real account."""
    pairs = (pair.partition("=") for pair in text.split(",") if pair.strip())
    try:
        return tuple(Customer(str(UUID(own_id.strip())), name.strip()) for name, _, own_id in pairs)
    except ValueError:
        raise SystemExit(f"FIELDNOTES_CUSTOMERS: expected “Name=id, Name=id” with UUIDs, not {text!r}") from None


CUSTOMERS = _customers(os.environ.get("FIELDNOTES_CUSTOMERS", "")) or _SANDBOX


def seed() -> None:
    """Make a user for each customer; those that are there stay."""
    # Not at the head: the list above is read before Django is set up.
    from rest_framework.authtoken.models import Token  # noqa: PLC0415 - see above

    from fieldnotes.models import Profile  # noqa: PLC0415 - see above

    for customer in CUSTOMERS:
        user, _ = get_user_model().objects.get_or_create(
            username=customer.name, defaults={"password": make_password(None)}
        )
        Profile.objects.update_or_create(user=user, defaults={"zenskar_customer_id": customer.id})
        Token.objects.get_or_create(user=user)


def signed_in(request: HttpRequest) -> Customer | None:
    profile = getattr(request.user, "profile", None)
    customer_id = str(profile.zenskar_customer_id) if profile else None
    return next((customer for customer in CUSTOMERS if customer.id == customer_id), None)


def sign_in(request: HttpRequest, customer_id: str) -> None:
    """Log the user of a customer in, without a password; or anybody out where there is no such customer."""
    logout(request)
    if any(customer.id == customer_id for customer in CUSTOMERS):
        user = get_user_model().objects.filter(profile__zenskar_customer_id=customer_id).first()
        if user is not None:
            login(request, user, _BACKEND)


def context(request: HttpRequest) -> dict[str, Any]:
    """Give every template the customers to switch between, the one signed in, and the process that answers."""
    token = getattr(request.user, "auth_token", None)
    return {"customers": CUSTOMERS, "customer": signed_in(request), "token": token, "process": os.getpid()}
