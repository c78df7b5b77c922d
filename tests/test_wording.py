import pytest
from django.utils.translation import override

from entitlement_gate import Decision, Outcome, Reason
from entitlement_gate.responses import detail_of, title_of

REFUSALS = [reason for reason in Reason if reason.outcome is not Outcome.ALLOWED]


@pytest.mark.parametrize("reason", REFUSALS)
def test_every_refusal_has_a_headline_and_a_sentence(reason):
    decision = Decision.of(reason, "reports")
    title, detail = str(title_of(decision)), str(detail_of(decision))
    assert title
    assert not title.endswith(".")
    assert detail.endswith(".")


@pytest.mark.parametrize("reason", REFUSALS)
def test_nothing_that_people_read_names_an_entitlement_customer_or_system(reason):
    decision = Decision.of(reason, "secret-plan", customer_id="20000000-0000-4000-8000-000000000002")
    text = f"{title_of(decision)} {detail_of(decision)}".lower()
    assert not any(word in text for word in ("secret-plan", "20000000", "zenskar", "http"))


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason.outcome is Outcome.UNKNOWN])
def test_an_outage_never_reads_like_a_missing_entitlement(reason):
    decision = Decision.of(reason, "reports")
    assert title_of(decision) == "We cannot check your plan right now"
    assert "This is not about your plan" in str(detail_of(decision))


def test_a_reason_without_words_of_its_own_is_not_part_of_the_plan():
    decision = Decision.of(Reason.NOT_ENTITLED, "reports")
    assert (title_of(decision), detail_of(decision)) == ("Not part of your plan", "Your plan does not include this.")


def test_the_words_follow_the_active_language():
    title = title_of(Decision.of(Reason.NOT_ENTITLED, "reports"))
    with override("de"):
        german = str(title)
    with override("en"):
        assert str(title) == "Not part of your plan" != german
