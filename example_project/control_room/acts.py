"""What can be done in the control room: each act changes billing, or uses something up as the product does.

Each returns a sentence that says what came of it.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from control_room import billing
from control_room.balances import balances_of
from entitlement_gate import (
    EntitlementDenied,
    EntitlementGateError,
    check_entitlement,
    consume_entitlement,
    invalidate_entitlements,
    reserve_entitlement,
)

CREDITS = "ai_credits"
_EACH = 10
_HOLD = 20  # seconds

Grants = dict[str, dict[str, Any]]
_CALLS = {"units": "calls"}
FREE: Grants = {"dashboards": {}, "API Calls": {"quantity": 25, **_CALLS}}
PRO: Grants = {
    "dashboards": {},
    "reports": {},
    "sso": {},
    "seats": {"quantity": 5, "units": "seats"},
    "API Calls": {"quantity": 1000, **_CALLS},
    CREDITS: {"quantity": 100, "type": "Credits", "units": "credits"},
}
NAMES = ("reports", "API Calls", "seats", CREDITS)  # what can be picked

Run = Callable[[str, str], str]


class Act(NamedTuple):
    """A button. ``run`` takes the customer's id, and the name of the entitlement that was picked."""

    label: str
    run: Run


def _move_to(plan: str, grants: Grants) -> Run:
    def run(customer: str, _: str) -> str:
        for name in {**PRO, **FREE}:
            billing.play("revoke", customer=customer, name=name)
            if name in grants:
                billing.play("grant", customer=customer, name=name, **grants[name])
        return f"Billing moved the customer to the {plan} plan."

    return run


def _grant(customer: str, name: str) -> str:
    billing.play("grant", customer=customer, name=name, **PRO[name])
    return f"Billing granted {name}."


def _use_up(customer: str, name: str) -> str:
    rows = [row for row in billing.rows_of(customer) if row["name"] == name]
    remaining = sum(max(row["quantity_remaining"] or 0, 0) for row in rows)
    if not remaining:
        return f"There is nothing of {name} to use up."
    billing.play("use", customer=customer, name=name, quantity=remaining)
    return f"An invoice used up all {name}."


def _expire(customer: str, name: str) -> str:
    billing.play("expire", customer=customer, name=name)
    return f"{name} ended a second ago, says billing."


def _void(customer: str, name: str) -> str:
    billing.play("void", customer=customer, name=name)
    return f"Billing voided {name}."


def _consume(customer: str, _: str) -> str:
    remaining = consume_entitlement(customer, CREDITS, _EACH).remaining
    return f"The product used {_EACH} credits: {remaining} left by its own count. Billing has not heard of it."


def _hold(customer: str, _: str) -> str:
    reserve_entitlement(customer, CREDITS, _EACH, ttl=_HOLD)
    return f"A job holds {_EACH} credits. It never ends, so they come back in {_HOLD} s."


def _race(customer: str, _: str) -> str:
    remaining = check_entitlement(customer, CREDITS).remaining
    if not remaining or remaining < 0:
        return "There are no credits to race for."

    def ask(_: int) -> bool:
        try:
            reserve_entitlement(customer, CREDITS, remaining, ttl=_EACH)
        except EntitlementDenied:
            return False
        return True

    with ThreadPoolExecutor(2) as both:
        won = sum(both.map(ask, range(2)))
    return f"Two requests at once each wanted all {remaining} credits: {won} got them, for {_EACH} s."


def _invoice(customer: str, _: str) -> str:
    check_entitlement(customer, CREDITS, refresh=True)
    quantities = {balance.name: balance.unbilled for balance in balances_of(customer) if balance.unbilled > 0}
    for name, quantity in quantities.items():
        billing.play("use", customer=customer, name=name, quantity=quantity)
    if not quantities:
        return "Billing knows of all that was used."
    invalidate_entitlements(customer)
    return "Billing caught up: " + ", ".join(f"{quantity} {name}" for name, quantity in quantities.items()) + "."


def _break(symptom: str, kind: str, **options: Any) -> Run:
    def run(_: str, __: str) -> str:
        billing.play("recover")
        billing.play("fail", kind=kind, **options)
        return f"The billing API {symptom}."

    return run


def _mend(_: str, __: str) -> str:
    billing.play("recover")
    return "The billing API works again."


GROUPS: dict[str, dict[str, Act]] = {
    "Plan": {
        "upgrade": Act("Upgrade to Pro", _move_to("Pro", PRO)),
        "downgrade": Act("Downgrade to Free", _move_to("Free", FREE)),
    },
    "One entitlement": {
        "grant": Act("Grant", _grant),
        "use-up": Act("Use up", _use_up),
        "expire": Act("Expire", _expire),
        "void": Act("Void", _void),
    },
    "Credits, used by the product": {
        "consume": Act(f"Use {_EACH}", _consume),
        "hold": Act(f"Hold {_EACH}", _hold),
        "race": Act("Two at once", _race),
        "invoice": Act("Billing catches up", _invoice),
    },
    "The billing API": {
        "down": Act("Down", _break("is down: it answers 503", "status", status=503)),
        "slow": Act("Slow", _break("is slow: it answers after a second", "delay", seconds=1)),
        "hang": Act("Hanging", _break("hangs: it never answers", "hang")),
        "garbage": Act("Garbage", _break("sends garbage", "garbage")),
        "reject": Act("401", _break("refuses the key: 401", "status", status=401)),
        "mend": Act("Mend", _mend),
    },
}
ACTS = {name: act for group in GROUPS.values() for name, act in group.items()}


def perform(name: str, customer: str, entitlement: str, *, tell: bool) -> str:
    """Do one of ``ACTS``; ``tell`` the product afterwards, as a webhook of billing does. Return what came of it."""
    try:
        outcome = ACTS[name].run(customer, entitlement if entitlement in NAMES else NAMES[0])
    except (billing.CannotBe, EntitlementGateError) as refusal:
        return f"Not done: {refusal}."
    if tell:
        invalidate_entitlements(customer)
        outcome += " The product was told."
    return outcome
