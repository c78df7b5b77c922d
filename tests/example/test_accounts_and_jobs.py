"""Who is signed in, the API for programs, and the job that runs beside the requests."""

import re
import time

import httpx
import pytest

from tests.example.conftest import PATIENCE, running, switch, token, visiting


def api_token(visitor):
    return re.search(r"Authorization: Token (\w+)", visitor.get("/").text)[1]


def search(address, **headers):
    return httpx.post(
        f"{address}/api/search/", json={"question": "barn"}, headers=headers, trust_env=False, timeout=PATIENCE
    )


def test_switching_logs_a_user_in_and_out(demo):
    with visiting(demo.address, "pro") as visitor:
        first = visitor.cookies
        pro_session = next(value for name, value in first.items() if name.endswith("_session"))
        switch(visitor, "free")
        free_session = next(value for name, value in visitor.cookies.items() if name.endswith("_session"))
        assert pro_session != free_session
        assert "Signed in as <strong>Free Fields</strong>" in visitor.get("/").text
        switch(visitor, "signed out")
        assert not [name for name in visitor.cookies if name.endswith("_session")]
        assert "You are signed out" in visitor.get("/").text


@pytest.mark.parametrize("stranger", ["40000000-0000-4000-8000-000000000004", "nobody", "'--"])
def test_nobody_becomes_a_customer_that_is_not_there(demo, stranger):
    with visiting(demo.address, "pro") as visitor:
        chosen = {"csrfmiddlewaretoken": token(visitor), "customer": stranger}
        assert visitor.post("/sign-in/", data=chosen).status_code == 302
        assert visitor.get("/reports/").status_code == 403


def test_the_api_asks_who_it_is_before_what_they_may():
    with running("--port", "0", "--sandbox-server") as demo, visiting(demo.address, "pro") as visitor:
        pro = {"Authorization": f"Token {api_token(visitor)}"}
        switch(visitor, "free")
        free = {"Authorization": f"Token {api_token(visitor)}"}
        switch(visitor, "lapsed")
        lapsed = {"Authorization": f"Token {api_token(visitor)}"}
        assert search(demo.address).status_code == 401
        assert search(demo.address).headers["www-authenticate"] == "Token"
        assert search(demo.address, **pro).json() == {"notes": ["Barn 3: roof to be checked"]}
        assert [search(demo.address, **who).status_code for who in (free, lapsed)] == [402, 403]
        assert search(demo.address, **free).headers["content-type"] == "application/problem+json"
        faults = [{"kind": "status", "status": 503}]
        httpx.put(f"{demo.billing}/_sandbox/faults", json=faults, trust_env=False, timeout=PATIENCE).raise_for_status()
        assert search(demo.address).status_code == 401


def test_an_outage_is_503_for_programs_too():
    with running("--port", "0", "--sandbox-server") as demo, visiting(demo.address) as visitor:
        faults = [{"kind": "status", "status": 503}]
        httpx.put(f"{demo.billing}/_sandbox/faults", json=faults, trust_env=False, timeout=PATIENCE).raise_for_status()
        switch(visitor, "pro")
        answer = visitor.get("/api/search/", headers={"Accept": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


def test_people_see_what_programs_get_and_looking_uses_nothing_up():
    with running("--port", "0") as demo, visiting(demo.address, "pro") as visitor:
        page = visitor.get("/api/search/")
        assert page.headers["content-type"].startswith("text/html")
        assert "200 OK" in page.text
        assert "Barn 3: roof to be checked" in page.text
        assert "950 of 1200 calls left" in visitor.get("/").text
        assert search(demo.address, Authorization=f"Token {api_token(visitor)}").status_code == 200
        assert "949 of 1200 calls left" in visitor.get("/").text
        found = visitor.post("/api/search/", data={"csrfmiddlewaretoken": token(visitor), "question": "orchard"})
        assert "Orchard: first blossoms" in found.text
        assert "Barn 3" not in found.text
        assert "948 of 1200 calls left" in visitor.get("/").text


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/plain, */*;q=0.1"])
@pytest.mark.parametrize("path", ["/api/search/", "/api/report/"])
def test_programs_get_json_whatever_they_say_of_it(demo, path, accept):
    with visiting(demo.address, "pro", accept=accept) as visitor:
        answer = visitor.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert "notes" in answer.json()
    assert "Accept" in answer.headers["vary"]


def test_an_export_is_written_beside_the_requests_and_uses_calls_up():
    with running("--port", "0") as demo, visiting(demo.address, "pro") as visitor:
        answer = visitor.post("/export/", data={"csrfmiddlewaretoken": token(visitor)})
        assert (answer.status_code, answer.headers["location"]) == (302, "/export/")
        page = wait_until(lambda: visitor.get("/export/").text, lambda text: "100 calls were used" in text)
        assert "850 of 1200 calls" in page
        assert "Done" in page


def wait_until(look, is_there):
    """Look again until it is there; the time is a guard, not a measure."""
    for _ in range(600):
        seen = look()
        if is_there(seen):
            return seen
        time.sleep(0.1)
    raise AssertionError(seen)
