from __future__ import annotations

import pytest
from django.test import override_settings

from tests.customers import SETTINGS
from tests.testing.projects import Project


@pytest.fixture(autouse=True)
def _settings():
    """Take the customer from a header, and a name in code that is another in billing."""
    with override_settings(ENTITLEMENT_GATE={**SETTINGS, "ALIASES": {"api_calls": "API Calls", "sso_id": SSO_ID}}):
        yield


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


SSO_ID = "A0000000-0000-4000-8000-00000000000A"
