import logging

import pytest

from entitlement_gate.domain.errors import SourceMalformed, SourceRejected, SourceUnavailable
from entitlement_gate.engine.failure_log import FailureLog
from tests.engine.fakes import held_elsewhere


@pytest.fixture
def log(clock):
    return FailureLog(clock)


@pytest.fixture(autouse=True)
def _heard(caplog):
    caplog.set_level(logging.INFO, logger="entitlement_gate")


def levels(caplog):
    return [record.levelname for record in caplog.records]


def test_refused_credentials_are_one_error_line_a_minute(log, clock, caplog):
    for _ in range(10):
        log.note(SourceRejected(401, "Unauthorized"))
        log.note(SourceRejected(403))
        clock.advance(5.9)
    assert levels(caplog) == ["ERROR"]
    assert caplog.messages == ["billing rejects our requests: HTTP 401: Unauthorized; check API_KEY and ORGANISATION"]
    clock.advance(1)
    log.note(SourceRejected(403))
    assert levels(caplog) == ["ERROR", "ERROR"]


def test_other_refusals_do_not_hide_refused_credentials(log, caplog):
    log.note(SourceRejected(422, "limit: too large"))
    log.note(SourceRejected(401))
    assert levels(caplog) == ["ERROR", "ERROR"]
    assert "API_KEY" not in caplog.messages[0]


def test_an_outage_is_one_warning_a_minute_for_each_kind(log, caplog):
    for _ in range(5):
        log.note(SourceUnavailable("HTTP 503"))
        log.note(SourceMalformed("no list"))
    assert levels(caplog) == ["WARNING", "WARNING"]


def test_a_bug_in_a_source_is_shown_with_its_traceback(log, caplog):
    log.note(ZeroDivisionError("x"))
    assert levels(caplog) == ["ERROR"]
    assert caplog.records[0].exc_info[0] is ZeroDivisionError


def test_an_empty_budget_is_one_warning_a_minute(log, caplog):
    log.note_refusal()
    log.note_refusal()
    assert levels(caplog) == ["WARNING"]


def test_a_lock_held_at_the_fork_does_not_matter_in_the_child(log, caplog):
    with held_elsewhere(log._lock):
        log.remake()
        log.note_refusal()
    assert len(caplog.records) == 1


def test_a_clock_that_went_back_silences_nothing(log, clock, caplog):
    log.note_refusal()
    clock.advance(-1_000)
    log.note_refusal()
    log.note_refusal()
    assert len(caplog.records) == 2
