import logging
import re
import traceback

import pytest

from entitlement_gate.zenskar.client import ZenskarClient
from tests.ports import free_port
from tests.zenskar.scripted import (
    CUSTOMER,
    GOOD,
    KEY,
    ORGANISATION,
    a_page,
    a_row,
    hang,
    reply,
    reset,
    took,
)


def visible(thing, seen=None, depth=0):
    """Everything that ``repr`` and ``vars`` tell of a thing and of what it holds."""
    seen = set() if seen is None else seen
    if id(thing) in seen or depth > 6:
        return
    seen.add(id(thing))
    yield repr(thing)
    for inner in (*getattr(thing, "__dict__", {}).items(), *(thing if isinstance(thing, (tuple, list, set)) else ())):
        yield from visible(inner, seen, depth + 1)


def told_of(error):
    """Everything that an error page, a log or a tracker could show of an error and of those behind it."""
    while error is not None:
        yield from (str(error), repr(error), *map(repr, error.args), *map(repr, vars(error).items()))
        yield from traceback.TracebackException.from_exception(error, capture_locals=True).format()
        error = error.__cause__ or error.__context__


def failing_callable():
    raise LookupError(KEY)


CAUSES = {
    "connect error": lambda serve: {"base_url": f"http://127.0.0.1:{free_port()}"},
    "timeout": lambda serve: {"base_url": serve(hang).url, "deadline": 0.2},
    "reset": lambda serve: {"base_url": serve(reset).url},
    "401": lambda serve: {"base_url": serve(reply(401, b'{"detail": "wrong key"}')).url},
    "401 that quotes": lambda serve: {
        "base_url": serve(reply(401, f'{{"detail": "no such key {KEY} of {ORGANISATION}"}}'.encode())).url
    },
    "503": lambda serve: {"base_url": serve(reply(503)).url},
    "302": lambda serve: {"base_url": serve(reply(302, location="http://127.0.0.1:1/")).url},
    "no json": lambda serve: {"base_url": serve(reply(200, b"<html>")).url},
    "too long": lambda serve: {"base_url": serve(reply(200, b"x" * 5000)).url, "max_body_bytes": 1000},
    "no gzip": lambda serve: {"base_url": serve(reply(200, b"x", content_encoding="gzip")).url},
    "foreign": lambda serve: {"base_url": serve(reply(200, a_page(a_row(customer="x")))).url},
    "failing key": lambda serve: {"base_url": serve(GOOD).url, "api_key": failing_callable},
    "failing organisation": lambda serve: {"base_url": serve(GOOD).url, "organisation": failing_callable},
    "unusable organisation": lambda serve: {"base_url": serve(GOOD).url, "organisation": lambda: f"{KEY}\r\n"},
}


@pytest.mark.parametrize("cause", CAUSES)
def test_no_error_shows_a_secret(serve, caplog, cause):
    caplog.set_level(logging.DEBUG)
    options = {"api_key": KEY, "organisation": ORGANISATION, **CAUSES[cause](serve)}
    with ZenskarClient(options.pop("api_key"), options.pop("organisation"), **options) as client:
        _, error = took(lambda: client.fetch(CUSTOMER))
        shown = "\n".join([*told_of(error), *visible(client)])
    logged = "\n".join(str(vars(record)) for record in caplog.records)

    for secret in (KEY, ORGANISATION):
        assert secret not in shown
        assert secret not in logged


def test_no_client_shows_a_secret(serve, connect, caplog):
    caplog.set_level(logging.DEBUG)
    client = connect(serve(GOOD))
    for _ in range(2):
        client.fetch(CUSTOMER)
        shown = "\n".join(visible(client))
        assert client.options.base_url in shown
        assert KEY not in shown
        assert ORGANISATION not in shown
    assert repr(client) == f"<ZenskarClient {client.options.base_url}>"
    assert not re.search(f"{KEY}|{ORGANISATION}", caplog.text)


def test_a_redirection_that_quotes_what_was_sent_is_told_without_it(serve, connect):
    client = connect(serve(reply(302, location=f"http://127.0.0.1:1/?key={KEY}&organisation={ORGANISATION}")))
    _, error = took(lambda: client.fetch(CUSTOMER))
    shown = "\n".join([*told_of(error), *visible(client)])
    assert "http://127.0.0.1:1/" in shown
    assert KEY not in shown
    assert ORGANISATION not in shown


class Hidden:
    """Keeps what it holds out of the frames of a test, which an error page shows as well."""

    def __init__(self, **value):
        self.value = {"api_key": KEY, "organisation": ORGANISATION, **value}


@pytest.mark.parametrize(
    "options",
    [
        Hidden(base_url="http://billing.example"),
        Hidden(page_size=0),
        Hidden(deadline=-1),
        Hidden(timeout=5),
        Hidden(base_url="sandbox:/nowhere/at/all.json"),
        Hidden(organisation=""),
        Hidden(organisation=f"{ORGANISATION}\n"),
        Hidden(api_key=f"{KEY}\n"),
    ],
)
def test_no_error_of_the_constructor_shows_a_secret(options):
    with pytest.raises((ValueError, TypeError, OSError)) as caught:
        ZenskarClient(**options.value)
    shown = "\n".join(told_of(caught.value))

    assert KEY not in shown
    assert ORGANISATION not in shown
