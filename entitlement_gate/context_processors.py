"""``entitlements`` in every template, and what the tags of each engine call. A failure of billing raises nothing here.

The tags are in ``templatetags`` and ``contrib.jinja2``.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from django.core.exceptions import SynchronousOnlyOperation

from entitlement_gate.domain.decisions import Decision, Reason
from entitlement_gate.domain.errors import EntitlementUnavailable
from entitlement_gate.domain.requirements import as_requirement
from entitlement_gate.request_entitlements import entitlements_of
from entitlement_gate.resolvers import find_request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.http import HttpRequest

    from entitlement_gate.domain.requirements import Requirement

__all__ = ["TemplateEntitlements", "decide", "entitlements", "list_entitlements"]


def entitlements(request: HttpRequest) -> dict[str, TemplateEntitlements]:
    """Return a lazy ``entitlements``."""
    return {"entitlements": TemplateEntitlements(request)}


_IN_A_LOOP = (
    "a template rendered in an async view cannot ask who the customer is: "
    "`await request.entitlements.aall()` in the view, before it is rendered"
)
_logger = logging.getLogger("entitlement_gate")


def decide(request: object, entitlement: str | Requirement, quantity: object = None) -> Decision:
    """Return the decision for a template, given its request; without one it is a denial, and a line in the log."""
    django_request = find_request(request)
    if django_request is not None:
        try:
            return entitlements_of(django_request).show(entitlement, quantity)
        except SynchronousOnlyOperation as error:
            raise SynchronousOnlyOperation(_IN_A_LOOP) from error
    _logger.warning("a template asked for %r without a request in its context: not entitled", entitlement)
    leaf = next(as_requirement(entitlement, quantity).leaves())
    return Decision.of(Reason.NO_CUSTOMER, leaf.entitlement, requested=leaf.requested)


def list_entitlements(request: object) -> dict[str, Any]:
    """Return the entitlements of the page's customer as ``me/`` does; empty without a customer or while unknown."""
    django_request = find_request(request)
    nothing: dict[str, Any] = {"customer_id": None, "entitlements": []}
    if django_request is None:
        return nothing
    try:
        return entitlements_of(django_request).all().as_dict()
    except EntitlementUnavailable:
        return nothing
    except SynchronousOnlyOperation as error:
        raise SynchronousOnlyOperation(_IN_A_LOOP) from error


class TemplateEntitlements:
    """``entitlements`` in a template: ``{{ entitlements.seats.remaining }}``, lazy and never raising."""

    def __init__(self, request: object) -> None:
        self._request = request

    def __getitem__(self, name: str) -> Decision:
        return decide(self._request, name)

    def __iter__(self) -> Iterator[str]:
        request = find_request(self._request)
        if request is None:
            return iter(())
        try:
            return iter(tuple(entitlements_of(request)))
        except EntitlementUnavailable:
            return iter(())
