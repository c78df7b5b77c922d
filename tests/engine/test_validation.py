"""Whatever a source or a ledger returns or raises: an answer in time, for this customer and for the others."""

import datetime as dt
import uuid
from decimal import Decimal

import pydantic
import pytest

from entitlement_gate.domain.errors import EntitlementUnavailable, SourceMalformed
from entitlement_gate.domain.grants import EntitlementType, Grant, Snapshot
from entitlement_gate.engine.gate import EntitlementGate
from entitlement_gate.engine.validation import vetted
from entitlement_gate.ledger.balances import Share
from entitlement_gate.ledger.memory import MemoryLedger
from entitlement_gate.ledger.protocol import LedgerUnavailable, Receipt, Refusal, State
from entitlement_gate.testing import FakeSource
from tests.engine.fakes import ANNA, BERT, NOON, Billing, feature, instant
from tests.engine.test_reservations import Elsewhere, quantity

NAIVE = dt.datetime(2027, 1, 1)  # noqa: DTZ001 - what this is about


class Text(str):
    """Text that is not what it seems."""

    __slots__ = ()

    def __eq__(self, other):
        raise RuntimeError("compared")

    __hash__ = str.__hash__

    def __str__(self):
        raise RuntimeError("shown")


class Other(Exception):
    pass


class Model(pydantic.BaseModel):
    number: int


def invalid():
    try:
        Model(number="none")
    except pydantic.ValidationError as error:
        return error


RAISED = [
    ValueError("v"),
    Other(ANNA),
    invalid(),
    SystemExit(3),
    KeyboardInterrupt(),
    GeneratorExit(),
    RecursionError(),
]
RETURNED = {
    "nothing": None,
    "a number": 5,
    "a text": "x",
    "a class": Snapshot,
    "no customer": Snapshot(None, (), NOON),
    "a wrong id": Snapshot(5, (), NOON),
    "no grants": Snapshot(ANNA, None, NOON),
    "texts": Snapshot(ANNA, "abc", NOON),
    "no grant": Snapshot(ANNA, (None,), NOON),
    "a dict": Snapshot(ANNA, ({"id": "1", "name": "reports"},), NOON),
    "an id that is no text": Snapshot(ANNA, (feature(id=object()),), NOON),
    "no name": Snapshot(ANNA, (Grant(id="1", name=None),), NOON),
    "a type that is none": Snapshot(ANNA, (feature(type=3),), NOON),
    "a status that is none": Snapshot(ANNA, (feature(status=object()),), NOON),
    "a date as text": Snapshot(ANNA, (feature(expires_at="2027-01-01"),), NOON),
    "a plain date": Snapshot(ANNA, (feature(active_from=dt.date(2020, 1, 1)),), NOON),
    "an amount that is none": Snapshot(ANNA, (feature(quantity=[1]),), NOON),
    "an amount of yes": Snapshot(ANNA, (feature(used=True),), NOON),
}


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_whatever_a_source_raises_is_unavailable_and_its_text_is_not_logged(make_gate, billing, ask, error, *, caplog):
    gate = make_gate(max_concurrency=1)
    billing.error = error
    assert ask(gate, "check", ANNA, "reports").reason == "unavailable"
    billing.error = None
    assert ask(gate, "check", BERT, "reports").reason == "not_entitled"
    assert ask(gate, "check", ANNA, "reports").allowed
    assert type(error).__name__ in caplog.text
    assert ANNA not in caplog.text


@pytest.mark.parametrize("answer", RETURNED.values(), ids=RETURNED)
def test_whatever_a_source_returns_is_unavailable_and_hurts_no_other(make_gate, billing, ask, answer):
    class Strange(Billing):
        def fetch(self, customer_id):
            given = super().fetch(customer_id)
            return answer if customer_id == ANNA and self.error else given

    source = Strange(billing.clock)
    gate = make_gate(source, max_concurrency=1)
    source.error = None
    assert ask(gate, "check", BERT, "reports").reason == "not_entitled"
    source.fetch = lambda customer_id: answer
    assert ask(gate, "check", ANNA, "reports").reason == "unavailable"
    del source.fetch
    assert ask(gate, "check", ANNA, "reports").allowed


