import importlib
import logging
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from entitlement_gate import api, conf
from entitlement_gate.conf import Settings, get_settings, known_keys, unknown_keys
from entitlement_gate.testing import FakeSource

SECRET = "sk-live-0f9e8d7c6b5a"
GOOD = {"API_KEY": SECRET, "ORGANISATION": "00000000-0000-4000-8000-000000000001"}


def read(**values):
    with override_settings(ENTITLEMENT_GATE={**GOOD, **values}):
        return get_settings()


def test_defaults_are_those_of_the_reference():
    settings = read()
    assert (settings.customer_resolver, settings.customer_attribute) == (
        "entitlement_gate.resolvers.from_user",
        "zenskar_customer_id",
    )
    assert settings.denied_handler == "entitlement_gate.responses.denied"
    assert (settings.status_codes, settings.upgrade_url, settings.anonymous) == ({}, None, "deny")
    gate, client = settings.gate, settings.client
    assert (gate.ttl, gate.stale_while_revalidate, gate.stale_if_error, gate.denial_max_age) == (60, 60, 3600, 5)
    assert (gate.max_customers, gate.on_unavailable, gate.on_exhausted, gate.null_quantity) == (
        10_000,
        "deny",
        "deny",
        "deny",
    )
    assert (client.base_url, client.api_version, tuple(client.status_filter)) == (
        "https://api.zenskar.com",
        "20240301",
        ("active",),
    )
    assert (client.page_size, client.max_pages, client.max_body_bytes) == (100, 50, 4 << 20)
    assert (client.deadline, client.connect_timeout, client.max_attempts, client.max_concurrency) == (3.0, 1.0, 3, 16)


def test_settings_are_read_once_and_again_when_they_change():
    with override_settings(ENTITLEMENT_GATE=GOOD):
        first = get_settings()
        assert get_settings() is first
        with override_settings(USE_TZ=False):
            assert get_settings() is first
        with override_settings(ENTITLEMENT_GATE={**GOOD, "TTL": 7}):
            assert get_settings().gate.ttl == 7
        assert get_settings().gate.ttl == 60


def test_what_was_read_as_the_settings_changed_is_not_kept(settings):
    class Old(Mapping):
        def __getitem__(self, key):
            return GOOD[key]

        def __iter__(self):
            settings.ENTITLEMENT_GATE = {**GOOD, "TTL": 7}
            return iter(GOOD)

        def __len__(self):
            return len(GOOD)

    settings.ENTITLEMENT_GATE = Old()
    assert get_settings().gate.ttl == 60
    assert get_settings().gate.ttl == 7


def test_a_function_of_a_module_that_another_thread_imports_is_waited_for(tmp_path, monkeypatch):
    begun, may_go_on = threading.Event(), threading.Event()
    lines = [
        "from tests.test_conf import importing",
        "def resolve(request):",
        "    return CUSTOMER",
        "for event, act in importing:",
        "    getattr(event, act)()",
        "CUSTOMER = 'somebody'",
    ]
    (tmp_path / "slowly_imported.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(globals(), "importing", [(begun, "set"), (may_go_on, "wait")])
    other = threading.Thread(target=importlib.import_module, args=["slowly_imported"])
    other.start()
    begun.wait()
    threading.Timer(0.1, may_go_on.set).start()
    try:
        assert read(CUSTOMER_RESOLVER="slowly_imported.resolve").load("customer_resolver")(None) == "somebody"
    finally:
        may_go_on.set()
        other.join()
        sys.modules.pop("slowly_imported", None)


def test_nothing_is_read_until_it_is_needed():
    code = (
        "import django.conf; django.conf.settings.configure(ENTITLEMENT_GATE={'TTL': -1});"
        "import entitlement_gate.api, entitlement_gate.decorators, entitlement_gate.middleware;"
        "entitlement_gate.decorators.requires_entitlement('sso')(lambda request: None);"
        "from entitlement_gate.conf import _Holder; assert _Holder.current.settings is None"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("missing", [None, [], "API_KEY", 5])
def test_settings_that_are_no_dict_say_what_they_must_be(missing):
    with override_settings(ENTITLEMENT_GATE=missing), pytest.raises(ImproperlyConfigured, match="must be a dict with"):
        get_settings()


def test_missing_settings_say_what_they_must_be(settings):
    del settings.ENTITLEMENT_GATE
    with pytest.raises(ImproperlyConfigured, match="ENTITLEMENT_GATE in the settings must be a dict with API_KEY"):
        get_settings()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("API_KEY", ""),
        ("API_KEY", None),
        ("API_KEY", "a\r\nb"),
        ("ORGANISATION", ""),
        ("ORGANISATION", 5),
        ("BASE_URL", "http://api.zenskar.com"),
        ("BASE_URL", "https://user:pass@api.zenskar.com"),
        ("BASE_URL", None),
        ("API_VERSION", "a\nb"),
        ("STATUS_FILTER", "active"),
        ("PAGE_SIZE", 101),
        ("PAGE_SIZE", 0),
        ("MAX_PAGES", "50"),
        ("MAX_BODY_BYTES", 0),
        ("DEADLINE", 0),
        ("DEADLINE", float("inf")),
        ("CONNECT_TIMEOUT", "1"),
        ("MAX_ATTEMPTS", 0),
        ("MAX_CONCURRENCY", True),
        ("TTL", -1),
        ("STALE_WHILE_REVALIDATE", None),
        ("STALE_IF_ERROR", float("nan")),
        ("DENIAL_MAX_AGE", "5"),
        ("MAX_CUSTOMERS", 0),
        ("ON_UNAVAILABLE", "maybe"),
        ("ON_UNAVAILABLE", {"sso": "maybe"}),
        ("ON_EXHAUSTED", True),
        ("NULL_QUANTITY", "allow"),
        ("ALIASES", {"api_calls": 5}),
        ("ALIASES", ["api_calls"]),
        ("SHADOW", "sso"),
        ("SHADOW", None),
        ("ANONYMOUS", "redirect"),
        ("CUSTOMER_ATTRIBUTE", ""),
        ("CUSTOMER_ATTRIBUTE", None),
        ("STATUS_CODES", {"expired": 200}),
        ("STATUS_CODES", {"expired": "402"}),
        ("STATUS_CODES", {"expird": 402}),
        ("STATUS_CODES", [402]),
        ("RULES", {"path": "/"}),
        ("RULES", 5),
        ("RULES", [{"path": "("}]),
        ("UPGRADE_URL", 5),
        ("SOURCE", 5),
        ("SOURCE", FakeSource()),
    ],
)
def test_a_value_that_cannot_work_names_its_key(key, value):
    with pytest.raises(ImproperlyConfigured, match=rf"^ENTITLEMENT_GATE\['{key}'\]: "):
        read(**{key: value})


