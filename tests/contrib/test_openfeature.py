"""The provider behind a real client of the SDK.

The first part are the scenarios of OpenFeature's own Gherkin suite that concern providers, by their names. Those left
out do not apply:

- *Flag not found*, but for an empty key: a name that is in nobody's plan is a denial, which no default overrules.
- *DISABLED reason*: a Feature that is switched off is a denial, too; the suite wants the caller's default.
- *Type mismatch* of strings and objects: every entitlement has a reason and a decision.
- *Returns no metadata*: there always is some. *Zero values* of strings and objects: no reason is empty, no decision is.
- *Context merging precedence*, *Evaluation context immutability*: the SDK's own, before any provider is asked.
"""

import asyncio
import math
import queue
import threading
from contextlib import suppress
from decimal import Decimal

import pytest
from django.test import override_settings
from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEvent
from openfeature.exception import ErrorCode, ProviderFatalError
from openfeature.flag_evaluation import FlagEvaluationOptions
from openfeature.hook import Hook
from openfeature.provider import ProviderStatus
from openfeature.provider._registry import provider_registry

from entitlement_gate import EntitlementGate, EntitlementType
from entitlement_gate.contrib.openfeature import UNLIMITED, EntitlementProvider
from entitlement_gate.engine.observers import Fetch
from entitlement_gate.testing import FakeSource, override_entitlements
from tests.customers import FREE, PRO, SETTINGS, STRANGER
from tests.engine.fakes import ANNA, Billing, Clock

PATIENCE = 30  # seconds for another thread to tell of an event
DEFAULTS = {"boolean": False, "string": "bye", "integer": 1, "float": 0.1, "object": {"a": 1}}
# One flag of each type: its key, and what PRO's is.
FLAGS = [
    ("boolean", "sso", True),
    ("string", "sso", "allowed"),
    ("integer", "seats", 10),
    ("float", "storage", 0.5),
    ("object", "seats", {"reason": "allowed", "remaining": "10"}),
]


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def source(clock):
    source = FakeSource(clock=clock)
    source.grant(PRO, "sso")
    source.grant(PRO, "seats", 10)
    source.grant(PRO, "storage", "0.5")
    source.grant(FREE, "seats", 5, used=5)
    return source


@pytest.fixture
def make_gate(source, clock):
    made = []

    def make(**options):
        made.append(EntitlementGate(source, clock=clock, **options))
        return made[-1]

    yield make
    for gate in made:
        gate.close()


@pytest.fixture
def gate(make_gate):
    return make_gate()


@pytest.fixture
def register():
    """Make providers the SDK's, and return a client of each."""
    register_and_wait = getattr(api, "set_provider_and_wait", api.set_provider)  # before 0.10 all of them waited

    def register(provider, domain="tests"):
        register_and_wait(provider, domain)
        return api.get_client(domain)

    yield register
    api.clear_providers()


@pytest.fixture
def client(gate, register):
    return register(EntitlementProvider(gate))


def _sync(client, kind, *args):
    return getattr(client, f"get_{kind}_details")(*args)


def _async(client, kind, *args):
    return asyncio.run(getattr(client, f"get_{kind}_details_async")(*args))


@pytest.fixture(params=[_sync, _async], ids=["sync", "async"])
def ask(request):
    """Ask for the details of a flag through one door, and in another test through the other."""
    return request.param


def about(customer=PRO, **attributes):
    return EvaluationContext(customer, attributes)


def matches(value, expected):
    return expected.items() <= value.items() if isinstance(expected, dict) else value == expected


@pytest.mark.parametrize(("kind", "key", "expected"), FLAGS)
def test_resolve_values(client, ask, kind, key, expected):
    details = ask(client, kind, key, DEFAULTS[kind], about())
    assert matches(details.value, expected)
    assert type(details.value) is type(expected)


@pytest.mark.parametrize(("kind", "zero"), [("boolean", False), ("integer", 0), ("float", 0.0)])
def test_resolves_zero_value(client, ask, kind, zero):
    details = ask(client, kind, "seats", True if kind == "boolean" else DEFAULTS[kind], about(FREE))
    assert (details.value, details.reason, details.error_code) == (zero, "TARGETING_MATCH", None)
    assert type(details.value) is type(zero)


