import json
import multiprocessing
import uuid
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from benchmarks.memory import weight_of
from entitlement_gate.domain.errors import SourceMalformed
from entitlement_gate.domain.grants import EntitlementType, Grant, Snapshot
from entitlement_gate.zenskar.parsing import read_error, read_grants, read_instant, read_json, read_page
from tests.zenskar.scripted import CUSTOMER, a_page, a_row

OTHER = "22222222-2222-4222-8222-222222222222"


def grant(**fields):
    (made,) = read_grants([a_row(**fields)], CUSTOMER)
    return made


def test_a_row_becomes_a_grant():
    assert grant() == Grant(
        id="aaaaaaaa-0000-4000-8000-000000000001",
        name="api_calls",
        entitlement_id="aaaaaaaa-0000-4000-8000-000000000101",
        type=EntitlementType.QUANTITY,
        status="active",
        units="calls",
        active_from=datetime(2026, 1, 1, tzinfo=UTC),
        expires_at=datetime(2026, 2, 1, tzinfo=UTC),
        quantity=Decimal(1000),
        used=Decimal(250),
        reported_remaining=Decimal(750),
    )


@pytest.mark.parametrize(
    ("field", "value", "attribute", "read"),
    [
        ("id", 17, "id", "17"),
        (
            "entitlement",
            "AAAAAAAA-0000-4000-8000-000000000101",
            "entitlement_id",
            "aaaaaaaa-0000-4000-8000-000000000101",
        ),
        ("entitlement", "Ent_A", "entitlement_id", "Ent_A"),
        ("entitlement", "X" * 36, "entitlement_id", "X" * 36),
        ("entitlement", 5, "entitlement_id", "5"),
        ("entitlement", None, "entitlement_id", None),
        ("entitlement", [], "entitlement_id", None),
        ("entitlement", True, "entitlement_id", None),
        ("type", "feature", "type", EntitlementType.FEATURE),
        ("type", "CREDITS", "type", EntitlementType.CREDITS),
        ("type", "Access", "type", "access"),
        ("type", "", "type", ""),
        ("type", None, "type", None),
        ("status", "ACTIVE", "status", "active"),
        ("status", "Paused", "status", "paused"),
        ("status", None, "status", None),
        ("units", 5, "units", None),
        ("units", "", "units", ""),
        ("active_from", None, "active_from", None),
        ("quantity", "1.50", "quantity", Decimal("1.50")),
        ("quantity", True, "quantity", None),
        ("quantity", {}, "quantity", None),
        ("quantity", 10**500, "quantity", None),
        ("feature_option_value", False, "is_disabled", True),
        ("feature_option_value", Decimal("0.0"), "is_disabled", True),
        ("feature_option_value", " Off ", "is_disabled", True),
        ("feature_option_value", None, "is_disabled", False),
        ("feature_option_value", {"value": False}, "is_disabled", False),
    ],
)
def test_fields_are_read_leniently(field, value, attribute, read):
    made = grant(**{field: value})

    assert getattr(made, attribute) == read
    assert type(getattr(made, attribute)) is type(read)
    assert not made.is_malformed


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((name, value) for name in ("type", "status") for value in (5, True, [], {}, Decimal(1))),
        *((name, value) for name in ("active_from", "expiry_at") for value in ("soon", "", 5, True, [], {})),
        *(("id", value) for value in (None, "", True, [], {}, Decimal("1.5"))),
    ],
)
def test_a_row_that_cannot_be_read_is_set_aside(field, value):
    row_id = "" if field == "id" else "aaaaaaaa-0000-4000-8000-000000000001"

    assert grant(**{field: value}) == Grant(
        id=row_id, name="api_calls", entitlement_id="aaaaaaaa-0000-4000-8000-000000000101", is_malformed=True
    )


def test_a_broken_row_hurts_no_other():
    rows = [a_row(1, status=5), a_row(2), a_row(id=None), "row", None, a_row(3, name=None), a_row(4, name="")]

    assert [made.is_malformed for made in read_grants(rows, CUSTOMER)] == [True, False, True]


@pytest.mark.parametrize("customer", [CUSTOMER, CUSTOMER.upper(), {"id": CUSTOMER.upper(), "name": "x"}])
def test_a_row_names_its_customer_as_text_or_object(customer):
    assert read_grants([a_row(customer=customer)], CUSTOMER)


@pytest.mark.parametrize("customer", [OTHER, None, 5, {}, {"id": None}, {"id": OTHER}, [CUSTOMER], f" {CUSTOMER}"])
def test_rows_that_are_all_foreign_are_no_answer(customer):
    with pytest.raises(SourceMalformed, match="another customer"):
        read_grants([a_row(customer=customer), "row"], CUSTOMER)


def test_a_foreign_row_among_own_ones_is_dropped():
    assert [made.id[-1] for made in read_grants([a_row(1), a_row(2, customer=OTHER)], CUSTOMER)] == ["1"]


def test_no_rows_are_no_grants():
    assert read_grants([], CUSTOMER) == ()
    assert read_grants([None, 5], CUSTOMER) == ()


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-01-15T12:00:00Z", datetime(2026, 1, 15, 12, tzinfo=UTC)),
        ("2026-01-15t12:00:00z", datetime(2026, 1, 15, 12, tzinfo=UTC)),
        ("2026-01-15T12:00:00", datetime(2026, 1, 15, 12, tzinfo=UTC)),
        ("2026-01-15 12:00:00.5+02:00", datetime(2026, 1, 15, 10, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-01-15T12:00:00.123456789Z", datetime(2026, 1, 15, 12, 0, 0, 123_456, tzinfo=UTC)),
        ("2026-01-15T12:00-05:30", datetime(2026, 1, 15, 12, tzinfo=timezone(timedelta(hours=-5, minutes=-30)))),
        ("2026-01-15", datetime(2026, 1, 15, tzinfo=UTC)),
        ("9999-12-31T23:59:59-12:00", datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone(timedelta(hours=-12)))),
    ],
)
def test_instants_are_aware(text, instant):
    assert read_instant(text) == instant
    assert read_instant(text).tzinfo is not None


