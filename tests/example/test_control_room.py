"""The control room: each button changes what billing has or does, and the checks on the page say so."""

import re
import time
from html import unescape

import pytest

from tests.example.conftest import CUSTOMERS, running, visiting

PAGE = "/control-room/"
FREE = CUSTOMERS["free"]
PATIENCE = 60  # seconds; passes within six where the machine is idle
ANSWER = re.compile(
    r'<h3>(?P<name>\w+)[^\n]*\s+<div data-live>\s+<p class="outcome (?P<outcome>\w+)">'
    r".*?<code>(?P<reason>\w+)</code>.*?</i>(?P<source>\w+)</dd>",
    re.DOTALL,
)


class Room:
    """A visitor of the control room, without scripts."""

    def __init__(self, visitor):
        self._visitor = visitor
        self.look()

    def look(self, customer=FREE):
        self.page = unescape(self._visitor.get(PAGE, params={"customer": customer}).text)
        return self

    def act(self, name, *, told=True, **given):
        form = {"csrfmiddlewaretoken": self.token, "customer": FREE, "act": name, "tell": "1" if told else "", **given}
        answer = self._visitor.post(f"{PAGE}act/", data=form, follow_redirects=True)
        assert answer.status_code == 200, answer.text
        self.page = unescape(answer.text)
        return self

    @property
    def token(self):
        return re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', self.page)[1]

    @property
    def said(self):
        return re.search(r'class="said" role="status"><span data-live>(.*?)</span>', self.page)[1]

    def answer(self, name):
        """Return outcome, reason and source of a check on the page."""
        found = {match["name"]: match.group("outcome", "reason", "source") for match in ANSWER.finditer(self.page)}
        return found[name]

    def counts(self, name):
        row = re.search(rf'<tr><th scope="row">{name}</th>(<td data-label="Granted">.*?)</tr>', self.page)[1]
        return dict(re.findall(r'data-label="([^"]+)">([^<]*)', row))

    def look_until(self, is_so):
        end = time.monotonic() + PATIENCE
        while not is_so(self.look()):
            assert time.monotonic() < end, self.page
            time.sleep(0.2)


@pytest.fixture(scope="module")
def demo():
    with running("--port", "0") as started:
        yield started


@pytest.fixture
def room(demo):
    """The control room, where the customer is on the free plan and billing works."""
    with visiting(demo.address) as visitor:
        room = Room(visitor)
        room.act("mend").act("downgrade")
        room.look_until(lambda room: room.answer("reports") == ("denied", "not_entitled", "cache"))
        yield room


def test_an_upgrade_is_allowed_at_the_next_check_where_the_product_is_told(room):
    assert room.act("upgrade").answer("reports")[:2] == ("allowed", "allowed")
    assert room.said == "Billing moved the customer to the Pro plan. The product was told."
    assert room.act("downgrade").answer("reports")[:2] == ("denied", "not_entitled")


def test_an_upgrade_is_allowed_within_seconds_where_nobody_tells_the_product(room):
    room.act("upgrade", told=False)
    room.look_until(lambda room: room.answer("reports")[0] == "allowed")
    assert "denied (not_entitled) → allowed" in room.page


@pytest.mark.parametrize(
    ("act", "entitlement", "check", "answer"),
    [
        ("grant", "reports", "reports", ("allowed", "allowed")),
        ("grant", "ai_credits", "ai_credits", ("allowed", "allowed")),
        ("use-up", "API Calls", "api_calls", ("denied", "insufficient_quantity")),
        ("expire", "API Calls", "api_calls", ("denied", "expired")),
        ("void", "API Calls", "api_calls", ("denied", "voided")),
    ],
)
def test_an_entitlement_is_changed(room, *, act, entitlement, check, answer):
    assert room.act(act, entitlement=entitlement).answer(check)[:2] == answer


@pytest.mark.parametrize(
    ("act", "said"),
    [
        ("use-up", "There is nothing of reports to use up."),
        ("void", "Not done: customer .* has no row named 'reports'"),
    ],
)
def test_what_billing_cannot_do_is_said(room, act, said):
    assert re.match(said, room.act(act, entitlement="reports").said)


@pytest.mark.parametrize("act", ["down", "hang", "garbage", "reject"])
def test_a_broken_billing_is_answered_from_what_was_fetched_before(room, act):
    room.act("upgrade")
    assert room.act(act).answer("reports") == ("allowed", "allowed", "stale")
    assert '<rect class="stale"' in room.page
    assert "A fetch failed" in room.page or room.look_until(lambda room: "A fetch failed" in room.page) is None
    room.act("mend")
    room.look_until(lambda room: room.answer("reports")[2] != "stale")


def test_a_slow_billing_is_waited_for(room):
    assert room.act("upgrade", told=False).act("slow").answer("reports") == ("allowed", "allowed", "live")


