from base64 import b64encode
from urllib.parse import quote

import pytest

from entitlement_gate.sandbox import paging


@pytest.fixture
def many(make_sandbox):
    return make_sandbox(*({"name": f"f{n:02}"} for n in range(25)))


@pytest.fixture
def walk(ask, many, ids):
    return lambda query: walked(ask, many, ids, query)


def walked(ask, many, ids, query):
    names, pages, cursor = [], 0, ""
    while cursor is not None:
        more = f"&cursor={quote(cursor, safe='')}" if cursor else ""
        status, page = ask(f"/entitlements/customer/{ids.FREE}?{query}{more}", to=many)
        assert status == 200
        assert page["total_count"] == 25
        names += [row["name"] for row in page["results"]]
        pages, cursor = pages + 1, page["next"]
    return names, pages


@pytest.mark.parametrize(("query", "pages"), [("", 3), ("limit=1", 25), ("limit=25", 1), ("limit=100", 1)])
def test_every_row_comes_once_whatever_the_page_size(walk, query, pages):
    assert walk(query) == ([f"f{n:02}" for n in range(25)], pages)


def test_a_page_holds_ten_rows_by_default_and_leads_back(ask, many, ids):
    _, first = ask(f"/entitlements/customer/{ids.FREE}", to=many)
    assert (len(first["results"]), first["previous"]) == (10, None)
    _, second = ask(f"/entitlements/customer/{ids.FREE}?cursor={quote(first['next'])}", to=many)
    _, again = ask(f"/entitlements/customer/{ids.FREE}?cursor={quote(second['previous'])}", to=many)
    assert again["results"] == first["results"]


def test_a_cursor_past_the_end_gives_an_empty_page(ask, many, ids):
    cursor = paging.encode(ids.FREE, 20, 3)
    many.revoke(ids.FREE, "f00")
    for n in range(5):
        many.revoke(ids.FREE, f"f{n:02}")
    status, page = ask(f"/entitlements/customer/{ids.FREE}?cursor={quote(cursor)}", to=many)
    assert (status, page["results"], page["next"]) == (200, [], None)


def test_an_empty_cursor_is_the_first_page(ask, many, ids):
    path = f"/entitlements/customer/{ids.FREE}"
    assert ask(f"{path}?cursor=", to=many) == ask(path, to=many)


@pytest.mark.parametrize(
    "cursor",
    ["x", "V2VsbCBhcmV1IGN1cmlvdxM=", "é", b64encode(b"10.2.000000000000").decode(), "MTA=MTA=", "%00"],
)
def test_a_cursor_that_was_never_given_out_is_refused(ask, many, ids, cursor):
    status, body = ask(f"/entitlements/customer/{ids.FREE}?cursor={quote(cursor)}", to=many)
    assert (status, body["detail"][0]["loc"]) == (422, ["query", "cursor"])


def test_a_cursor_of_another_customer_is_refused(ask, many, ids):
    cursor = paging.encode(ids.PRO, 10, 2)
    assert ask(f"/entitlements/customer/{ids.FREE}?cursor={quote(cursor)}", to=many)[0] == 422


@pytest.mark.parametrize("limit", ["0", "101", "-1", "ten", "", "1.0", "+1", "1e1", "٣", "9" * 30, "null"])
def test_a_limit_out_of_bounds_is_refused(ask, ids, limit):
    status, body = ask(f"/entitlements/customer/{ids.FREE}?limit={quote(limit)}")
    assert (status, body["detail"][0]["loc"]) == (422, ["query", "limit"])