def test_no_instant_is_none():
    assert read_instant(None) is None


@pytest.mark.parametrize(
    "value",
    [
        *(5, 1.5, True, [], b"2026-01-15", "", "now", "15.01.2026", "20260115", "2026-W03-4", "2026-015"),
        *("2026-02-30", "0000-01-01", "2026-01-15T25:00", "2026-01-15T12:00:00 UTC", "2026-01-15\n"),
        "2026-01-15T12:00:00." + "1" * 100 + "Z",
    ],
)
def test_anything_else_is_no_instant(value):
    with pytest.raises(ValueError, match=r"^$"):
        read_instant(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("9007199254740993.0", Decimal("9007199254740993.0")),
        ("1.10", Decimal("1.10")),
        ("1e2", Decimal("1e2")),
        ("9007199254740993", 9007199254740993),
        ("NaN", None),
        ("-Infinity", None),
        ("1e401", None),
        ("1e99999999999999999999", None),
        ("0." + "1" * 60, Decimal("0." + "1" * 60)),
        ("[" + "9" * 5000 + ", 7, 1.5, NaN]", [None, 7, Decimal("1.5"), None]),
        ("-" + "9" * 5000, None),
    ],
)
def test_numbers_of_json_are_exact(text, value):
    read = read_json(text.encode())

    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    "body",
    [b"", b"null x", b"{", b"\xff", b'"\xed\xa0\x80"', b"[" * 100_000, b"9" * 5000 + b" x", "{}".encode("utf-16")],
)
def test_what_is_no_json_is_no_answer(body):
    with pytest.raises(SourceMalformed, match="no JSON") as caught:
        read_json(body)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_byte_order_mark_is_no_part_of_the_json():
    assert read_json(b"\xef\xbb\xbf{}") == {}


def test_a_page_has_rows_a_cursor_and_an_envelope():
    page = read_page(a_page({"id": 1}, cursor="c", total_count=5))

    assert (page.rows, page.next, page.envelope["total_count"]) == ([{"id": 1}], "c", 5)


@pytest.mark.parametrize("cursor", [None, ""])
def test_the_last_page_has_no_cursor(cursor):
    assert read_page(a_page(cursor=cursor)).next is None


@pytest.mark.parametrize(
    "body", [b"null", b"[]", b"{}", b'{"results": null}', b'{"results": {}}', b'{"data": []}', b"5"]
)
def test_without_a_list_of_results_there_is_no_page(body):
    with pytest.raises(SourceMalformed, match="no list of results"):
        read_page(body)


@pytest.mark.parametrize("cursor", [5, True, [], {"id": "c"}])
def test_a_cursor_is_text(cursor):
    with pytest.raises(SourceMalformed, match="cursor is no text"):
        read_page(a_page(cursor=cursor))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            {"detail": [{"loc": ["path", "customer_id"], "msg": "not a uuid", "type": "x"}]},
            "path.customer_id: not a uuid",
        ),
        ({"detail": [{"loc": ["query", 0], "msg": "a"}, {"msg": "b"}, "c", 5, {}]}, "query.0: a; b; c"),
        ({"detail": [{"loc": "x", "msg": "a"}]}, "a"),
        ({"detail": "no\nsuch\tcustomer"}, "no such customer"),
        ({"Message": "forbidden"}, "forbidden"),
        ({"message": "forbidden"}, "forbidden"),
        ({"detail": {"a": 1}}, ""),
        ({"detail": "\x1b[31m red"}, "red"),
        ({}, ""),
        ([], ""),
        ({"detail": "x" * 10_000}, "x" * 500),
    ],
)
def test_an_error_body_is_told_as_one_short_line(answer, said):
    assert read_error(json.dumps(answer).encode()) == said


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff"])
def test_an_error_body_that_cannot_be_read_says_nothing(body):
    assert read_error(body) == ""


def full_rows(customer=CUSTOMER):
    """20 rows of 22 fields, of a plan that all customers share."""
    beside = {"source_type": "Grant", "source_id": None, "contract": None, "product": None, "invoice": None}
    event = {"created_at": "2026-01-01T00:00:05Z", "contract_id": None, "event": "manual", "invoice_id": None}
    return [
        a_row(
            id=str(uuid.uuid4()),
            entitlement=f"aaaaaaaa-0000-4000-8000-{number:012d}",
            name=f"entitlement_{number}",
            type=("Feature", "Quantity", "Credits")[number % 3],
            customer=customer,
            quantity_remaining=750 + number,
            **beside,
            **event,
        )
        for number in range(20)
    ]


def weigh_customers(count):
    """Return the bytes that one of so many customers weighs."""
    customers = [str(uuid.uuid4()) for _ in range(count)]
    bodies = [(customer, a_page(*full_rows(customer))) for customer in customers]
    read_grants(read_page(bodies[0][1]).rows, bodies[0][0])
    snapshots = []

    def fill():
        rows = ((customer, read_grants(read_page(body).rows, customer)) for customer, body in bodies)
        snapshots.extend(Snapshot(customer, grants, 0.0) for customer, grants in rows)

    return weight_of(fill) / count


def test_twenty_grants_cost_five_kilobytes_a_customer():
    # In a process of its own: threads that other tests left behind would be weighed as well.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        assert process.submit(weigh_customers, 300).result() <= 5_000
