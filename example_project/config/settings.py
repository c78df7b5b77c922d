"""Settings of Fieldnotes, a small SaaS that runs on your own machine.

Billing is the sandbox that ships with ``entitlement_gate``. Three environment variables switch it to a real one:
``ZENSKAR_BASE_URL``, ``ZENSKAR_API_KEY`` and ``ZENSKAR_ORGANISATION``.
"""

import os
from typing import Any

SECRET_KEY = "fieldnotes keeps no secrets"
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]

# The app comes first: its `entitlement_gate/denied.html` is used in place of the plain one.
INSTALLED_APPS = ["fieldnotes", "entitlement_gate"]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "entitlement_gate.middleware.EntitlementMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "fieldnotes.customers.context",
            ]
        },
    }
]

# No database: the session, which holds who is signed in, is a signed cookie.
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
SESSION_COOKIE_NAME = "fieldnotes_session"
CSRF_COOKIE_NAME = "fieldnotes_csrf"

USE_TZ = True
TIME_ZONE = "UTC"  # as billing writes its dates
LANGUAGE_CODE = "en"

ENTITLEMENT_GATE: dict[str, Any] = {
    "BASE_URL": os.environ.get("ZENSKAR_BASE_URL", "sandbox:"),
    "API_KEY": os.environ.get("ZENSKAR_API_KEY", ""),
    "ORGANISATION": os.environ.get("ZENSKAR_ORGANISATION", ""),
    # Code says `api_calls`; billing's name for it may change without a deployment.
    "ALIASES": {"api_calls": "API Calls"},
    # Ask for every row, not for active ones alone: a refusal then says "ended" or "not confirmed yet".
    "STATUS_FILTER": None,
    # What is used up is counted in this process and forgotten with it. As soon as there are two processes, or a count
    # must survive a restart, say "redis" (and REDIS_URL) or "database".
    "LEDGER": "memory",
    "CUSTOMER_RESOLVER": "fieldnotes.customers.from_session",
    "UPGRADE_URL": "plans",
}
