"""Grants, snapshots and one instant."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from entitlement_gate.domain.grants import EntitlementType, Grant, Snapshot
from entitlement_gate.domain.requirements import as_requirement
from entitlement_gate.domain.rule import Terms, decide

CUSTOMER = "11111111-1111-4111-8111-111111111111"
ENTITLEMENT = "aaaaaaaa-0000-4000-8000-000000000101"
NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)


def a_grant(grant_id="1", **fields):
    """A live Quantity of 10, unless told otherwise; numbers may be written as int."""
    fields = {name: Decimal(value) if type(value) is int else value for name, value in fields.items()}
    defaults = {"name": "seats", "entitlement_id": ENTITLEMENT, "type": EntitlementType.QUANTITY, "status": "active"}
    numbers = {} if fields.keys() & {"reported_remaining", "quantity", "used"} else {"reported_remaining": Decimal(10)}
    return Grant(**{"id": grant_id, **defaults, **numbers, **fields})


def a_feature(grant_id="1", **fields):
    return a_grant(grant_id, **{"type": EntitlementType.FEATURE, "reported_remaining": None, **fields})


def judged(grants, asked="seats", quantity=None, *, now=NOW, **terms):
    return decide(Snapshot(CUSTOMER, tuple(grants), 0.0), as_requirement(asked, quantity), now, Terms(**terms))


@pytest.fixture
def now():
    return NOW


@pytest.fixture
def hour():
    return timedelta(hours=1)
