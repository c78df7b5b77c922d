"""Settings of Fieldnotes, a small SaaS that runs on your own machine.

Billing is the sandbox that ships with ``entitlement_gate``. Three environment variables switch it to a real one:
``ZENSKAR_BASE_URL``, ``ZENSKAR_API_KEY`` and ``ZENSKAR_ORGANISATION``. A fourth, ``REDIS_URL``, lets processes share.
"""

import os
from http import HTTPStatus
from pathlib import Path
from typing import Any

SECRET_KEY = "fieldnotes keeps no secrets"
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]

# The app comes first: its `entitlement_gate/denied.html` is used in place of the plain one.
INSTALLED_APPS = [
    "fieldnotes",
    "control_room",
    "entitlement_gate",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "rest_framework",
    "rest_framework.authtoken",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
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

# `make demo` makes a database for each run. With `manage.py`: `migrate`, then `seed`.
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("FIELDNOTES_DATABASE", Path(__file__).parents[1] / "db.sqlite3"),
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Browsers send a cookie to every port of a host: two demos at once would sign each other's visitors out.
_DEMO = os.environ.get("FIELDNOTES_PORT", "")
SESSION_COOKIE_NAME = f"fieldnotes{_DEMO}_session"
CSRF_COOKIE_NAME = f"fieldnotes{_DEMO}_csrf"

STATIC_URL = "static/"
USE_TZ = True
TIME_ZONE = "UTC"  # as billing writes its dates
LANGUAGE_CODE = "en"

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "EXCEPTION_HANDLER": "entitlement_gate.contrib.rest_framework.exception_handler",
}

REDIS_URL = os.environ.get("REDIS_URL")
ENTITLEMENT_GATE: dict[str, Any] = {
    "BASE_URL": os.environ.get("ZENSKAR_BASE_URL", "sandbox:"),
    "API_KEY": os.environ.get("ZENSKAR_API_KEY", ""),
    "ORGANISATION": os.environ.get("ZENSKAR_ORGANISATION", ""),
    # Code says `api_calls`; billing's name for it may change without a deployment.
    "ALIASES": {"api_calls": "API Calls"},
    # Ask for every row, not for active ones alone: a refusal then says "ended" or "not confirmed yet".
    "STATUS_FILTER": None,
    # What is used up is counted in this process and forgotten with it. As soon as there are two processes, or a count
    # must survive a restart, it is counted in Redis, or in the database ("database").
    "LEDGER": "redis" if REDIS_URL else "memory",
    # Snapshots too are shared by all processes: a customer is fetched once for all of them.
    "REDIS_URL": REDIS_URL,
    # Short, so that data is seen to age and to be renewed within a minute; the defaults are 60, 60 and 3600 seconds.
    "TTL": 10,
    "STALE_WHILE_REVALIDATE": 10,
    "STALE_IF_ERROR": 40,
    # Who is billed: what hangs on the signed-in user.
    "CUSTOMER_ATTRIBUTE": "profile.zenskar_customer_id",
    "UPGRADE_URL": "plans",
    # Gates for views that are not yours, or for many at once.
    "RULES": [{"view": "sso", "requires": "sso"}],
}

# An outage is told in a line when it begins, and in one when it has ended. Django tells of each 503 besides, which
# then is every page.
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        "once_per_outage": {"()": "control_room.records.OncePerOutage"},
        "no_outage": {
            "()": "django.utils.log.CallbackFilter",
            "callback": lambda record: getattr(record, "status_code", None) != HTTPStatus.SERVICE_UNAVAILABLE,
        },
    },
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {
        "django.request": {"filters": ["no_outage"]},
        "entitlement_gate": {"filters": ["once_per_outage"], "handlers": ["console"], "level": "WARNING"},
        "control_room": {"handlers": ["console"], "level": "INFO"},
    },
}
