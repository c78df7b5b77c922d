"""The document the sandbox gives of itself, held against what it does, by schemathesis with all its checks."""

import json

import pytest
import schemathesis
from hypothesis import settings
from schemathesis import GenerationMode
from schemathesis.core.parameters import ParameterLocation

from entitlement_gate.sandbox import Request, Sandbox, SandboxServer
from entitlement_gate.sandbox.messages import encode_cursor

SANDBOX = Sandbox()
HEADERS = {"x-api-key": SANDBOX.scenario.api_key, "organisation": SANDBOX.scenario.organisation}
DOCUMENT = schemathesis.openapi.from_dict(json.loads(SANDBOX.respond(Request("GET", "/openapi.json")).body))


@DOCUMENT.hook
def map_case(context, case):
    # No schema can say which cursors were given out: a made-up one becomes one of the customer's own.
    if isinstance(case.query.get("cursor"), str):
        case.query["cursor"] = encode_cursor(str(case.path_parameters.get("customer_id")).lower(), 10, 2)
    return case


@pytest.fixture(scope="module")
def url():
    with SandboxServer(SANDBOX) as server:
        yield server.url


@DOCUMENT.parametrize()
@settings(max_examples=40, deadline=None)
def test_the_sandbox_does_what_its_document_says(case, url):
    case.call_and_validate(base_url=url, headers=None if is_about_headers(case) else HEADERS)


def is_about_headers(case):
    # With the right headers put back, a request without them or with wrong ones would be a good one, and be refused.
    headers = case.meta.components.get(ParameterLocation.HEADER)
    return headers is not None and headers.mode is GenerationMode.NEGATIVE
