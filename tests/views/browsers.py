"""Browsers signed in as customers of the sandbox, and a billing that fails."""

import json

from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.test import AsyncClient, Client

from entitlement_gate.api import default_gate
from tests.customers import PRO, SETTINGS

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
OURS = "entitlement_gate.middleware.EntitlementMiddleware"
# Django's user has no field of ours: a dotted path may end at any.
GATE = {"BASE_URL": "sandbox:", "DEADLINE": 30, "CUSTOMER_ATTRIBUTE": "username"}


class Browser:
    """A client of one of Django's two handlers, signed in as a customer or as nobody."""

    def __init__(self, handler, customer=None):
        self._client = Client() if handler == "WSGI" else AsyncClient()
        if customer is not None:
            self._client.force_login(User.objects.get_or_create(username=customer)[0])

    def get(self, path, **headers):
        return self._ask("get", path, headers)

    def post(self, path, **headers):
        return self._ask("post", path, headers)

    def _ask(self, method, path, headers):
        ask = getattr(self._client, method)
        return (async_to_sync(ask) if isinstance(self._client, AsyncClient) else ask)(path, headers=headers)


def broken(folder, kind="garbage", **options):
    """Return settings over a billing that fails: ``garbage`` is no answer, a ``status`` of 401 our own fault."""
    scenario = {"api_key": "k", "organisation": PRO, "faults": [{"kind": kind, **options}]}
    path = folder / "broken.json"
    path.write_text(json.dumps(scenario), encoding="utf-8")
    return {**SETTINGS, "BASE_URL": f"sandbox:{path}", "MAX_ATTEMPTS": 1}


def asked():
    """Return the requests that reached the sandbox of the settings' gate, as (method, target)."""
    return default_gate().source._transport.sandbox.requests