def test_what_is_meant_is_read():
    odd = Grant(
        id=Text("1"),
        name=Text("calls"),
        entitlement_id=Text("e"),
        type="qUANTITY",
        status="Active",
        units=Text("calls"),
        active_from=NAIVE,
        expires_at=None,
        quantity=5,
        used=0.1,
        reported_remaining="4.9",
        is_disabled=0,
        is_malformed=(),
    )
    snapshot = vetted(Snapshot(uuid.UUID(ANNA), [odd], "now", is_found=1), ANNA, NOON)
    assert snapshot == Snapshot(
        ANNA,
        (
            Grant(
                id="1",
                name="calls",
                entitlement_id="e",
                type=EntitlementType.QUANTITY,
                status="active",
                units="calls",
                active_from=NAIVE.replace(tzinfo=dt.UTC),
                quantity=Decimal(5),
                used=Decimal("0.1"),
                reported_remaining=Decimal("4.9"),
            ),
        ),
        NOON,
    )
    (grant,) = snapshot.grants
    assert {type(text) for text in (grant.id, grant.name, grant.entitlement_id, grant.units)} == {str}


def test_what_is_plain_is_kept_as_it_is():
    counted = quantity(used=Decimal(0), remaining=Decimal("2.5"), quantity=Decimal("2.5"))
    grants = (feature(type=None), counted, feature("sso", active_from=instant(0)))
    snapshot = vetted(Snapshot(ANNA.upper(), grants, 7), ANNA, NOON)
    assert all(kept is grant for kept, grant in zip(snapshot.grants, grants, strict=True))
    assert (snapshot.customer_id, snapshot.fetched_at) == (ANNA, 7.0)


@pytest.mark.parametrize(("status", "reason"), [("ACTIVE", "allowed"), ("Voided", "voided"), ("DRAFT", "draft")])
def test_a_status_is_compared_without_case_whoever_gives_it(clock, ask, status, reason):
    source = FakeSource(clock=clock)
    source.grant(ANNA, "reports", status=status)
    with EntitlementGate(source, clock=clock, deadline=10) as gate:
        assert ask(gate, "check", ANNA, "reports").reason == reason


def test_an_entitlement_is_found_by_its_id_however_a_source_spells_it(clock, ask):
    entitlement_id = "7C9E6679-7425-40DE-944B-E07FC1F90AE7"
    source = FakeSource(clock=clock)
    source.grant(ANNA, "reports", entitlement_id=entitlement_id)
    with EntitlementGate(source, clock=clock, deadline=10) as gate:
        assert ask(gate, "check", ANNA, entitlement_id).allowed
        assert ask(gate, "check", ANNA, entitlement_id.lower()).allowed


def test_rows_of_one_id_count_once_whoever_gives_them():
    row, less = quantity(remaining=Decimal(5)), quantity(remaining=Decimal(3))
    (grant,) = vetted(Snapshot(ANNA, (row, less, row), NOON), ANNA, NOON).grants
    assert grant.remaining == Decimal(3)


def test_a_row_without_an_id_is_set_aside_and_one_without_a_name_is_no_row():
    nameless, unknown = feature(id="1", name=""), feature(id="")
    (grant,) = vetted(Snapshot(ANNA, (nameless, unknown), NOON), ANNA, NOON).grants
    assert (grant.name, grant.is_malformed) == (unknown.name, True)


@pytest.mark.parametrize(
    "number", [Decimal("NaN"), Decimal("sNaN"), Decimal("inf"), Decimal("1e900"), float("nan"), "x"]
)
def test_an_amount_that_cannot_be_reckoned_with_is_absent(number):
    (grant,) = vetted(Snapshot(ANNA, (quantity(quantity=number),), NOON), ANNA, NOON).grants
    assert grant.quantity is None


def test_a_type_that_nobody_knows_stays_unknown():
    (grant,) = vetted(Snapshot(ANNA, (feature(type="Gold"),), float("nan")), ANNA, NOON).grants
    assert grant.type == "gold"


def test_another_customers_answer_is_malformed():
    with pytest.raises(SourceMalformed):
        vetted(Snapshot(BERT, (), NOON), ANNA, NOON)


