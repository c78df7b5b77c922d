from __future__ import annotations

import threading

import pytest
from django.test import override_settings

from entitlement_gate.api import _Default, default_gate, make_gate
from entitlement_gate.conf import SETTING
from entitlement_gate.project_gate import RequestGate
from entitlement_gate.testing import FakeSource, overrides
from entitlement_gate.testing.overrides import Layer
from tests.customers import FREE, SETTINGS


class Closing(FakeSource):
    """A source that tells whether it was closed."""

    closed = 0

    def close(self):
        self.closed += 1


@pytest.fixture
def source():
    return Closing()


@pytest.fixture
def swapped(source):
    with overrides.use_billing(lambda settings: RequestGate(source)):
        yield


def test_a_gate_made_by_another_answers_and_is_closed_in_the_end(source):
    source.grant(FREE, "sso")
    with overrides.use_billing(lambda settings: RequestGate(source)):
        assert default_gate().has(FREE, "sso")
        assert source.closed == 0
    assert source.closed == 1
    assert _Default.make is make_gate


def test_within_another_the_outer_one_comes_back(source, swapped):
    source.grant(FREE, "sso")
    with overrides.use_billing(lambda settings: RequestGate(FakeSource())):
        assert not default_gate().has(FREE, "sso")
    assert default_gate().has(FREE, "sso")


def test_a_gate_is_made_anew_when_it_is_forgotten(source, swapped):
    before = default_gate()
    overrides.reset_billing()
    assert source.closed == 1
    assert default_gate() is not before


def test_a_gate_that_waits_below_an_override_is_forgotten_too(source, swapped):
    before = default_gate()
    with overrides.override(Layer(values={})):
        overrides.reset_billing()
        assert source.closed == 1
    assert default_gate() is not before


def test_a_gate_that_waits_is_closed_once_when_the_settings_change(source, swapped):
    default_gate()
    with overrides.override(Layer(values={})), override_settings(ENTITLEMENT_GATE={**SETTINGS, "TTL": 1}):
        assert source.closed == 1
    assert source.closed == 1


def test_another_setting_is_none_of_its_business(source, swapped):
    default_gate()
    with overrides.override(Layer(values={})), override_settings(DEBUG=True):
        assert source.closed == 0


def test_a_billing_that_begins_inside_an_override_outlives_it(source):
    source.grant(FREE, "sso")
    layer = Layer(values={})
    overrides.push_layer(layer)
    with overrides.use_billing(lambda settings: RequestGate(source)):
        assert not default_gate().has(FREE, "sso")
        overrides.pop_layer(layer)
        assert default_gate().has(FREE, "sso")


def test_what_waits_is_forgotten_under_the_lock_that_guards_it(source, swapped):
    default_gate()
    with overrides.override(Layer(values={})):
        with _Default.locked():
            changing = threading.Thread(target=overrides._drop_kept_gate, kwargs={"setting": SETTING})
            changing.start()
            changing.join(0.05)
            assert (changing.is_alive(), source.closed) == (True, 0)
        changing.join(10)
        assert source.closed == 1