@pytest.mark.parametrize(("customer", "value"), [(PRO, 10), (FREE, 0)])
def test_resolves_value_with_targeting(client, ask, customer, value):
    details = ask(client, "integer", "seats", 1, about(customer))
    assert (details.value, details.reason) == (value, "TARGETING_MATCH")


@pytest.mark.parametrize(("kind", "zero"), [("boolean", False), ("integer", 0), ("float", 0.0)])
@pytest.mark.parametrize("customer", [PRO, STRANGER])
def test_resolves_zero_value_with_targeting_using_default(client, ask, kind, zero, customer):
    details = ask(client, kind, "in nobody's plan", True if kind == "boolean" else DEFAULTS[kind], about(customer))
    assert (details.value, details.reason, details.error_code) == (zero, "DEFAULT", None)


@pytest.mark.parametrize("kind", DEFAULTS)
def test_flag_not_found_error(client, ask, kind):
    details = ask(client, kind, "", DEFAULTS[kind], about())
    assert (details.value, details.reason, details.error_code) == (DEFAULTS[kind], "ERROR", ErrorCode.FLAG_NOT_FOUND)


@pytest.mark.parametrize("kind", ["integer", "float"])
def test_type_mismatch_error(client, ask, kind):
    details = ask(client, kind, "sso", DEFAULTS[kind], about())
    assert (details.value, details.reason, details.error_code) == (DEFAULTS[kind], "ERROR", ErrorCode.TYPE_MISMATCH)
    assert "ask for a boolean" in details.error_message


@pytest.mark.parametrize(("kind", "key", "_"), FLAGS)
def test_provider_not_ready_error(gate, client, ask, kind, key, _):
    provider_registry.shutdown()  # `api.shutdown()` puts another provider in its place
    details = ask(client, kind, key, DEFAULTS[kind], about())
    assert (details.value, details.error_code) == (DEFAULTS[kind], ErrorCode.PROVIDER_NOT_READY)


@pytest.mark.parametrize(("kind", "key", "_"), FLAGS)
@override_settings(ENTITLEMENT_GATE={"BASE_URL": "nowhere"})
def test_provider_in_fatal_state_error(register, ask, kind, key, _):
    with suppress(ProviderFatalError):  # which the SDK raises from 0.10 on, and only tells of before
        register(EntitlementProvider())
    client = api.get_client("tests")
    assert client.get_provider_status() is ProviderStatus.FATAL
    details = ask(client, kind, key, DEFAULTS[kind], about())
    assert (details.value, details.error_code) == (DEFAULTS[kind], ErrorCode.PROVIDER_FATAL)


@pytest.mark.parametrize(("kind", "key", "expected"), FLAGS)
def test_complete_evaluation_details_structure(client, ask, kind, key, expected):
    details = ask(client, kind, key, DEFAULTS[kind], about())
    assert matches(details.value, expected)
    assert (details.flag_key, details.variant, details.reason) == (key, "allowed", "TARGETING_MATCH")
    assert (details.error_code, details.error_message) == (None, None)


@pytest.mark.parametrize(("key", "variant"), [("sso", "allowed"), ("in nobody's plan", "denied")])
@pytest.mark.parametrize("kind", ["boolean", "string", "object"])
def test_variant_field_population(client, ask, kind, key, variant):
    assert ask(client, kind, key, DEFAULTS[kind], about()).variant == variant


def test_flag_metadata_in_evaluation_details(client, ask, clock):
    ask(client, "boolean", "seats", False, about(quantity=3))
    clock.advance(2)
    details = ask(client, "boolean", "seats", False, about(quantity=3))
    told = {"outcome": "allowed", "reason": "allowed", "source": "cache", "age": 2.0, "remaining": "10"}
    assert details.flag_metadata == told
    assert all(isinstance(value, (bool, str, int, float)) for value in details.flag_metadata.values())


@pytest.mark.parametrize("context", [None, EvaluationContext(), EvaluationContext("")])
@pytest.mark.parametrize("kind", DEFAULTS)
def test_empty_evaluation_context(client, ask, kind, context):
    details = ask(client, kind, "sso", DEFAULTS[kind], context)
    assert (details.value, details.reason) == (DEFAULTS[kind], "ERROR")
    assert details.error_code == ErrorCode.TARGETING_KEY_MISSING


def test_null_context_values(client, ask):
    assert ask(client, "boolean", "seats", False, about(quantity=None)).value is True


