import asyncio
import dataclasses
import inspect
import logging
import multiprocessing
import threading
from uuid import UUID

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import RequestFactory, override_settings

import entitlement_gate as eg
from entitlement_gate import Decision, EntitlementDenied, EntitlementUnavailable, Reason, Requirement, api
from entitlement_gate.signals import entitlement_checked, entitlement_denied
from tests.customers import FREE, LAPSED, PRO, SETTINGS, STRANGER
from tests.views.browsers import asked, broken

QUESTIONS = [
    ("reports", None),
    ("reports", 1),
    ("nothing", None),
    ("seats", 2),
    ("seats", "2.5"),
    ("API Calls", 1200),
    ("ai_credits", 54.9),
    (Requirement("reports") & ~Requirement("trial"), None),
    (Requirement("nothing") | Requirement("seats", 1), None),
]


@pytest.fixture(autouse=True)
def sandbox(settings):
    settings.ENTITLEMENT_GATE = SETTINGS


def request_of(customer):
    return RequestFactory().get("/", headers={"X-Customer": customer} if customer else {})


class Wrapped:
    """A request of another framework around Django's."""

    def __init__(self, request):
        self._request = request


def whole(decision):
    """Everything that a decision says, less its age."""
    return {f.name: getattr(decision, f.name) for f in dataclasses.fields(decision) if f.name != "age"}


def outcome(call, *args, **kwargs):
    """What a function returns or raises, comparable."""
    try:
        result = call(*args, **kwargs)
        result = asyncio.run(result) if inspect.iscoroutine(result) else result
    except (EntitlementDenied, EntitlementUnavailable) as error:
        return type(error), whole(error.decision)
    return whole(result) if isinstance(result, Decision) else result


@pytest.mark.parametrize("customer", [PRO, FREE, LAPSED, STRANGER, "no id", None])
@pytest.mark.parametrize("name", ["has_entitlement", "check_entitlement", "require_entitlement"])
def test_a_function_and_its_twin_answer_alike(name, customer):
    eg.check_entitlement(customer, "reports")
    for entitlement, quantity in QUESTIONS:
        plain = outcome(getattr(eg, name), customer, entitlement, quantity)
        assert outcome(getattr(eg, f"a{name}"), customer, entitlement, quantity) == plain


@pytest.mark.parametrize("name", ["has_entitlement", "check_entitlement", "require_entitlement"])
def test_a_function_and_its_twin_are_alike_in_an_outage(settings, tmp_path, name):
    settings.ENTITLEMENT_GATE = broken(tmp_path)
    plain = outcome(getattr(eg, name), PRO, "reports")
    assert outcome(getattr(eg, f"a{name}"), PRO, "reports") == plain
    assert plain in (False, plain)
    assert "malformed_response" in repr(plain) or plain is False


def test_the_three_functions_agree():
    for entitlement, quantity in QUESTIONS:
        decision = eg.check_entitlement(PRO, entitlement, quantity)
        assert eg.has_entitlement(PRO, entitlement, quantity) is decision.allowed
        required = outcome(eg.require_entitlement, PRO, entitlement, quantity)
        expected = {**whole(decision), "source": "cache"}
        assert required == (expected if decision else (EntitlementDenied, expected))


def test_all_entitlements_are_the_same_from_either_door():
    plain = eg.get_entitlements(PRO)
    twin = asyncio.run(eg.aget_entitlements(PRO))
    assert list(plain) == list(twin)
    assert "seats" in plain
    assert (plain.customer_id, len(plain)) == (PRO, len(twin))
    for name in plain:
        assert whole(plain[name].decision) == {**whole(twin[name].decision), "source": plain[name].decision.source}


@pytest.mark.parametrize(
    "customer", [PRO, PRO.upper(), UUID(PRO), request_of(PRO), Wrapped(request_of(PRO))], ids=lambda c: type(c).__name__
)
def test_a_customer_may_be_a_uuid_its_text_or_a_request(customer):
    decision = eg.check_entitlement(customer, "reports")
    assert (decision.reason, decision.customer_id) == (Reason.ALLOWED, PRO)
    assert eg.has_entitlement(customer, "reports") is True
    assert eg.get_entitlements(customer).customer_id == PRO
    assert len(asked()) == 1


