import pickle

import pytest
from django.core.exceptions import PermissionDenied

from entitlement_gate.domain import errors
from entitlement_gate.domain.decisions import Decision, Outcome, Reason, RequestFault


def test_every_error_is_of_one_tree_and_named():
    found = {
        name for name, kind in vars(errors).items() if isinstance(kind, type) and kind.__module__ == errors.__name__
    }

    assert found == set(errors.__all__) - {"text_to_log"}
    assert all(issubclass(getattr(errors, name), errors.EntitlementGateError) for name in found)


def test_a_denial_is_a_permission_denied_of_django():
    assert issubclass(errors.EntitlementDenied, PermissionDenied)


@pytest.mark.parametrize("kind", ["EntitlementUnavailable", "SourceUnavailable", "ReservationError"])
def test_nothing_else_looks_like_a_denial(kind):
    assert not issubclass(getattr(errors, kind), PermissionDenied)


@pytest.mark.parametrize("kind", [errors.EntitlementDenied, errors.EntitlementUnavailable])
def test_errors_about_a_check_carry_the_decision_and_survive_pickling(kind):
    decision = Decision.of(Reason.EXPIRED, "reports")
    error = pickle.loads(pickle.dumps(kind(decision)))

    assert error.decision == decision
    assert str(error) == "reports: expired"


@pytest.mark.parametrize(("detail", "text"), [("", "HTTP 401"), ("who are you", "HTTP 401: who are you")])
def test_a_rejection_tells_status_and_detail(detail, text):
    error = pickle.loads(pickle.dumps(errors.SourceRejected(401, detail)))

    assert (error.status, error.detail, str(error)) == (401, detail, text)


@pytest.mark.parametrize("text", ["HTTP 401", "HTTP 403: who are you", "no status", "HTTP 0: no status"])
def test_a_rejection_made_anew_of_its_text_says_the_same_however_often(text):
    error = errors.SourceRejected(text)
    for _ in range(3):
        error = pickle.loads(pickle.dumps(errors.SourceRejected(str(error))))
        assert str(error) == text


@pytest.mark.parametrize("kind", ["SourceUnavailable", "SourceRejected", "CustomerNotFound", "SourceMalformed"])
def test_a_failed_fetch_is_a_source_error(kind):
    assert issubclass(getattr(errors, kind), errors.SourceError)


@pytest.mark.parametrize("kind", ["ReservationConflict", "ReservationExpired", "ReservationNotFound"])
def test_reservations_fail_as_reservation_errors(kind):
    assert issubclass(getattr(errors, kind), errors.ReservationError)


@pytest.mark.parametrize("reason", [each for each in (*Reason, *RequestFault) if each.outcome is not Outcome.ALLOWED])
def test_an_error_made_anew_of_its_text_has_the_same_reason(reason):
    kind = errors.EntitlementUnavailable if reason.outcome is Outcome.UNKNOWN else errors.EntitlementDenied
    error = kind(str(kind(Decision.of(reason, "reports: all"))))
    assert (error.decision.reason, error.decision.entitlement) == (reason, "reports: all")
    assert type(error.decision.reason) is type(reason)
