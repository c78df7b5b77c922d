"""However a customer, and what is asked for, is written, the warm path answers, and as the long way does."""

import dataclasses
import uuid
from decimal import Decimal
from itertools import product

import pytest

from entitlement_gate.domain.decisions import Reason
from entitlement_gate.domain.grants import EntitlementType, Snapshot
from entitlement_gate.domain.requirements import Requirement
from entitlement_gate.engine.cache import _MOST_ANSWERS, Entry, SnapshotCache, key_of
from entitlement_gate.engine.gate import EntitlementGate
from entitlement_gate.ledger.memory import MemoryLedger
from tests.engine.fakes import feature, instant

UPPER = "ABCDEF00-0000-4000-8000-00000000000A"
CUSTOMER = UPPER.lower()
MIXED = "ABCDEF00-0000-4000-8000-00000000000a"


class Text(str):
    """Looks like one text and says another."""

    __slots__ = ()

    def __str__(self):
        return "20000000-0000-4000-8000-000000000002"


class Plain(str):
    __slots__ = ()


class Id(uuid.UUID):
    pass


class Number(int):
    pass


WARM = [CUSTOMER, UPPER, MIXED, uuid.UUID(UPPER)]
CUSTOMERS = [*WARM, Plain(UPPER), Plain(CUSTOMER), Text(CUSTOMER), Id(UPPER)]
CUSTOMERS += [None, "", "anna", uuid.UUID(UPPER).hex, f" {UPPER}", 7, uuid.UUID(UPPER).int, [], {}, object()]
WARM_ASKED = [
    ("reports", None),
    ("seats", None),
    ("seats", 1),
    ("seats", 3),
    ("seats", 50),
    ("nothing", None),
    ("reports", 1),
]
WARM_ASKED += [(Requirement("reports"), None), (Requirement("seats"), 3), (Requirement("seats", 3), None)]
WARM_ASKED += [(Requirement("reports") & ~Requirement("trial"), None)]
ASKED = [*WARM_ASKED, ("seats", "3"), ("seats", Decimal(3)), ("seats", 3.0), ("seats", Number(3)), ("seats", "3.0")]
ASKED += [("seats", wrong) for wrong in (True, False, 0, -1, 0.0, "x", float("nan"), Decimal(0), 10**100, [], object())]
ASKED += [(Requirement("seats", 3), 3), (Requirement("reports") & "seats", 2), ([], None), (7, None), ("", None)]


class Counting(EntitlementGate):
    """Counts how often it takes the long way."""

    long_ways = 0

    def _checking(self, *args, **kwargs):
        self.long_ways += 1
        return (yield from super()._checking(*args, **kwargs))


def seats(**fields):
    return feature("seats", type=EntitlementType.QUANTITY, entitlement_id="ent 2", quantity=Decimal(5), **fields)


@pytest.fixture
def make(billing, clock, monkeypatch):
    monkeypatch.setattr("entitlement_gate.engine.fetcher._JITTER", 0)
    billing.grants[CUSTOMER] = (feature(), seats())
    made = []

    def make(**options):
        made.append(Counting(billing, clock=clock, deadline=10, **options))
        return made[-1]

    yield make
    for gate in made:
        gate.close()


def outcome(ask, gate, verb, *args):
    """What a gate answers or raises, comparable."""
    try:
        answer = ask(gate, verb, *args)
    except (TypeError, ValueError) as error:
        return type(error), str(error)
    return answer if isinstance(answer, bool) else (answer.as_dict(), answer.requested, answer.age, answer.source)


def is_warm(ask, gate, *asked):
    """Whether both questions are answered without the long way."""
    before = gate.long_ways
    for verb in ("has", "check"):
        outcome(ask, gate, verb, *asked)
    return gate.long_ways == before


def test_every_form_is_answered_as_the_long_way_answers_it(make, ask, clock):
    warm, slow = make(), make()
    slow._answers = slow._decided = {}
    for gate in (warm, slow):
        for customer, (name, quantity) in product(WARM, WARM_ASKED):  # what is remembered misleads nobody
            ask(gate, "check", customer, name, quantity)
    clock.advance(1)
    for customer, (name, quantity) in product(CUSTOMERS, ASKED):
        for verb in ("has", "check"):
            asked = (verb, customer, name, quantity)
            told = [outcome(ask, warm, *asked) for _ in range(2)]
            assert told == [outcome(ask, slow, *asked) for _ in range(2)], asked
    assert warm.long_ways < slow.long_ways


@pytest.mark.parametrize("customer", WARM, ids=["canonical", "upper", "mixed", "uuid"])
@pytest.mark.parametrize("asked", WARM_ASKED, ids=repr)
def test_every_form_of_a_customer_and_a_quantity_is_answered_at_once(make, ask, clock, *, customer, asked):
    gate = make(denial_max_age=60)
    first = ask(gate, "check", customer, *asked)
    assert is_warm(ask, gate, customer, *asked)
    clock.advance(1)
    again = ask(gate, "check", customer, *asked)
    assert (again.source, again.age) == ("cache", 1)
    assert dataclasses.replace(again, source=first.source, age=first.age) == first
    assert gate.health()["hits"] == 3


FORMS = [
    pytest.param(customer, name, quantity, id=f"{type(customer).__name__} {name!r} {quantity}")
    for customer, (name, quantity) in product(WARM, [("seats", None), ("seats", 3), (Requirement("seats"), None)])
]
each_form = pytest.mark.parametrize(("customer", "name", "quantity"), FORMS)