@pytest.mark.parametrize(
    ("customer", "reason"),
    [
        (None, Reason.NO_CUSTOMER),
        (request_of(None), Reason.NO_CUSTOMER),
        ("", Reason.INVALID_CUSTOMER),
        ("20000000", Reason.INVALID_CUSTOMER),
        (PRO.replace("-", ""), Reason.INVALID_CUSTOMER),
        (f"{{{PRO}}}", Reason.INVALID_CUSTOMER),
        (f"{PRO}/../{FREE}", Reason.INVALID_CUSTOMER),
        (request_of("nobody"), Reason.INVALID_CUSTOMER),
        (20000000, Reason.INVALID_CUSTOMER),
        (object(), Reason.INVALID_CUSTOMER),
        ([PRO], Reason.INVALID_CUSTOMER),
    ],
)
def test_who_is_no_customer_is_refused_without_a_question_to_billing(customer, reason):
    decision = eg.check_entitlement(customer, "reports")
    assert (decision.reason, decision.allowed, decision.customer_id) == (reason, False, None)
    assert eg.has_entitlement(customer, "reports") is False
    assert outcome(eg.acheck_entitlement, customer, "reports") == whole(decision)
    eg.invalidate_entitlements(customer)
    assert len(eg.get_entitlements(customer)) == 0
    assert asked() == []


@pytest.mark.parametrize(
    "quantity", [0, -1, float("nan"), float("inf"), True, False, "many", "", "1e101", 10**101, b"1", [1], "1" * 2000]
)
@pytest.mark.parametrize("name", ["has_entitlement", "check_entitlement", "require_entitlement"])
def test_what_is_no_quantity_is_a_value_error_before_any_work(name, quantity):
    request = request_of(PRO)
    for customer in (PRO, request, "no id"):
        with pytest.raises(ValueError, match="a quantity is a positive"):
            getattr(eg, name)(customer, "seats", quantity)
        with pytest.raises(ValueError, match="a quantity is a positive"):
            asyncio.run(getattr(eg, f"a{name}")(customer, "seats", quantity))
    assert not hasattr(request, "_entitlement_customer")
    assert asked() == []


def test_a_quantity_beside_a_requirement_that_states_its_own_is_a_value_error():
    with pytest.raises(ValueError, match="inside the Requirement"):
        eg.has_entitlement(PRO, Requirement("seats", 1), 2)


def test_a_refreshed_check_waits_for_newer_data():
    eg.check_entitlement(PRO, "reports")
    default = api.default_gate()
    default.source._transport.sandbox.revoke(PRO, "reports")
    assert eg.has_entitlement(PRO, "reports") is True
    assert eg.has_entitlement(PRO, "reports", refresh=True) is False
    assert outcome(eg.ahas_entitlement, PRO, "reports", refresh=True) is False
    assert eg.check_entitlement(PRO, "reports", refresh=True).source == "live"
    assert outcome(eg.acheck_entitlement, PRO, "reports", refresh=True)["source"] == "live"


@pytest.mark.parametrize("customer", [PRO, request_of(PRO)], ids=["id", "request"])
@pytest.mark.parametrize("door", ["sync", "async"])
def test_after_an_invalidation_the_next_check_fetches(door, customer):
    assert eg.has_entitlement(PRO, "reports")
    if door == "sync":
        eg.invalidate_entitlements(customer)
    else:
        asyncio.run(eg.ainvalidate_entitlements(customer))
    assert eg.check_entitlement(PRO, "reports").source == "live"
    assert len(asked()) == 2


def test_every_function_has_a_twin_with_the_same_signature():
    for name in ("has", "check", "require"):
        plain, twin = getattr(eg, f"{name}_entitlement"), getattr(eg, f"a{name}_entitlement")
        assert inspect.signature(plain) == inspect.signature(twin)
        assert inspect.iscoroutinefunction(twin)
    for name in ("get_entitlements", "invalidate_entitlements"):
        assert inspect.signature(getattr(eg, name)) == inspect.signature(getattr(eg, f"a{name}"))


def test_a_warm_check_asks_nobody():
    eg.has_entitlement(PRO, "reports")
    for _ in range(3):
        assert eg.has_entitlement(PRO, "reports")
        assert eg.check_entitlement(request_of(PRO), "seats", 1)
    assert len(asked()) == 1


# The gate of the settings


def test_the_gate_is_made_once_by_however_many_threads():
    gates = []
    threads = [threading.Thread(target=lambda: gates.append(api.default_gate())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(gate) for gate in gates}) == 1


