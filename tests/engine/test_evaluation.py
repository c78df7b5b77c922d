import pytest

from entitlement_gate.domain.decisions import Reason
from entitlement_gate.domain.grants import Snapshot
from entitlement_gate.domain.requirements import Requirement, as_requirement
from entitlement_gate.engine.cache import Entry, SnapshotCache
from entitlement_gate.engine.evaluation import Evaluator
from entitlement_gate.engine.ledger_client import LedgerClient
from entitlement_gate.engine.observers import Observers
from entitlement_gate.engine.options import GateOptions
from entitlement_gate.engine.snapshots import View
from tests.engine.fakes import ANNA, feature, instant

MILLISECOND = 0.001


def make_evaluator(clock, cache=None, **options):
    options = GateOptions(**options)
    return Evaluator(options, clock, LedgerClient(options, clock, Observers(clock)), cache or SnapshotCache(1))


@pytest.fixture
def judged(clock):
    """Evaluate one view again and again; ``judged.entry`` is what it holds."""

    def judged(entitlement, *grants, source="cache", **options):
        if not hasattr(judged, "evaluator"):
            cache = SnapshotCache(1)
            judged.evaluator = make_evaluator(clock, cache, **options)
            judged.entry = Entry(Snapshot(ANNA, grants, clock.time()), clock.monotonic(), clock.time(), 60)
            cache.put(judged.entry)
            judged.answer = lambda asked: cache.answers[ANNA, asked]
        return judged.evaluator.decide(as_requirement(entitlement), View(ANNA, judged.entry, source))

    return judged


def test_an_answer_is_worked_out_once(judged):
    judged("reports", feature())
    answer = judged.answer("reports")
    judged("reports")
    assert judged.answer("reports") is answer


def test_a_grant_that_ends_while_cached_ends_to_the_millisecond(judged, clock):
    end = instant(30)
    assert judged("reports", feature(expires_at=end)).allowed
    clock.advance(30 - MILLISECOND)
    assert judged("reports").allowed
    clock.advance(MILLISECOND)
    assert judged("reports").reason is Reason.EXPIRED
    clock.step(-MILLISECOND)  # the wall clock is set back: it has not ended yet
    assert judged("reports").allowed


def test_a_grant_that_starts_while_cached_starts_to_the_millisecond(judged, clock):
    assert judged("reports", feature(active_from=instant(30))).reason is Reason.NOT_STARTED
    clock.advance(30 - MILLISECOND)
    assert judged("reports").reason is Reason.NOT_STARTED
    clock.advance(MILLISECOND)
    assert judged("reports").allowed
    clock.step(-MILLISECOND)
    assert judged("reports").reason is Reason.NOT_STARTED


def test_the_instant_that_is_judged_is_the_one_whose_span_is_kept(judged, clock):
    """A datetime knows microseconds, a clock less than one: the last of them before the end is rounded up to it."""
    assert judged("reports", feature(expires_at=instant(1))).allowed
    clock.advance(1)
    clock.step(-2.4e-7)
    judged("reports")
    clock.step(-0.5)
    assert judged("reports").allowed


def test_a_denial_is_at_hand_for_its_own_age_only(judged, clock):
    judged("sso", feature(), denial_max_age=5)
    judged("reports")
    denial, allowance = map(judged.answer, ("sso", "reports"))
    assert (denial.fresh_until - clock.monotonic(), denial.until - clock.time()) == (5, 5)
    assert allowance.fresh_until - clock.monotonic() == 60


def test_a_denial_in_shadow_mode_is_allowed_marked_and_no_longer_at_hand_than_any(judged, clock):
    decision = judged("sso", feature(), shadow={"sso"})
    assert (decision.allowed, decision.shadow, decision.outcome) == (True, True, "denied")
    answer = judged.answer("sso")
    assert (answer.allowed, answer.fresh_until - clock.monotonic()) == (True, 5)


@pytest.mark.parametrize(
    ("asked", "is_allowed"),
    [
        (Requirement("a") & "b", False),
        (Requirement("b") & "a", False),
        (Requirement("a") & "reports", True),
        (Requirement("reports") & "a", True),
        (Requirement("a") | "b", True),
        (Requirement("b") | "a", True),
        (~Requirement("a") & "b", False),
        (~Requirement("reports") & "a", False),
        (~(Requirement("a") & "reports"), True),
        (~(Requirement("reports") | "b"), False),
    ],
    ids=repr,
)
def test_shadow_by_name_lets_through_what_only_those_names_stand_in_the_way_of(judged, asked, is_allowed):
    decision = judged(asked, feature(), shadow={"a"})
    assert decision.allowed is is_allowed
    assert decision.shadow is (is_allowed and decision.outcome == "denied")


