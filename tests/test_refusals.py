"""What documents of OpenAPI tell of refusals. In an API: ``tests/contrib/test_ninja.py``."""

from django.test import RequestFactory

from entitlement_gate import Decision, Outcome, Reason
from entitlement_gate.refusals import documented_refusals
from entitlement_gate.responses import problem_details


def test_every_refusal_is_documented_as_it_is_answered(settings):
    codes = {"draft": 404, "voided": 499}
    settings.ENTITLEMENT_GATE = {"BASE_URL": "sandbox:", "DEADLINE": 30, "STATUS_CODES": codes}
    documented = documented_refusals(codes)
    assert list(documented) == [402, 403, 404, 499, 503]
    for reason in Reason:
        if reason.outcome is Outcome.ALLOWED:
            continue
        answer = problem_details(RequestFactory().get("/"), Decision.of(reason, "reports"))
        told = documented[answer.status_code]
        schema = told["content"][answer.headers["Content-Type"]]["schema"]
        assert reason in schema["properties"]["code"]["enum"]
        assert ("Retry-After" in told.get("headers", {})) is ("Retry-After" in answer.headers)
