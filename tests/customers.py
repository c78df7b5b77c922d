"""The customers of the sandbox's own scenario, and a resolver that takes the customer from a header."""

from __future__ import annotations

FREE = "10000000-0000-4000-8000-000000000001"
PRO = "20000000-0000-4000-8000-000000000002"
LAPSED = "30000000-0000-4000-8000-000000000003"
STRANGER = "99999999-0000-4000-8000-000000000009"


def from_header(request):
    return request.headers.get("X-Customer")


SETTINGS = {"BASE_URL": "sandbox:", "DEADLINE": 30, "CUSTOMER_RESOLVER": "tests.customers.from_header"}
