"""A scenario whose dates are fixed, so that output can be compared as text, and the ways to run a command on it."""

from __future__ import annotations

import io
import json
from contextlib import contextmanager

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from entitlement_gate.api import default_gate

ONE = "10000000-0000-4000-8000-000000000001"
EMPTY = "20000000-0000-4000-8000-000000000002"
STRANGER = "99999999-0000-4000-8000-000000000009"
ORGANISATION = "00000000-0000-4000-8000-000000000001"
SINCE, UNTIL = {"active_from": "2020-01-01T00:00:00Z"}, {"expiry_at": "2999-12-31T00:00:00Z"}
WINDOW = {**SINCE, **UNTIL}
METERED = {"type": "Quantity", "units": "calls", **WINDOW}
GRANTS = [
    {
        "id": "a0000000-0000-4000-8000-000000000001",
        "name": "API Calls",
        "quantity": 1000,
        "quantity_used": 250,
        **METERED,
    },
    {
        "id": "a0000000-0000-4000-8000-000000000002",
        "name": "API Calls",
        "quantity": 200,
        "quantity_used": 200,
        **METERED,
    },
    {"id": "a0000000-0000-4000-8000-000000000003", "name": "reports", "type": "Feature", "status": "draft", **SINCE},
    {"id": "a0000000-0000-4000-8000-000000000004", "name": "sso", "type": "Feature", **SINCE},
    {
        "id": "a0000000-0000-4000-8000-000000000005",
        "name": "seats",
        "type": "Quantity",
        "quantity": 5,
        "quantity_used": 5,
    },
]


def scenario(*grants, **others):
    customers = [
        {"id": ONE, "name": "One", "grants": list(grants or GRANTS)},
        {"id": EMPTY, "name": "Empty"},
    ]
    return {"api_key": "key", "organisation": ORGANISATION, "customers": customers, **others}


@pytest.fixture
def scenario_file(tmp_path):
    """Write a scenario and give its place."""

    def write(*grants, **others):
        path = tmp_path / "scenario.json"
        path.write_text(json.dumps(scenario(*grants, **others)))
        return path

    return write


@contextmanager
def configured(**settings):
    with override_settings(ENTITLEMENT_GATE=settings):
        yield


@pytest.fixture
def billing(scenario_file):
    """The sandbox in the process, over the fixed scenario, as the project's billing."""
    with configured(BASE_URL=f"sandbox:{scenario_file()}", CUSTOMER_ATTRIBUTE="username"):
        yield default_gate().source._transport.sandbox


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def run(*arguments, stdout=None, stderr=None, **options):
    """Run ``manage.py entitlements``: its exit code, what it printed, and what it complained of."""
    out, err = stdout or io.StringIO(), stderr or io.StringIO()
    try:
        call_command("entitlements", *arguments, stdout=out, stderr=err, **options)
    except CommandError as error:
        return error.returncode, out.getvalue(), err.getvalue() + str(error)
    except SystemExit as end:
        return end.code, out.getvalue(), err.getvalue()
    return 0, out.getvalue(), err.getvalue()