def test_a_name_in_shadow_may_stand_the_other_way_round_too(judged):
    decision = judged(~Requirement("reports"), feature(), shadow={"reports"})
    assert (decision.allowed, decision.shadow, decision.reason) == (True, True, Reason.NOT_ENTITLED)


def test_of_nobody_known_a_name_in_shadow_lets_only_itself_through(clock):
    evaluator = make_evaluator(clock, shadow={"a"})
    told = [
        evaluator.refuse(asked, Reason.NO_CUSTOMER, None).allowed for asked in (Requirement("a"), ~Requirement("a"))
    ]
    assert told == [True, True]
    for reason in (Reason.NO_CUSTOMER, Reason.UNAVAILABLE):
        decision = evaluator.refuse(Requirement("a") & "b", reason, ANNA)
        assert (decision.allowed, decision.entitlement, decision.reason) == (False, "b", reason)


def test_what_is_told_of_a_refusal_in_shadow_is_what_is_enforced(judged):
    decision = judged(Requirement("a") & Requirement("b", 3) & "reports", feature(), shadow={"a"})
    assert (decision.allowed, decision.shadow, decision.entitlement) == (False, False, "b")


@pytest.mark.parametrize(("policy", "allowed"), [({"b": "allow"}, True), ({"a": "allow"}, False)])
def test_the_failure_policy_of_what_is_not_in_shadow_decides(clock, policy, allowed):
    evaluator = make_evaluator(clock, shadow={"a"}, on_unavailable=policy)
    decision = evaluator.refuse(Requirement("a") & "b", Reason.UNAVAILABLE, ANNA)
    assert (decision.allowed, decision.shadow) == (allowed, allowed)


@pytest.mark.parametrize("asked", [Requirement("a"), ~Requirement("a"), Requirement("a") & "b"], ids=repr)
def test_shadow_of_everything_refuses_nobody(clock, asked):
    decision = make_evaluator(clock, shadow=True).refuse(asked, Reason.NO_CUSTOMER, None)
    assert (decision.allowed, decision.shadow, decision.reason) == (True, True, Reason.NO_CUSTOMER)


def test_stale_data_is_not_worked_out_again_at_every_check(judged, clock):
    judged("reports", feature())
    answer = judged.answer("reports")
    clock.advance(600)
    assert judged("reports", source="stale").age == 600
    assert judged.answer("reports") is answer


def test_a_quantity_and_a_combination_are_remembered_apart_from_the_name(judged):
    judged("reports", feature())
    judged(Requirement("reports", 3))
    judged(Requirement("reports") & "sso")
    assert len(judged.entry.keys) == 3


@pytest.mark.parametrize(
    ("policy", "entitlement", "allowed"),
    [
        ("deny", "reports", False),
        ("allow", "reports", True),
        ({"reports": "allow"}, "reports", True),
        ({"reports": "allow"}, "sso", False),
        ({"*": "allow", "sso": "deny"}, "sso", False),
        ({"reports": "allow"}, Requirement("reports") | "sso", False),  # the policy applies to the whole
        ({"*": "allow"}, Requirement("reports") & "sso", True),
    ],
)
def test_unknown_is_left_to_the_failure_policy(clock, policy, entitlement, allowed):
    evaluator = make_evaluator(clock, on_unavailable=policy)
    view = View(ANNA, None, "fallback", Reason.REJECTED)
    decision = evaluator.decide(as_requirement(entitlement), view)
    assert (decision.allowed, decision.source, decision.age) == (allowed, "fallback", None)
    assert (decision.reason, decision.customer_id) == (Reason.REJECTED, ANNA)


def test_unknown_without_a_failure_is_unavailable(clock):
    decision = make_evaluator(clock).decide(as_requirement("reports"), View(ANNA, None, "fallback"))
    assert decision.reason is Reason.UNAVAILABLE


@pytest.mark.parametrize("policy", ["allow", "deny"])
def test_whether_it_allows_is_what_the_decision_says_without_data_too(clock, policy):
    evaluator, view = make_evaluator(clock, on_unavailable=policy), View(ANNA, None, "fallback")
    asked = as_requirement("reports")
    assert evaluator.allows(asked, view) is evaluator.decide(asked, view).allowed is (policy == "allow")