def test_multiple_context_attributes_targeting(client, ask):
    context = about(email="someone@example.com", age=65, quantity=11)
    assert ask(client, "string", "seats", "", context).value == "insufficient_quantity"


@pytest.mark.parametrize("kind", DEFAULTS)
def test_cached_reason(client, ask, kind):
    ask(client, kind, "seats", DEFAULTS[kind], about())
    assert ask(client, kind, "seats", DEFAULTS[kind], about()).reason == "CACHED"


class Recorder(Hook):
    """Notes the stages, and may change the context."""

    def __init__(self, name="", told=None, changed=None):
        self.name, self.told, self.changed = name, [] if told is None else told, changed
        self.details = None

    def before(self, hook_context, hints):
        self.told.append(f"before {self.name}")
        return self.changed

    def after(self, hook_context, details, hints):
        self.told.append(f"after {self.name}")
        self.details = details

    def error(self, hook_context, exception, hints):
        self.told.append(f"error {self.name}")

    def finally_after(self, hook_context, details, hints):
        self.told.append(f"finally {self.name}")
        self.details = details


def test_evaluation_options_with_hooks(client, ask):
    told = []
    options = FlagEvaluationOptions(hooks=[Recorder("1", told), Recorder("2", told)])
    ask(client, "boolean", "sso", False, about(), options)
    assert told == ["before 1", "before 2", "after 2", "after 1", "finally 2", "finally 1"]


def test_passes_evaluation_details_to_after_and_finally_hooks(client, ask):
    hook = Recorder(changed=about(quantity=11))
    details = ask(client, "boolean", "seats", True, about(), FlagEvaluationOptions(hooks=[hook]))
    assert details.value is False  # what the hook added was asked
    assert (hook.details.flag_key, hook.details.value, hook.details.variant) == ("seats", False, "denied")
    assert hook.details.flag_metadata["reason"] == "insufficient_quantity"


def test_errors_reach_the_error_hook(client, ask):
    hook = Recorder()
    ask(client, "integer", "sso", 1, about(), FlagEvaluationOptions(hooks=[hook]))
    assert hook.told == ["before ", "error ", "finally "]
    assert hook.details.error_code == ErrorCode.TYPE_MISMATCH


async def test_asynchronous_flag_evaluation_leaves_the_loop_free(register):
    billing = Billing()
    billing.hold()
    with EntitlementGate(billing) as gate:
        client = register(EntitlementProvider(gate))
        asked = asyncio.create_task(client.get_boolean_details_async("reports", False, about(ANNA)))
        await asyncio.to_thread(billing.begun.acquire)
        assert not asked.done()
        billing.release()
        assert (await asked).value is True


# What the scenarios leave open


@pytest.mark.parametrize(
    ("kind", "left", "expected"),
    [
        ("integer", "2.7", 2),
        ("integer", "-2.5", -3),
        ("float", "2.7", 2.7),
        ("integer", "90071992547409931", 90071992547409931),
    ],
)
def test_what_is_left_is_rounded_down_for_integers(source, client, ask, kind, left, expected):
    source.grant(PRO, "calls", left)
    assert ask(client, kind, "calls", DEFAULTS[kind], about()).value == expected


@pytest.mark.parametrize(("kind", "most"), [("integer", UNLIMITED), ("float", math.inf)])
def test_without_a_limit_the_most_is_left(source, make_gate, register, ask, kind, most):
    source.grant(PRO, "calls", type=EntitlementType.QUANTITY)
    client = register(EntitlementProvider(make_gate(null_quantity="unlimited")))
    details = ask(client, kind, "calls", DEFAULTS[kind], about())
    assert (details.value, details.flag_metadata["unlimited"]) == (most, True)


def test_the_object_is_the_decision(gate, client, ask):
    details = ask(client, "object", "seats", {}, about(quantity=3))
    assert details.value == {**gate.check(PRO, "seats", 3).as_dict(), "source": "live", "age": 0.0}


@pytest.mark.parametrize("quantity", [3, "3", 3.0, Decimal(3)])
def test_a_quantity_comes_from_the_context(make_gate, register, ask, quantity):
    client = register(EntitlementProvider(make_gate(), quantity="needed"))
    assert ask(client, "boolean", "seats", False, about(needed=quantity)).value is True
    assert ask(client, "boolean", "seats", True, about(needed=11)).value is False