@each_form
def test_no_form_outlives_an_invalidation(make, ask, billing, *, customer, name, quantity):
    gate = make()
    assert ask(gate, "has", customer, name, quantity)
    billing.grants[CUSTOMER] = ()
    ask(gate, "invalidate", CUSTOMER)
    assert not ask(gate, "has", customer, name, quantity)


@each_form
def test_no_form_outlives_a_grant(make, ask, billing, clock, *, customer, name, quantity):
    billing.grants[CUSTOMER] = (seats(expires_at=instant(10)),)
    gate = make()
    assert ask(gate, "has", customer, name, quantity)
    clock.advance(9.999)
    assert is_warm(ask, gate, customer, name, quantity)
    clock.advance(0.001)
    assert ask(gate, "check", customer, name, quantity).reason is Reason.EXPIRED


@each_form
def test_no_form_outlives_its_data(make, ask, billing, clock, *, customer, name, quantity):
    gate = make(ttl=60, stale_while_revalidate=0)
    assert ask(gate, "has", customer, name, quantity)
    billing.grants[CUSTOMER] = ()
    clock.advance(59)
    assert is_warm(ask, gate, customer, name, quantity)
    clock.advance(1)
    assert not ask(gate, "has", customer, name, quantity)


@each_form
def test_no_form_of_a_denial_is_older_than_a_denial_may_be(make, ask, billing, clock, *, customer, name, quantity):
    billing.grants[CUSTOMER] = (feature(),)
    gate = make(denial_max_age=5)
    assert not ask(gate, "has", customer, name, quantity)
    assert is_warm(ask, gate, customer, name, quantity)
    billing.grants[CUSTOMER] = (seats(),)
    clock.advance(5)
    assert ask(gate, "has", customer, name, quantity)


@each_form
def test_a_first_use_drops_every_form(make, ask, clock, *, customer, name, quantity):
    gate = make(ledger=MemoryLedger(clock=clock))
    assert ask(gate, "has", customer, name, quantity)
    assert is_warm(ask, gate, customer, name, quantity)
    ask(gate, "consume", CUSTOMER, "seats", 5)
    assert not ask(gate, "has", customer, name, quantity)
    assert not is_warm(ask, gate, customer, name, quantity)


@pytest.mark.parametrize("customer", [UPPER, uuid.UUID(UPPER)])
def test_what_a_request_knows_is_at_hand_however_its_customer_is_written(make, customer):
    gate = make()

    def find(customer):
        return gate.find_answer(key_of(customer, "reports", None))

    assert find(customer) is None
    assert gate.has(customer, "reports")
    assert find(customer).allowed
    assert find(Text(UPPER)) is find("anna") is find(uuid.UUID(UPPER).int) is None


def test_names_and_quantities_made_of_input_are_bounded(make):
    gate = make()
    for quantity in range(1, 4 * _MOST_ANSWERS):
        for customer in WARM:
            gate.has(customer, "seats", quantity)
    entry = gate._snapshots.entries[CUSTOMER]
    assert len(entry.keys) <= _MOST_ANSWERS
    assert len(gate._answers) <= _MOST_ANSWERS
    assert is_warm(lambda gate, verb, *asked: getattr(gate, verb)(*asked), gate, WARM[-1], "seats", quantity)


@pytest.fixture
def held(clock):
    cache = SnapshotCache(2)
    entry = Entry(Snapshot(CUSTOMER, (), clock.time()), clock.monotonic(), clock.time(), 60)
    cache.put(entry)
    cache.remember(entry, "reports", "yes")
    cache.alias(entry, "reports", "key")
    return cache, entry


def test_an_alias_leaves_with_what_it_stands_for(held):
    cache, entry = held
    assert cache.answers == {(CUSTOMER, "reports"): "yes", "key": "yes"}
    cache.alias(entry, "reports", "key")
    assert entry.keys == ((CUSTOMER, "reports"), "key")
    cache.forget(entry)
    assert (cache.answers, entry.keys) == ({}, ())


@pytest.mark.parametrize("ended", ["forget", "expire"])
def test_an_alias_that_comes_late_serves_nobody(held, ended):
    cache, entry = held
    if ended == "forget":
        cache.forget(entry)
    else:
        cache.expire(CUSTOMER)
        cache.remember(entry, "reports", "yes")
    cache.alias(entry, "reports", "key")
    assert cache.answers == {}


def test_a_fork_in_the_middle_of_a_change_leaves_no_alias_of_before(held):
    cache, entry = held
    cache.answers["other"] = "of an entry that was just replaced"
    entry.keys += ("not yet",)
    cache.remake()
    assert cache.answers == {(CUSTOMER, "reports"): "yes", "key": "yes"}


def test_an_alias_too_many_makes_room_for_itself(held):
    cache, entry = held
    for number in range(_MOST_ANSWERS):
        cache.alias(entry, "reports", number)
    assert len(entry.keys) <= _MOST_ANSWERS
    assert len(cache.answers) == len(entry.keys)
    assert cache.answers[_MOST_ANSWERS - 1] == cache.answers[CUSTOMER, "reports"] == "yes"


def test_keys_of_different_customers_and_quantities_differ():
    keys = {key_of(customer, "seats", quantity) for customer in WARM for quantity in (None, 1, 2)}
    assert len(keys) == 12
    assert {key_of(customer, "seats", None) for customer in (7, None, Plain(UPPER), Id(UPPER), [])} == {None}
    assert {key_of(UPPER, "seats", quantity) for quantity in (True, 1.0, "1", Decimal(1), Number(1))} == {None}
