"""Each customer gets on each page what its entitlements say, over either billing."""

import pytest

from tests.example.conftest import CUSTOMERS, switch, token, visiting

PAGES = ("/reports/", "/export/", "/summary/", "/summary/?length=long", "/team/", "/api/report/", "/ask/")
ANSWERS = {
    "pro": (200, 200, 200, (402, "insufficient_credits"), 200, 200, 200),
    "free": (
        (403, "draft"),
        (402, "insufficient_quantity"),
        (403, "not_entitled"),
        (403, "not_entitled"),
        (403, "not_entitled"),
        (403, "draft"),
        (403, "not_entitled"),
    ),
    "lapsed": (
        (403, "expired"),
        (403, "expired"),
        (403, "expired"),
        (403, "expired"),
        (403, "not_entitled"),
        (403, "expired"),
        (403, "expired"),
    ),
    "signed out": ((403, "no_customer"),) * 7,
}
CASES = [
    (customer, page, *(answer if isinstance(answer, tuple) else (answer, None)))
    for customer, answers in ANSWERS.items()
    for page, answer in zip(PAGES, answers, strict=True)
]


@pytest.mark.parametrize(("customer", "page", "status", "reason"), CASES)
def test_a_browser_gets_the_page_or_the_refused_page(demo, *, customer, page, status, reason):
    with visiting(demo.address, customer) as visitor:
        answer = visitor.get(page)
    assert answer.status_code == status
    if reason is not None:
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert f"<code>{reason}</code>" in answer.text
        assert 'href="/plans/"' in answer.text
        assert_uncacheable(answer)


@pytest.mark.parametrize(("customer", "page", "status", "reason"), CASES)
def test_a_program_gets_problem_details(demo, *, customer, page, status, reason):
    with visiting(demo.address, customer, accept="application/json") as visitor:
        answer = visitor.get(page)
    assert answer.status_code == status
    if reason is not None:
        problem = answer.json()
        assert answer.headers["content-type"] == "application/problem+json"
        assert (problem["status"], problem["code"], problem["upgrade_url"]) == (status, reason, "/plans/")
        assert problem["type"] == f"urn:entitlement-gate:{reason}"
        assert_uncacheable(answer)


def assert_uncacheable(answer):
    assert set(answer.headers["cache-control"].split(", ")) == {"no-store", "private"}
    assert {"Accept", "Cookie", "Authorization"} <= set(answer.headers["vary"].split(", "))


def test_a_refusal_for_want_of_quantity_says_how_much_is_left(demo):
    with visiting(demo.address, "pro", accept="application/json") as visitor:
        problem = visitor.get("/summary/?length=long").json()
    assert (problem["entitlement"], problem["requested"], problem["remaining"]) == ("ai_credits", "60", "54.8")


def test_the_api_answers_json(demo):
    with visiting(demo.address, "pro", accept="application/json") as visitor:
        assert visitor.get("/api/report/").json() == {"notes": 4, "latest": "North meadow: gate repaired"}


def test_the_home_page_lists_what_the_customer_has(demo):
    with visiting(demo.address, "pro") as visitor:
        page = visitor.get("/").text
    assert "950 of 1200 calls left" in page
    assert "54.8 of 100 credits left" in page
    assert "inline-size: 79%" in page
    assert page.count(">open<") == 9


def test_switching_the_customer_switches_every_answer(demo):
    with visiting(demo.address, "free") as visitor:
        statuses = [visitor.get("/reports/").status_code]
        for customer in ("pro", "lapsed", "pro", "signed out"):
            switch(visitor, customer)
            statuses.append(visitor.get("/reports/").status_code)
    assert statuses == [403, 200, 403, 200, 403]


def test_two_visitors_are_not_confused(demo):
    with visiting(demo.address, "pro") as one, visiting(demo.address, "lapsed") as other:
        assert [one.get("/team/").status_code, other.get("/team/").status_code] == [200, 403]
        assert [one.get("/reports/").status_code, other.get("/reports/").status_code] == [200, 403]


def test_signing_in_needs_the_csrf_token(demo):
    with visiting(demo.address, "free") as visitor:
        assert visitor.post("/sign-in/", data={"customer": ""}).status_code == 403
        assert visitor.get("/sign-in/").status_code == 405


@pytest.mark.parametrize(("page", "leads_to"), [("team", "/team/"), ("https://example.com/", "/"), ("", "/")])
def test_who_signs_in_is_led_to_a_page_of_the_example_alone(demo, page, leads_to):
    with visiting(demo.address) as visitor:
        chosen = {"csrfmiddlewaretoken": token(visitor), "customer": CUSTOMERS["pro"], "page": page}
        assert visitor.post("/sign-in/", data=chosen).headers["location"] == leads_to


@pytest.mark.parametrize(("people", "status"), [("2", 200), ("3", 402), ("0", 400), ("many", 400), ("", 400)])
def test_an_invitation_needs_as_many_seats_as_people(demo, people, status):
    with visiting(demo.address, "pro") as visitor:
        token = visitor.get("/team/").text.split('csrfmiddlewaretoken" value="')[1].split('"')[0]
        answer = visitor.post("/team/", data={"csrfmiddlewaretoken": token, "people": people})
    assert answer.status_code == status


def test_everybody_sees_the_plans(demo):
    with visiting(demo.address) as visitor:
        assert visitor.get("/plans/").status_code == 200
