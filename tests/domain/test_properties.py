"""What holds for every answer of billing, by Hypothesis."""

import dataclasses
import itertools
import json
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from functools import reduce

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from entitlement_gate.domain.decisions import Decision, Outcome, Reason
from entitlement_gate.domain.grants import EntitlementType, Snapshot, dedupe
from entitlement_gate.domain.numbers import difference, total
from entitlement_gate.domain.requirements import Requirement, as_requirement
from entitlement_gate.domain.rule import Terms, decide
from entitlement_gate.engine.evaluation import Evaluator
from entitlement_gate.engine.options import GateOptions
from entitlement_gate.resilience.clock import Deadline
from entitlement_gate.zenskar.pagination import all_rows
from entitlement_gate.zenskar.parsing import read_grants
from entitlement_gate.zenskar.retry import Get, Reply, Retries, RetryBudget
from tests.domain.conftest import CUSTOMER, NOW, a_grant, judged

pytestmark = pytest.mark.unmeasured

bounded = settings(max_examples=100, deadline=None)

numbers = st.decimals(-1000, 1000, allow_nan=False, allow_infinity=False, places=3)
quantities = st.none() | st.decimals(Decimal("0.001"), 1000, places=3)
instants = st.none() | st.integers(-5, 5).map(lambda hours: NOW + timedelta(hours=hours))
types = st.sampled_from([*EntitlementType, None, "access"])
statuses = st.sampled_from(["active", "active", "active", None, "draft", "voided", "expired", "paused"])
terms = st.builds(
    Terms,
    on_exhausted=st.sampled_from(["deny", "allow"]),
    null_quantity=st.sampled_from(["deny", "unlimited"]),
)
fields = st.fixed_dictionaries(
    {
        "entitlement_id": st.sampled_from(["e1", "e2", None]),
        "type": types,
        "status": statuses,
        "units": st.sampled_from(["a", "b", None]),
        "active_from": instants,
        "expires_at": instants,
        "quantity": st.none() | numbers,
        "used": st.none() | numbers,
        "reported_remaining": st.none() | numbers,
        "is_disabled": st.booleans(),
        "is_malformed": st.sampled_from([False, False, False, True]),
    }
)


def with_ids(rows):
    return [a_grant(str(number), **row) for number, row in enumerate(rows)]


grants = st.lists(fields, max_size=6).map(with_ids)


def decided(rows, quantity, terms):
    return decide(Snapshot(CUSTOMER, tuple(rows), 0.0), as_requirement("seats", quantity), NOW, terms)


@bounded
@given(grants, quantities, terms, st.sampled_from(["expired", "draft", "voided", "paused"]))
def test_rows_that_are_not_active_never_allow(rows, quantity, terms, status):
    rows = [dataclasses.replace(row, status=status) for row in rows]

    assert not decided(rows, quantity, terms)


@bounded
@given(grants, quantities, terms)
def test_rows_that_have_ended_never_allow(rows, quantity, terms):
    assert not decided([dataclasses.replace(row, expires_at=NOW) for row in rows], quantity, terms)


@bounded
@given(grants, quantities, terms, st.sampled_from(["access", "", "feature "]))
def test_unknown_types_never_allow(rows, quantity, terms, unknown):
    assert not decided([dataclasses.replace(row, type=unknown) for row in rows], quantity, terms)


@bounded
@given(grants, quantities, terms)
def test_broken_rows_never_allow_and_never_hurt(rows, quantity, terms):
    broken = [dataclasses.replace(row, id=f"x{row.id}", is_malformed=True) for row in rows]
    whole = [row for row in rows if not row.is_malformed]

    assert not decided(broken, quantity, terms)
    assert decided(broken + whole, quantity, terms).allowed is decided(whole, quantity, terms).allowed


@bounded
@given(st.data(), grants, quantities, terms)
def test_the_order_of_rows_never_matters(data, rows, quantity, terms):
    assert decided(data.draw(st.permutations(rows)), quantity, terms) == decided(rows, quantity, terms)


@bounded
@given(st.data(), st.lists(fields, max_size=5))
def test_the_order_of_repeated_rows_never_matters(data, rows):
    rows = [a_grant(str(number % 2), **row) for number, row in enumerate(rows)]
    kept = dedupe(data.draw(st.permutations(rows)))

    assert {row.id: row for row in kept} == {row.id: row for row in dedupe(rows)}


@bounded
@given(grants, quantities, terms, st.sampled_from(EntitlementType))
def test_a_further_live_row_never_turns_allowed_into_denied(rows, quantity, terms, kind):
    more = a_grant("more", entitlement_id="e1", type=kind, reported_remaining=1)
    before, after = decided(rows, quantity, terms), decided([*rows, more], quantity, terms)

    assert after.allowed >= before.allowed


@bounded
@given(grants, quantities, terms, st.tuples(st.integers(0, 5), st.decimals(0, 100, places=2)))
def test_more_remaining_never_denies(rows, quantity, terms, raised):
    which, extra = raised
    more = [
        dataclasses.replace(row, reported_remaining=row.reported_remaining + extra)
        if number == which and row.reported_remaining is not None
        else row
        for number, row in enumerate(rows)
    ]

    assert decided(more, quantity, terms).allowed >= decided(rows, quantity, terms).allowed


@bounded
@given(grants, st.decimals(Decimal("0.01"), 500, places=2), st.decimals(Decimal("0.01"), 500, places=2), terms)
def test_asking_for_less_never_denies(rows, one, other, terms):
    less, more = sorted((one, other))

    assert decided(rows, less, terms).allowed >= decided(rows, more, terms).allowed


