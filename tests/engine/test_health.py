import json

import pytest

from entitlement_gate.domain.errors import SourceRejected
from entitlement_gate.engine.health import Health


@pytest.fixture
def health(clock):
    return Health(clock)


def test_nothing_has_happened_yet(health):
    assert health.report() == {
        "last_success_age": None,
        "last_failure_age": None,
        "last_failure": None,
        "hits": 0,
        "stale": 0,
        "misses": 0,
    }


@pytest.mark.parametrize(
    ("source", "counter"),
    [("cache", "hits"), ("shared", "hits"), ("stale", "stale"), ("live", "misses"), ("fallback", "misses")],
)
def test_an_answer_is_counted_by_its_source(health, source, counter):
    health.count(source)
    counts = {name: health.report()[name] for name in ("hits", "stale", "misses")}
    assert counts == {"hits": 0, "stale": 0, "misses": 0, counter: 1}


def test_a_failure_is_told_by_kind_and_age_and_never_by_its_text(health, clock):
    health.succeeded()
    clock.advance(2)
    health.failed(SourceRejected(401, "key sk-secret is unknown"))
    clock.advance(1.5)
    report = health.report()
    assert (report["last_success_age"], report["last_failure_age"]) == (3.5, 1.5)
    assert report["last_failure"] == "SourceRejected"
    assert "secret" not in json.dumps(report)


def test_no_age_is_negative_whatever_the_clock_does(health, clock):
    health.succeeded()
    health.failed(ValueError())
    clock.advance(-1_000)
    report = health.report()
    assert (report["last_success_age"], report["last_failure_age"]) == (0, 0)
