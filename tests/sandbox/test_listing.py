import pytest


def names(page):
    return [row["name"] for row in page]


def test_a_status_filter_takes_a_list_in_any_case(rows, ids):
    assert names(rows(ids.LAPSED, "&status=EXPIRED,voided")) == ["ai_credits", "sso"]
    assert names(rows(ids.LAPSED, "&status=nonsense")) == []
    assert len(rows(ids.LAPSED, "&status=")) == 4


def test_a_status_filter_hides_a_row_whose_status_is_null(make_sandbox, rows):
    sandbox = make_sandbox({"name": "a", "status": None}, {"name": "b"})
    assert names(rows(to=sandbox, query="&status=active,null")) == ["b"]
    assert names(rows(to=sandbox)) == ["a", "b"]


def test_search_finds_a_part_of_the_name_in_any_case(rows, ids):
    assert names(rows(ids.PRO, "&search=REPORT")) == ["scheduled reports", "reports"]


@pytest.mark.parametrize(
    ("query", "at"),
    [
        ("sort_key=colour", "sort_key"),
        ("sort_key=contract", "sort_key"),
        ("sort_key=", "sort_key"),
        ("sort_type=up", "sort_type"),
        ("sort_type=DESC", "sort_type"),
        ("populate=plan", "populate"),
        ("populate=", "populate"),
        ("populate=customer,", "populate"),
        ("status=active&status=draft", "status"),
        ("limit=1&limit=1", "limit"),
    ],
)
def test_a_parameter_that_cannot_be_is_refused_in_the_documented_shape(ask, ids, query, at):
    status, body = ask(f"/entitlements/customer/{ids.PRO}?{query}")
    assert status == 422
    (error,) = body["detail"]
    assert error["loc"] == ["query", at]
    assert set(error) == {"loc", "msg", "type"}


def test_unknown_parameters_are_ignored_even_twice(ask, ids):
    assert ask(f"/entitlements/customer/{ids.PRO}?x=1&x=2")[0] == 200


def test_an_id_is_taken_in_any_case(ask, make_sandbox):
    sandbox = make_sandbox()
    sandbox.grant("abcdef00-0000-4000-8000-00000000000a", "sso")
    status, page = ask("/entitlements/customer/ABCDEF00-0000-4000-8000-00000000000A", to=sandbox)
    assert (status, len(page["results"])) == (200, 1)


@pytest.mark.parametrize("customer", ["cus_123", "10000000000040008000000000000001", "%00", "a%2Fb", "%F0%9F"])
def test_an_id_that_is_no_uuid_is_refused(ask, customer):
    expected = {"loc": ["path", "customer_id"], "msg": "value is not a valid uuid", "type": "type_error.uuid"}
    assert ask(f"/entitlements/customer/{customer}") == (422, {"detail": [expected]})


def test_an_unknown_customer_is_not_found_unless_the_request_is_wrong(ask):
    unknown = "/entitlements/customer/99999999-0000-4000-8000-000000000009"
    assert ask(unknown) == (404, {"detail": "Customer not found"})
    assert ask(f"{unknown}?limit=0")[0] == 422


def test_customers_are_found_by_external_id(ask, ids):
    status, page = ask("/customers?external_id=pro-plumbing")
    assert status == 200
    assert [(c["id"], c["external_id"], c["name"]) for c in page["results"]] == [
        (ids.PRO, "pro-plumbing", "Pro Plumbing")
    ]
    assert ask("/customers?external_id=nobody")[1]["results"] == []
    assert ask("/customers")[1]["total_count"] == 3