@bounded
@given(
    st.lists(st.decimals(allow_nan=False, allow_infinity=False).filter(lambda d: abs(d.adjusted()) < 300), max_size=8)
)
def test_sums_are_exact(amounts):
    amounts = [amount for amount in amounts if -int(amount.as_tuple().exponent) <= 400]

    assert Fraction(total(amounts)) == sum(map(Fraction, amounts))
    for left, right in itertools.pairwise(amounts):
        assert Fraction(difference(left, right)) == Fraction(left) - Fraction(right)


@bounded
@given(st.lists(numbers, min_size=1, max_size=6), st.decimals(Decimal("0.001"), 2000, places=3))
def test_a_balance_is_compared_exactly(amounts, quantity):
    decision = judged([a_grant(str(i), reported_remaining=n) for i, n in enumerate(amounts)], quantity=quantity)

    assert Fraction(decision.remaining) == sum(map(Fraction, amounts))
    assert decision.allowed is (sum(map(Fraction, amounts)) >= Fraction(quantity))


NAMES = "abcd"
requirements = st.recursive(
    st.sampled_from(NAMES).map(Requirement),
    lambda parts: (
        st.tuples(parts, parts).map(lambda pair: pair[0] & pair[1])
        | st.tuples(parts, parts).map(lambda pair: pair[0] | pair[1])
        | parts.map(lambda part: ~part)
    ),
    max_leaves=8,
)
REASON_OF = {Outcome.ALLOWED: Reason.ALLOWED, Outcome.DENIED: Reason.EXPIRED, Outcome.UNKNOWN: Reason.UNAVAILABLE}
VALUE = {Outcome.DENIED: 0, Outcome.UNKNOWN: 1, Outcome.ALLOWED: 2}


def kleene(requirement, values):
    """Three-valued logic, written down once more: minimum, maximum and complement."""
    if not requirement.operator:
        return values[requirement.entitlement]
    parts = [kleene(part, values) for part in requirement.parts]
    if requirement.operator == "~":
        return 2 - parts[0]
    return reduce(min if requirement.operator == "&" else max, parts)


@bounded
@given(requirements)
def test_requirements_are_kleene_logic(requirement):
    for outcomes in itertools.product(Outcome, repeat=len(NAMES)):
        by_name = dict(zip(NAMES, outcomes, strict=True))
        decision = requirement.judge(
            lambda leaf, by_name=by_name: Decision.of(REASON_OF[by_name[leaf.entitlement]], leaf.entitlement)
        )

        assert VALUE[decision.outcome] == kleene(requirement, {name: VALUE[o] for name, o in by_name.items()})
        assert decision.entitlement in {leaf.entitlement for leaf in requirement.leaves()}


@bounded
@given(requirements, st.sampled_from([Reason.UNAVAILABLE, Reason.REJECTED, Reason.MALFORMED_RESPONSE]), st.data())
def test_unknown_never_allows_unless_the_policy_says_so(requirement, reason, data):
    policy = data.draw(st.sampled_from(["deny", "allow"]) | st.dictionaries(st.sampled_from(NAMES), st.just("allow")))
    evaluator = Evaluator(GateOptions(on_unavailable=policy), clock=None, ledger_client=None, cache=None)
    decision = evaluator.refuse(requirement, reason, CUSTOMER)
    words = [policy if isinstance(policy, str) else policy.get(leaf.entitlement) for leaf in requirement.leaves()]

    assert (decision.outcome, decision.source) == (Outcome.UNKNOWN, "fallback")
    assert decision.allowed is all(word == "allow" for word in words)


def paged(rows, size):
    """Answer a flow from rows in pages of a size, as billing would."""
    clock = Still()
    flow = all_rows({}, Retries(Deadline(60, clock), RetryBudget(), 1, clock), max_pages=50)
    call = next(flow)
    try:
        while True:
            assert isinstance(call, Get)
            start = int(call.params.get("cursor", 0))
            further = str(start + size) if start + size < len(rows) else None
            body = json.dumps({"results": rows[start : start + size], "next": further}).encode()
            call = flow.send(Reply(200, {}, body))
    except StopIteration as end:
        return read_grants(end.value, CUSTOMER)


class Still:
    def time(self):
        return 0.0

    monotonic = time


wire_rows = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.integers(0, 4).map(str),
            "name": st.just("seats"),
            "customer": st.just(CUSTOMER),
            "entitlement": st.sampled_from(["e1", "e2"]),
            "type": st.sampled_from(["Quantity", "Credits", "Feature", None]),
            "status": st.sampled_from(["active", None, "voided"]),
            "quantity_remaining": st.none() | st.integers(-10, 10),
        }
    ),
    max_size=12,
)


@bounded
@given(wire_rows, st.integers(1, 12), quantities)
def test_the_size_of_pages_never_matters(rows, size, quantity):
    whole, parts = paged(rows, 100), paged(rows, size)

    assert parts == whole
    assert decided(parts, quantity, Terms()) == decided(whole, quantity, Terms())


REACHED = [*list(Reason)[: list(Reason).index(Reason.NOT_ENTITLED) + 1]]
REACHED.remove(Reason.OVERRIDE)


@pytest.mark.parametrize("reason", REACHED)
def test_the_strategies_reach_every_outcome_of_the_rule(reason):
    """A property over data that never allows proves nothing."""
    until = settings(max_examples=10_000, phases=[Phase.generate], database=None, deadline=None)
    find(st.tuples(grants, quantities, terms), lambda drawn: decided(*drawn).reason == reason, settings=until)


@pytest.mark.parametrize("kind", [Outcome.ALLOWED, Outcome.DENIED, Outcome.UNKNOWN])
def test_the_oracle_knows_double_negation(kind):
    assert kleene(~~Requirement("a"), {"a": VALUE[kind]}) == VALUE[kind]