def test_new_settings_make_a_new_gate_and_close_the_old_one():
    old = api.default_gate()
    assert old.has(PRO, "reports")
    with override_settings(ENTITLEMENT_GATE={**SETTINGS, "TTL": 5}):
        new = api.default_gate()
        assert new is not old
        assert new.options.ttl == 5
        assert old.check(LAPSED, "reports").reason == Reason.UNAVAILABLE
        assert eg.has_entitlement(PRO, "reports")
    assert api.default_gate() not in (old, new)
    assert new.check(LAPSED, "reports").reason == Reason.UNAVAILABLE


def test_other_settings_leave_the_gate_alone():
    gate = api.default_gate()
    with override_settings(USE_TZ=False):
        assert api.default_gate() is gate


def test_settings_that_were_never_used_close_nothing(settings):
    settings.ENTITLEMENT_GATE = {**SETTINGS, "TTL": 1}
    settings.ENTITLEMENT_GATE = {**SETTINGS, "TTL": 2}
    assert api.default_gate().options.ttl == 2


def test_settings_reach_the_client_and_the_gate(settings):
    settings.ENTITLEMENT_GATE = {**SETTINGS, "PAGE_SIZE": 3, "DEADLINE": 2.5, "ALIASES": {"calls": "API Calls"}}
    gate = api.default_gate()
    assert (gate.source.options.page_size, gate.source.options.deadline, gate.options.deadline) == (3, 2.5, 2.5)
    assert eg.has_entitlement(PRO, "calls", 950)
    assert len(asked()) > 1


def test_settings_that_cannot_work_say_so_at_the_first_question(settings):
    settings.ENTITLEMENT_GATE = {**SETTINGS, "TTL": -1}
    with pytest.raises(ImproperlyConfigured, match=r"ENTITLEMENT_GATE\['TTL'\]"):
        eg.has_entitlement(PRO, "reports")


def test_a_scenario_that_cannot_be_read_names_the_setting(settings, tmp_path):
    settings.ENTITLEMENT_GATE = {"BASE_URL": f"sandbox:{tmp_path}/none.json", "API_KEY": "secret-key"}
    with pytest.raises(ImproperlyConfigured, match=r"ENTITLEMENT_GATE\['BASE_URL'\]: .*none.json: No such file"):
        eg.has_entitlement(PRO, "reports")


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # other tests' threads; forking is the point
def test_a_fork_while_the_gate_is_made_leaves_the_child_able_to_make_its_own():
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=lambda: answers.put(eg.has_entitlement(PRO, "reports")))
    with api._Default.locked():  # what another thread holds while it makes the gate
        child.start()
    child.join(20)
    assert child.exitcode == 0
    assert answers.get() is True


# Whoever listens


@pytest.fixture
def heard():
    """The decisions that the two signals told of, in order."""
    heard = []

    def listen(sender, signal, decision, **_):
        heard.append((signal is entitlement_denied, decision.entitlement, decision.allowed))

    for signal in (entitlement_checked, entitlement_denied):
        signal.connect(listen)
    yield heard
    for signal in (entitlement_checked, entitlement_denied):
        signal.disconnect(listen)


@pytest.mark.parametrize("door", ["", "a"])
def test_every_check_is_told_to_those_who_listen_warm_or_not(heard, door):
    for name in ("reports", "reports", "nothing"):
        outcome(getattr(eg, f"{door}has_entitlement"), PRO, name)
    checks = [(False, "reports", True), (False, "reports", True), (False, "nothing", False)]
    assert heard == [*checks, (True, "nothing", False)]


def test_a_shadowed_refusal_is_told_and_logged(settings, heard, caplog):
    settings.ENTITLEMENT_GATE = {**SETTINGS, "SHADOW": True}
    with caplog.at_level(logging.INFO, logger="entitlement_gate"):
        assert eg.has_entitlement(PRO, "nothing") is True
        assert eg.has_entitlement(PRO, "nothing") is True
    assert heard == [(False, "nothing", True), (True, "nothing", True)] * 2
    assert [record.getMessage() for record in caplog.records] == ["shadow: would refuse: nothing: not_entitled"] * 2


def test_a_forked_process_makes_the_lock_of_the_gate_anew():
    gate, lock = api.default_gate(), api._Default.locked()
    api._Default.remake()
    assert api._Default.locked() is not lock
    assert api.default_gate() is gate
