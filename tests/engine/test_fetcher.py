import pytest

from entitlement_gate.domain.errors import SourceMalformed, SourceRejected, SourceUnavailable
from entitlement_gate.engine.fetcher import log_fetch_failure
from entitlement_gate.resilience.failure_log import FailureLog


@pytest.fixture
def note(clock):
    log = FailureLog(clock)
    return lambda error: log_fetch_failure(log, error)


def test_refused_credentials_are_one_error_line_a_minute(note, clock, levels, caplog):
    for _ in range(10):
        note(SourceRejected(401, "Unauthorized"))
        note(SourceRejected(403))
        clock.advance(5.9)
    assert levels() == ["ERROR"]
    assert caplog.messages == ["billing rejects our requests: HTTP 401: Unauthorized; check API_KEY and ORGANISATION"]
    clock.advance(1)
    note(SourceRejected(403))
    assert levels() == ["ERROR", "ERROR"]


def test_other_refusals_do_not_hide_refused_credentials(note, levels, caplog):
    note(SourceRejected(422, "limit: too large"))
    note(SourceRejected(401))
    assert levels() == ["ERROR", "ERROR"]
    assert "API_KEY" not in caplog.messages[0]


def test_an_outage_is_one_warning_a_minute_for_each_kind(note, levels):
    for _ in range(5):
        note(SourceUnavailable("HTTP 503"))
        note(SourceMalformed("no list"))
    assert levels() == ["WARNING", "WARNING"]


def test_a_bug_in_a_source_is_shown_with_its_traceback(note, levels, caplog):
    note(ZeroDivisionError("x"))
    assert levels() == ["ERROR"]
    assert caplog.records[0].exc_info[0] is ZeroDivisionError