@pytest.mark.parametrize("quantity", [0, -1, True, "many", math.nan, [3]])
@pytest.mark.parametrize("kind", DEFAULTS)
def test_what_is_no_quantity_is_an_invalid_context(client, ask, kind, quantity):
    details = ask(client, kind, "seats", DEFAULTS[kind], about(quantity=quantity))
    assert (details.value, details.error_code) == (DEFAULTS[kind], ErrorCode.INVALID_CONTEXT)
    assert details.error_message.startswith("quantity: ")


def test_what_is_no_customer_id_is_an_invalid_context_and_not_quoted(client, ask):
    details = ask(client, "boolean", "sso", True, about("anna@example.com"))
    assert (details.value, details.error_code) == (True, ErrorCode.INVALID_CONTEXT)
    assert details.flag_metadata["reason"] == "invalid_customer"
    assert "anna" not in details.error_message


@pytest.mark.parametrize(
    ("kind_of_failure", "code"),
    [
        ("unavailable", ErrorCode.GENERAL),
        ("rejected", ErrorCode.GENERAL),
        ("malformed_response", ErrorCode.PARSE_ERROR),
    ],
)
@pytest.mark.parametrize("kind", DEFAULTS)
def test_what_could_not_be_learned_is_an_error(source, client, ask, kind, kind_of_failure, code):
    source.fail(kind_of_failure)
    details = ask(client, kind, "sso", DEFAULTS[kind], about())
    assert (details.value, details.reason, details.error_code) == (DEFAULTS[kind], "ERROR", code)
    assert (details.variant, details.flag_metadata["reason"]) == (None, kind_of_failure)
    assert details.flag_metadata["outcome"] == "unknown"
    assert PRO not in details.error_message


@pytest.mark.parametrize(("kind", "value"), [("boolean", True), ("string", "unavailable")])
def test_the_failure_policy_answers_before_the_default(source, make_gate, register, ask, kind, value):
    client = register(EntitlementProvider(make_gate(on_unavailable="allow")))
    source.fail()
    details = ask(client, kind, "sso", DEFAULTS[kind], about())
    assert (details.value, details.reason, details.error_code) == (value, "DEFAULT", None)


@pytest.mark.parametrize("kind", ["integer", "float"])
def test_no_policy_knows_what_is_left(source, make_gate, register, ask, kind):
    client = register(EntitlementProvider(make_gate(on_unavailable="allow")))
    source.fail()
    details = ask(client, kind, "seats", DEFAULTS[kind], about())
    assert (details.value, details.error_code) == (DEFAULTS[kind], ErrorCode.GENERAL)


def test_data_older_than_it_should_be_is_stale(source, client, ask, clock):
    ask(client, "boolean", "sso", False, about())
    source.fail()
    clock.advance(600)
    details = ask(client, "boolean", "sso", False, about())
    assert (details.value, details.reason) == (True, "STALE")
    assert details.flag_metadata["age"] >= 600


def test_shadow_mode_is_told(make_gate, register, ask):
    client = register(EntitlementProvider(make_gate(shadow=True)))
    details = ask(client, "boolean", "in nobody's plan", False, about())
    assert (details.value, details.variant, details.flag_metadata["shadow"]) == (True, "allowed", True)
    assert details.flag_metadata["outcome"] == "denied"


@override_settings(ENTITLEMENT_GATE=SETTINGS)
def test_by_default_the_gate_of_the_settings_answers(register, ask):
    client = register(EntitlementProvider())
    assert ask(client, "boolean", "sso", False, about()).value is True
    with override_entitlements({"sso": False}):
        assert ask(client, "boolean", "sso", True, about()).value is False
    with override_entitlements({"seats": 7}):
        details = ask(client, "integer", "seats", 1, about())
    assert (details.value, details.reason) == (7, "STATIC")


# Events and shutting down


@pytest.fixture
def heard(client):
    """The events that the client's handlers are told of, in their order, once the provider is ready."""
    events = queue.Queue()
    for event in ProviderEvent:
        client.add_handler(event, lambda details, event=event: events.put((event, details)))
    assert events.get(timeout=PATIENCE)[0] is ProviderEvent.PROVIDER_READY
    return events


def fail_until_left_alone(gate, clock, customer):
    while gate.health()["breaker"] == "closed":
        gate.check(customer, "sso", refresh=True)
        clock.advance(1)