@pytest.mark.parametrize(
    "values",
    [
        {"API_KEY": lambda: SECRET, "ORGANISATION": lambda: "o"},
        {"BASE_URL": "http://127.0.0.1:8000"},
        {"BASE_URL": "sandbox:", "API_KEY": "", "ORGANISATION": ""},
        {"SOURCE": FakeSource, "API_KEY": "", "ORGANISATION": ""},
        {"STATUS_FILTER": None, "API_VERSION": None},
        {"ON_UNAVAILABLE": {"sso": "allow", "*": "deny"}},
        {"SHADOW": {"sso"}},
        {"STATUS_CODES": {"expired": 402}},
        {"UPGRADE_URL": "pricing"},
        {"UPGRADE_URL": lambda request, decision: None},
    ],
)
def test_a_value_that_works_is_taken(values):
    assert isinstance(read(**values), Settings)


def test_whether_billing_is_the_sandbox_is_known():
    assert read(BASE_URL="sandbox:").is_sandbox
    assert not read().is_sandbox
    assert not read(BASE_URL="sandbox:", SOURCE=FakeSource).is_sandbox


# Dotted paths


def test_a_dotted_path_or_a_callable_is_loaded():
    assert read(DENIED_HANDLER="tests.customers.from_header").load("denied_handler").__name__ == "from_header"
    assert read(DENIED_HANDLER=len).load("denied_handler") is len


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("no.such.path", "cannot be imported"),
        ("plain", "cannot be imported"),
        ("tests.customers.PRO", "cannot be called"),
        (5, "a dotted path or a callable, not 5"),
    ],
)
def test_a_path_that_leads_nowhere_names_its_key(value, what):
    with pytest.raises(ImproperlyConfigured, match=rf"^ENTITLEMENT_GATE\['DENIED_HANDLER'\]: .*{what}"):
        read(DENIED_HANDLER=value).load("denied_handler")


# Keys


def test_unknown_keys_are_ignored_and_told_with_the_nearest_one_that_works():
    assert read(TLL=5).gate.ttl == 60
    told = unknown_keys({**GOOD, "TLL": 5, "organization": "o", "SOMETHING_ELSE": 1, "TRUST_ENV": True, 5: 1})
    assert told == {"TLL": "TTL", "organization": "ORGANISATION", "SOMETHING_ELSE": None, "TRUST_ENV": None, "5": None}


def test_what_is_meant_for_scripts_alone_is_no_setting():
    assert read(TRUST_ENV=True).client.trust_env is False


def test_every_known_key_is_upper_case():
    assert {"API_KEY", "TTL", "BASE_URL", "RULES", "SHADOW"} <= known_keys()
    assert all(key.isupper() for key in known_keys())


# The key


@pytest.mark.parametrize(
    "values",
    [
        {"API_KEY": f"{SECRET}\n"},
        {"ORGANISATION": f"{SECRET}\n"},
        {"BASE_URL": "http://example.com"},
        {"TTL": -1},
        {"ANONYMOUS": "x"},
        {"CUSTOMER_ATTRIBUTE": ""},
        {"STATUS_CODES": {"x": 1}},
        {"RULES": 5},
        {"RULES": [5]},
        {"UPGRADE_URL": 5},
        {"BASE_URL": "sandbox:/nowhere.json"},
        {"CUSTOMER_RESOLVER": "no.where"},
    ],
)
def test_an_error_shows_the_key_neither_in_its_text_nor_in_any_frame(values):
    def use():
        get_settings().load("customer_resolver")
        api.default_gate()

    with override_settings(ENTITLEMENT_GATE={**GOOD, **values}):
        try:
            use()
        except ImproperlyConfigured as error:
            frames = error.__traceback__.tb_next  # less that of this test, which holds the key
            shown = traceback.TracebackException(type(error), error, frames, capture_locals=True)
    assert "ENTITLEMENT_GATE" in str(shown)
    assert SECRET not in "".join(shown.format())


def test_the_settings_show_the_key_nowhere():
    settings = read(ORGANISATION="an-organisation")
    assert SECRET not in repr(settings)
    assert "an-organisation" not in repr(settings)
    assert SECRET not in repr(conf._HiddenDict(GOOD)) == "<2 settings>"


def test_reading_settings_logs_nothing(caplog):
    with caplog.at_level(logging.DEBUG):
        read()
    assert caplog.records == []
