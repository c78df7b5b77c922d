import pickle
import sys
import traceback

import pytest

from entitlement_gate.domain.errors import SourceUnavailable
from entitlement_gate.zenskar.client_options import ClientOptions, Credentials
from tests.zenskar.scripted import KEY, ORGANISATION


@pytest.mark.parametrize(
    "base_url",
    [
        "https://api.zenskar.com",
        "https://api.zenskar.com:8443/v1/",
        "HTTPS://API.ZENSKAR.COM",
        "http://localhost:8000",
        "http://127.0.0.1",
        "http://127.8.8.8:80",
        "http://[::1]:8000",
        "sandbox:",
        "sandbox:path/to/scenario.json",
    ],
)
def test_https_loopback_and_the_sandbox_are_base_urls(base_url):
    assert ClientOptions(base_url=base_url).base_url == base_url


@pytest.mark.parametrize(
    "base_url",
    [
        *(
            "",
            "api.zenskar.com",
            "https://",
            "https:///path",
            "https://[::1",
            "https://h:99999",
            "https://h:x",
            None,
            5,
            b"x",
        ),
        *("http://api.zenskar.com", "http://10.0.0.1", "http://localhost.evil.com", "ftp://localhost", "file:///etc"),
        *("https://user:pass@h", "https://user@h", "https://@h", "https://:pw@h"),
        *(
            "https://h?a=1",
            "https://h?",
            "https://h#x",
            "https://h#",
            "https://h\\@evil",
            "https://h/a b",
            "https://h\n",
        ),
        *(" https://h", "https://h\x00", "https://h\x7f", "https://\u2603.example", "https://h/\u00e9"),
    ],
)
def test_a_base_url_that_could_leak_the_key_or_cannot_work_is_refused(base_url):
    with pytest.raises(ValueError, match=r"^base_url: ") as caught:
        ClientOptions(base_url=base_url)
    assert "pass" not in str(caught.value)


@pytest.mark.parametrize("name", ["page_size", "max_pages", "max_body_bytes", "max_attempts", "max_concurrency"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "5", None])
def test_counts_are_whole_numbers_of_at_least_one(name, value):
    with pytest.raises(ValueError, match=rf"^{name}: "):
        ClientOptions(**{name: value})


@pytest.mark.parametrize("name", ["deadline", "connect_timeout"])
@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan"), True, "5", None])
def test_seconds_are_positive_numbers(name, value):
    with pytest.raises(ValueError, match=rf"^{name}: "):
        ClientOptions(**{name: value})


def test_a_page_holds_a_hundred_rows_at_most():
    assert ClientOptions(page_size=100).page_size == 100
    with pytest.raises(ValueError, match=r"^page_size: billing gives 100"):
        ClientOptions(page_size=101)


@pytest.mark.parametrize("value", ["", " ", "2024\r\nx: y", 20240301, "é"])
def test_an_api_version_is_a_header_value_or_none(value):
    assert ClientOptions(api_version=None).api_version is None
    with pytest.raises(ValueError, match=r"^api_version: "):
        ClientOptions(api_version=value)


def test_statuses_are_a_list_or_none():
    assert ClientOptions(status_filter=None).status_filter is None
    for wrong in ("active", 5, [5], {None}):
        with pytest.raises(ValueError, match=r"^status_filter: "):
            ClientOptions(status_filter=wrong)


def test_an_unknown_option_is_refused():
    with pytest.raises(TypeError, match="timeout"):
        ClientOptions(timeout=5)


@pytest.mark.parametrize(
    "secret", ["", " ", " k", "k ", "k\n", "a\r\nb", "a\x00b", "k\u00e9y", "\u200b", None, 5, b"key"]
)
@pytest.mark.parametrize("name", ["api_key", "organisation"])
def test_a_secret_that_no_header_can_hold_is_refused_by_name(name, secret):
    credentials = Credentials(**{"api_key": "good", "organisation": "good", name: secret})

    with pytest.raises(ValueError, match=rf"^{name}: "):
        credentials.check()


def test_credentials_are_put_into_headers_and_asked_for_each_time():
    keys = iter(["first", "second"])
    credentials, headers = Credentials(lambda: next(keys), "org 1"), {}
    credentials.check()

    credentials.put_into(headers)
    assert headers == {"x-api-key": "first", "organisation": "org 1"}
    credentials.put_into(headers)
    assert headers["x-api-key"] == "second"


def fails():
    raise LookupError(KEY)


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        (fails, "LookupError"),
        (lambda: "", "no header can hold"),
        (lambda: KEY + "\n", "no header can hold"),
        (lambda: None, "no header can hold"),
        (KEY.encode, "no header can hold"),
    ],
)
@pytest.mark.parametrize("name", ["api_key", "organisation"])
def test_a_callable_that_fails_is_told_by_name_and_nothing_more(name, secret, why):
    credentials = Credentials(**{"api_key": KEY, "organisation": ORGANISATION, name: secret})
    headers, before = {}, sys.exception()

    with pytest.raises(SourceUnavailable, match=f"the {name} callable failed: .*{why}") as caught:
        credentials.put_into(headers)
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert KEY not in shown
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is before, "nothing of what the callable raised"


def test_what_was_not_given_falls_back():
    headers = {}
    credentials = Credentials("", ORGANISATION)
    credentials.fall_back("sandbox-key", "sandbox-organisation")
    credentials.put_into(headers)

    assert headers == {"x-api-key": "sandbox-key", "organisation": ORGANISATION}


def test_credentials_are_neither_shown_nor_pickled():
    credentials = Credentials(KEY, ORGANISATION)

    assert repr(credentials) == str(credentials) == "Credentials(***)"
    assert not hasattr(credentials, "__dict__")
    with pytest.raises(TypeError, match="not pickled") as caught:
        pickle.dumps(credentials)
    assert KEY not in str(caught.value)
