import pytest

from entitlement_gate.resilience.failure_log import FailureLog
from tests.engine.fakes import held_elsewhere


@pytest.fixture
def log(clock):
    return FailureLog(clock)


def test_a_kind_of_warning_is_one_line_a_minute(log, clock, levels, caplog):
    log.note_warning("budget", "no more of %s", "these")
    log.note_warning("budget", "no more of %s", "those")
    assert [levels(), caplog.messages] == [["WARNING"], ["no more of these"]]
    clock.advance(60)
    log.note_warning("budget", "no more")
    assert levels() == ["WARNING", "WARNING"]


def test_one_kind_does_not_hide_another(log, levels):
    log.note_error("ledger", "it is gone")
    log.note_warning("budget", "no more")
    assert levels() == ["ERROR", "WARNING"]


def test_an_error_that_is_no_bug_has_no_traceback(log, caplog):
    log.note_error("ledger", "it is gone")
    assert caplog.records[0].exc_info is None


def test_a_bug_is_shown_by_its_class_and_place_alone(log, caplog):
    log.note_error("observer", "it failed", bug=ZeroDivisionError("whom"))
    kind, value, _ = caplog.records[0].exc_info
    assert (kind, str(value)) == (ZeroDivisionError, "")


def test_a_lock_held_at_the_fork_does_not_matter_in_the_child(log, caplog):
    with held_elsewhere(log._lock):
        log.remake()
        log.note_warning("budget", "no more")
    assert len(caplog.records) == 1


def test_a_clock_that_went_back_silences_nothing(log, clock, caplog):
    log.note_warning("budget", "no more")
    clock.advance(-1_000)
    log.note_warning("budget", "no more")
    log.note_warning("budget", "no more")
    assert len(caplog.records) == 2
