"""What people read when a request is refused, by reason. Never here: names of customers, plans or systems."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils.translation import gettext_lazy as _

from entitlement_gate.domain.decisions import Decision, Outcome, Reason

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

__all__ = ["detail_of", "title_of"]

_UNKNOWN_TITLE = _("We cannot check your plan right now")
_UNKNOWN_DETAIL = _("This is not about your plan: our billing system did not answer. Please try again in a moment.")
_DENIED_TITLE = _("Not part of your plan")
_DENIED_DETAIL = _("Your plan does not include this.")

_TITLES = {
    Reason.NO_CUSTOMER: _("Please sign in"),
    Reason.INSUFFICIENT_QUANTITY: _("You have used up your allowance"),
    Reason.INSUFFICIENT_CREDITS: _("You do not have enough credits"),
    Reason.EXPIRED: _("Your access has ended"),
    Reason.NOT_STARTED: _("Your access has not started yet"),
}
_DETAILS = {
    Reason.NO_CUSTOMER: _("This needs an account with a plan."),
    Reason.INVALID_CUSTOMER: _("Your account is not linked to a plan correctly. Please contact us."),
    Reason.CUSTOMER_NOT_FOUND: _("Your account is not linked to a plan yet. Please contact us."),
    Reason.INSUFFICIENT_QUANTITY: _("What remains of your allowance is not enough for this."),
    Reason.INSUFFICIENT_CREDITS: _("What remains of your credits is not enough for this."),
    Reason.QUANTITY_UNKNOWN: _("Your plan does not say how much of this it includes. Please contact us."),
    Reason.FEATURE_DISABLED: _("This is switched off in your plan."),
    Reason.NOT_STARTED: _("This becomes available when your plan starts."),
    Reason.EXPIRED: _("Your plan included this until it ended."),
    Reason.DRAFT: _("This becomes available when your plan is confirmed."),
    Reason.VOIDED: _("This was withdrawn from your plan."),
}


def title_of(decision: Decision) -> str | _StrPromise:
    """Return a headline in the active language."""
    if decision.outcome is Outcome.UNKNOWN:
        return _UNKNOWN_TITLE
    return _TITLES.get(decision.reason, _DENIED_TITLE)


def detail_of(decision: Decision) -> str | _StrPromise:
    """Return a sentence in the active language."""
    if decision.outcome is Outcome.UNKNOWN:
        return _UNKNOWN_DETAIL
    return _DETAILS.get(decision.reason, _DENIED_DETAIL)
