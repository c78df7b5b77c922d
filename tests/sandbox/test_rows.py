from decimal import Decimal

import pytest

from entitlement_gate.sandbox import facts


def test_a_row_has_exactly_the_documented_fields(make_sandbox, rows):
    (row,) = rows(to=make_sandbox({"name": "sso"}))
    assert tuple(row) == facts.row_fields()


def test_what_is_left_out_is_derived(make_sandbox, rows):
    feature, counted = rows(to=make_sandbox({"name": "sso"}, {"name": "seats", "quantity": 5}))
    assert (feature["type"], feature["status"], feature["quantity"]) == ("Feature", "active", None)
    assert (counted["type"], counted["quantity_used"], counted["quantity_remaining"]) == ("Quantity", None, 5)
    assert feature["active_from"] is feature["expiry_at"] is None


def test_rows_of_one_name_share_their_entitlement_but_not_their_id(make_sandbox, rows):
    one, two = rows(to=make_sandbox({"name": "seats"}, {"name": "seats"}))
    assert one["entitlement"] == two["entitlement"]
    assert one["id"] != two["id"]


def test_ids_and_a_remainder_that_are_given_stay(make_sandbox, rows, ids):
    given = {"name": "x", "id": ids.PRO.upper(), "quantity": 5, "quantity_used": 1, "quantity_remaining": -3}
    (row,) = rows(to=make_sandbox(given, {"name": "y", "quantity": 5, "quantity_remaining": None}), query="&search=x")
    assert (row["id"], row["quantity_remaining"]) == (ids.PRO, -3)


def test_a_null_remainder_and_a_null_type_stay_null(make_sandbox, rows):
    (row,) = rows(to=make_sandbox({"name": "x", "type": None, "quantity": 5, "quantity_remaining": None}))
    assert row["type"] is row["quantity_remaining"] is None


def test_numbers_are_subtracted_exactly(make_sandbox, rows):
    big = Decimal(10) ** 400
    (row,) = rows(to=make_sandbox({"name": "x", "quantity": big, "quantity_used": Decimal("1E-400")}))
    assert str(row["quantity_remaining"]) == "9" * 400 + "." + "9" * 400


def test_dates_are_settled_when_the_sandbox_starts(make_sandbox, rows, clock):
    sandbox = make_sandbox({"name": "x", "active_from": "-1d", "expiry_at": "2026-02-01T00:00:00"})
    clock.now += 1000
    (row,) = rows(to=sandbox)
    assert row["active_from"] == row["created_at"] == "2026-01-14T12:00:00Z"
    assert row["expiry_at"] == "2026-02-01T00:00:00"


def test_feature_values_are_echoed(make_sandbox, rows):
    (row,) = rows(to=make_sandbox({"name": "x", "feature_option_value": "off", "numeric_value": 3}))
    assert (row["feature_option_value"], row["numeric_value"]) == ("off", 3)


def test_raw_makes_malformed_rows(make_sandbox, rows):
    (row,) = rows(to=make_sandbox({"name": "x", "raw": {"id": None, "status": 7, "quantity": "∞", "extra": []}}))
    assert (row["id"], row["status"], row["quantity"], row["extra"]) == (None, 7, "∞", [])


def test_populate_puts_objects_in_the_place_of_ids(make_sandbox, rows, ids):
    sandbox = make_sandbox({"name": "x", "contract": "Pro 2026", "product": "Pro", "invoice_id": ids.PRO})
    (plain,) = rows(to=sandbox)
    assert plain["customer"] == ids.FREE
    assert plain["contract"] is plain["product"] is plain["invoice"] is None
    (row,) = rows(to=sandbox, query="&populate=customer,contract,product,invoice")
    assert row["customer"] == {"id": ids.FREE, "name": "Free Fields", "email": "f@example.com"}
    assert row["contract"] == {"id": plain["contract_id"], "name": "Pro 2026", "email": None}
    assert row["product"]["name"] == "Pro"
    assert row["invoice"] == {"id": ids.PRO, "name": None, "email": None}


def test_populate_leaves_null_what_there_is_not(make_sandbox, rows):
    (row,) = rows(to=make_sandbox({"name": "x"}), query="&populate=contract")
    assert row["contract"] is None


HALF, WHOLE, EARLIER = "2026-01-01T00:00:00.500000Z", "2026-01-01T00:00:00", "2026-01-01T00:00:00+01:00"


@pytest.mark.parametrize(
    ("key", "ordered"),
    [("name", ["A", "b", "c"]), ("quantity", [9, Decimal("9.5"), 10]), ("expiry_at", [EARLIER, WHOLE, HALF])],
)
def test_rows_are_ordered_by_value(make_sandbox, rows, key, ordered):
    sandbox = make_sandbox(*({"name": "x", key: ordered[at]} for at in (1, 2, 0)))
    assert [row[key] for row in rows(to=sandbox, query=f"&sort_key={key}")] == ordered
    assert [row[key] for row in rows(to=sandbox, query=f"&sort_key={key}&sort_type=desc")] == ordered[::-1]


def test_nulls_and_nonsense_are_ordered_without_a_crash(make_sandbox, rows):
    sandbox = make_sandbox(
        {"name": "x"}, {"name": "x", "raw": {"expiry_at": "never"}}, {"name": "x", "expiry_at": "now"}
    )
    shown = [row["expiry_at"] for row in rows(to=sandbox, query="&sort_key=expiry_at")]
    assert shown == ["2026-01-15T12:00:00Z", "never", None]