def test_what_nobody_knows_is_unknown_and_not_refused():
    with running("--port", "0") as demo, visiting(demo.address) as visitor:
        room = Room(visitor).act("down").look(CUSTOMERS["lapsed"])
        assert room.answer("reports") == ("unknown", "unavailable", "fallback")


def test_what_is_used_counts_before_billing_hears_of_it_and_never_twice(room):
    assert room.act("upgrade").counts("ai_credits")["Left"] == "100"
    room.act("consume", told=False)
    used = {"Granted": "100", "Billed": "0", "Held": "0", "Committed": "10", "Of that not billed": "10", "Left": "90"}
    assert room.counts("ai_credits") == used
    assert room.act("invoice").said.startswith("Billing caught up: 10 ai_credits.")
    assert room.counts("ai_credits") == used | {"Billed": "10", "Of that not billed": "0"}
    assert room.act("invoice").said.startswith("Billing knows of all that was used.")


def test_what_is_held_is_not_left_for_others(room):
    room.act("upgrade").act("hold")
    assert (room.counts("ai_credits")["Held"], room.counts("ai_credits")["Left"]) == ("10", "90")


def test_of_two_requests_at_once_for_all_that_is_left_one_gets_it(room):
    room.act("upgrade").act("race", told=False)
    assert room.said == "Two requests at once each wanted all 100 credits: 1 got them, for 10 s."
    assert room.answer("ai_credits")[:2] == ("denied", "insufficient_credits")
    assert room.act("race").said.startswith("There are no credits to race for.")


def test_a_customer_without_credits_uses_none(room):
    assert room.act("consume").said.startswith("Not done: ")


def test_the_page_is_small_and_has_neither_scripts_nor_styles_in_line(room):
    main = room.page.split("<main")[1]
    assert len(room.page) < 100_000
    assert not re.search(r"<script|<style|style=|\son\w+=|https?:", main)


def test_what_was_picked_and_ticked_stays_so_and_the_steps_of_the_guide_change_nothing(room):
    assert "checked" not in room.act("grant", told=False, entitlement="seats").page
    assert "<option selected>seats" in room.page
    assert "checked" in room.act("grant", entitlement="seats").page
    assert "checked" not in room.act("downgrade").page


def test_acts_are_posted_by_this_site_for_customers_and_acts_that_there_are(demo, room):
    with visiting(demo.address) as visitor:
        token = Room(visitor).token
        form = {"csrfmiddlewaretoken": token, "customer": FREE, "act": "mend"}
        assert visitor.get(f"{PAGE}act/").status_code == 405
        assert visitor.post(f"{PAGE}act/", data={"customer": FREE, "act": "mend"}).status_code == 403
        assert visitor.post(f"{PAGE}act/", data=form | {"act": "steal"}).status_code == 404
        assert visitor.post(f"{PAGE}act/", data=form | {"customer": "me"}).status_code == 404
        assert visitor.get(PAGE, params={"customer": "me"}).status_code == 404


def test_the_customer_who_is_signed_in_is_watched(demo):
    with visiting(demo.address, "lapsed") as visitor:
        assert "Watching <strong>Lapsed Logistics</strong>" in visitor.get(PAGE).text


def test_without_its_redis_the_page_tells_less():
    with running("--port", "0", REDIS_URL="redis://127.0.0.1:1") as demo, visiting(demo.address) as visitor:
        room = Room(visitor).act("upgrade")
        assert room.answer("reports")[0] == "allowed"
        assert room.act("consume").answer("reports")[0] == "allowed"
        assert "Nothing in the last minute." in room.page


def test_a_sandbox_that_is_a_server_is_played_as_well():
    with running("--port", "0", "--sandbox-server") as demo, visiting(demo.address) as visitor:
        room = Room(visitor).act("upgrade")
        assert room.answer("reports") == ("allowed", "allowed", "live")
        assert room.act("down").answer("reports") == ("allowed", "allowed", "stale")


def test_a_real_account_is_watched_and_not_played():
    account = {
        "ZENSKAR_BASE_URL": "https://127.0.0.1:1",
        "ZENSKAR_API_KEY": "key",
        "ZENSKAR_ORGANISATION": "00000000-0000-4000-8000-000000000001",
    }
    with running("--port", "0", **account) as demo, visiting(demo.address) as visitor:
        room = Room(visitor)
        assert "Billing here is a real account." in room.page
        assert "data-act" not in room.page
        assert room.answer("reports") == ("unknown", "unavailable", "fallback")
        assert room.act("down").said == "Not done: billing is a real account: nothing here changes it."


def test_every_process_tells_what_all_of_them_saw():
    with running("--port", "0", "--redis") as demo, visiting(demo.address) as visitor:
        room = Room(visitor).act("upgrade")
        told = {}

        def are_both_seen(room):
            told[re.search(r"<dt>Process</dt><dd>(\d+)</dd>", room.page)[1]] = room.said
            return len(told) > 1

        room.look_until(are_both_seen)
        assert set(told.values()) == {"Billing moved the customer to the Pro plan. The product was told."}
