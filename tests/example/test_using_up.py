"""What the page that uses something up takes, from whom, and when it gives back.

A test that takes something has a demo of its own; those that take nothing share one, which proves it the more.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.example.conftest import ask, running, switch, token, visiting


@pytest.fixture(params=["in the process", "over HTTP"])
def address(request):
    with running("--port", "0", *(["--sandbox-server"] if request.param == "over HTTP" else [])) as demo:
        yield demo.address


def test_each_answer_takes_ten_until_too_few_are_left(address):
    with visiting(address, "pro") as visitor:
        pages = [ask(visitor, "What about the barn?") for _ in range(6)]
        assert [page.status_code for page in pages] == [200, 200, 200, 200, 200, 402]
        for page, left in zip(pages, ("44.8", "34.8", "24.8", "14.8", "4.8"), strict=False):
            assert f"{left} of 100 credits left" in page.text
            assert "Barn 3: roof to be checked" in page.text
        assert 'href="/plans/"' in pages[-1].text
        assert visitor.get("/ask/").status_code == 402
        assert ask(visitor, "the barn", Accept="application/json").json()["remaining"] == "4.8"


def test_every_other_page_knows_what_was_used_up(address):
    with visiting(address, "pro") as visitor:
        assert [ask(visitor, "orchard").status_code for _ in range(5)] == [200] * 5
        home = visitor.get("/").text
        assert "4.8 of 100 credits left" in home
        assert home.count(">open<") == 7
        assert visitor.get("/summary/").status_code == 402


@pytest.mark.parametrize("question", ["Is there a pond?", "", "a an of", "("])
def test_what_is_not_found_takes_nothing(demo, question):
    with visiting(demo.address, "pro") as visitor:
        page = ask(visitor, question)
        assert (page.status_code, "it took nothing" in page.text) == (404, True)
        assert "54.8 of 100 credits left" in visitor.get("/ask/").text


def test_looking_takes_nothing_and_a_refused_customer_neither(demo):
    with visiting(demo.address, "lapsed") as visitor:
        assert ask(visitor, "orchard").status_code == 403
        assert visitor.post("/ask/", data={"question": "orchard"}).status_code == 403
        switch(visitor, "pro")
        for _ in range(3):
            assert "54.8 of 100 credits left" in visitor.get("/ask/").text


def test_many_at_once_get_no_more_than_there_is(address):
    with visiting(address, "pro") as visitor:
        form = {"csrfmiddlewaretoken": token(visitor), "question": "orchard"}
        with ThreadPoolExecutor(8) as crowd:
            answers = list(crowd.map(lambda _: visitor.post("/ask/", data=form).status_code, range(24)))
    assert sorted(answers) == [200] * 5 + [402] * 19