def test_an_outage_makes_the_provider_stale_and_its_end_ready(source, gate, client, heard, clock):
    gate.check(PRO, "sso")
    source.fail()
    gate.check(PRO, "sso", refresh=True)
    fail_until_left_alone(gate, clock, PRO)
    event, details = heard.get(timeout=PATIENCE)
    assert (event, client.get_provider_status()) == (ProviderEvent.PROVIDER_STALE, ProviderStatus.STALE)
    assert (details.message, details.error_code) == ("fetches fail: unavailable", None)
    source.recover()
    clock.advance(60)
    gate.check(PRO, "sso", refresh=True)
    event, details = heard.get(timeout=PATIENCE)
    assert (event, client.get_provider_status()) == (ProviderEvent.PROVIDER_READY, ProviderStatus.READY)
    assert details.message == "billing answers again"
    assert heard.empty()  # of one failure nobody was told, and of each state once


def test_an_outage_without_data_to_serve_is_an_error_that_flags_survive(source, gate, client, heard, clock):
    source.fail()
    fail_until_left_alone(gate, clock, PRO)
    event, details = heard.get(timeout=PATIENCE)
    assert (event, client.get_provider_status()) == (ProviderEvent.PROVIDER_ERROR, ProviderStatus.ERROR)
    assert details.error_code == ErrorCode.GENERAL
    source.recover()
    clock.advance(60)
    assert client.get_boolean_value("sso", False, about()) is True
    assert heard.get(timeout=PATIENCE)[0] is ProviderEvent.PROVIDER_READY


def test_an_outage_that_outlasts_the_data_is_an_error(source, gate, client, heard, clock):
    gate.check(PRO, "sso")
    source.fail()
    fail_until_left_alone(gate, clock, PRO)
    assert heard.get(timeout=PATIENCE)[0] is ProviderEvent.PROVIDER_STALE
    clock.advance(3601)
    gate.check(PRO, "sso", refresh=True)
    assert heard.get(timeout=PATIENCE)[0] is ProviderEvent.PROVIDER_ERROR


def test_shutting_down_leaves_the_gate_open_and_may_be_repeated(gate, register):
    provider = EntitlementProvider(gate)
    register(provider)
    assert gate.has(PRO, "sso")
    provider.shutdown()
    provider.shutdown()
    assert provider not in gate._observers.all
    assert gate.has(PRO, "seats", refresh=True)
    provider.fetch(Fetch(PRO, "found", 0.1))  # of a fetch that was up meanwhile


def test_a_provider_that_was_shut_down_can_be_registered_again(gate, register):
    provider = EntitlementProvider(gate)
    register(provider)
    api.clear_providers()
    assert register(provider, "again").get_boolean_value("sso", False, about()) is True
    assert provider in gate._observers.all


def test_of_two_threads_that_change_gates_at_once_neither_leaves_its_own_watched(gate, source, monkeypatch):
    provider = EntitlementProvider(gate)
    with EntitlementGate(source) as later:
        observe, thread = gate.observe, threading.Thread(target=provider._watch, args=[later])

        def observe_while_another_changes(observer):
            thread.start()
            thread.join(0.2)  # with nothing to wait for it is through long before
            observe(observer)

        monkeypatch.setattr(gate, "observe", observe_while_another_changes)
        provider._watch(gate)
        thread.join(60)
        assert provider in later._observers.all
        assert provider not in gate._observers.all


def test_a_gate_is_closed_where_that_is_asked_for(source, gate, register):
    register(EntitlementProvider(gate, close_gate=True))
    api.shutdown()
    assert gate.check(PRO, "sso").reason == "unavailable"
    assert source.fetched == []


def test_the_provider_says_its_name(gate):
    provider = EntitlementProvider(gate)
    assert provider.get_metadata().name == "entitlement_gate"
    assert provider.get_provider_hooks() == []


def test_the_gate_of_the_settings_cannot_be_closed_here():
    with pytest.raises(ValueError, match="close_gate: "):
        EntitlementProvider(close_gate=True)


@pytest.mark.parametrize("name", ["", None, 3])
def test_an_attribute_without_a_name_is_refused(gate, name):
    with pytest.raises(ValueError, match="quantity: the name of an attribute"):
        EntitlementProvider(gate, quantity=name)
