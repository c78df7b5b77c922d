import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from entitlement_gate.domain.errors import SourceMalformed
from entitlement_gate.domain.grants import EntitlementType
from entitlement_gate.zenskar.models import CustomerEntitlement, DetailsObject, EntitlementStatus, Page, SourceType
from tests.zenskar.scripted import CUSTOMER, a_page, a_row

DOCUMENTED = [
    "id",
    "entitlement",
    "name",
    "type",
    "source_type",
    "source_id",
    "units",
    "customer",
    "contract",
    "product",
    "invoice",
    "active_from",
    "expiry_at",
    "quantity",
    "quantity_used",
    "quantity_remaining",
    "created_at",
    "contract_id",
    "event",
    "invoice_id",
    "status",
]


def read(**fields):
    (row,) = Page.read(a_page(a_row(**fields))).results
    return row


def test_every_documented_field_can_be_read_by_name():
    assert set(DOCUMENTED) <= CustomerEntitlement.model_fields.keys()


def test_a_row_is_read_in_full():
    row = read(source_type="Rollover", created_at="2026-01-01T00:00:05", event="manual", quantity=1.10)

    assert (row.type, row.status, row.source_type) == (
        EntitlementType.QUANTITY,
        EntitlementStatus.ACTIVE,
        SourceType.ROLLOVER,
    )
    assert (row.quantity, row.quantity_used) == (Decimal("1.1"), Decimal(250))
    assert row.created_at == datetime(2026, 1, 1, 0, 0, 5, tzinfo=UTC)
    assert (row.customer, row.event, row.contract, row.unreadable) == (CUSTOMER, "manual", None, ())


def test_unknown_words_and_numbers_for_ids_are_kept():
    row = read(id=17, type="Access", status="paused", source_type="Miracle")

    assert (row.id, row.type, row.status, row.source_type) == ("17", "Access", "paused", "Miracle")


def test_what_cannot_be_read_is_none_and_named():
    row = read(expiry_at="soon", quantity="many", customer=5.5, name=[1], unreadable=["lies"])

    assert (row.expiry_at, row.quantity, row.name) == (None, None, None)
    assert {"expiry_at", "quantity", "name"} <= set(row.unreadable)
    assert "lies" not in row.unreadable
    assert row.quantity_used == 250


def test_a_row_cannot_say_that_it_was_unreadable():
    assert read(unreadable=["lies"]).unreadable == ()


def test_populated_objects_are_read():
    row = read(customer={"id": None, "name": "Free Fields", "email": "f@example.com"}, contract={"id": 5, "more": 1})

    assert row.customer == DetailsObject(id=None, name="Free Fields", email="f@example.com")
    assert (row.contract.id, row.contract.model_extra) == ("5", {"more": 1})


def test_fields_that_are_not_documented_are_kept():
    assert read(feature_option_value="off").model_extra == {"feature_option_value": "off"}


def test_rows_that_are_no_objects_are_left_out():
    assert Page.read(a_page(None, 5, a_row())).results == (read(),)


@pytest.mark.parametrize(
    ("envelope", "count"),
    [
        ({"total_count": 7}, 7),
        ({"total": 7}, 7),
        ({"total_count": None, "total": 7}, 7),
        ({"total_count": 0, "total": 7}, 0),
        ({"total_count": "7"}, None),
        ({"total_count": True}, None),
        ({}, None),
    ],
)
def test_the_count_is_read_in_either_spelling(envelope, count):
    assert Page.read(a_page(**envelope)).total_count == count


def test_cursors_lead_on_and_back():
    page = Page.read(json.dumps({"results": [], "next": "n", "previous": "p"}).encode())

    assert (page.next, page.previous) == ("n", "p")


def test_a_previous_cursor_is_text():
    with pytest.raises(SourceMalformed, match="previous cursor is no text"):
        Page.read(b'{"results": [], "previous": 5}')


def test_a_page_without_results_is_no_page():
    with pytest.raises(SourceMalformed, match="no list of results"):
        Page.read(b"{}")
