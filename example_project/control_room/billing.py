"""Billing, to be played: the sandbox behind the settings' gate, in this process or as a server of its own.

Both are reached the same way: over the control plane that the sandbox has beside the billing API.
"""

import json
from decimal import Decimal
from typing import Any

from entitlement_gate import SourceError, ZenskarClient
from entitlement_gate.api import default_gate


class CannotBe(Exception):
    """Billing does not do what it was told; the text says why."""


def _sandbox() -> ZenskarClient | None:
    """Return the way to the sandbox, or None where billing is a real account: plain HTTP goes to this machine alone."""
    source = default_gate().source
    if isinstance(source, ZenskarClient) and source.base_url.startswith(("sandbox:", "http://")):
        return source
    return None


def _get(path: str) -> Any:
    sandbox = _sandbox()
    try:
        reply = sandbox.get(path) if sandbox else None
    except SourceError:
        return None
    return json.loads(reply.body, parse_float=Decimal) if reply and reply.status == 200 else None  # noqa: PLR2004 - OK


def overview() -> dict[str, Any] | None:
    """Return how many requests came and which faults are on, or None where billing cannot be played."""
    summary: dict[str, Any] | None = _get("_sandbox")
    return summary


def rows_of(customer_id: str) -> list[dict[str, Any]]:
    """Return what billing has of a customer at this instant, whatever the product knows."""
    listing = _get(f"_sandbox/customers/{customer_id}")
    return listing["results"] if listing else []


def play(act: str, **arguments: Any) -> None:
    """Change billing, by the name of a method of ``entitlement_gate.sandbox.Sandbox`` and its arguments.

    Raises:
        CannotBe: it is no sandbox, or refuses.
    """
    sandbox = _sandbox()
    if sandbox is None:
        raise CannotBe("billing is a real account: nothing here changes it")
    try:
        reply = sandbox.post("_sandbox/acts", json.dumps({"act": act, **arguments}, default=str).encode())
    except SourceError as error:
        raise CannotBe("the sandbox does not answer") from error
    if reply.status != 200:  # noqa: PLR2004 - OK
        raise CannotBe(json.loads(reply.body)["detail"][0]["msg"])