@pytest.mark.parametrize("name", ["active_from", "expires_at"])
@pytest.mark.parametrize("amount", [None, 5])
def test_a_date_without_a_time_zone_is_utc_whoever_gives_it(name, amount, clock, ask):
    source = FakeSource(clock=clock)
    source.grant(ANNA, "calls", amount, **{name: NAIVE})
    gate = EntitlementGate(source, clock=clock, deadline=10)
    decision = ask(gate, "check", ANNA, "calls")
    assert decision.reason == {"active_from": "not_started", "expires_at": "allowed"}[name]
    assert getattr(decision, name).utcoffset() == dt.timedelta(0)
    gate.close()


class Strange(Elsewhere):
    """A ledger that does as the test says."""

    def __init__(self, *, does, **options):
        super().__init__(**options)
        self.does = does

    def charges(self, customer_id):
        return self.does()

    def reserve(self, *args, **keywords):
        return self.does()

    consume = commit = release = adopt_upstream = reserve


class LocallyStrange(Strange):
    is_local = True

    def has_charged(self, customer_id):
        return True


def raising(error):
    def does():
        raise error

    return does


HELD = {"key": "k", "state": State.HELD, "expires_at": NOON}
STRANGE = {
    "nothing": lambda: None,
    "a text": lambda: "x",
    "a list": lambda: {"id": ["row"]},
    "no tallies": lambda: {"id": {"row": 5}},
    "too many": lambda: Receipt(**HELD, shares=(), available=(1, 2, 3)),
    "no amounts": lambda: Receipt(**HELD, shares=(Share("e", "r", None),)),
    "no state": lambda: Receipt(**{**HELD, "state": None}, shares=()),
    "not its own": lambda: Refusal("somebody else's", 0),
    "no number": lambda: Refusal("id api_calls", "none"),
    **{type(error).__name__: raising(error) for error in (Other(ANNA), invalid(), KeyError(ANNA), RecursionError())},
}


@pytest.mark.parametrize("does", STRANGE.values(), ids=STRANGE)
@pytest.mark.parametrize("kind", [Strange, LocallyStrange])
def test_whatever_a_ledger_does_never_comes_out_of_a_check(make_gate, billing, ask, *, caplog, does, kind):
    billing.grants[ANNA] = (quantity(), feature())
    gate = make_gate(ledger=kind(does=does, clock=billing.clock))
    assert ask(gate, "check", ANNA, "api_calls").reason == "unavailable"
    assert ask(gate, "check", ANNA, "reports").allowed
    assert ask(gate, "get", ANNA).check("api_calls").reason == "unavailable"
    assert ANNA not in caplog.text


@pytest.mark.parametrize("does", STRANGE.values(), ids=STRANGE)
@pytest.mark.parametrize("kind", [Strange, LocallyStrange])
def test_nor_out_of_a_use_but_as_unavailable(make_gate, billing, ask, *, caplog, does, kind):
    billing.grants[ANNA] = (quantity(),)
    gate = make_gate(ledger=kind(does=does, clock=billing.clock))
    with pytest.raises((EntitlementUnavailable, ValueError)):
        ask(gate, "reserve", ANNA, "api_calls", key="secret")
    assert "secret" not in caplog.text


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt()])
def test_a_ledger_elsewhere_ends_no_process(make_gate, billing, ask, error):
    billing.grants[ANNA] = (quantity(),)
    gate = make_gate(ledger=Strange(does=raising(error), clock=billing.clock))
    assert ask(gate, "check", ANNA, "api_calls").reason == "unavailable"


def test_a_use_that_a_ledger_says_nothing_of_is_not_known_to_be_counted(make_gate, billing, caplog):
    billing.grants[ANNA] = (quantity(),)
    ledger = Elsewhere(clock=billing.clock)
    held = make_gate(ledger=ledger).reserve(ANNA, "api_calls")
    ledger.commit = lambda *_, **__: None
    with pytest.raises(LedgerUnavailable, match="no receipt"):
        held.commit()
    ledger.commit = raising(Other(ANNA))
    with pytest.raises(LedgerUnavailable, match="raised"):
        held.commit()


def test_a_time_limit_that_strikes_in_our_own_ledger_reaches_who_is_limited(make_gate, billing, monkeypatch):
    billing.grants[ANNA] = (quantity(),)
    gate = make_gate()
    gate.consume(ANNA, "api_calls")
    monkeypatch.setattr(MemoryLedger, "charges", lambda *_: raising(Other())())
    with pytest.raises(Other):
        gate.check(ANNA, "api_calls")
